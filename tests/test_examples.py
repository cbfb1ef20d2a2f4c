import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_diffal.cli import main
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


def test_a_killed_run_ends_as_one_that_was_not(example, tmp_path, monkeypatch, capsys):
    killed = subprocess.run(
        [sys.executable, str(EXAMPLES / "resume.py"), "--quick", "--kill-in-round", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    resume = example("resume")
    monkeypatch.chdir(tmp_path)
    resume.main(quick=True)
    resumed = capsys.readouterr().out
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    resume.main(quick=True)
    assert "History of 3 rounds" in resumed
    assert resumed == capsys.readouterr().out


def test_own_sampler_is_checked_and_compared(example, capsys):
    example("own_sampler").main(quick=True)
    assert "farthest" in capsys.readouterr().out


def test_the_page_is_asked_and_the_fit_ends_without_waiting(example, tmp_path, monkeypatch, capsys):
    pytest.importorskip("uvicorn")
    monkeypatch.chdir(tmp_path)
    example("label_page").main(quick=True, wait=False)
    assert "waiting for answers to 10 of the 10" in capsys.readouterr().out
    assert (tmp_path / "runs" / "page" / "label" / "cards.jsonl").read_text().count("\n") >= 10


def test_the_command_line_example_runs(example, tmp_path, monkeypatch, capsys):
    pytest.importorskip("jsonargparse")
    monkeypatch.chdir(tmp_path)
    example("cli_digits")
    config = str(EXAMPLES / "cli_digits.yaml")
    assert main(["fit", "--config", config, "--active.max_rounds", "1", "--trainer.max_epochs", "1"]) == 0
    assert "History of 2 rounds" in capsys.readouterr().out
    assert (tmp_path / "runs" / "cli" / "journal.jsonl").exists()


def test_a_frozen_backbone_is_fine_tuned(example, capsys):
    pytest.importorskip("torchvision")
    example("finetune").main(quick=True)
    assert "fine-tuned on 20 labels" in capsys.readouterr().out


def test_a_neighbour_library_of_your_own_picks_the_same(example, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["custom_neighbors.py", "--points", "400"])
    example("custom_neighbors").main()
    assert "same picks: True" in capsys.readouterr().out


def test_the_checkerboard_is_drawn(example, tmp_path, monkeypatch, capsys):
    out = tmp_path / "board.png"
    monkeypatch.setattr(sys, "argv", ["checkerboard.py", "--points", "200", "--rounds", "3", "--out", str(out)])
    example("checkerboard").main()
    assert out.stat().st_size > 10_000
    shares = re.findall(r"exploration +(\d+)%", capsys.readouterr().out)
    assert len(shares) >= 3 and int(shares[0]) >= int(shares[-1])


def test_every_example_has_a_run():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    for path in EXAMPLES.glob("*.*"):
        if path.suffix in (".py", ".yaml"):
            assert re.search(rf'"{path.stem}(\.py|\.yaml)?"', tests), f"{path.name} is run by no test"


class TestNotebooks:
    """They lie in the repository with what they gave, and give it again."""

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
    def test_runs_and_shows_pictures(self, path, tmp_path, monkeypatch):
        nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]))
        kept = nbformat.read(path, as_version=4)
        again = nbformat.from_dict(kept)
        client = nbclient.NotebookClient(
            again, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
        assert pictures_in(kept) == pictures_in(again) >= 2
        for cell in kept.cells:
            assert cell.cell_type != "code" or cell.execution_count, "run it again, and keep what it gives"


def pictures_in(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)
