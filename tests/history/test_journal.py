"""Every query and label is on disk the moment it is given, and is never asked or bought again."""

import json

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.history import records_equal
from lightning_diffal.history.journal import FILENAME, Journal
from lightning_diffal.oracle import PENDING
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, blobs, pl, pl_callbacks, quiet_trainer, same_weights

START = [90, 3, 41, 17]


def make_data(train_dataset=TRAIN, **kwargs):
    return ActiveDataModule(train_dataset, **{"val_dataset": VAL, "initial_labels": START, "batch_size": 4} | kwargs)


def run(tmp_path, *, data=None, ckpt_path=None, callbacks=(), sampler=None, model=None, **kwargs):
    torch.manual_seed(1)
    settings = {"query_size": 6, "max_rounds": 2, "seed": 3, "run_dir": tmp_path / "run"} | kwargs
    active = ActiveLearning(sampler or DiffusionSampler(), **settings)
    checkpoint = pl_callbacks.ModelCheckpoint(tmp_path / "checkpoints", save_top_k=-1, every_n_epochs=1)
    trainer = quiet_trainer([active, checkpoint, *callbacks], enable_checkpointing=True)
    data, model = data or make_data(), model or Net()
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return active, data, model


def lines(tmp_path, folder="run"):
    return [json.loads(line) for line in (tmp_path / folder / FILENAME).read_text().splitlines()]


def checkpoint_of(tmp_path, round_):
    (path,) = (tmp_path / "checkpoints").glob(f"round={round_}-epoch=1-*.ckpt")
    return path


def picks(active):
    return [r.query.indices.tolist() for r in active.history if r.query is not None]


def test_journal_tells_the_whole_run(tmp_path):
    active, data, _ = run(tmp_path)
    header, *events = lines(tmp_path)
    assert header["kind"] == "header" and header["format"] == 2 and header["n_points"] == 120
    assert header["data"]["pool"]["labelled"] == sorted(START) and header["seed"] == 3 and header["num_classes"] == 3
    assert [(e["kind"], e["round"]) for e in events] == [("query", 0), ("answer", 1), ("query", 1), ("answer", 2)]
    for record, query, answer in zip(active.history, events[::2], events[1::2], strict=False):
        assert query["indices"] == record.query.indices.tolist() == answer["indices"]
        assert answer["labels"] == [int(TRAIN.tensors[1][i]) for i in answer["indices"]]
    assert len(data.labelled_indices) == 16


def test_default_folder_is_below_the_root_and_of_its_own(tmp_path):
    for _ in range(2):
        torch.manual_seed(1)
        active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=1)
        quiet_trainer([active], default_root_dir=tmp_path).fit(Net(), datamodule=make_data())
    folders = list((tmp_path / "active").iterdir())
    assert len(folders) == 2 and all((f / FILENAME).exists() for f in folders)  # a fresh fit is never refused


def test_nothing_is_written_where_nothing_is_wanted(tmp_path):
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=1, run_dir=False)
    quiet_trainer([active], default_root_dir=tmp_path).fit(Net(), datamodule=make_data())
    quiet_trainer([ActiveLearning()], default_root_dir=tmp_path, fast_dev_run=True).fit(Net(), datamodule=make_data())
    assert not (tmp_path / "active").exists() and len(active.history) == 2


def test_labels_skips_and_corrections_by_hand_are_written_down(tmp_path):
    class ByHand(pl.Callback):
        def on_round_end(self, trainer):
            data = trainer.datamodule
            if ActiveLearning.from_trainer(trainer)._context.state.round == 1:
                data.label([50], [2])
                data.skip([51])
                data.correct([3], [2])

    _, data, _ = run(tmp_path, callbacks=[ByHand()])
    events = lines(tmp_path)[1:]
    assert [e["kind"] for e in events] == ["query", "answer", "answer", "skip", "correction", "query", "answer"]
    again, resumed, _ = run(tmp_path, ckpt_path=checkpoint_of(tmp_path, 0))
    assert len(lines(tmp_path)) == 8
    np.testing.assert_array_equal(resumed.labelled_indices, data.labelled_indices)
    np.testing.assert_array_equal(resumed.labels, data.labels)
    np.testing.assert_array_equal(resumed.skipped_indices, [51])
    assert resumed.labels[resumed.labelled_indices == 3] == 2
    assert len(again.history) == 3


