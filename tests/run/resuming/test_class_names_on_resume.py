"""A run that goes on with its classes in another order, or with other classes."""

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl_callbacks
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.oracle import FileOracle
from lightning_diffal.report.run import view_of
from lightning_diffal.samplers import DiffusionSampler
from tests.helpers import TRAIN, Net, fill, quiet_trainer

ITEMS = list(TRAIN.tensors[0])
ORDERS = [["a", "b", "c"], ["c", "a", "b"], ["b", "a", "c"]]
pytestmark = pytest.mark.filterwarnings("ignore:The `class_names` come in another order")


def name_of(index):
    return "abc"[int(TRAIN.tensors[1][index])]


def fit(names, rounds, run_dir=False, initial=None, several=False, callbacks=(), oracle=None, ckpt=None):
    def answer(index):
        return [name_of(index)] if several else name_of(index)

    def people(indices, items):
        named = [answer(i) for i in indices]
        return [[int(n in label) for n in names] for label in named] if several else named

    if initial is None:
        initial = {0: name_of(0), 1: name_of(1)}
        if several:
            initial = {i: [int(n == name_of(i)) for n in names] for i in (0, 1)}
    data = ActiveDataModule(ITEMS, initial_labels=initial, class_names=names)
    active = ActiveLearning(
        DiffusionSampler(),
        query_size=4,
        max_rounds=rounds,
        run_dir=run_dir,
        seed=0,
        oracle=oracle or people,
    )
    trainer = quiet_trainer([active, *callbacks], max_epochs=1, enable_checkpointing=bool(callbacks))
    trainer.fit(Net("none"), datamodule=data, ckpt_path=ckpt)
    return data, active


def named(data):
    """The labels as words, by position."""
    if data.labels.ndim == 2:
        rows = [[data.class_names[k] for k in np.flatnonzero(row)] for row in data.labels]
        return dict(zip(data.labelled_indices.tolist(), rows, strict=True))
    return {i: data.class_names[k] for i, k in zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True)}


@pytest.mark.parametrize("keeps_state", [True, False])
def test_labels_move_by_name(tmp_path, keeps_state):
    for rounds, names in enumerate([*ORDERS, ORDERS[0]], start=1):
        data, active = fit(names, rounds, tmp_path)
        assert named(data) == {i: name_of(i) for i in data.labelled_indices.tolist()}
        assert len(data.labelled_indices) == 2 + 4 * rounds and len(active.history) == rounds + 1
        view = view_of(tmp_path)  # the folder itself stays in one order
        assert {i: view.class_names[k] for i, k in view.labels.items()} == named(data)
        if not keeps_state:
            (tmp_path / "state.ckpt").unlink()


def test_several_labels_move_too(tmp_path):
    for rounds, names in enumerate(ORDERS, start=1):
        data, _ = fit(names, rounds, tmp_path, several=True)
        assert named(data) == {i: [name_of(i)] for i in data.labelled_indices.tolist()}


def test_so_they_do_from_a_checkpoint(tmp_path):
    kept = pl_callbacks.ModelCheckpoint(tmp_path / "c", save_last=True)
    fit(ORDERS[0], 1, None, callbacks=[kept])
    again = pl_callbacks.ModelCheckpoint(tmp_path / "d")
    data, _ = fit(ORDERS[1], 2, None, callbacks=[again], ckpt=str(tmp_path / "c" / "last.ckpt"))
    assert named(data) == {i: name_of(i) for i in data.labelled_indices.tolist()}
    assert len(data.labelled_indices) == 10


def test_while_answers_are_awaited(tmp_path):
    for names in ORDERS[:2]:
        fit(names, 1, tmp_path, oracle=FileOracle())
    fill(tmp_path / "queries" / "query-000.csv", name_of)
    data, _ = fit(ORDERS[2], 1, tmp_path, oracle=FileOracle())
    assert named(data) == {i: name_of(i) for i in data.labelled_indices.tolist()} and len(data.labelled_indices) == 6


def test_the_last_round_is_trained_again_for_the_next_query(tmp_path):
    fit(ORDERS[0], 1, tmp_path)
    with pytest.warns(UserWarning, match="round 1 is trained again"):
        _, active = fit(ORDERS[1], 2, tmp_path)
    assert [record.round for record in active.history] == [0, 1, 2]


def test_what_a_script_says_is_compared_by_name(tmp_path):
    fit(ORDERS[0], 1, tmp_path, initial={0: "a", 1: "b"})
    data, _ = fit(ORDERS[1], 2, tmp_path, initial={0: "c", 1: "b"})
    assert named(data)[0] == "c" and named(data)[1] == "b"
    data, _ = fit(ORDERS[2], 3, tmp_path, initial={0: "a", 1: "b"})  # what the run began with is not news
    assert named(data)[0] == "c"


@pytest.mark.parametrize("names", [["a", "b", "d"], ["A", "b", "c"]])
def test_other_names_are_refused(tmp_path, names):
    fit(ORDERS[0], 1, tmp_path)
    with pytest.raises(ResumeError, match=r"`class_names` \['a', 'b', 'c'\], but now they are"):
        fit(names, 2, tmp_path, initial={0: 2, 1: 0})
    assert len(fit(ORDERS[0], 2, tmp_path)[0].labelled_indices) == 10


def test_names_that_differ_by_spaces_are_the_same(tmp_path):
    fit(ORDERS[0], 1, tmp_path)
    assert len(fit(["a ", "b", "c"], 2, tmp_path)[0].labelled_indices) == 10
