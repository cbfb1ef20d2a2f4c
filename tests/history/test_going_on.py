"""Going on: from the middle of a round, after a time limit, a requeue, an interrupt."""

import json

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveLearning, DiffusionSampler, Query
from lightning_diffal.history.journal import query_event, query_from_event
from tests.helpers import TRAIN, Net, pl, pl_callbacks, quiet_trainer, same_weights
from tests.history.test_journal import checkpoint_of, lines, make_data, picks, run


def test_query_round_trip():
    query = Query(
        np.array([5, 2]),
        np.array([0.1, np.inf], dtype=np.float32),
        {"phase": np.array(["exploration", "refinement"]), "predicted": np.array([[0, 1], [1, 1]], dtype=np.int8)},
        {"exploration_share": 0.5},
    )
    back = query_from_event(json.loads(json.dumps(query_event(query, 3, None))))
    for a, b in zip(
        (query.indices, query.scores, *query.details.values()),
        (back.indices, back.scores, *back.details.values()),
        strict=True,
    ):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert back.summary == query.summary


def test_interrupted_round_can_go_on_in_the_middle(tmp_path):
    class Steps(pl_callbacks.ModelCheckpoint):
        pass

    steps = Steps(tmp_path / "steps", filename="{round}-{step}", every_n_train_steps=1, save_top_k=-1)
    run(tmp_path, callbacks=[steps])
    path = tmp_path / "steps" / "round=1-step=2.ckpt"
    with pytest.warns(UserWarning, match="middle of an epoch"):
        active, _, model = run(tmp_path, ckpt_path=path, on_interrupted_round="continue")
    assert [r.n_labelled for r in active.history] == [4, 10, 16]
    assert model.losses[0][:2] == (0, 2)  # how the epoch goes on is up to Lightning; it does not begin again


def test_a_run_that_ran_out_of_time_goes_on(tmp_path):
    expected, _, straight = run(tmp_path / "a")
    first, _, _ = run(tmp_path, max_time={"seconds": 0})
    assert len(first.history) == 1 and "max_time" in first.history[-1].stop_reason
    active, _, model = run(tmp_path, data=make_data(initial_labels=0), model=Net())
    assert picks(active) == picks(expected) and same_weights(straight.state_dict(), model.state_dict())


def test_requeue_by_slurm_goes_on(tmp_path, monkeypatch):
    expected, _, model = run(tmp_path / "a")

    class Signalled(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if ActiveLearning.from_trainer(trainer)._context.state.round == 1 and trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "hpc_ckpt_1.ckpt")
                raise SystemExit("requeued")

    torch.manual_seed(1)
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=2, seed=3)
    with pytest.raises(SystemExit):
        quiet_trainer([active, Signalled()], default_root_dir=tmp_path).fit(Net(), datamodule=make_data())
    active, again = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=2, seed=3), Net()
    trainer = quiet_trainer([active], default_root_dir=tmp_path)
    trainer.fit(again, datamodule=make_data(initial_labels=0), ckpt_path="hpc")
    assert picks(active) == picks(expected) and same_weights(model.state_dict(), again.state_dict())


def test_keyboard_interrupt_keeps_everything(tmp_path):
    class Impatient(pl.Callback):
        armed = True

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if self.armed and ActiveLearning.from_trainer(trainer)._context.state.round == 1:
                raise KeyboardInterrupt

    expected, _, model = run(tmp_path / "a")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(tmp_path, callbacks=[Impatient()])
        raise KeyboardInterrupt  # Lightning before 2.5 returns from an interrupted fit
    active, data, again = run(tmp_path, data=make_data(initial_labels=0), model=Net())
    assert picks(active) == picks(expected) and same_weights(model.state_dict(), again.state_dict())
    assert len(data.labelled_indices) == 16


def test_labels_by_hand_are_recognised_by_id_in_another_order(tmp_path):
    """A hook does what it did before, while the run is behind its journal and the data set has another order."""
    order = torch.randperm(120, generator=torch.Generator().manual_seed(2)).tolist()
    names = [f"img{i}.png" for i in range(120)]

    class ByHand(pl.Callback):
        def on_round_end(self, trainer):
            active, data = ActiveLearning.from_trainer(trainer), trainer.datamodule
            if len(active.history) == 2:
                places = {name: i for i, name in enumerate(data.pool.ids)}
                free = [n for n in sorted(names) if places[n] in set(data.pool_indices.tolist())][:3]
                chosen = [places[name] for name in free]
                data.label(chosen[:2], [int(TRAIN.tensors[1][names.index(name)]) for name in free[:2]])
                data.skip(chosen[2:])

    def shuffled():
        moved = torch.utils.data.TensorDataset(*(t[order] for t in TRAIN.tensors))
        return make_data(moved, initial_labels=0, ids=[names[i] for i in order])

    active, data, _ = run(tmp_path, data=make_data(ids=names), callbacks=[ByHand()])
    before = lines(tmp_path)
    for path in [checkpoint_of(tmp_path, round_) for round_ in (0, 1)]:
        again, known, _ = run(tmp_path, data=shuffled(), ckpt_path=path, callbacks=[ByHand()])
        assert lines(tmp_path) == before
        assert sorted(order[i] for i in known.labelled_indices) == data.labelled_indices.tolist()
        assert [order[i] for i in known.skipped_indices] == data.skipped_indices.tolist()
        assert [r.n_labelled for r in again.history] == [r.n_labelled for r in active.history] == [4, 10, 18]
