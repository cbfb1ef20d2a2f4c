"""Each page of the documentation runs as it stands, one block of code after the other."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from lightning_diffal import ActiveLearning
from tests.helpers import TRAIN, VAL, Net, pl

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page):
    """The code of a page, with what the block says that it needs: ```python needs=timm,PIL."""
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        needs = re.search(r"needs=(\S+)", match[1])
        line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 2
        yield line, match[2], needs[1].split(",") if needs else []


@pytest.fixture
def short_runs(monkeypatch):
    """The same code with less to do: two epochs per round and two rounds."""
    init, fit = pl.Trainer.__init__, ActiveLearning.__init__
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    monkeypatch.setattr(pl.Trainer, "__init__", lambda self, **kw: init(self, **{**kw, "max_epochs": 2, **quiet}))
    monkeypatch.setattr(
        ActiveLearning,
        "__init__",
        lambda self, *a, **kw: fit(self, *a, **{**kw, "max_rounds": min(2, kw.get("max_rounds", 2) or 2)}),
    )


@pytest.mark.parametrize(
    "page", [p for p in PAGES if BLOCK.search(p.read_text(encoding="utf-8"))], ids=lambda p: p.relative_to(DOCS).stem
)
def test_the_code_of_a_page_runs(page, short_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # only the front page continues from what a reader has already
    names = {"__name__": "page"}
    if page.name == "index.md":
        names |= {"train_set": TRAIN, "val_set": VAL, "model": Net("none")}
    for line, code, needs in blocks(page):
        missing = [package for package in needs if find_spec(package) is None]
        if missing:
            pytest.skip(f"{page.name} needs {', '.join(missing)} from line {line} on")
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


def test_links_to_files_of_the_repository_have_targets():
    for page in [*PAGES, DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_reached():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    globbed = set(re.findall(r"^(\S+)/\*$", index, flags=re.MULTILINE))
    for page in PAGES:
        place = page.relative_to(DOCS)
        assert (
            place.name == "index.md" or place.parts[0] in globbed or re.search(rf"^{place.stem}$", index, re.MULTILINE)
        )
