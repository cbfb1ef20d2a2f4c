"""Models split over processes: FSDP2 and tensor parallelism do what ddp does, on gloo and the CPU.

`LAYOUTS` of the script and the tests below are the table in `docs/reference/strategies.md`.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_diffal._lightning import NAMESPACE
from lightning_diffal.exceptions import ConfigurationError
from tests.helpers import quiet_trainer
from tests.processes.distributed_script import FixedFeatures, labelled_run
from tests.processes.split_script import LAYOUTS

SCRIPT = Path(__file__).with_name("split_script.py")
strategies = importlib.import_module(f"{NAMESPACE}.strategies")

if not hasattr(strategies, "ModelParallelStrategy"):
    pytest.skip("ModelParallelStrategy came with Lightning 2.4", allow_module_level=True)

SLOW = pytest.mark.slow


def script(folder, scenario, layout, argument=""):
    own = {name: value for name, value in os.environ.items() if name not in ("PL_GLOBAL_SEED", "LOCAL_RANK")}
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, scenario, folder, layout, *([argument] if argument else [])],
            cwd=folder,
            env={**own, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=400)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def ranks(folder, layout):
    sizes = LAYOUTS[layout] or (2, 1)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(sizes[0] * sizes[1])]


@pytest.fixture(
    scope="module",
    params=["fsdp2", *(pytest.param(name, marks=SLOW) for name in ("ddp", "fsdp2-full", "tensor", "fsdp2-tensor"))],
)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    code = script(folder, "run", request.param)
    assert code == 0, (folder / "output.txt").read_text()[-3000:]
    return ranks(folder, request.param)


def test_processes_agree(run):
    own = ("equal", "resumed")
    shared = [{name: value for name, value in found.items() if name not in own} for found in run]
    assert all(found == shared[0] for found in shared) and len(shared[0]["labelled"]) == 19


def test_each_round_equals_a_fit(run):
    assert [found["equal"] for found in run] == [[True, True, True]] * len(run)


def test_picks_are_those_of_one_process(run):
    model, data, active = labelled_run(FixedFeatures())
    quiet_trainer([active]).fit(model, datamodule=data)
    assert run[0]["picks"] == [None if r.query is None else r.query.indices.tolist() for r in active.history]


def test_checkpoints_and_the_folder_resume_exactly(run):
    assert [found["resumed"] for found in run] == [[True, True, True]] * len(run)
    assert run[0]["goes on"] == [13, 16, 19, 22] and run[0]["same start"]


def test_no_file_of_a_split_model_holds_it_as_a_whole(run, request):
    is_split = LAYOUTS[request.node.callspec.params["run"]] is not None
    assert run[0]["kept"] == ([False, False, False, 2] if is_split else [True, True, False, 0])


@SLOW
def test_what_lies_in_parts_is_read_by_other_processes_and_checked(tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    assert script(begun, "on", "fsdp2", "1") == 0, (begun / "output.txt").read_text()[-3000:]
    found = {}
    for name in ("fsdp2", "ddp", "fsdp2-tensor"):
        shutil.copytree(begun, tmp_path / name)
        code = script(tmp_path / name, "on", name, "2")
        assert code == 0, (tmp_path / name / "output.txt").read_text()[-3000:]
        found[name] = ranks(tmp_path / name, name)[0]
    assert found["fsdp2"] == found["ddp"]
    assert found["fsdp2-tensor"]["picks"] == found["ddp"]["picks"]
    assert found["fsdp2-tensor"]["metrics"] == pytest.approx(found["ddp"]["metrics"], rel=1e-4)  # sums in another order
    for change, words in (("flipped", "is damaged"), ("gone", "is gone")):
        shutil.copytree(begun, tmp_path / change)
        path = sorted((tmp_path / change / "run").glob("*.parts/__1_0.distcp"))[0]
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 4
        path.write_bytes(whole) if change == "flipped" else path.unlink()
        assert script(tmp_path / change, "on", "fsdp2", "2") != 0
        assert f"ResumeError: {path} {words}. Restore it" in (tmp_path / change / "output.txt").read_text()


@SLOW
@pytest.mark.parametrize("layout", ["fsdp2", "tensor"])
def test_every_setting_works_and_fsdp_trains_as_ddp_does(layout, tmp_path):
    found = {}
    for name in (layout, "ddp"):
        (tmp_path / name).mkdir()
        code = script(tmp_path / name, "settings", name)
        assert code == 0, (tmp_path / name / "output.txt").read_text()[-3000:]
        first, second = ranks(tmp_path / name, name)
        assert first == second
        found[name] = first
    if layout == "fsdp2":  # the same batches on each process, so the same bits
        assert found[layout] == found["ddp"]
    assert found[layout].keys() == found["ddp"].keys()
    for case in found[layout].values():
        assert [len(query or ()) for query in case["picks"]] == [3, 3, 0]


@SLOW
def test_a_killed_run_goes_on_from_its_folder(tmp_path):
    for name, mode in (("killed", "kill"), ("straight", "no")):
        (tmp_path / name).mkdir()
        assert (script(tmp_path / name, "killed", "fsdp2", mode) != 0) == (mode == "kill")
    assert script(tmp_path / "killed", "killed", "fsdp2", "resume") == 0
    assert ranks(tmp_path / "killed", "fsdp2") == ranks(tmp_path / "straight", "fsdp2")


@SLOW
@pytest.mark.parametrize("where", ["training", "features"])
def test_one_process_that_fails_inside_an_exchange_ends_the_job(where, tmp_path):
    started = time.monotonic()
    assert script(tmp_path, "fails", "fsdp2", where) != 0
    assert time.monotonic() - started < 120
    assert "on process 1" in (tmp_path / "output.txt").read_text()


def test_a_finder_beside_a_split_model_is_refused_by_name():
    from lightning_diffal._lightning import pl_callbacks

    model, data, active = labelled_run(FixedFeatures())
    strategy = strategies.ModelParallelStrategy(1, 1, process_group_backend="gloo")
    trainer = quiet_trainer([active, pl_callbacks.LearningRateFinder()], strategy=strategy)
    trainer.strategy.connect(model)
    trainer.datamodule = data
    with pytest.raises(ConfigurationError, match="finder cannot be part of a run with ModelParallelStrategy"):
        active.setup(trainer, model, "fit")


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy"])
def test_strategies_that_were_not_run_are_refused_by_name(name):
    model, data, active = labelled_run(FixedFeatures())
    trainer = SimpleNamespace(strategy=object.__new__(getattr(strategies, name)), datamodule=data, callbacks=[active])
    with pytest.raises(ConfigurationError, match=rf"does not work with {name}: .* use `ModelParallelStrategy`"):
        active.setup(trainer, model, "fit")
