"""Two processes do what one does: real ones, over gloo on the CPU, started through a Trainer."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import NAMESPACE, is_supported, lives_for_one_fit, pl, restores_late
from lightning_diffal.exceptions import ConfigurationError
from tests.helpers import TRAIN, Net, fill, quiet_trainer
from tests.processes.distributed_script import CASES, POINTS, START, FixedFeatures, labelled_run

SCRIPT = Path(__file__).with_name("distributed_script.py")
strategies = importlib.import_module(f"{NAMESPACE}.strategies")


def launch(folder, scenario, argument="", **environment):
    """The scenario in a process group of its own, so that it can kill itself and all that it started."""
    own = {name: value for name, value in os.environ.items() if name not in ("PL_GLOBAL_SEED", "LOCAL_RANK")}
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, SCRIPT, scenario, folder, argument],
            cwd=folder,
            env={**own, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def finish(process):
    try:
        return process.wait(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def script(folder, scenario, argument="", expected=0):
    code = finish(launch(folder, scenario, argument))
    assert code == expected, (folder / "output.txt").read_text()[-3000:]


def ranks(folder):
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def gone(pid):
    """Whether a process has ended, perhaps without anybody who asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# -------------------------------------------------------------------------------------------------------- a whole run


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_on_nodes(folder):
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    nodes = [launch(folder, "run", "nodes", NODE_RANK=str(rank), **place) for rank in (0, 1)]
    assert [finish(node) for node in nodes] == [0, 0], (folder / "output.txt").read_text()[-3000:]


