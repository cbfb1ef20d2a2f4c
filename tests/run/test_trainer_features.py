"""Features of Lightning's Trainer beside the run, and trainings at the edge."""

from importlib import import_module

import pytest
import torch
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import NAMESPACE
from lightning_diffal.exceptions import DiffalError
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, pl, quiet_trainer, same_weights

Tuner = import_module(f"{NAMESPACE}.tuner").Tuner


def make_data(**kwargs):
    return ActiveDataModule(TRAIN, **{"val_dataset": VAL, "initial_labels": [90, 3, 41, 17], "batch_size": 4} | kwargs)


def weights_of_a_run(tmp_path, before=None, sampler=None, make_model=Net, **kwargs):
    torch.manual_seed(1)
    model, snapshots, data = make_model(), Snapshots(), make_data()
    active = ActiveLearning(sampler or RandomSampler(), query_size=4, max_rounds=2, seed=3)
    trainer = quiet_trainer([active, snapshots], default_root_dir=tmp_path, enable_checkpointing=True, **kwargs)
    if before is not None:
        before(trainer, model, data)
    trainer.fit(model, datamodule=data)
    return snapshots.weights, active, data


def test_tuner_before_the_fit_changes_no_round(tmp_path):
    def find_rate(trainer, model, data):
        Tuner(trainer).lr_find(model, datamodule=data, num_training=5, update_attr=False)

    plain, _, _ = weights_of_a_run(tmp_path)
    tuned, active, _ = weights_of_a_run(tmp_path, find_rate)
    assert [r.n_labelled for r in active.history] == [4, 8, 12]
    assert all(same_weights(a, b) for a, b in zip(plain, tuned, strict=True))


def test_batch_size_finder_sets_the_batch_size_of_the_rounds(tmp_path):
    def find_size(trainer, model, data):
        data.batch_size = 2
        found.append(
            Tuner(trainer).scale_batch_size(model, datamodule=data, steps_per_trial=1, max_trials=2, init_val=2)
        )

    found = []
    _, active, data = weights_of_a_run(tmp_path, find_size)
    assert [data.batch_size] == found == [4] and [r.n_labelled for r in active.history] == [4, 8, 12]


class Unlogged(Net):
    """What `torch.compile` takes whole: Lightning's `log` inside a compiled step is beyond it."""

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.step(batch)


def compiled_in_place():
    model = Unlogged()
    model.compile(backend="eager")
    return model


@pytest.mark.parametrize("compiled", [lambda: torch.compile(Unlogged(), backend="eager"), compiled_in_place])
def test_compiled_model_gives_the_same_rounds(tmp_path, compiled):
    plain, expected, _ = weights_of_a_run(tmp_path, sampler=DiffusionSampler(), make_model=Unlogged)
    compiled, active, _ = weights_of_a_run(tmp_path, sampler=DiffusionSampler(), make_model=compiled)
    assert all(same_weights(a, b) for a, b in zip(plain, compiled, strict=True))
    for a, b in zip(expected.history[:-1], active.history[:-1], strict=True):
        assert a.query.indices.tolist() == b.query.indices.tolist()


def test_all_labels_of_one_class(tmp_path):
    same = [i for i, y in enumerate(TRAIN.tensors[1].tolist()) if y == 1][3:9]
    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2)
    data = make_data(initial_labels=same)
    quiet_trainer([active]).fit(Net(), datamodule=data)
    assert [r.n_labelled for r in active.history] == [6, 10, 14]
    assert len(set(data.labels.tolist())) > 1  # it looks elsewhere


def test_rounds_without_an_end_end_by_their_time():
    class Slow(Net):
        count = 0

        def on_train_start(self):
            self.count += 1

    torch.manual_seed(1)
    active, model = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1), Slow("none")
    quiet_trainer([active], max_epochs=-1, max_time={"seconds": 1}).fit(model, datamodule=make_data())
    assert model.count == 2 and [r.n_labelled for r in active.history] == [4, 8]


def test_one_label_trains_where_the_model_can():
    class Plain(Net):
        def __init__(self):
            super().__init__("none")
            self.body = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU())

    active = ActiveLearning(DiffusionSampler(), query_size=1, max_rounds=2)
    quiet_trainer([active]).fit(Plain(), datamodule=make_data(initial_labels=[7]))
    assert [r.n_labelled for r in active.history] == [1, 2, 3]


def test_binary_model_with_one_output():
    class Binary(Net):
        def __init__(self):
            super().__init__("none")
            self.head = torch.nn.Linear(6, 1)

        def forward(self, x):
            return super().forward(x).squeeze(-1)

        def step(self, batch):
            return torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    points = TensorDataset(TRAIN.tensors[0], (TRAIN.tensors[1] > 0).float())
    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2)
    data = ActiveDataModule(points, initial_labels=[7, 80, 33, 21], batch_size=4)
    quiet_trainer([active]).fit(Binary(), datamodule=data)
    assert data.num_classes == 2 and [r.n_labelled for r in active.history] == [4, 8, 12]


def test_multi_label_targets():
    class Several(Net):
        def step(self, batch):
            return torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1])

    targets = torch.nn.functional.one_hot(TRAIN.tensors[1], 3).float()
    targets[::3, 0] = 1
    active = ActiveLearning(DiffusionSampler(), query_size=4, max_rounds=2)
    data = ActiveDataModule(TensorDataset(TRAIN.tensors[0], targets), initial_labels=[7, 80, 33, 21], batch_size=4)
    quiet_trainer([active]).fit(Several("none"), datamodule=data)
    assert data.labels.shape == (12, 3) and [r.n_labelled for r in active.history] == [4, 8, 12]
    assert torch.equal(torch.from_numpy(data.labels), targets[torch.from_numpy(data.labelled_indices)].long())


def test_validation_from_the_labelled_points():
    active = ActiveLearning(DiffusionSampler(), query_size=8, max_rounds=2)
    data = ActiveDataModule(TRAIN, initial_labels=20, batch_size=4, val_fraction=0.3)
    seen = set()

    class Watching(Net):
        def training_step(self, batch, batch_idx):
            seen.update(tuple(x.tolist()) for x in batch[0])
            return super().training_step(batch, batch_idx)

    quiet_trainer([active]).fit(Watching("none"), datamodule=data)
    trained = set(data.train_indices.tolist())
    assert 0 < len(trained) < len(data.labelled_indices) == 36
    assert seen == {tuple(TRAIN.tensors[0][i].tolist()) for i in trained}
    assert "val_loss" in active.history[0].metrics


@pytest.mark.parametrize("callbacks", [[], ["ModelPruning"]])
def test_callbacks_that_cannot_start_anew_are_named(callbacks, recwarn):
    from tests.helpers import pl_callbacks

    extra = [pl_callbacks.ModelPruning("l1_unstructured", amount=0.1) for _ in callbacks]
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, run_dir=False)
    try:
        quiet_trainer([active, *extra]).fit(Net("none"), datamodule=make_data())
    except (RuntimeError, DiffalError):
        assert callbacks  # the pruned model has other weights than the initial ones
    assert any("ModelPruning" in str(w.message) for w in recwarn) == bool(callbacks)


def test_a_run_that_goes_on_needs_its_class_of_state():
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1)
    with pytest.raises(DiffalError, match="no ActiveLearning callback"):
        ActiveLearning.from_trainer(quiet_trainer())
    assert ActiveLearning.from_trainer(quiet_trainer([active])) is active
    assert isinstance(active, pl.Callback)
