"""After every round the weights are, bit for bit, those of an independent `Trainer.fit`."""

import copy
import warnings

import pytest
import torch
from torch import nn

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import NAMESPACE
from lightning_diffal.history.history import records_equal
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, Snapshots, loaders, pl, pl_callbacks, quiet_trainer, same_weights

START = [3, 17, 40, 41, 58, 63, 77, 90, 101, 113, 5, 119]  # not a prefix, not sorted


class ManualNet(Net):
    def __init__(self):
        super().__init__("none")
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.losses.append((self.current_epoch, self.global_step, len(batch[1]), float(loss)))


class WarmupNet(Net):
    """Reads the Trainer's counters, which have to start from nought in every round."""

    def __init__(self):
        super().__init__("none")

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (self.trainer.global_step + 1) / 6) / (1 + self.current_epoch)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class Unfreeze(pl_callbacks.BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.body)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.body, optimizer, lr=1e-2)


class HeadNet(Net):
    def __init__(self):
        super().__init__("none")

    def configure_optimizers(self):
        return torch.optim.Adam(filter(lambda p: p.requires_grad, self.parameters()), lr=1e-2)


class RecordNet(Net):
    """Its scheduler sees validation metrics; its own torchmetric must not carry over."""

    def __init__(self):
        super().__init__("plateau")


class ThawingNet(Net):
    """What it changes as it trains, and no `state_dict` knows: what is frozen, what drops out, a buffer."""

    def __init__(self):
        super().__init__("none")
        self.body.requires_grad_(False)
        self.drop = nn.Dropout(0.5).eval()
        self.register_buffer("centre", torch.zeros(()), persistent=False)

    def forward(self, x):
        return super().forward(self.drop(x - self.centre))

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.body.requires_grad_(True)
            self.drop.train()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.centre += 0.1 * batch[0].mean()


class LateNet(Net):
    """Loads weights and fills a buffer when the fit starts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(8))

    def on_fit_start(self):
        self.centre.fill_(0.5)
        with torch.no_grad():
            self.head.weight.fill_(0.05)

    def forward(self, x):
        return super().forward(x - self.centre)


class LoadWeights(pl.Callback):
    def on_fit_start(self, trainer, pl_module):
        with torch.no_grad():
            pl_module.head.weight.fill_(0.05)


def early_stopping(**kwargs):
    return lambda: [pl_callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.05, **kwargs)]


def moving_scale():
    from importlib import import_module

    plugins = import_module(f"{NAMESPACE}.plugins")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=5)
    return [plugins.MixedPrecision("16-mixed", "cpu", scaler)]


def averaging():
    return [pl_callbacks.EMAWeightAveraging(decay=0.9)]


CASES = {
    "plain": {},
    "no_schedule": {"model": lambda: Net("none")},
    "onecycle": {"model": lambda: Net("onecycle")},
    "plateau": {"model": RecordNet},
    "early_stopping": {"model": lambda: Net("none"), "callbacks": early_stopping(), "max_epochs": 12},
    "early_stopping_every_2": {
        "model": lambda: Net("none"),
        "callbacks": early_stopping(strict=False, check_on_train_epoch_end=True),
        "max_epochs": 8,
        "check_val_every_n_epoch": 2,
    },
    "early_stopping_min_epochs": {
        "model": lambda: Net("none"),
        "callbacks": early_stopping(),
        "max_epochs": 12,
        "min_epochs": 4,
    },
    "max_steps": {"max_epochs": -1, "max_steps": 10},
    "bf16": {"precision": "bf16-mixed"},
    "fp16_scaler": {"plugins": moving_scale},
    "double": {"precision": "64-true"},
    "accumulate": {"accumulate_grad_batches": 2},
    "accumulate_schedule": {"callbacks": lambda: [pl_callbacks.GradientAccumulationScheduler({0: 2, 1: 1})]},
    "accumulate_later": {"callbacks": lambda: [pl_callbacks.GradientAccumulationScheduler({0: 1, 1: 2})]},
    "val_check_interval": {"val_check_interval": 0.5},
    "validate_every_2": {"check_val_every_n_epoch": 2},
    "limit_batches": {"limit_train_batches": 2},
    "reload": {"reload_dataloaders_every_n_epochs": 1},
    "reload_every_2": {"reload_dataloaders_every_n_epochs": 2, "max_epochs": 4},
    "workers": {"workers": 1},
    "manual": {"model": ManualNet},
    "counters": {"model": WarmupNet},
    "swa": {
        "model": lambda: Net("none"),
        "callbacks": lambda: [pl_callbacks.StochasticWeightAveraging(1e-2, swa_epoch_start=1)],
        "max_epochs": 3,
    },
    "weights_at_fit_start": {"model": LateNet},
    "weights_from_a_callback": {"callbacks": lambda: [LoadWeights()]},
    "thawing": {"model": ThawingNet, "max_epochs": 3},
    "finetuning": {"model": HeadNet, "callbacks": lambda: [Unfreeze()], "max_epochs": 3},
    "clipping": {"gradient_clip_val": 0.1},
}
if hasattr(pl_callbacks, "EMAWeightAveraging"):
    CASES["averaging"] = {"model": lambda: Net("none"), "callbacks": averaging, "max_epochs": 3}


class VersionedLinear(nn.Linear):
    """Takes weights that do not say their version for old ones, which were kept doubled."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if (metadata.get("version") or 1) < 2:
            state[prefix + "weight"] = state[prefix + "weight"] * 0.5
        super()._load_from_state_dict(state, prefix, metadata, *rest)