@pytest.fixture(scope="module", params=["ddp", pytest.param("nodes", marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "nodes":
        run_on_nodes(folder)
    else:
        script(folder, "run", "ddp")
    return folder


def test_features_of_all_points_are_gathered_in_order(run):
    first, second = ranks(run)
    assert first["gathered"] == [True, True] and second["gathered"] == []  # as one process reads them, BN and all


def test_processes_agree_on_everything(run):
    first, second = ({k: v for k, v in r.items() if k not in ("own_weights", "gathered")} for r in ranks(run))
    assert first == second
    assert len(first["labelled"]) == 19 and set(START) < set(first["labelled"])  # the first one's initial labels
    assert first["labels"] == POINTS.tensors[1][first["labelled"]].tolist()


def test_rounds_start_from_the_weights_of_the_first_process(run):
    first, second = ranks(run)
    assert first["own_weights"] != second["own_weights"]
    assert first["initial_weights"] == second["initial_weights"] == first["own_weights"]


def test_round_equals_an_independent_fit_on_two_processes(run):
    assert [r["equal"] for r in ranks(run)] == [[True, True, True]] * 2


@pytest.mark.slow
def test_pseudo_labels_are_the_same_on_two_processes(tmp_path):
    script(tmp_path, "pseudo")
    first, second = ranks(tmp_path)
    assert first == second
    assert first["equal"] == [True, True, True]
    assert len(first["places"][0]) == 13 and min(map(len, first["places"][1:])) > 80


def test_picks_are_those_of_one_process(run, tmp_path):
    model, data, active = labelled_run(FixedFeatures())
    quiet_trainer([active]).fit(model, datamodule=data)
    picks = [None if r.query is None else r.query.indices.tolist() for r in active.history]
    assert picks == ranks(run)[0]["picks"]


def test_only_the_first_process_asks_writes_and_logs(run):
    assert lines(run / "oracle.jsonl") == [0, 0]
    assert set(lines(run / "logger.jsonl")) == {0}
    (journal,) = (run / "root").rglob("journal.jsonl")
    assert [event["kind"] for event in lines(journal)] == ["header", *["query", "answer"] * 2]
    others = {path.name for path in journal.parent.iterdir() if path != journal}
    assert others - {"run.json", "projection.npz"} == {"initial.ckpt", "state.ckpt", "writer.lock"}


def test_no_thread_of_a_process_group_outlives_the_interpreter(run):
    assert lines(run / "threads.jsonl") == [[], []]


LEAVING = """
import sys, torch, torch.distributed as dist
from types import SimpleNamespace
from lightning_diffal.processes.ranks import Ranks

class OneOfTwo(Ranks):  # it says so, and has nobody to ask

    def everyone(self, value):
        return [value] * self.size


dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
ranks = OneOfTwo(SimpleNamespace(world_size=2, global_rank=0, strategy=None))
sys.setswitchinterval(1000)  # a thread gets the interpreter only where it is given up
values = [torch.ones(1) for _ in range(20_000)]
dist.all_reduce_coalesced(values, group=ranks._group, async_op=True)
del values  # now the thread needs the interpreter to drop them
"""


def test_a_process_ends_while_a_thread_drops_what_was_exchanged():
    subprocess.run([sys.executable, "-c", LEAVING], check=True, timeout=120)


# ------------------------------------------------------------------------------------------------------------- resume


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    script(folder, "resume", "full")
    return ranks(folder)


@pytest.mark.parametrize(
    ("spec", "n_bought"),
    [
        ("epoch_start:1", 2),
        pytest.param("batch:1", 2, marks=pytest.mark.slow),
        pytest.param("oracle:1", 3, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed(spec, n_bought, uninterrupted, tmp_path):
    script(tmp_path, "resume", spec, expected=-signal.SIGKILL)
    script(tmp_path, "resume", "resume")
    assert ranks(tmp_path) == uninterrupted
    assert len(lines(tmp_path / "bought.jsonl")) == n_bought


# ------------------------------------------------------------------------------------------------- answers from files


def true_class(index):
    return int(POINTS[index][1])


def appears(path, process):
    """Wait for a file that a run writes."""
    while not path.exists():
        assert process.poll() is None and not time.sleep(0.05), f"no {path}"


def test_answers_from_files_are_waited_for_by_all_processes(tmp_path):
    """Killed as a group while it waits for the second half of an answer, and again waiting when that comes."""
    queries = [tmp_path / "run" / "queries" / f"query-{number:03d}.csv" for number in (0, 1)]
    journal = tmp_path / "run" / "journal.jsonl"
    process = launch(tmp_path, "files", "240")
    appears(queries[0], process)
    fill(queries[0], true_class, slice(1, 3))
    while '"answer"' not in journal.read_text():
        assert process.poll() is None and not time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL

    process = launch(tmp_path, "files", "240")
    for number, rows in enumerate((slice(1), slice(None))):
        appears(queries[number], process)
        fill(queries[number], true_class, rows)
    assert finish(process) == 0, (tmp_path / "output.txt").read_text()[-3000:]
    first, second = ranks(tmp_path)
    assert first == second and first["reason"] == "max_rounds=2 reached"
    assert first["labels"] == POINTS.tensors[1][first["labelled"]].tolist()
    assert [event["kind"] for event in lines(journal)] == ["header", "query", "answer", "answer", "query", "answer"]

    model, data, active = labelled_run(FixedFeatures())
    quiet_trainer([active]).fit(model, datamodule=data)
    assert first["picks"] == [None if r.query is None else r.query.indices.tolist() for r in active.history]


# ------------------------------------------------------------------------------------------ processes for one fit only


@pytest.mark.parametrize(
    "strategy", ["ddp_fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ddp_spawn", "ddp_notebook"))]
)
def test_children_hand_back_what_they_learned(strategy, tmp_path):
    script(tmp_path, "children", strategy)
    found = json.loads((tmp_path / "main.json").read_text())
    first, second = found["first"], found["second"]
    assert len(first["labelled"]) == 16 and first["reason"] == "max_rounds=1 reached"
    assert len(second["labelled"]) == 19 and second["labelled"] == found["labelled"]
    assert second["picks"][0] == first["picks"][0] and second["metrics"][:2] == first["metrics"]
    (journal,) = tmp_path.rglob("journal.jsonl")  # the second fit went on with it
    assert [event["kind"] for event in lines(journal)] == ["header", *["query", "answer"] * 2]


# ------------------------------------------------------------------------------------------------------------- trouble


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trouble")
    script(folder, "trouble")
    return folder


@pytest.fixture(scope="module")
def cases(trouble):
    found = {case.pop("name"): case for case in lines(trouble / "cases.jsonl")}
    assert found.keys() == CASES.keys()
    return found


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("oracle", "ConnectionError: the annotators are on strike"),
        ("sampler", "LookupError: no such neighbour"),
        ("loader", "OSError: item 51 cannot be read"),
        ("training", "ArithmeticError: loss is gone on process 1"),
        ("killed", "signal SIGKILL|Connection (closed|reset) by peer"),
        ("first killed", "signal SIGKILL|Connection (closed|reset) by peer"),
        ("wrong loader", "goes over 115 points, but 13 are labelled"),
        ("one label each", "Expected more than 1 value per channel"),
        ("other splits", "hold different training data sets: give `random_split`"),
    ],
)
def test_trouble_on_one_process_ends_all(name, error, cases):
    case = cases[name]
    assert re.search(error, case["error"]), case["error"]
    assert case["seconds"] < 15


def test_too_few_labels_for_batch_norm_are_named(trouble):
    assert (
        "give at least two `initial_labels` for each device, or use fewer devices"
        in (trouble / "output.txt").read_text()
    )


def test_what_was_asked_is_not_lost_with_the_children(cases):
    assert cases["oracle"]["n_pending"] == 3 and cases["oracle"]["n_rounds"] == 1


def test_selection_may_take_longer_than_the_time_out(cases):
    case = cases["slow"]
    assert case["error"] == "" and case["seconds"] > 5 and case["n_labelled"] == 16


@pytest.mark.parametrize(
    ("name", "n_labelled"),
    [
        ("own loader", 19),
        ("one label", 3),
        ("no label", 6),
        ("other labels", 19),
        ("buffers", 19),
        ("stop", 13),
        ("pseudo-labels", 19),
        ("pseudo-labels and diffusion", 19),
    ],
)
def test_unusual_runs_work(name, n_labelled, cases):
    case = cases[name]
    assert case["error"] == ""
    assert case.get("n_labelled", n_labelled) == n_labelled
    assert case["reason"] == ("seen on process 1" if name == "stop" else "max_rounds=2 reached")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("loader", 1),
        ("first killed", -signal.SIGKILL),
        pytest.param("killed", -signal.SIGKILL, marks=pytest.mark.slow),  # Lightning looks every five seconds
    ],
)
def test_trouble_under_a_script_leaves_nobody_behind(name, code, tmp_path):
    script(tmp_path, "one", name, expected=code)
    output = (tmp_path / "output.txt").read_text()
    if name == "loader":
        assert "Rank 1 failed, and with it this process: OSError: item 51 cannot be read" in output
        assert all(threads == [] for threads in lines(tmp_path / "threads.jsonl"))
    pids = [int((tmp_path / f"pid{rank}").read_text()) for rank in (0, 1)]
    until = time.monotonic() + 15
    while not all(map(gone, pids)):
        assert time.monotonic() < until, output[-3000:]
        time.sleep(0.1)


