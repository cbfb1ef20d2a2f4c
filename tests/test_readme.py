"""The README's code runs as it stands."""

import re
from pathlib import Path

import pytest

from lightning_diffal import ActiveLearning, DiffusionSampler, datasets
from tests.helpers import TRAIN, VAL, Net, pl

README = Path(__file__).parents[1] / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def few_epochs(monkeypatch):
    """The same code with less to do: two epochs a round and three rounds."""
    init, fit = pl.Trainer.__init__, ActiveLearning.__init__
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    monkeypatch.setattr(pl.Trainer, "__init__", lambda self, **kw: init(self, **{**kw, "max_epochs": 2, **quiet}))
    monkeypatch.setattr(ActiveLearning, "__init__", lambda self, *a, **kw: fit(self, *a, **{**kw, "max_rounds": 3}))


def test_readme_code_runs(few_epochs, capsys):
    start, people, files, studio, stop, pseudo, resume, _ = blocks()
    names = {"train_set": TRAIN, "val_set": VAL, "test_set": VAL, "model": Net("none"), "my_labels": {}}
    exec(start, names)
    shown = capsys.readouterr().out
    assert "History of 4 rounds" in shown
    assert Path("labels.csv").read_text().count("\n") == 1 + 40
    exec(people, names)
    trainer = names["pl"].Trainer(callbacks=[names["active"]])

    def module():
        return names["ActiveDataModule"](TRAIN, val_dataset=VAL, initial_labels=10)

    trainer.fit(Net("none"), datamodule=module())
    assert "waiting for answers to 10 of the 10" in names["active"].history[-1].stop_reason
    exec(files, names)
    names["pl"].Trainer(callbacks=[names["active"]]).fit(Net("none"), datamodule=module())
    assert "query-000.csv" in names["active"].history[-1].stop_reason
    assert Path("runs/people/queries/query-000.csv").exists()
    exec(studio, names)  # no server is asked before a fit
    assert names["active"].oracle is names["studio"]
    exec(stop, names)
    assert len(names["active"].stopping) == 3
    exec(pseudo, names | {"val_set": VAL})
    last = pl.callbacks.ModelCheckpoint(dirpath="checkpoints", save_last=True)
    names["trainer"] = pl.Trainer(callbacks=[ActiveLearning(), last])
    names["trainer"].fit(Net("none"), datamodule=module())
    names |= {"model": Net("none"), "data": names["ActiveDataModule"](TRAIN)}
    names["trainer"] = pl.Trainer(callbacks=[ActiveLearning(), last])
    exec(resume, names)
    assert len(names["data"].labelled_indices) == 40


def test_readme_compares(capsys):
    *_, compare = blocks()
    exec(compare, {"DiffusionSampler": DiffusionSampler})
    assert "mean of 2 seeds" in capsys.readouterr().out


def test_readme_names_what_exists():
    text = README.read_text(encoding="utf-8")
    for script in re.findall(r"`(\w+\.py)`", text):
        assert (README.parent / "examples" / script).exists(), script
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", text):
        assert f"\n{target}:" in makefile, target
    assert len(datasets.digits()[0]) + len(datasets.digits()[1]) == 1797
