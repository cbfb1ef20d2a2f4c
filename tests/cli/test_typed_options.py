"""What people typed wrong: no traceback, and the option is named as they typed it."""

from pathlib import Path

import numpy as np
import pytest

from lightning_diffal.cli import main
from tests.cli.test_fit_command import QUIET, mine  # noqa: F401


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    np.save("points.npy", generator.normal(size=(50, 4)).astype("float32"))
    np.save("equal.npy", np.zeros((20, 3)))
    np.savez("two.npz", a=np.eye(5), b=np.eye(5))
    np.savez("task.npz", x=generator.normal(size=(60, 4)).astype("float32"), y=np.arange(60) % 3)
    Path("rubbish.ckpt").write_text("rubbish")
    Path("folder").mkdir()


WRONG = {
    "select --features two.npz -n 2": "two.npz holds the arrays a, b: say which with --key",
    "select --features two.npz -n 2 --key c": "say which with --key, but got 'c'",
    "select --features points.npy -n 2 --key a": "--key names an array of an .npz file, but points.npy holds one array",
    "select --features missing.npy": "missing.npy cannot be read: No such file or directory.",
    "select --features folder": "Expected the folder folder to hold",
    "select --features points.npy --labels missing.csv": "There is no file missing.csv.",
    "select --features points.npy --seed -1": "Expected --seed to be at least 0, but got -1.",
    "compare --data missing.npz": "Expected --data to be 'digits' or an .npz file, but there is no file missing.npz.",
    "compare --data points.npy": "Expected --data to be an .npz file",
    "compare --data task.npz --set nothing=1": "Expected --set to hold arguments of ActiveLearning",
    "compare --data task.npz --rounds 1 --query-size 2 --initial 6 --metric x": "Expected --metric to be one of",
    "compare --data task.npz --rounds 1 --query-size 2 --initial 6 --out points.npy": "Give another folder.",
    "report missing": "missing does not exist",
    "report folder": "folder is not the folder of a run",
    "label": "Expected the folder of a run, a file of questions, or --images DIR.",
    "doctor missing": "missing is not a folder",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_names_the_option(line, files, capsys):
    assert main(line.split()) == 1
    error = capsys.readouterr().err
    assert WRONG[line] in error and error.startswith(f"diffal {line.split()[0]}: ")


def test_a_checkpoint_that_is_none(files, mine, capsys):  # noqa: F811
    line = ["next", "--ckpt", "rubbish.ckpt", "--model", f"{mine}.Model", "--data", f"{mine}.Plain", *QUIET]
    Path("rubbish.ckpt").write_text("rubbish")
    assert main(line) == 1
    assert "Expected --ckpt to be a checkpoint that torch reads, but rubbish.ckpt is not" in capsys.readouterr().err


def test_embeddings_that_are_all_equal_are_told(files, capsys):
    assert main(["select", "--features", "equal.npy", "-n", "2"]) == 0
    assert "All embeddings are equal, so nothing tells the points apart" in capsys.readouterr().out
