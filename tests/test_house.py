"""What the package promises about itself: where things are, and what importing them costs."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_diffal

PACKAGE = Path(lightning_diffal.__file__).parent
PUBLIC = sorted(
    name for name in lightning_diffal.__all__ if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
)
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def loaded_by(statement):
    """Which heavy packages a statement loads in a new process."""
    code = f"{statement}; import sys; print(*sorted({{'torch', 'pytorch_lightning', 'lightning'}} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_everything_public_is_an_attribute_after_a_plain_import():
    names = [*PUBLIC, *lightning_diffal.__all__]
    code = f"import lightning_diffal\nfor name in {names!r}: getattr(lightning_diffal, name)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_plain_import_loads_nothing_heavy():
    assert loaded_by("import lightning_diffal") == []


@pytest.mark.parametrize(
    "name", ["graph", "diffusion", "neighbors", "samplers", "samplers.base", "samplers.query_data"]
)
def test_what_chooses_imports_without_torch(name):
    assert loaded_by(f"import lightning_diffal.{name}") == []


def test_selections_from_files_import_without_lightning():
    assert not {"pytorch_lightning", "lightning"} & set(loaded_by("import lightning_diffal.selection"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_says_what_lives_there(folder):
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert docstring and (folder == PACKAGE or len(docstring) > 80), f"{folder.name} has no paragraph"


def test_all_names_in_all_exist():
    for path in PACKAGE.rglob("*.py"):
        if path.name == "__main__.py":
            continue
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        assert all(hasattr(module, name) for name in getattr(module, "__all__", [])), path


def test_no_module_hides_behind_an_underscore():
    hidden = {path.stem for path in PACKAGE.rglob("_*.py")} - {"__init__", "__main__"}
    assert hidden == {"_namespace"}


def test_no_test_file_is_longer_than_five_hundred_lines():
    tests = Path(__file__).parent
    long = {
        str(path.relative_to(tests)): lines
        for path in tests.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long