def test_explicit_folder_continues_without_a_checkpoint(tmp_path):
    expected, _, straight = run(tmp_path / "straight")
    first, _, _ = run(tmp_path, max_rounds=1)
    asked = []

    def oracle(indices, items):
        asked.append(list(indices))
        return [int(y) for _, y in items]

    active, data, model = run(tmp_path, data=make_data(initial_labels=0), model=Net(), oracle=oracle)
    assert picks(active) == picks(expected) and len(first.history) == 2
    assert same_weights(straight.state_dict(), model.state_dict())
    assert asked == [picks(expected)[1]] and len(data.labelled_indices) == 16
    done, _, _ = run(tmp_path, data=make_data(initial_labels=0))
    assert [r.n_labelled for r in done.history] == [4, 10, 16]
    assert done.history[-1].stop_reason == "max_rounds=2 reached"


def test_earlier_checkpoint_replays_what_was_asked_and_bought(tmp_path):
    expected, _, model = run(tmp_path)
    before = lines(tmp_path)

    def forbidden(indices, items):
        raise AssertionError("bought twice")

    # another sampler would choose other points: what counts is what was asked
    active, _, again = run(
        tmp_path, ckpt_path=checkpoint_of(tmp_path, 0), sampler=RandomSampler(), oracle=forbidden, model=Net()
    )
    assert picks(active) == picks(expected) and lines(tmp_path) == before
    assert same_weights(model.state_dict(), again.state_dict())
    for a, b in zip(expected.history, active.history, strict=True):
        assert a.metrics == b.metrics
        if a.query is not None:
            assert {k: (v.dtype, v.tolist()) for k, v in a.query.details.items()} == {
                k: (v.dtype, v.tolist()) for k, v in b.query.details.items()
            }


def test_branch_asks_anew_and_leaves_the_journal_alone(tmp_path):
    expected, _, _ = run(tmp_path, run_dir=None)
    (folder,) = (tmp_path / "active").iterdir()
    before = (folder / FILENAME).read_bytes()
    active, _, _ = run(
        tmp_path, ckpt_path=checkpoint_of(tmp_path, 1), sampler=RandomSampler(), on_journal_ahead="branch", run_dir=None
    )
    assert picks(active)[0] == picks(expected)[0] and picks(active)[1] != picks(expected)[1]
    assert (folder / FILENAME).read_bytes() == before
    (branch,) = set((tmp_path / "active").iterdir()) - {folder}
    events = [json.loads(line) for line in (branch / FILENAME).read_text().splitlines()]
    assert [e["kind"] for e in events] == ["header", "query", "answer"]
    assert events[0]["data"]["pool"]["labelled"] == active.history[1].labelled.tolist()
    with pytest.raises(ResumeError, match="another run"):
        run(tmp_path, ckpt_path=checkpoint_of(tmp_path, 1), on_journal_ahead="branch", run_dir=folder)


def test_torn_last_line_is_dropped_with_a_warning(tmp_path):
    active, _, _ = run(tmp_path)
    path = tmp_path / "run" / FILENAME
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:-1]) + whole[-1][:20])
    (tmp_path / "run" / "state.ckpt").unlink()
    with pytest.warns(UserWarning, match="cut off"):
        again, data, _ = run(tmp_path, data=make_data(initial_labels=0))
    assert picks(again) == picks(active) and len(data.labelled_indices) == 16
    assert path.read_bytes().splitlines(keepends=True) == whole


def test_a_journal_that_cannot_be_read_is_refused(tmp_path):
    run(tmp_path)
    path = tmp_path / "run" / FILENAME
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + b"labels: many\n" + b"".join(whole[2:]))
    with pytest.raises(ResumeError, match=r"Line 2 of .*journal.jsonl is not what a run has written"):
        run(tmp_path)
    path.write_bytes(b"".join(whole[1:]))
    with pytest.raises(ResumeError, match=r"Line 1 of .* is not what"):
        run(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ResumeError, match=r"is empty, but state\.ckpt beside it"):
        run(tmp_path)


