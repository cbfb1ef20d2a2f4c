import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_diffal.comparison import NamedTask, compare_samplers
from lightning_diffal.exceptions import ConfigurationError

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for file in EXAMPLES.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.mark.parametrize("name", ["quickstart", "subclass_datamodule"])
def test_quick_examples_end_with_their_history(example, name, capsys):
    example(name).main(quick=True)
    printed = capsys.readouterr().out
    assert "History of 3 rounds" in printed
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("    ")] == ["10", "20", "30"]


def test_mnist_keeps_what_is_finished(example, tmp_path, capsys, monkeypatch):
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 10
    images = generator.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    mnist = example("mnist")
    arguments = ["mnist.py", "--data", str(tmp_path / "tiny.npz"), "--seeds", "1,", "--n", "50", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path), "--rounds", "1"])
    mnist.main()
    assert "2/2" in capsys.readouterr().err
    result = json.loads((tmp_path / "diffusion-seed1.json").read_text())
    assert result["n_labelled"] == [10, 20]

    mnist.main()  # both are finished: it only sums up
    printed = capsys.readouterr()
    assert not printed.err
    area = next(line.split()[1] for line in printed.out.splitlines() if line.startswith("diffusion"))
    assert float(area) == pytest.approx(np.mean(result["metrics"]["test_acc"]), abs=1e-4)
    assert (tmp_path / "learning_curves.png").exists()

    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path), "--rounds", "2"])
    with pytest.raises(ConfigurationError, match="of other settings: rounds is 1 there and 2 here"):
        mnist.main()


def test_the_command_runs_what_the_mnist_example_spells_out(example, tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = np.arange(60) % 10
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    settings = {"seeds": [3], "query_size": 5, "rounds": 1, "progress": False}
    ours = compare_samplers(NamedTask(str(tmp_path / "tiny.npz"), n=50), ["margin"], **settings)
    spelled_out = example("mnist").Task(str(tmp_path / "tiny.npz"), 50)
    theirs = compare_samplers(spelled_out, ["margin"], **settings, trainer_kwargs={"accelerator": "cpu"})
    assert ours.results[0]["asked"] == theirs.results[0]["asked"]
    assert ours.scores["margin"][3].tolist() == theirs.scores["margin"][3].tolist()


def test_mnist_trains_longer_on_fewer_labels(example, tmp_path, monkeypatch):
    mnist = example("mnist")
    loop = type("Loop", (), {})()
    for n_labelled, epochs in ((10, 60), (100, 60), (170, 35), (1000, 15)):
        data = type("Data", (), {"labelled_indices": range(n_labelled)})
        mnist.Model().on_round_start(type("Trainer", (), {"fit_loop": loop, "datamodule": data}))
        assert loop.max_epochs == epochs


def test_ddp_runs_on_two_processes(tmp_path):
    command = [sys.executable, str(EXAMPLES / "ddp.py"), "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("History of 2 rounds") == 1
