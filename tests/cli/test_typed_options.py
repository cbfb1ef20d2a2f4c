"""What people typed wrong: no traceback, and the option is named as they typed it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightning_diffal.cli import main
from tests.cli.test_fit_command import QUIET, mine  # noqa: F401
from tests.cli.test_next_and_doctor import BEGUN


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
    shutil.copytree(BEGUN, "run")


WRONG = {
    "select --features two.npz -n 2": "two.npz holds the arrays a, b: say which with --key",
    "select --features two.npz -n 2 --key c": "say which with --key, but got 'c'",
    "select --features points.npy -n 2 --key a": "--key names an array of an .npz file, but points.npy holds one array",
    "select --features missing.npy": "missing.npy cannot be read: No such file or directory.",
    "select --features folder": "Expected the folder folder to hold",
    "select --features points.npy --out folder": "Expected --out to be a file to write, but folder is a folder: give",
    "select --features points.npy --labels folder": "folder is a folder, not a file.",
    "select --features points.npy --work points.npy": "Expected a folder, but points.npy is a file.",
    "select --features points.npy --sampler random --metric cosine": "random does not take --distance.",
    "compare --data folder": "Expected --data to be 'digits' or an .npz file, but folder is a folder.",
    "compare --data task.npz --n 500": "Expected --points to be between 1 and the",
    "compare --data task.npz --seeds 3,3": "Expected --seeds to be a number of seeds",
    "demo --seeds x": "Expected --seeds to be a number of seeds",
    "report run --out folder": "Expected --out to be a page to write, but folder is a folder",
    "report run --features two.npz": "two.npz holds the arrays a, b: say which with --key.",
    "report run --key a": "--key names an array of --features",
    "doctor points.npy": "points.npy is not a folder",
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
    assert "Expected --ckpt to be a checkpoint that torch reads with weights_only" in capsys.readouterr().err


def test_an_option_means_the_same_in_every_command(capsys):
    """`-n` how many to ask, `--seeds` several seeds, `--seed` one, `--metric` a score, `--distance` a distance."""
    shown = {}
    for command in ("demo", "next", "select", "compare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown[command] = capsys.readouterr().out
    assert all(re.search(r"-n[ ,A-Z_]+ ?--query-size", text) for text in shown.values())
    assert all(re.search(r"^  --seeds SEEDS", shown[name], re.MULTILINE) for name in ("demo", "compare"))
    assert all("--seed N" in shown[name] for name in ("demo", "compare"))
    assert "--metric" not in shown["select"] and "--metric METRIC" in shown["compare"]
    assert not any(re.search(r"--n[ ,\]]", text) for text in shown.values())


def test_one_seed_is_that_seed(files, capsys):
    arguments = "compare --data task.npz --initial 6 --rounds 1 -n 2 --samplers random --model linear --workers 1"
    assert main([*arguments.split(), "--seed", "7", "--out", "runs"]) == 0
    assert "seed 7" in capsys.readouterr().out or list(Path("runs").rglob("*7*"))
    assert main([*arguments.split(), "--seeds", "7,", "--out", "runs", "--report-only"]) == 0


def test_doctor_leaves_words_alone_that_hold_the_name_of_the_folder(files, capsys):
    Path("dir").mkdir()
    assert main(["doctor", "dir"]) == 1
    assert "RUN/journal.jsonl cannot be read: No such file or directory." in capsys.readouterr().out


def test_embeddings_that_are_all_equal_are_told(files, capsys):
    assert main(["select", "--features", "equal.npy", "-n", "2"]) == 0
    assert "All embeddings are equal, so nothing tells the points apart" in capsys.readouterr().out