def test_a_journal_of_another_data_set_or_run_is_refused(tmp_path):
    run(tmp_path)
    smaller = ActiveDataModule(blobs(100), val_dataset=VAL, initial_labels=START, batch_size=4)
    with pytest.raises(ResumeError, match="another data set"):
        run(tmp_path, data=smaller)
    run(tmp_path / "other")
    with pytest.raises(ResumeError, match="journal of run"):
        run(tmp_path, ckpt_path=checkpoint_of(tmp_path, 1), run_dir=tmp_path / "other" / "run")
    path = tmp_path / "run" / FILENAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(ResumeError, match="holds 2"):
        run(tmp_path, ckpt_path=checkpoint_of(tmp_path, 1))


def test_a_journal_that_is_gone_is_missed_aloud(tmp_path):
    run(tmp_path)
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    with pytest.raises(ResumeError, match=r"initial\.ckpt is not there: .* `reset='warm'` goes on from the weights"):
        run(tmp_path, ckpt_path=checkpoint_of(tmp_path, 1))
    with pytest.warns(UserWarning, match="was not found"):
        active, _, _ = run(tmp_path, ckpt_path=checkpoint_of(tmp_path, 1), reset="warm")
    assert len(active.history) == 3
    assert [e["kind"] for e in lines(tmp_path)] == ["header", "query", "answer"]


def test_other_classes_are_refused(tmp_path):
    class Wide(Net):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(6, 5)

    run(tmp_path)
    with pytest.raises(ResumeError, match="3 classes, but now there are 5"):
        run(tmp_path, model=Wide())


def test_another_model_is_refused(tmp_path):
    run(tmp_path, max_rounds=1)
    other = Net()
    other.more = torch.nn.Linear(2, 2)
    with pytest.raises(ResumeError, match=r"begun with another model than this one: .*\n.*more.weight"):
        run(tmp_path, model=other)


def test_answers_that_arrive_in_three_processes(tmp_path):
    """Each fit here stands for a process: new objects, nothing shared but the folder."""
    known = {}

    def slowly(indices, items):
        return [known.get(int(i), PENDING) for i in indices]

    first, data, _ = run(tmp_path, oracle=slowly, max_rounds=1)
    assert "waiting for answers to 6 of the 6" in first.history[-1].stop_reason and len(data.pending_indices) == 6
    asked = first.history[0].query.indices.tolist()
    known.update({i: int(TRAIN.tensors[1][i]) for i in asked[:4]})
    second, data, _ = run(tmp_path, oracle=slowly, max_rounds=1, data=make_data(initial_labels=0))
    assert "2 of the 6" in second.history[-1].stop_reason and len(data.pending_indices) == 2
    assert picks(second) == [asked]
    known.update({i: int(TRAIN.tensors[1][i]) for i in asked[4:]})
    third, data, _ = run(tmp_path, oracle=slowly, max_rounds=1, data=make_data(initial_labels=0))
    assert [r.n_labelled for r in third.history] == [4, 10] and len(data.pending_indices) == 0
    assert [e["kind"] for e in lines(tmp_path)] == ["header", "query", "answer", "answer"]


def test_what_happens_must_be_what_the_journal_says(tmp_path):
    journal = Journal.create(tmp_path / FILENAME, {"run": "a"})
    journal.record({"kind": "skip", "indices": [1]})
    journal.rewind(1)
    with pytest.raises(ResumeError, match="something else happened"):
        journal.record({"kind": "skip", "indices": [2]})
    journal.record({"kind": "skip", "indices": [1]})
    assert journal.behind == 0 and len(Journal.open(tmp_path / FILENAME)) == 2


def test_two_processes_do_not_write_one_journal(tmp_path):
    journal = Journal.create(tmp_path / FILENAME, {"run": "a", "n_points": 9})
    other = Journal.open(tmp_path / FILENAME)
    journal.record({"kind": "skip", "indices": [3]})
    with pytest.raises(ResumeError, match="Another process has written to"):
        other.record({"kind": "skip", "indices": [3]})
    assert len(Journal.open(tmp_path / FILENAME)) == 2
    journal.record({"kind": "skip", "indices": [4]})