class VersionedNet(Net):
    def __init__(self):
        super().__init__("none")
        self.head = VersionedLinear(6, 3)


class BankNet(Net):
    """Buffers that grow while it trains: one that is saved, one that is not, one that is not there at first."""

    def __init__(self):
        super().__init__("none")
        self.register_buffer("bank", torch.zeros(0, 6))
        self.register_buffer("unsaved", torch.zeros(0, 6), persistent=False)
        self.register_buffer("late", None)

    def training_step(self, batch, batch_idx):
        z = self.body(batch[0]).detach()
        self.bank, self.unsaved = torch.cat([self.bank, z]), torch.cat([self.unsaved, z])
        self.late = z if self.late is None else torch.cat([self.late, z])
        loss = super().training_step(batch, batch_idx)
        return loss + 1e-2 * (self.head(self.bank + self.unsaved + self.late) ** 2).mean()


CASES["versioned"] = {"model": VersionedNet}
CASES["growing_buffers"] = {"model": BankNet}


@pytest.mark.parametrize("case", CASES)
def test_round_equals_independent_fit(case):
    settings = dict(CASES[case])
    make_model, make_callbacks = settings.pop("model", Net), settings.pop("callbacks", list)
    make_plugins, workers = settings.pop("plugins", list), settings.pop("workers", 0)

    def trainer(callbacks):
        plugins = make_plugins()
        return quiet_trainer(callbacks, **settings, **({"plugins": plugins} if plugins else {}))

    torch.manual_seed(99)
    model, snapshots = make_model(), Snapshots()
    before = copy.deepcopy(model.state_dict())
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4, num_workers=workers)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=3, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer([active, snapshots, *make_callbacks()]).fit(model, datamodule=data)
    assert [len(points) for points in snapshots.labelled] == [12, 18, 24, 30]
    for record, weights, losses, labelled in zip(
        active.history, snapshots.weights, snapshots.losses, snapshots.labelled, strict=True
    ):
        assert labelled == record.labelled.tolist()
        alone = make_model()
        alone.load_state_dict(before)
        pl.seed_everything(record.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer(make_callbacks()).fit(alone, *loaders(labelled, workers=workers))
        assert alone.losses == losses
        assert same_weights(weights, alone.state_dict())


def test_a_fit_after_one_that_failed_trains_with_dropout():
    class Fails(ThawingNet):
        fails = True

        def validation_step(self, batch, batch_idx):
            if self.fails and not self.trainer.sanity_checking:
                raise RuntimeError("no such file")
            super().validation_step(batch, batch_idx)

    def run(fails):
        torch.manual_seed(99)
        model, active = Fails(), ActiveLearning(RandomSampler(), query_size=6, max_rounds=1, seed=7)
        data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
        trainer = quiet_trainer([active])
        if fails:
            with pytest.raises(RuntimeError, match="no such file"):
                trainer.fit(model, datamodule=data)
        model.fails = False
        trainer.fit(model, datamodule=data)
        return model.state_dict()

    assert same_weights(run(False), run(True))


def test_limits_that_a_callback_moved_are_put_back():
    """SWA with batch norm trains an epoch more; where EarlyStopping ended the last round, nobody took it back."""
    epochs, stops = [], [True]

    class Count(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            epochs[-1] += 1

        def on_train_epoch_end(self, trainer, module):
            trainer.should_stop = stops[0]

        def on_round_start(self, trainer):
            epochs.append(0)

    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=0, seed=7)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    averaging = pl_callbacks.StochasticWeightAveraging(1e-2, swa_epoch_start=1)
    model, trainer = Net("none"), quiet_trainer([active, averaging, Count()], max_epochs=3)
    trainer.fit(model, datamodule=data)
    assert trainer.max_epochs == 3
    stops[0], active.max_rounds = False, 2
    trainer.fit(model, datamodule=data)
    assert epochs == [1, 4, 4] and trainer.max_epochs == 3


class Halves(Net):
    """A frozen encoder is left out of checkpoints, as Lightning tells to; a scale is no tensor."""

    def __init__(self):
        super().__init__("none")
        self.encoder = nn.Linear(8, 8).requires_grad_(False)
        self.strict_loading = False
        self.scale = {"at": 1}

    def forward(self, x):
        return super().forward(self.encoder(x))

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if not name.startswith("encoder.")}

    def on_train_epoch_end(self):
        self.scale["at"] += 1

    def get_extra_state(self):
        return self.scale

    def set_extra_state(self, state):
        self.scale = state


