"""`diffal fit`: any model and data module by class path, a file of arguments, a folder that a run goes on in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_diffal._lightning import NAMESPACE
from lightning_diffal._namespace import VARIABLE
from lightning_diffal.cli import main
from lightning_diffal.cli.lightning_cli import Labelled
from lightning_diffal.history import History
from lightning_diffal.utils.extras import require as real_require

CODE = f'''
import torch
import {NAMESPACE} as pl
from torch.utils.data import DataLoader
from lightning_diffal import ActiveDataModule
from lightning_diffal.oracle import PENDING
from tests.helpers import TRAIN, VAL, Net


class Model(Net):
    """With arguments to set."""

    def __init__(self, width: int = 4, lr: float = 0.01):
        super().__init__("none", lr)
        self.width = width
        self.save_hyperparameters()


class Interrupted(Model):
    """Ctrl-C in its second round."""

    def training_step(self, batch, batch_idx):
        if self.trainer.callback_metrics["round"] == 1:
            raise KeyboardInterrupt
        return super().training_step(batch, batch_idx)


class WithoutOptimizer(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])


class Plain(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(TRAIN, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(VAL, batch_size=8)


class Active(ActiveDataModule):
    def __init__(self, initial_labels: int = 6):
        super().__init__(TRAIN, val_dataset=VAL, initial_labels=initial_labels, batch_size=4)


def nobody(indices, items):
    return PENDING


def third(history):
    return "three rounds" if len(history) == 3 else None
'''

QUIET = [
    *("--trainer.logger", "false", "--trainer.enable_checkpointing", "false", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--trainer.max_epochs", "1"),
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a module of the user's, and the name of that module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"mine_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    yield name
    sys.modules.pop(name, None)


def kept(folder):
    return torch.load(Path(folder) / "state.ckpt", weights_only=True)["active_learning"]


def picks(state):
    return [None if r["query"] is None else r["query"]["indices"].tolist() for r in state["history"]]


def test_two_rounds_then_one_more(mine, capsys):
    arguments = ["fit", "--model", f"{mine}.Model", "--data", f"{mine}.Plain", "--labelled.initial_labels", "6", *QUIET]
    arguments += ["--active.query_size", "5", "--model.width", "7", "--active.sampler", "MarginSampler"]
    assert main([*arguments, "--active.run_dir", "runs/a", "--active.max_rounds", "2"]) == 0
    shown = capsys.readouterr().out
    assert "History of 3 rounds" in shown and "Ended: max_rounds=2 reached.\n" in shown and "runs/a" in shown
    first = kept("runs/a")
    assert [record.n_labelled for record in History.from_state(first["history"])] == [6, 11, 16]
    assert first["settings"]["sampler"] == "MarginSampler()"
    assert first["data"]["pool"]["labelled"] != list(range(16))
    settings = yaml.safe_load(Path("runs/a/config.yaml").read_text())
    assert settings["model"]["init_args"] == {"width": 7, "lr": 0.01} and settings["active"]["query_size"] == 5

    # the same from the file that the first run wrote, with one round more: as if it had been one run
    assert main(["fit", "--config", "runs/a/config.yaml", "--active.max_rounds", "3"]) == 0
    assert main([*arguments, "--active.run_dir", "runs/b", "--active.max_rounds", "3"]) == 0
    again, straight = kept("runs/a"), kept("runs/b")
    assert picks(again) == picks(straight) and picks(again)[:2] == picks(first)[:2] and len(picks(again)) == 4
    assert again["history"][-1]["metrics"] == straight["history"][-1]["metrics"]
    assert "History of 4 rounds" in capsys.readouterr().out

    # what ran is kept beside what runs now; another start is refused, and changes no file
    files = sorted(path.name for path in Path("runs/a").glob("config*.yaml"))
    assert files == ["config-2.yaml", "config.yaml"]
    for change in ("--labelled.num_classes=9", "--labelled.initial_labels=20", "--seed_everything=4"):
        assert main([*arguments, "--active.run_dir", "runs/a", change]) == 1
        error = capsys.readouterr().err
        assert "holds a run that began otherwise" in error and change.split("=")[0] in error
    assert sorted(path.name for path in Path("runs/a").glob("config*.yaml")) == files
    assert yaml.safe_load(Path("runs/a/config.yaml").read_text()) == settings
    assert main([*arguments, "--active.run_dir", "runs/a", "--active.max_rounds=3", "--active.query_size=2"]) == 0
    assert "another --active.query_size: 2 (the run began with 5)" in capsys.readouterr().err


def test_checkpoints_and_logs_lie_in_the_run_folder(mine):
    arguments = ["fit", "--model", f"{mine}.Model", "--data", f"{mine}.Active", *QUIET[4:]]
    arguments += ["--trainer.logger", "true", "--active.max_rounds", "1", "--active.run_dir", "runs/a"]
    assert main(arguments) == 0
    assert list(Path("runs/a").rglob("*step=*.ckpt"))
    assert list(Path("runs/a").rglob("metrics.csv")) or list(Path("runs/a").rglob("events.out*"))
    assert not Path("lightning_logs").exists()


def test_an_interrupt_says_where_the_run_is_kept(mine, capsys):
    arguments = ["fit", "--model", f"{mine}.Interrupted", "--data", f"{mine}.Active", *QUIET]
    assert main([*arguments, "--active.max_rounds", "2", "--active.run_dir", "runs/a"]) == 130
    error = capsys.readouterr().err
    assert "Kept in runs/a" in error and "the same command" in error and "diffal fit: interrupted" in error


def test_a_printed_config_runs(mine, capsys):
    rules = ["--active.stopping+", "StablePredictions", "--active.stopping.window", "2", "--active.stopping+", "Budget"]
    with pytest.raises(SystemExit) as ending:
        main(
            ["fit", "--model", f"{mine}.Model", "--data", f"{mine}.Active", "--data.initial_labels", "8", *QUIET]
            + [
                *rules,
                "--active.stopping.n",
                "5",
                "--active.sampler",
                "DiffusionSampler",
                "--active.sampler.n_neighbors",
                "9",
            ]
            + ["--active.run_dir", "run", "--active.query_size", "5", "--active.max_time", "00:01:00:00"]
            + ["--print_config"]
        )
    assert ending.value.code == 0
    Path("run.yaml").write_text(capsys.readouterr().out)
    assert main(["fit", "--config", "run.yaml"]) == 0
    assert kept("run")["history"][-1]["stop_reason"] == "5 labels were bought (budget 5)"
    assert "n_neighbors=9" in kept("run")["settings"]["sampler"]


def test_functions_and_optimizers_by_path(mine, capsys):
    common = ["fit", "--data", f"{mine}.Active", *QUIET, "--active.query_size", "4"]
    assert (
        main([*common, "--model", f"{mine}.Model", "--active.oracle", f"{mine}.nobody", "--active.run_dir", "a"]) == 0
    )
    assert "Ended: waiting for answers to 4 of the 4 points asked." in capsys.readouterr().out
    adam = ["--optimizer", "Adam", "--optimizer.lr", "0.01"]
    assert main([*common, "--model", f"{mine}.WithoutOptimizer", *adam, "--active.stopping", f"{mine}.third"]) == 0
    shown = capsys.readouterr().out
    assert "Ended: three rounds." in shown
    assert "the same command, with --active.run_dir" in shown  # a folder of its own, which the next run would not find
    assert len(list(Path("active").iterdir())) == 1


def test_a_rehearsal_keeps_nothing(mine, capsys):
    assert main(["fit", "--model", f"{mine}.Model", "--data", f"{mine}.Active", "--trainer.fast_dev_run", "true"]) == 0
    assert "Nothing was asked" in capsys.readouterr().out
    assert not Path("active").exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            {"--model": "MINE.Nothing"},
            2,
            "--model: MINE.Nothing cannot be used: module 'MINE' has no attribute 'Nothing'",
        ),
        ({"--model": "nowhere.Model"}, 2, "No module named 'nowhere'"),
        ({"--model": None}, 2, "give --model."),
        ({"--data": None}, 2, "give --data."),
        ({"--data": "MINE.Model"}, 2, "--data: MINE.Model is no LightningDataModule."),
        ({"--config": "nothing.yaml"}, 2, "nothing.yaml"),
        ({"--active.sampler": "BestSampler"}, 2, "no class BestSampler; known are BADGESampler, BALDSampler"),
        ({"--active.oracle": "Best"}, 2, "FileOracle, LabelStudioOracle, PageOracle, or give the path of your own."),
        ({"--active.sampler.seed": "3"}, 2, "say which class first: --active.sampler CLASS"),
        ({"--optimizer": "Best"}, 2, "--optimizer: there is no class Best: give its path"),
        ({"--model.widht": "3"}, 2, "Model takes no --model.widht."),
        ({"--active.query_size": "x"}, 2, "--active.query_size: expected int, but got 'x'."),
        ({"--seed": "x"}, 2, "--seed: expected bool or int, but got 'x'."),
        ({"--seed": "-1"}, 1, "Expected --seed to be between 0 and"),
        ({"--seed_everything": "-1"}, 1, "Expected --seed_everything to be between 0 and"),
        (
            {"--active.stopping": "StablePredictions", "--active.stopping.threshold": "high"},
            2,
            "--active.stopping.threshold: expected float, but got 'high'.",
        ),
        ({"--active.querysize": "3"}, 2, "there is no --active.querysize; did you mean --active.query_size?"),
        ({"--active.query_size": "0"}, 1, "Expected --active.query_size to be"),
        (
            {"--active.stopping": "StablePredictions", "--active.stopping.threshold": "2"},
            1,
            "Expected --active.stopping.threshold to be",
        ),
        ({"--labelled.initial_labels": "5"}, 1, "give --data.initial_labels instead"),
        ({"--trainer.max_epochs": "-3"}, 1, "max_epochs"),
        ({"--trainer.accelerator": "quantum"}, 1, "quantum"),
        ({"--ckpt_path": "nothing.ckpt"}, 1, "nothing.ckpt"),
    ],
)
def test_what_cannot_work_is_said_without_a_traceback(mine, capsys, change, code, message):
    given = {"--model": "MINE.Model", "--data": "MINE.Active", **dict(zip(QUIET[::2], QUIET[1::2], strict=True))}
    given |= change
    words = [word.replace("MINE", mine) for pair in given.items() if pair[1] is not None for word in pair]
    try:
        found = main(["fit", *words])
    except SystemExit as ending:
        found = ending.code
    assert found == code
    error = capsys.readouterr().err
    assert message.replace("MINE", mine) in error and "Traceback" not in error
    last = error.rstrip().splitlines()[-1]
    assert code == 2 or (
        error.count("\ndiffal fit: ") + error.startswith("diffal fit: ") == 1
        and last.startswith("diffal fit: ")
        and message in last
    )
    first = error.splitlines()[0]
    assert code == 1 or (first.startswith("diffal fit: ") and len(first) < 400 and "usage: diffal fit" in error)


def test_one_seed_seeds_everything_and_keeps_its_older_spelling(mine, capsys):
    """`--seed` draws the first labels too, wherever the data module leaves that to the command."""
    drawn = {}
    for name, options in {
        "plain": ("--seed", "3"),
        "spelt": ("--seed_everything=3", "--labelled.seed=3"),
        "own": ("--seed=3", "--labelled.seed=1"),
    }.items():
        options = [*options, "--labelled.initial_labels", "6", "--active.max_rounds", "1", "--active.run_dir", name]
        assert main(["fit", "--model", f"{mine}.Model", "--data", f"{mine}.Plain", *QUIET, *options]) == 0
        record = kept(name)["history"][0]
        drawn[name] = record["labelled"].tolist() if hasattr(record["labelled"], "tolist") else record["labelled"]
        assert record["seed"] == 3
    assert drawn["plain"] == drawn["spelt"] != drawn["own"]
    active = ["--data", f"{mine}.Active", "--seed", "3", "--active.max_rounds", "1", "--active.run_dir", "active"]
    assert main(["fit", "--model", f"{mine}.Model", *QUIET, *active]) == 0
    capsys.readouterr()
    assert main(["fit", "--config", "active/config.yaml", *QUIET]) == 0  # it says the same
    assert "Goes on with another" not in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_lightnings_old_names_are_no_matter_of_whoever_typed(mine, recwarn):
    words = ["--model", f"{mine}.Model", "--data", f"{mine}.Active", *QUIET, "--active.run_dir", "kept"]
    assert main(["fit", *words, "--active.max_rounds", "0"]) == 0
    assert not [one for one in recwarn if "jsonargparse" in type(one.message).__name__.lower()]


def test_help_is_short(capsys):
    assert main(["fit", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: diffal fit --model CLASS") and len(lines) < 45 and max(map(len, lines)) <= 120
    assert lines[-1] == "Every argument: diffal fit --help-all"


def test_the_whole_help_begins_with_what_people_need(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["fit", "--help-all"])
    assert ending.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: diffal fit --model CLASS --data CLASS")
    assert any(line.startswith("    diffal fit --model my.Model") for line in lines[:20])
    places = [
        next(i for i, line in enumerate(lines) if line.startswith(f"  --{name}"))
        for name in (
            "model ",
            "data ",
            "labelled.initial_labels",
            "active.sampler ",
            "trainer.max_epochs",
            "optimizer ",
        )
    ]
    assert places == sorted(places)
    assert not any("<class" in line for line in lines if line and not line.startswith(" "))


def test_labelled_tells_what_was_given():
    assert Labelled().given() == {}
    assert Labelled(initial_labels=[3, 1], seed=4).given() == {"initial_labels": [3, 1], "seed": 4}


def test_without_jsonargparse_the_line_names_the_extra(monkeypatch, capsys):
    from lightning_diffal.utils import extras

    def absent(module, *, extra):
        if module == "jsonargparse":
            raise extras.MissingExtraError('jsonargparse is not installed: pip install "lightning-diffal[cli]"')
        return real_require(module, extra=extra)

    monkeypatch.setattr(extras, "require", absent)
    assert main(["fit", "--help"]) == 1
    assert capsys.readouterr().err == 'diffal fit: jsonargparse is not installed: pip install "lightning-diffal[cli]"\n'


def test_as_a_command_of_its_own(mine):
    """The installed script does not have the current folder on its path, as `python -m` has."""
    without = "import os, sys; sys.path = [p for p in sys.path if p not in ('', os.getcwd())]; "
    command = without + "from lightning_diffal.cli import main; sys.exit(main())"
    arguments = ["fit", "--model", f"{mine}.Model", "--data", f"{mine}.Active", "--active.max_rounds", "1", *QUIET]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
            VARIABLE: NAMESPACE,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Ended: max_rounds=1 reached." in done.stdout
