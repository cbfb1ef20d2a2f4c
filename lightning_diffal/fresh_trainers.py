"""Rounds with a new Trainer each: slower to set up, and free of every private name of Lightning."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from lightning_diffal._lightning import callbacks_of, is_rehearsal, pl, running_eagerly
from lightning_diffal.callback import ActiveLearning
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.history.history import History
from lightning_diffal.run.asking.model_pass import ModelPass
from lightning_diffal.run.asking.query import ask
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.round_weights import reset_weights
from lightning_diffal.run.rounds import Rounds
from lightning_diffal.run.start import begin_fit, take_data
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.seeding import seed_everything

__all__ = ["fit_rounds", "next_query"]


def fit_rounds(
    make_trainer: Callable[[int], pl.Trainer], model: pl.LightningModule, data: ActiveDataModule, active: ActiveLearning
) -> History:
    """Active learning with one fresh `Trainer.fit` a round.

    For a version of Lightning whose fit loop cannot be replaced. Picks, weights and history are those of the callback
    on one Trainer. There is no checkpoint to resume from: give `ActiveLearning` an explicit `run_dir`, and call this
    again to go on. Features are read through `trainer.predict`, so prediction hooks and writers see that pass.

    Args:
        make_trainer: called with the number of each round; returns a new Trainer with callbacks of its own, without
            an `ActiveLearning` among them.
        model: trained in every round, from the weights that `active.reset` says.
        data: gives the labelled points; its `prepare_data` and `setup` are called here once, and by each fit.
        active: the run. A later call goes on with it.

    Returns:
        One record per round.

    Raises:
        ConfigurationError: a Trainer with an `ActiveLearning` of its own, with several processes, or that only
            rehearses (`fast_dev_run`, `overfit_batches`).

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> class Model(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        ...     def forward(self, x):
        ...         return self.net(x)
        ...     def training_step(self, batch, batch_idx):
        ...         return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> data = ActiveDataModule(TensorDataset(torch.randn(40, 4), torch.arange(40) % 2), initial_labels=4)
        >>> quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        >>> history = fit_rounds(
        ...     lambda round_: pl.Trainer(max_epochs=1, enable_model_summary=False, **quiet),
        ...     Model(), data, ActiveLearning(query_size=3, max_rounds=2, seed=0, run_dir=False))
        >>> [record.n_labelled for record in history]
        [4, 7, 10]
    """
    data.prepare_data()
    data.setup("fit")
    context = active._context
    take_data(context, data)
    trainer = _checked(make_trainer(context.state.round))
    own = context.extractor
    context.extractor = _ThroughPredict(own.features, own.head_name, model)
    try:
        begin_fit(context, trainer, model)
        _FreshTrainers(make_trainer, trainer, model, context).run()
    finally:
        context.extractor = own
    return active.history


def next_query(trainer: pl.Trainer, model: pl.LightningModule, data: ActiveDataModule, active: ActiveLearning) -> Query:
    """The next query of a model that is trained already: nothing trains, and nothing is written.

    Args:
        trainer: reads the features through `trainer.predict`; without an `ActiveLearning` among its callbacks.
        model: with the weights that count.
        data: knows what is labelled; its `prepare_data` and `setup` are called here.
        active: its sampler chooses, `query_size` points.

    Returns:
        The points to ask, as the callback would have asked them after this model's training.

    Raises:
        ConfigurationError: nothing is left to ask, or a Trainer as for `fit_rounds`.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> class Model(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        ...     def forward(self, x):
        ...         return self.net(x)
        >>> data = ActiveDataModule(TensorDataset(torch.randn(40, 4), torch.arange(40) % 2), initial_labels=4)
        >>> quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        >>> trainer = pl.Trainer(enable_model_summary=False, **quiet)
        >>> len(next_query(trainer, Model(), data, ActiveLearning(query_size=3)))
        3
    """
    data.prepare_data()
    data.setup("fit")
    context = active._context
    take_data(context, data)
    own, run_dir = context.extractor, context.settings.run_dir
    context.extractor, context.settings.run_dir = _ThroughPredict(own.features, own.head_name, model), False
    try:
        begin_fit(context, _checked(trainer), model)
        left = len(data.pool_indices)
        if not left:
            raise ConfigurationError("There is nothing to ask: every point is labelled, asked already or skipped.")
        model_pass = ModelPass(trainer, context, lambda part: nullcontext())
        return ask(context, min(context.settings.query_size, left), model_pass)
    finally:
        context.extractor, context.settings.run_dir = own, run_dir


class _FreshTrainers(Rounds):
    """The same rounds, where beginning one means to make a Trainer."""

    def __init__(
        self,
        make_trainer: Callable[[int], pl.Trainer],
        trainer: pl.Trainer,
        model: pl.LightningModule,
        context: RunContext,
    ) -> None:
        super().__init__(trainer, context, model)
        self.make_trainer = make_trainer
        self.trainer_is_new = True

    def run(self) -> None:
        """Train, ask, train again; ends with the reason in the last record."""
        if self.state.phase == "training":  # a round that was cut off
            self.state.redo()
        self._go()

    def _train(self) -> None:
        state = self.state
        self.seconds = {}
        if not self.trainer_is_new:
            self.trainer = _checked(self.make_trainer(state.round))
        self.trainer_is_new = False
        reset_weights(self.context, self.module)
        self._tell("on_round_start")
        seed_everything(state.seed + state.round)
        state.begin_round()
        if self.data.lacks_validation:
            callbacks_of(self.trainer).insert(0, _Resting(self._resting))
        with self._timed("fit"):
            self.trainer.fit(self.module, datamodule=self.data)
        self._finish_round()

    def _run_loop(self, stage: Literal["validate", "test"]) -> dict[str, float]:
        outputs = getattr(self.trainer, stage)(self.module, datamodule=self.data, verbose=False)
        return {name: float(value) for output in outputs for name, value in output.items()}

    def _log(self, values: dict[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics({f"active/{n}": float(v) for n, v in values.items()}, step=self.trainer.global_step)
            logger.save()


def _checked(trainer: pl.Trainer) -> pl.Trainer:
    if any(isinstance(c, ActiveLearning) for c in callbacks_of(trainer)):
        raise ConfigurationError("`make_trainer` must not add an ActiveLearning: `fit_rounds` is given the run.")
    if trainer.world_size > 1 or is_rehearsal(trainer):
        raise ConfigurationError(
            "`fit_rounds` trains in a single process and not as a dry run, but the Trainer has "
            f"{trainer.world_size} processes, or `fast_dev_run` or `overfit_batches` set: use the ActiveLearning "
            "callback for those."
        )
    return trainer


class _ThroughPredict(FeatureExtractor):
    """Goes over the data set with `trainer.predict` instead of a pass of its own."""

    def __init__(self, features: str, head: str | None, model: pl.LightningModule) -> None:
        super().__init__(features, head)
        self.model = model

    def _module(self, trainer: pl.Trainer) -> pl.LightningModule:
        return self.model

    def _go_over(self, trainer: pl.Trainer, loader: DataLoader[Any], use: Callable[[Any], None]) -> None:
        def predict_step(batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
            use(batch)
            return torch.empty(0)

        vars(self.model)["predict_step"] = predict_step
        try:
            with running_eagerly():
                trainer.predict(self.model, dataloaders=loader, return_predictions=False)
        finally:
            del vars(self.model)["predict_step"]


class _Resting(pl.Callback):
    """Has whoever waits for a metric of the validation rest for one training, once its optimizers are there."""

    def __init__(self, resting: Callable[[], AbstractContextManager[None]]) -> None:
        self.resting = resting()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.resting.__enter__()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.resting.__exit__(None, None, None)
