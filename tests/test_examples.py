import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

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
    for sampler in ("diffusion", "random"):
        mnist.run(sampler, 0, tmp_path / "tiny.npz", 50, 1, tmp_path)
    result = json.loads((tmp_path / "diffusion-seed0.json").read_text())
    assert result["n_labelled"] == [10, 20]
    capsys.readouterr()

    arguments = ["mnist.py", "--data", str(tmp_path / "tiny.npz"), "--seeds", "0", "--n", "50", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--rounds", "1"])
    mnist.main()  # both are finished: it only sums up
    rows = dict(line.rsplit(maxsplit=2)[:2] for line in capsys.readouterr().out.splitlines() if "mean" in line)
    assert float(rows["diffusion, mean"]) == pytest.approx(np.mean(result["test_acc"]), abs=1e-4)
    assert (tmp_path / "learning_curves.png").exists()

    monkeypatch.setattr(sys, "argv", [*arguments, "--rounds", "2"])
    with pytest.raises(SystemExit, match="of other settings"):
        mnist.main()


def test_mnist_trains_longer_on_fewer_labels(example, tmp_path, monkeypatch):
    mnist = example("mnist")
    loop = type("Loop", (), {})()
    for n_labelled, epochs in ((10, 60), (100, 60), (170, 35), (1000, 15)):
        data = type("Data", (), {"labelled_indices": range(n_labelled)})
        mnist.Model().on_round_start(type("Trainer", (), {"fit_loop": loop, "datamodule": data}))
        assert loop.max_epochs == epochs
