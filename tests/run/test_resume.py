"""A killed job comes back where it was, to the bit."""

import functools
import json
import random
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.history import records_equal
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, blobs, pl_callbacks, quiet_trainer, same_weights

SCRIPT = Path(__file__).with_name("resume_script.py")


def script(folder, spec, mode, *args):
    return subprocess.run(
        [sys.executable, SCRIPT, folder, spec, mode, *args], capture_output=True, text=True, timeout=300, check=False
    )


def read(folder):
    rounds = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        rounds[row.pop("round")] = row
    return rounds, json.loads((folder / "done.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    finished = script(folder, "none", "full")
    assert finished.returncode == 0, finished.stderr[-2000:]
    return read(folder)


KILLS = [
    "batch:0:1",
    "epoch_start:1:1",
    "epoch_end:1:1",
    "batch:1:2",
    "validation:1:2",
    "train_end:1",
    "sigterm:1:1",
    "round_end:1",
    "select:1",
    "oracle:1",
    "round_start:2",
    "batch:2:0",
    "checkpoint:2:1",
    "batch:3:2",
]
# from an explicit `run_dir`, without a checkpoint of Lightning's
FOLDER_KILLS = ["batch:0:1", "select:0", "oracle:1", "round_start:2", "batch:2:1", "round_end:2"]


@pytest.mark.parametrize(
    ("spec", "how"), [(spec, "checkpoint") for spec in KILLS] + [(spec, "folder") for spec in FOLDER_KILLS]
)
def test_killed_and_resumed(spec, how, tmp_path, uninterrupted):
    killed = script(tmp_path, spec, "full", how)
    if not spec.startswith("sigterm"):  # there Lightning ends the fit, with an exit code that depends on its version
        assert killed.returncode == -9, killed.stderr[-2000:]
    assert not (tmp_path / "done.json").exists()
    resumed = script(tmp_path, "none", "resume", how)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    rounds, done = read(tmp_path)
    expected_rounds, expected = uninterrupted
    assert done == expected
    assert rounds == expected_rounds
    bought = [json.loads(line) for line in (tmp_path / "bought.jsonl").read_text().splitlines()]
    # only a query that was cut off before its answers were written down is put to the oracle again
    assert len(bought) == (4 if spec.startswith("oracle") else 3)
    assert {index for query in bought for index in query} == {i for picks in done["picks"][:-1] for i in picks}


@pytest.fixture(scope="module")
def uninterrupted_with_pseudo_labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    finished = script(folder, "none", "full", "checkpoint", "pseudo")
    assert finished.returncode == 0, finished.stderr[-2000:]
    return read(folder)


@pytest.mark.parametrize(
    ("spec", "how"),
    [
        ("batch:2:2", "checkpoint"),
        pytest.param("epoch_end:1:1", "checkpoint", marks=pytest.mark.slow),
        pytest.param("validation:3:1", "checkpoint", marks=pytest.mark.slow),
        pytest.param("select:1", "checkpoint", marks=pytest.mark.slow),
        ("oracle:1", "folder"),
        pytest.param("round_start:2", "folder", marks=pytest.mark.slow),
        pytest.param("batch:2:1", "folder", marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_with_pseudo_labels(spec, how, tmp_path, uninterrupted_with_pseudo_labels):
    assert script(tmp_path, spec, "full", how, "pseudo").returncode == -9
    resumed = script(tmp_path, "none", "resume", how, "pseudo")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    rounds, _ = read(tmp_path)
    assert read(tmp_path) == uninterrupted_with_pseudo_labels
    assert [len(rounds[number]["labelled"]) for number in range(4)] == [12, 18, 24, 30]
    assert rounds[0]["trained"] == 12 and all(
        rounds[number]["trained"] > len(rounds[number]["labelled"]) for number in (1, 2, 3)
    )  # how many join differs from one torch to another


@pytest.mark.slow
@pytest.mark.parametrize("how", ["checkpoint", "folder"])
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_at_any_time(seed, how, tmp_path, uninterrupted):
    draw, mode, kills = random.Random(seed), "full", 0
    while True:
        process = subprocess.Popen([sys.executable, SCRIPT, tmp_path, "none", mode, how], stderr=subprocess.DEVNULL)
        try:
            assert process.wait(timeout=draw.uniform(1.5, 4) if kills < 5 else 120) == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        begun = tmp_path / ("checkpoints/last.ckpt" if how == "checkpoint" else "run/journal.jsonl")
        mode = "resume" if begun.exists() else "full"
    assert read(tmp_path) == uninterrupted


def run(tmp_path, model=None, data=None, ckpt_path=None, callbacks=(), max_rounds=2, **kwargs):
    torch.manual_seed(1)
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=max_rounds, seed=3, **kwargs)
    data = data or ActiveDataModule(
        TRAIN, val_dataset=VAL, test_dataset=VAL, initial_labels=[3, 90, 41, 17], batch_size=4
    )
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, every_n_epochs=1)
    trainer = quiet_trainer([active, checkpoint, *callbacks], enable_checkpointing=True)
    model = model or Net()
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer, model, data, active


def saved(tmp_path, round_, epoch=1):
    (path,) = tmp_path.glob(f"round={round_}-epoch={epoch}-*.ckpt")
    return path


def test_every_checkpoint_of_a_run_leads_to_the_same_end(tmp_path):
    snapshots = Snapshots()
    _, model, _, active = run(tmp_path, callbacks=[snapshots])
    for path in sorted(tmp_path.glob("*.ckpt")):
        other = Net()
        _, other, _, resumed = run(
            tmp_path / "again", other, ActiveDataModule(TRAIN, val_dataset=VAL, batch_size=4), path
        )
        assert same_weights(model.state_dict(), other.state_dict()), path
        for a, b in zip(active.history, resumed.history, strict=True):
            assert a.labelled.tolist() == b.labelled.tolist() and a.metrics == b.metrics and a.seed == b.seed
            assert (a.query is None) == (b.query is None)
            if a.query is not None:
                assert a.query.indices.tolist() == b.query.indices.tolist()
                assert {k: v.tolist() for k, v in a.query.details.items()} == {
                    k: v.tolist() for k, v in b.query.details.items()
                }


@pytest.mark.parametrize("reset", ["initial", "warm", 0.5])
def test_redone_rounds_start_where_they_started(tmp_path, reset):
    class Every(pl_callbacks.ModelCheckpoint):
        """Also in the middle of an epoch, from where a round has to be done again."""

    steps = Every(tmp_path / "steps", filename="{round}-{step}", every_n_train_steps=1, save_top_k=-1)
    _, model, _, _ = run(tmp_path, callbacks=[steps], reset=reset)
    for name in ("round=0-step=1", "round=1-step=2", "round=2-step=1", "round=2-step=7"):
        other = Net()
        run(tmp_path / "again", other, None, tmp_path / "steps" / f"{name}.ckpt", reset=reset)
        assert same_weights(model.state_dict(), other.state_dict()), name


class StopsEarly(pl_callbacks.Callback):
    def on_train_epoch_end(self, trainer, module):
        trainer.should_stop = True


class ShrinksWeights(pl_callbacks.Callback):
    """As averaging of weights does, it changes the model when its training has ended."""

    def on_train_end(self, trainer, module):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.5)


@pytest.mark.parametrize("run_dir", [None, False])
@pytest.mark.parametrize(("ending", "last_epoch"), [(StopsEarly, 0), (ShrinksWeights, 1)])
def test_a_finished_run_goes_on_from_its_last_checkpoint(ending, last_epoch, run_dir, tmp_path):
    _, model, _, active = run(tmp_path / "full", callbacks=[ending()], run_dir=run_dir)
    run(tmp_path, callbacks=[ending()], max_rounds=1, run_dir=run_dir)
    last = saved(tmp_path, 1, last_epoch)
    other = Net()
    _, other, _, resumed = run(tmp_path / "on", other, None, last, callbacks=[ending()], run_dir=run_dir)
    assert records_equal(active.history, resumed.history)
    assert same_weights(model.state_dict(), other.state_dict())
    trained = sorted(path.name.partition("-")[0] for path in (tmp_path / "on").glob("*.ckpt"))
    again = ["round=1"] * 2 if ending is ShrinksWeights and run_dir is False else []  # nobody knows how it ended
    assert trained == again + ["round=2"] * (last_epoch + 1)


def test_checkpoint_is_plain_and_its_structure_is_known(tmp_path):
    run(tmp_path)
    checkpoint = torch.load(saved(tmp_path, 1), weights_only=True)
    state = checkpoint["active_learning"]
    assert sorted(state) == [
        "asked",
        "bought_before",
        "data",
        "environment",
        "fingerprint",
        "format",
        "history",
        "initial_weights",
        "initial_weights_beside",
        "journal",
        "loaders",
        "metrics",
        "outputs",
        "phase",
        "predictions",
        "pseudo_labels",
        "random_states",
        "round",
        "round_weights",
        "seed",
        "settings",
        "steps",
        "stopped",
    ]
    assert state["format"] == 2 and state["round"] == 1 and state["phase"] == "training"
    assert sorted(state["history"][0]) == [
        "classes",
        "labelled",
        "metrics",
        "query",
        "round",
        "seconds",
        "seed",
        "stop_reason",
    ]
    assert sorted(state["data"]) == ["class_names", "pool", "split"]
    assert sorted(state["data"]["pool"]) == [
        "ids",
        "labelled",
        "labels",
        "n_points",
        "pending",
        "rounds",
        "skipped",
        "version",
    ]
    assert checkpoint["ActiveDataModule"] == state["data"]


def test_testing_an_old_checkpoint_takes_no_label_away(tmp_path):
    trainer, model, data, active = run(tmp_path)
    old = saved(tmp_path, 0)
    for call in (trainer.test, trainer.validate):
        call(model, datamodule=data, ckpt_path=old, verbose=False)
    trainer.predict(model, datamodule=data, ckpt_path=old)
    assert len(data.labelled_indices) == 16 and len(active.history) == 3
    weights = torch.load(old, weights_only=True)["state_dict"]
    assert same_weights(weights, model.state_dict())  # the model is the old one, as asked


def test_resuming_on_other_data_is_refused(tmp_path):
    run(tmp_path)
    smaller = ActiveDataModule(blobs(100), val_dataset=VAL, batch_size=4)
    with pytest.raises(ResumeError, match="120 points, but this one has 100"):
        run(tmp_path / "b", data=smaller, ckpt_path=saved(tmp_path, 1))


def test_resuming_on_other_items_is_refused(tmp_path):
    run(tmp_path)
    reordered = TensorDataset(*(t.flip(0) for t in TRAIN.tensors))
    with pytest.raises(ResumeError, match=r"Item 0 .* is not the one"):
        run(tmp_path / "b", data=ActiveDataModule(reordered, batch_size=4), ckpt_path=saved(tmp_path, 1))


def test_labels_that_were_filled_into_the_data_set_do_not_make_it_another(tmp_path):
    inputs, labels = TRAIN.tensors
    unknown = torch.full_like(labels, -1)
    first = ActiveDataModule(TensorDataset(inputs, unknown), initial_labels={3: 0, 90: 1, 41: 2}, batch_size=4)
    _, _, data, _ = run(tmp_path, data=first, max_rounds=1, oracle=lambda indices, _: labels[indices].tolist())
    bought = data.labelled_indices
    filled = ActiveDataModule(TRAIN, batch_size=4)
    _, _, data, active = run(tmp_path / "b", data=filled, ckpt_path=saved(tmp_path, 1))
    assert [r.n_labelled for r in active.history] == [3, 9, 15] and set(bought) < set(data.labelled_indices)


def test_augmented_items_do_not_count_as_other_ones(tmp_path):
    class Augmented(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + 0.01 * torch.randn(8), y

    def data():
        return ActiveDataModule(Augmented(*TRAIN.tensors), initial_labels=[3, 90, 41, 17], batch_size=4)

    run(tmp_path, data=data())
    _, _, _, active = run(tmp_path / "b", data=data(), ckpt_path=saved(tmp_path, 1))
    assert len(active.history) == 3


def test_another_sampler_is_named(tmp_path):
    run(tmp_path)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2)
    with pytest.warns(UserWarning, match=r"began with sampler=DiffusionSampler\(.* goes on with sampler=RandomSampler"):
        quiet_trainer([active]).fit(
            Net(), datamodule=ActiveDataModule(TRAIN, val_dataset=VAL, batch_size=4), ckpt_path=saved(tmp_path, 0)
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pseudo_labels": True}, r"began with pseudo_labels=None and goes on with pseudo_labels=PseudoLabels\(margin"),
        ({"reset": "warm"}, "began with reset='initial' and goes on with reset='warm'"),
        ({"features": "body"}, "began with features='auto' and goes on with features='body'"),
        ({}, None),
    ],
)
def test_other_settings_are_named(changed, message, tmp_path, recwarn):
    """Whether the run goes on from a checkpoint or from its folder."""
    warnings.simplefilter("always")  # the same words twice

    def fit(folder, ckpt_path=None, **settings):
        sampler = DiffusionSampler(backend=functools.partial(nearest_neighbors, backend="exact"))
        active = ActiveLearning(sampler, query_size=6, max_rounds=1, run_dir=folder, **settings)
        data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[3, 90, 41, 17], batch_size=4)
        checkpoints = pl_callbacks.ModelCheckpoint(tmp_path, filename="last")
        trainer = quiet_trainer([active, checkpoints], enable_checkpointing=True, max_epochs=1)
        trainer.fit(Net(), datamodule=data, ckpt_path=ckpt_path)

    fit(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    fit(tmp_path / "run", tmp_path / "last.ckpt", **changed)
    fit(tmp_path / "copy", **changed)
    told = [str(w.message) for w in recwarn if "This run began with" in str(w.message)]
    assert len(told) == (2 if changed else 0) and all(re.search(message, words) for words in told)


def test_a_renamed_data_module_is_restored_all_the_same(tmp_path):
    class Renamed(ActiveDataModule):
        pass

    run(tmp_path)
    _, _, data, active = run(
        tmp_path / "b", data=Renamed(TRAIN, val_dataset=VAL, batch_size=4), ckpt_path=saved(tmp_path, 1)
    )
    assert [r.n_labelled for r in active.history] == [4, 10, 16] and len(data.labelled_indices) == 16


def test_new_points_join_the_pool(tmp_path):
    run(tmp_path)
    larger_set = TensorDataset(
        *(torch.cat([a, b]) for a, b in zip(TRAIN.tensors, blobs(30, seed=5).tensors, strict=True))
    )
    larger = ActiveDataModule(larger_set, val_dataset=VAL, batch_size=4)
    _, _, data, active = run(tmp_path / "b", data=larger, ckpt_path=saved(tmp_path, 1))
    assert len(data.labelled_indices) == 16 and len(data.pool_indices) == 134
    assert [r.n_labelled for r in active.history] == [4, 10, 16]


def test_a_newer_format_explains_itself(tmp_path):
    run(tmp_path)
    path = saved(tmp_path, 1)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["active_learning"]["format"] = 99
    torch.save(checkpoint, path)
    with pytest.raises(ResumeError, match="format 99"):
        run(tmp_path / "b", ckpt_path=path)


@pytest.mark.parametrize("round_", [0, 1])
@pytest.mark.parametrize("run_dir", [None, False, "runs/a"])
def test_interrupted_and_fit_again_in_one_process(run_dir, round_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Interrupt(Net):
        armed = True

        def training_step(self, batch, batch_idx):
            if self.armed and self.trainer.callback_metrics["round"] == round_ and self.global_step == 1:
                type(self).armed = False
                raise RuntimeError("out of memory")
            return super().training_step(batch, batch_idx)

    torch.manual_seed(1)
    expected = Net()
    plain = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2)

    def data():
        return ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[3, 90, 41, 17], batch_size=4)

    quiet_trainer([plain]).fit(expected, datamodule=data())
    torch.manual_seed(1)
    model, module = Interrupt(), data()
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, run_dir=run_dir)
    trainer = quiet_trainer([active])
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.fit(model, datamodule=module)
    torch.manual_seed(5)  # whatever happens meanwhile
    trainer.fit(model, datamodule=module)
    assert same_weights(expected.state_dict(), model.state_dict())
    assert records_equal(plain.history, active.history)
    assert [r.n_labelled for r in active.history] == [4, 10, 16]