@pytest.mark.parametrize("how", ["folder", "checkpoint"])
def test_labels_given_before_a_run_goes_on_join_it(how, tmp_path):
    given = {90: 2, 3: 0, 41: 1, 17: 0}
    plain, plain_data, _ = run(tmp_path / "plain", data=make_data(initial_labels=given), max_rounds=1)
    run(tmp_path, data=make_data(initial_labels=given), max_rounds=1)
    known = plain_data.labelled_indices.tolist()
    more = [i for i in (110, 2, 55, 71) if i not in known][:3]
    data = make_data(initial_labels={**given, more[0]: 1})
    data.label(more[1:], [2, 0])
    data.label(picks(plain)[0][:1], [1])  # the run has bought it already
    ckpt_path = checkpoint_of(tmp_path, 1) if how == "checkpoint" else None
    active, data, _ = run(tmp_path, data=data, ckpt_path=ckpt_path, max_rounds=2, budget=12)
    assert picks(active)[0] == picks(plain)[0]
    assert [r.n_labelled for r in active.history] == [4, 10, 19]
    assert data.labelled_indices.tolist() == sorted({*known, *more, *picks(active)[1]})
    assert data.pool.labels_of(np.array(more)) == dict(zip(more, [1, 2, 0], strict=True))
    (hand,) = [event for event in lines(tmp_path) if event["kind"] == "answer" and event["round"] == 0]
    assert (hand["indices"], hand["labels"]) == (more, [1, 2, 0])
    again, data, _ = run(tmp_path, data=make_data(initial_labels=given), max_rounds=3)
    assert [r.n_labelled for r in again.history] == [4, 10, 19, 25] and set(more) <= set(data.labelled_indices)


def test_labels_by_hand_between_rounds_are_replayed_when_they_came(tmp_path):
    class ByHand(pl.Callback):
        def on_round_end(self, trainer):
            active = ActiveLearning.from_trainer(trainer)
            if len(active.history) == 2:
                chosen = active._context.data.pool_indices[[5, 1]]
                active._context.data.label(chosen, TRAIN.tensors[1][chosen].tolist())

    plain, _, model = run(tmp_path, callbacks=[ByHand()], max_rounds=3)
    assert [r.n_labelled for r in plain.history] == [4, 10, 18, 24]
    checkpoints = [checkpoint_of(tmp_path, round_) for round_ in range(4)]
    for ckpt_path in checkpoints:
        active, _, other = run(tmp_path, ckpt_path=ckpt_path, callbacks=[ByHand()], max_rounds=3)
        assert records_equal(plain.history, active.history)
        assert same_weights(model.state_dict(), other.state_dict())
    for ckpt_path in checkpoints[:2]:  # labelled in a notebook, say, so nobody does it again
        active, _, _ = run(tmp_path, ckpt_path=ckpt_path, max_rounds=3)
        assert records_equal(plain.history, active.history)


@pytest.mark.parametrize("how", ["folder", "checkpoint"])
def test_labels_stay_where_a_subclass_keeps_only_its_own(how, tmp_path):
    class Own(ActiveDataModule):
        epochs = 0

        def state_dict(self):
            return {"epochs": 7}

        def load_state_dict(self, state_dict):
            self.epochs = state_dict["epochs"]

    def own():
        return Own(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)

    full, _, model = run(tmp_path / "full", data=own())
    run(tmp_path, data=own(), max_rounds=1)
    ckpt_path = checkpoint_of(tmp_path, 1) if how == "checkpoint" else None
    active, data, other = run(tmp_path, data=own(), ckpt_path=ckpt_path)
    assert records_equal(full.history, active.history) and same_weights(model.state_dict(), other.state_dict())
    assert len(data.labelled_indices) == 16 and data.epochs == 7


def test_a_run_that_writes_nothing_leaves_an_earlier_journal_alone(tmp_path):
    data = make_data()
    run(tmp_path, data=data, max_rounds=1)
    before = lines(tmp_path)
    active, _, _ = run(tmp_path, data=data, run_dir=False, budget=8)  # of its own: the 6 before cost nothing of it
    assert [r.n_labelled for r in active.history] == [10, 16, 18]
    assert lines(tmp_path) == before
    again, _, _ = run(tmp_path)
    assert [r.n_labelled for r in again.history] == [4, 10, 16]


