"""Each page of the documentation runs as it stands, one block of code after the other."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from lightning_diffal import ActiveLearning, exceptions
from lightning_diffal.cli import main
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


def test_the_quick_start_goes_on_when_answers_arrive(short_runs, tmp_path, monkeypatch):
    """ "Run the same script again with more answers there": nothing is asked twice."""
    monkeypatch.chdir(tmp_path)
    code = {line: code for line, code, _ in blocks(DOCS / "quick-start.md")}
    model, people = (next(c for c in code.values() if part in c) for part in ("class Model", "my_labels = {}"))
    names = {"__name__": "page"}
    exec(model, names)
    exec("from lightning_diffal import ActiveDataModule, ActiveLearning\n" + people, names)
    assert "waiting for answers to 10 of the 10" in names["active"].history[-1].stop_reason
    asked = names["data"].pending_indices.tolist()
    names["my_labels"].update({index: int(names["train_set"][index][1]) for index in asked})
    exec(people.replace("my_labels = {}", ""), names)
    assert names["data"].labelled_indices.tolist() == asked
    assert not set(names["data"].pending_indices.tolist()) & set(asked)


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


def test_every_error_has_its_row_with_what_it_inherits():
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.M)}
    assert set(rows) == set(exceptions.__all__)
    for name, also in rows.items():
        bases = {base.__name__ for base in getattr(exceptions, name).__bases__} - {"DiffalError"}
        assert also == bases, name


def test_every_command_is_told_of_with_its_exit_codes(capsys):
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    main([])
    commands = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert len(commands) > 5
    assert set(commands) == set(re.findall(r"^\| `diffal ([a-z]+)` ", page, re.MULTILINE))
    assert main(["doctor", "no-such-folder"]) == 1
    with pytest.raises(SystemExit) as unknown:
        main(["select", "--nonsense"])
    assert unknown.value.code == 2
    assert set(re.findall(r"^\| (\d+) \|", page, re.MULTILINE)) == {"0", "1", "2", "130"}


def test_every_option_on_a_page_exists(capsys):
    """Of commands with options of their own; those of `diffal fit` are Lightning's and the callback's arguments."""
    used = {}
    for page in [*PAGES, DOCS.parent / "README.md"]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"diffal (select|label|report|compare|demo|doctor)\b([^\n`#]*)", text):
            used.setdefault(command, set()).update(re.findall(r"--[a-z][a-z-]*", rest))
    assert used["select"] and used["label"]
    for command, options in used.items():
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = capsys.readouterr().out
        assert not {option for option in options if not re.search(rf"{option}\b", shown)}, command