@pytest.mark.parametrize("reset", ["initial", "warm", 0.5])
def test_models_that_save_a_part_and_more_than_tensors(reset, tmp_path):
    def run(folder, rounds):
        torch.manual_seed(99)
        model, scales = Halves(), []

        class Look(pl.Callback):
            def on_round_start(self, trainer):
                scales.append(trainer.lightning_module.scale["at"])

        data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
        active = ActiveLearning(
            DiffusionSampler(), query_size=6, max_rounds=rounds, seed=7, reset=reset, run_dir=tmp_path / folder
        )
        quiet_trainer([active, Look()]).fit(model, datamodule=data)
        return active, model, scales

    active, model, scales = run("full", 2)
    assert scales == ([1, 1, 1] if reset == "initial" else [1, 3, 5])
    run("halves", 1)
    resumed, other, scales = run("halves", 2)
    assert scales == ([1] if reset == "initial" else [5])
    assert records_equal(active.history, resumed.history)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_rounds_differ_where_labels_differ():
    """The test above compares what moves: weights of different rounds are different."""
    model, snapshots = Net(), Snapshots()
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=1, seed=7)
    quiet_trainer([active, snapshots]).fit(model, datamodule=data)
    assert not same_weights(*snapshots.weights)
    assert sum(size for epoch, _, size, _ in snapshots.losses[1] if epoch == 0) == 18


def _weights_of_rounds(reset, rounds=2):
    torch.manual_seed(99)
    model, snapshots = Net(), Snapshots()
    before = copy.deepcopy(model.state_dict())
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=rounds, seed=7, reset=reset)
    quiet_trainer([active, snapshots]).fit(model, datamodule=data)
    return before, active, snapshots


@pytest.mark.parametrize("reset", ["warm", 0.4])
def test_reset_starts_from_the_weights_it_says(reset):
    before, active, snapshots = _weights_of_rounds(reset)
    for number, record in enumerate(active.history):
        alone = Net()
        alone.load_state_dict(before if number == 0 else snapshots.weights[number - 1])
        if number and reset != "warm":
            with torch.no_grad():
                for name, parameter in alone.named_parameters():
                    parameter.mul_(reset).add_(before[name], alpha=1 - reset)
        pl.seed_everything(record.seed)
        quiet_trainer().fit(alone, *loaders(record.labelled.tolist()))
        assert same_weights(snapshots.weights[number], alone.state_dict())


def test_timer_ends_every_round_and_not_the_run():
    class Clock(pl_callbacks.Timer):
        """Time is counted in batches, so that nothing hangs on the speed of the machine."""

        started = 0

        def on_train_start(self, trainer, pl_module):
            super().on_train_start(trainer, pl_module)
            self.started = trainer.fit_loop.epoch_loop._batches_that_stepped

        def time_elapsed(self, stage="train"):
            base = super().time_elapsed(stage)
            assert base >= 0, "the clock of an earlier round is still running"
            return (
                0.0
                if self._trainer is None
                else 60.0 * (self._trainer.fit_loop.epoch_loop._batches_that_stepped - self.started)
            )

        _trainer = None

        def on_train_batch_end(self, trainer, pl_module, *args, **kwargs):
            self._trainer = trainer
            super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
            self._trainer = None

    model, snapshots = Net("none"), Snapshots()
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, seed=7)
    quiet_trainer([active, snapshots, Clock("00:00:05:00")], max_epochs=50).fit(model, datamodule=data)
    assert [len(losses) for losses in snapshots.losses] == [6, 6, 6]
    assert active.history[-1].stop_reason == "max_rounds=2 reached"


def test_should_stop_ends_the_round_only():
    class StopAtThird(Net):
        def training_step(self, batch, batch_idx):
            if self.global_step == 2:
                self.trainer.should_stop = True
            return super().training_step(batch, batch_idx)

    snapshots = Snapshots()
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, seed=7)
    quiet_trainer([active, snapshots], max_epochs=5).fit(StopAtThird(), datamodule=data)
    assert [len(losses) for losses in snapshots.losses] == [3, 3, 3]


def test_metrics_of_the_model_start_afresh():
    import torchmetrics

    class Counting(Net):
        def __init__(self):
            super().__init__("none")
            self.seen = torchmetrics.SumMetric()

        def training_step(self, batch, batch_idx):
            self.seen.update(len(batch[1]))
            return super().training_step(batch, batch_idx)

    class Count(pl.Callback):
        totals = []

        def on_round_end(self, trainer):
            self.totals.append(int(trainer.lightning_module.seen.compute()))

    count = Count()
    data = ActiveDataModule(TRAIN, initial_labels=START, batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=1, seed=7)
    quiet_trainer([active, count], max_epochs=1).fit(Counting(), datamodule=data)
    assert count.totals == [12, 18]


def test_batch_of_one_joins_the_last_where_batch_norm_would_fail():
    data = ActiveDataModule(TRAIN, initial_labels=START[:9], batch_size=4)
    snapshots = Snapshots()
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=1, seed=7)
    quiet_trainer([active, snapshots], max_epochs=1).fit(Net("none"), datamodule=data)
    assert [sum(size for _, _, size, _ in losses) for losses in snapshots.losses] == [9, 13]
    assert not any(isinstance(m, nn.LayerNorm) for m in Net().modules())