def test_points_are_found_by_id_where_the_order_changed(tmp_path):
    order = torch.randperm(120, generator=torch.Generator().manual_seed(2)).tolist()
    names = [f"img{i}.png" for i in range(120)]
    active, data, _ = run(tmp_path, data=make_data(ids=names))
    moved = torch.utils.data.TensorDataset(*(t[order] for t in TRAIN.tensors))
    shuffled = ActiveDataModule(moved, val_dataset=VAL, initial_labels=0, batch_size=4, ids=[names[i] for i in order])
    _, again, _ = run(tmp_path, data=shuffled, ckpt_path=checkpoint_of(tmp_path, 0))
    assert sorted(order[i] for i in again.labelled_indices) == data.labelled_indices.tolist()
    assert len(active.history) == 3


@pytest.mark.parametrize("how", ["folder", "checkpoint"])
def test_a_run_that_waits_follows_its_points_into_another_order(how, tmp_path):
    """As an image folder does into which new files were put."""
    order = [*torch.randperm(120, generator=torch.Generator().manual_seed(2)).tolist(), *range(120, 130)]
    points = blobs(130)
    names = [f"img{i}.png" for i in range(130)]

    def shown(order):
        dataset = torch.utils.data.TensorDataset(*(t[order] for t in points.tensors))
        first = {order.index(i): int(points.tensors[1][i]) for i in START} if order == list(range(120)) else 0
        return make_data(initial_labels=first, ids=[names[i] for i in order], batch_size=4, train_dataset=dataset)

    def told(active, data):
        """The history by name."""
        ids, rows = data.pool.ids, []
        for record in active.history:
            query = record.query
            asked = near = None
            if query is not None:
                asked = [ids[i] for i in query.indices]
                near = [ids[i] for i in query.details["nearest_labelled"]]
            rows.append((sorted(ids[i] for i in record.labelled), asked, near))
        return rows

    def oracle(answers):
        return lambda indices, items: [int(y) if place < answers else PENDING for place, (_, y) in enumerate(items)]

    def go_on(order, answers, **kwargs):
        ckpt_path = checkpoint_of(tmp_path, 1) if how == "checkpoint" else None
        return run(tmp_path, data=shown(order), ckpt_path=ckpt_path, oracle=oracle(answers), **kwargs)

    calls = []

    def slow(indices, items):
        calls.append(len(indices))
        return oracle(6 if len(calls) == 1 else 2)(indices, items)

    before = run(tmp_path, data=shown(list(range(120))), oracle=slow)
    assert [len(row[1]) for row in told(*before[:2])] == [6, 6] and len(before[1].pending_indices) == 4
    active, data, _ = go_on(order, 0)
    assert told(active, data) == told(*before[:2])
    assert "waiting for answers to 4 of the 6 points asked" in active.history[-1].stop_reason
    assert data.pending_indices.tolist() == sorted(order.index(i) for i in before[1].pending_indices)
    active, data, _ = go_on(order, 6, max_rounds=3)
    assert [r.n_labelled for r in active.history] == [4, 10, 16, 22] and told(active, data)[:2] == told(*before[:2])
    assert data.labels.tolist() == [int(points.tensors[1][order[i]]) for i in data.labelled_indices]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("how", ["folder", "checkpoint"])
def test_subsets_may_grow_and_with_ids_change_their_order(how, named, tmp_path):
    order = torch.randperm(120, generator=torch.Generator().manual_seed(2)).tolist()

    def shown(order):
        ids = [f"img{i}.png" for i in order] if named else None
        return make_data(train_dataset=torch.utils.data.Subset(TRAIN, order), ids=ids)

    run(tmp_path, data=shown(order[:100]), max_rounds=1)
    later = [*order[100:], *order[:100]] if named else order
    ckpt_path = checkpoint_of(tmp_path, 1) if how == "checkpoint" else None
    active, data, _ = run(tmp_path, data=shown(later), ckpt_path=ckpt_path)
    assert [r.n_labelled for r in active.history] == [4, 10, 16] and len(data.pool) == 120
    assert data.labels.tolist() == [int(TRAIN.tensors[1][later[i]]) for i in data.labelled_indices]
    other = make_data(train_dataset=torch.utils.data.Subset(TRAIN, range(120)), ids=range(120) if named else None)
    with pytest.raises(ResumeError, match="not in this data set" if named else "another (data set|split)"):
        run(tmp_path, data=other, ckpt_path=ckpt_path)
