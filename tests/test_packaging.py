"""What is shipped: wheel and sdist, built from this checkout, and types as a downstream project sees them."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import lightning_diffal

ROOT = Path(__file__).parents[1]
SHIPPED_IN_SDIST = (
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md"),
    *("constraints.txt", "docs/conf.py", "docs/index.md", "docs/quick-start.md", "examples/quickstart.py"),
    *("tests/conftest.py", "tests/helpers.py", "tests/helpers_data.py", "tests/run/resume_script.py"),
    *("tests/run/begun_by_0_1/state.ckpt", "tests/oracle/label_studio_exports/single-json.json"),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist; what the build writes into the tree stays out of it."""
    copy, out = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("dist")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not in a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lightning_diffal").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert shipped == package and "lightning_diffal/py.typed" in shipped
    assert f"-{lightning_diffal.__version__}-" in wheel.name


def test_the_sdist_holds_what_is_needed_to_test_it(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not [name for name in SHIPPED_IN_SDIST if name not in names]
    assert not [name for name in names if "__pycache__" in name or name.startswith(("docs/_build", ".github"))]


def test_an_index_would_take_them(built):
    files = [str(path) for path in built.iterdir()]
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_extra_that_an_error_names_exists(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))
    extras = {line[16:] for line in metadata.decode().splitlines() if line.startswith("Provides-Extra: ")}
    for path in (ROOT / "lightning_diffal").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for part in text.split('extra="')[1:]:
            assert part.split('"')[0] in extras, f"{path}: {part[:20]}"


@pytest.fixture
def downstream(built, tmp_path):
    """A project that uses the wheel's types, in a folder beside them."""
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "downstream.py").write_text(
        "import numpy as np\n"
        "import torch\n"
        "from torch.utils.data import TensorDataset\n"
        "from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler\n"
        "from lightning_diffal import Query, QueryData, QuerySampler\n"
        "from lightning_diffal.oracle import PENDING\n\n\n"
        "class Mine(QuerySampler):\n"
        "    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:\n"
        "        return Query(data.candidates[:query_size], np.ones(query_size, dtype=np.float32))\n\n\n"
        "data = ActiveDataModule(TensorDataset(torch.zeros(3)), initial_labels={0: 1})\n"
        "active = ActiveLearning(Mine(), query_size=2)\n"
        "active.max_rounds = 3\n"
        "rounds: int | None = active.max_rounds\n"
        "sampler: QuerySampler = DiffusionSampler(n_neighbors=3)\n"
        "print(PENDING, data.labels.shape, [record.n_labelled for record in active.history])\n"
    )
    return tmp_path


WRONG = "ActiveLearning(query_size='ten')\n"


def checked_by_mypy(folder):
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "downstream.py"]
    return subprocess.run(
        [*command, "--cache-dir", str(folder / "cache")],
        cwd=folder, env={**os.environ, "MYPYPATH": str(folder / "installed")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def checked_by_pyright(folder):
    """By basedpyright, which is pyright with a node of its own; in pyright's own strict mode."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("needs basedpyright")
    settings = {
        "include": ["downstream.py"], "extraPaths": ["installed"], "typeCheckingMode": "strict",
        "reportMissingTypeStubs": "none",
    }  # fmt: skip
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--project", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("checked", [checked_by_mypy, checked_by_pyright])
def test_a_typed_project_downstream(checked, downstream):
    done = checked(downstream)
    assert done.returncode == 0, done.stdout + done.stderr
    file = downstream / "downstream.py"
    file.write_text(file.read_text() + WRONG)
    done = checked(downstream)
    assert done.returncode == 1 and "query_size" in done.stdout and "downstream.py" in done.stdout


def test_what_the_package_needs_states_a_licence_that_allows_use_with_it():
    from tests.licences import rows

    needed = {"jinja2", "numpy", "pynndescent", "pytorch-lightning", "scipy", "torch", "torchmetrics"}
    found = {name.lower(): licence for name, _, licence in rows() if name.lower() in needed}
    assert found.keys() >= needed - {"pytorch-lightning"}
    for name, licence in found.items():
        assert any(word in licence for word in ("BSD", "Apache", "MIT")), f"{name}: {licence}"