# ---------------------------------------------------------------------------------------------------- other strategies


def test_strategies_that_split_the_model_are_refused():
    class Splitting(strategies.SingleDeviceStrategy):
        restore_checkpoint_after_setup = True

    data = ActiveDataModule(TRAIN, initial_labels=4)
    trainer = pl.Trainer(
        strategy=Splitting(torch.device("cpu")), logger=False, enable_checkpointing=False, callbacks=[ActiveLearning()]
    )
    with pytest.raises(
        ConfigurationError,
        match=r"does not work with Splitting.*`ModelParallelStrategy` \(FSDP2\), else `strategy='ddp'`",
    ):
        trainer.fit(Net(), datamodule=data)


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"])
def test_lightning_tells_which_strategies_split_the_model(name):
    strategy = getattr(strategies, name, None)
    if strategy is None:
        pytest.skip("this Lightning does not have it")
    assert strategy.restore_checkpoint_after_setup.fget(object())
    assert not strategies.DDPStrategy.restore_checkpoint_after_setup.fget(object())
    assert not restores_late(quiet_trainer()) and is_supported(quiet_trainer())


def test_lightning_tells_which_processes_live_for_one_fit():
    for name, expected in {"ddp": False, "ddp_spawn": True, "ddp_fork": True}.items():
        assert lives_for_one_fit(quiet_trainer(strategy=name, devices=2)) is expected
    assert not lives_for_one_fit(quiet_trainer())


def test_processes_agree_on_when_to_stop(tmp_path):
    script(tmp_path, "stopping")
    first, second = ranks(tmp_path)
    assert first == second
    for found in first.values():
        assert found["reason"].startswith("predictions are stable: kappa") and found["alone"]
        assert ["prediction_kappa" in metrics for metrics in found["metrics"]] == [False, True, True]
        assert len(set(found["keys"])) == 41
