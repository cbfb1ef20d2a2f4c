"""The README's code runs as it stands, block after block, and its claims have targets."""

import re
from pathlib import Path

import pytest

from lightning_diffal import ActiveLearning, datasets
from tests.helpers import TRAIN, VAL, Net, pl

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OURS = re.compile(r"https://(?:github|raw\.githubusercontent)\.com/lightning-diffal/lightning-diffal/(\S+?)[)\s]")


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def few_epochs(monkeypatch):
    """The same code with less to do: two epochs per round and three rounds."""
    init, fit = pl.Trainer.__init__, ActiveLearning.__init__
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    monkeypatch.setattr(pl.Trainer, "__init__", lambda self, **kw: init(self, **{**kw, "max_epochs": 2, **quiet}))
    monkeypatch.setattr(ActiveLearning, "__init__", lambda self, *a, **kw: fit(self, *a, **{**kw, "max_rounds": 3}))


def test_readme_code_runs(few_epochs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (start,) = blocks()
    exec(start, {"train_set": TRAIN, "val_set": VAL, "test_set": VAL, "model": Net("none")})
    assert "History of 4 rounds" in capsys.readouterr().out
    assert Path("labels.csv").read_text().count("\n") == 1 + 40


def test_it_is_read_in_a_minute():
    """A screen and a half: what is shown has at most ninety lines, and tells of each of the parts once."""
    shown = README.read_text(encoding="utf-8").partition("\n[docs]: ")[0]
    assert len(shown.splitlines()) <= 90
    parts = ["Ten lines", "Two commands", "What it does that others do not", "Limits", "More"]
    assert re.findall(r"^## (.*)$", shown, re.MULTILINE) == parts


def test_every_link_to_the_repository_has_a_target():
    text = README.read_text(encoding="utf-8")
    places = OURS.findall(text)
    assert len(places) > 20
    for place in places:
        path = re.sub(r"^((blob|tree)/)?main/", "", place)
        assert (ROOT / path).exists(), path
    # a page index shows the README without the repository around it
    for target in re.findall(r"\]\(([^)]+)\)|^\[[^\]]+\]: (\S+)$", text, re.MULTILINE):
        assert "".join(target).startswith("https://"), target
    # each reference is defined, else the reader sees brackets
    defined = {name.lower() for name in re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)}
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    prose = re.sub(r"`[^`\n]*`|^    .*$|^\[[^\]]+\]: .*$", "", prose, flags=re.MULTILINE)
    used = [b or a for a, b in re.findall(r"\[([^\]]+)\](?!\()(?:\[([^\]]+)\])?", prose)]
    assert used and not [name for name in used if " ".join(name.split()).lower() not in defined]


def test_readme_names_what_exists():
    text = README.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", text):
        assert f"\n{target}:" in makefile, target
    commands = {path.stem for path in (ROOT / "lightning_diffal" / "cli").glob("*.py")}
    for command in re.findall(r"(?:^    |`)diffal ([a-z]+)", text, re.MULTILINE):
        assert command in commands or f"{command}_query" in commands, command
    assert len(datasets.digits()[0]) + len(datasets.digits()[1]) == 1797


def test_the_figures_are_those_of_the_tables():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    told = re.findall(r"Random choice needs (\d+) labels for what `DiffusionSampler\(\)` reaches with (\d+)", page)
    claim = next(line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| Fewer labels"))
    claimed = re.findall(r"(\d+) (?:do )?what (\d+)(?: random ones)? do", claim)
    assert len(claimed) == 3
    assert {(random, ours) for ours, random in claimed} <= set(told)
