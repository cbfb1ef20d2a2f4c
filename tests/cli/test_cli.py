import csv
import functools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from lightning_diffal.cli import main
from lightning_diffal.comparison.demo import DemoSettings, run_demo


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_without_a_command_there_is_help(capsys):
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["demo", "--rounds", "0"], ["demo", "--seed", "two"]])
def test_bad_arguments_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert "usage: diffal" in capsys.readouterr().err


def test_more_labels_than_images_is_a_line_and_no_traceback(capsys):
    assert main(["demo", "--rounds", "200"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("diffal demo: Expected initial + rounds * query_size")
    assert error.count("\n") == 1


def test_a_missing_extra_is_a_line_before_any_training(monkeypatch, capsys, tmp_path):
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == "sklearn":
                raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert main(["demo", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == 'diffal demo: sklearn is not installed: pip install "lightning-diffal[cli]"\n'
    assert not (tmp_path / "out").exists()


def test_demo_compares_prints_and_writes(tmp_path, capsys):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    settings = {"seeds": 2, "rounds": 2, "query_size": 5, "steps": 4}
    result = run_demo(DemoSettings(**settings, workers=1, out=tmp_path / "one"))
    assert torch.get_num_threads() == threads
    torch.set_rng_state(state)

    runs = {(run["name"], run["seed"]): run for run in result.results}
    assert set(runs) == {(name, seed) for name in ("diffusion", "random") for seed in (0, 1)}
    for seed in (0, 1):
        ours, baseline = runs["diffusion", seed], runs["random", seed]
        assert ours["n_labelled"] == baseline["n_labelled"] == [10, 15, 20]
        assert ours["initial"] == baseline["initial"] and ours["start"] == baseline["start"]  # weights included
        assert ours["metrics"]["test_acc"][0] == baseline["metrics"]["test_acc"][0]
        assert ours["asked"][0] != baseline["asked"][0]

    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line.startswith("   ")]
    assert [row[0] for row in rows] == ["10", "15", "20", "mean"]
    assert float(rows[1][1].rstrip("%")) == pytest.approx(
        50 * sum(runs["diffusion", seed]["metrics"]["test_acc"][1] for seed in (0, 1)), abs=0.051
    )
    assert "labels" in next(line for line in printed.out.splitlines() if line.endswith("test accuracy."))
    assert "GPU available" not in printed.err
    assert "4/4" in printed.err

    assert (tmp_path / "one" / "learning_curves.png").read_bytes()[1:4] == b"PNG"
    table = list(csv.DictReader((tmp_path / "one" / "curves.csv").open(newline="")))
    assert {row["sampler"] for row in table} == {"diffusion", "random"} and len(table) == 6

    parallel = run_demo(DemoSettings(**settings, workers=2, out=tmp_path / "two"))
    for run in parallel.results:
        one = runs[run["name"], run["seed"]]
        assert all(run[name] == one[name] for name in ("start", "asked", "metrics", "n_labelled"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_an_interrupted_demo_ends_at_once_and_leaves_no_process(tmp_path):
    command = [sys.executable, "-m", "lightning_diffal", "demo", "--workers", "2", "--out", str(tmp_path)]
    demo = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what a shell starts in the background ignores interrupts, and so would all that it starts
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert demo.stdout.readline().startswith("Handwritten digits")
        time.sleep(1)
        os.killpg(demo.pid, signal.SIGINT)
        _, error = demo.communicate(timeout=60)
        assert demo.returncode == 130
        assert error.endswith("diffal demo: interrupted\n")
        assert "Traceback" not in error
        deadline = time.monotonic() + 10
        while group_lives(demo.pid):  # a terminated worker takes a moment to be gone
            assert time.monotonic() < deadline, "a worker outlived the demo"
            time.sleep(0.1)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
