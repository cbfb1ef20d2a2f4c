"""`ActiveLearning`: the one callback."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from lightning_diffal._lightning import (
    LoopLimits,
    TrainerFn,
    callbacks_of,
    datamodule_of,
    finds_settings,
    loader_state,
    pl,
    pristine_callbacks,
    reloads_loaders,
    rest_finders,
    restores_late,
    resume_loaders,
    wake_finders,
)
from lightning_diffal.data.several_loaders import check_train_loaders
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.history.history import History
from lightning_diffal.loop import ActiveCallback, ActiveLearningLoop
from lightning_diffal.oracle import Oracle
from lightning_diffal.pseudo_labels.rule import PseudoLabels
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.resuming.checkpoint import KEY, hand_back, run_for_checkpoint, take_from_child
from lightning_diffal.run.resuming.from_checkpoint import put_random_state_back, resume_checkpoint
from lightning_diffal.run.resuming.recorder import Recorder
from lightning_diffal.run.rounds import Rounds
from lightning_diffal.run.settings import HasSettings, RunSettings
from lightning_diffal.run.start import begin_fit, check_strategy, take_data
from lightning_diffal.run.telling.news import tell_oracle
from lightning_diffal.samplers import QuerySampler
from lightning_diffal.stopping.base import Rule
from lightning_diffal.utils.seeding import random_state

__all__ = ["ActiveLearning"]


class ActiveLearning(HasSettings, ActiveCallback):
    """Turns a Trainer's `fit` into an active learning run: train, ask, label, train again.

    `max_epochs`, `max_steps`, EarlyStopping and schedulers all mean: per round. A round is, bit for bit, an
    independent `Trainer.fit` on the points labelled so far. Callbacks, the model and the data module may define
    `on_round_start(trainer)` and `on_round_end(trainer)`.

    Args:
        sampler: chooses which points to ask. Default: `DiffusionSampler()`.
        query_size: points asked after each round.
        max_rounds: how many queries: a run trains `max_rounds + 1` times and ends with
            `initial + max_rounds * query_size` labels. May be raised later; `fit` then goes on. `None`: no limit.
        budget: labels bought beyond the initial ones; the last query is cut to it. `None`: no limit.
        max_time: no new query after this long: a `timedelta`, its arguments as a dict, or `"DD:HH:MM:SS"`.
        oracle: who labels: an `Oracle`, or a function `(indices, items) -> labels`. Default: the data set itself.
        min_answers: how many answers the next training needs; the rest stays pending. Default: all.
        features: where features come from: `"auto"`, the name of a submodule (its output), the name of a method of
            the model, `"inputs"` (the items themselves), or several of them, joined by `+`, each as a unit vector.
            `"auto"` is found by running the model before it trains, and logged: the output of a frozen backbone; of
            models that train as a whole the penultimate layer, and beside it the items where they are vectors of at
            least 32 numbers or grey images of at most 32 x 32 pixels.
        head: the name of a submodule whose input `features="auto"` means, and nothing beside it; also for models in
            which the penultimate layer cannot be found, where more than one layer makes the class scores.
        reset: weights that a round starts from: `"initial"` (as before the first round, so that no round inherits
            what an earlier one got stuck in), `"warm"` (as they are), or a number between 0 and 1 by which they are
            shrunk towards the initial ones (shrink and perturb, Ash & Adams 2020).
        weights: what queries and metrics use: `"last"`, or `"best"` where a `ModelCheckpoint` monitors a metric.
        pseudo_labels: let points whose diffused label is firm train beside the labelled ones: `True`, or a
            `lightning_diffal.PseudoLabels` with thresholds of your own. They are chosen anew for every round but the
            first, by features of the round before. They are never counted, written down or exported as labels. An
            epoch is longer with them, so `max_epochs` costs more; `max_steps` costs the same.
        stopping: when to stop before that: a rule of `lightning_diffal.stopping`, a function that is called with the
            history after a round and returns why to stop, or `None`; or several, of which any may end the run.
        test_each_round: run the test loop after each round; what it logs joins the round's metrics.
        run_dir: folder of the run's journal, in which every query and label is written down the moment it is given,
            and of its state after each round. A folder given here continues the run in it, without `ckpt_path`.
            Default: `<default_root_dir>/active/<run id>`. `False`: write nothing.
        on_journal_ahead: what a checkpoint does that is older than the journal's end: `"replay"` what was asked and
            answered since then, or start a `"branch"`, a run of its own, from there.
        on_interrupted_round: a checkpoint from the middle of an epoch has its round trained again from the start,
            `"redo"`, which is exact; or from where it was, `"continue"`, which is not, but ends where a round is longer
            than the cluster's time limit.
        seed: of the run. Round `r` is seeded with `seed + r`. Default: what the global generator was seeded with.
        report: write `report.html` into the run's folder after each round: one file to look at and to send, with
            pictures or texts of the points asked. `diffal report` writes it of any run, without those.

    Raises:
        ConfigurationError: an argument out of range.
        InvalidTypeError: an argument of the wrong kind.

    Example:
        >>> import torch
        >>> from lightning_diffal import ActiveDataModule
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
        >>> points = TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)
        >>> data = ActiveDataModule(points, initial_labels=4, batch_size=4)
        >>> active = ActiveLearning(query_size=3, max_rounds=2, seed=0, run_dir=False)
        >>> trainer = pl.Trainer(max_epochs=1, callbacks=[active], accelerator="cpu", logger=False,
        ...                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        >>> trainer.fit(Model(), datamodule=data)
        >>> [record.n_labelled for record in active.history]
        [4, 7, 10]
    """

    _context: RunContext

    def __init__(
        self,
        sampler: QuerySampler | None = None,
        *,
        query_size: int = 10,
        max_rounds: int | None = 10,
        budget: int | None = None,
        max_time: str | datetime.timedelta | Mapping[str, int] | None = None,
        oracle: Oracle | Callable[..., Any] | None = None,
        min_answers: int | None = None,
        features: str = "auto",
        head: str | None = None,
        reset: str | float = "initial",
        weights: str = "last",
        pseudo_labels: bool | PseudoLabels = False,
        stopping: Sequence[Rule] | Rule = (),
        test_each_round: bool = False,
        run_dir: str | PathLike[str] | Literal[False] | None = None,
        on_journal_ahead: Literal["replay", "branch"] = "replay",
        on_interrupted_round: Literal["redo", "continue"] = "redo",
        seed: int | None = None,
        report: bool = False,
    ) -> None:
        super().__init__()
        settings = RunSettings(
            sampler=sampler,  # type: ignore[arg-type]  # checked and converted there
            query_size=query_size,
            max_rounds=max_rounds,
            budget=budget,
            max_time=max_time,  # type: ignore[arg-type]
            oracle=oracle,  # type: ignore[arg-type]
            min_answers=min_answers,
            features=features,
            head=head,
            reset=reset,
            weights=weights,
            pseudo_labels=pseudo_labels,  # type: ignore[arg-type]
            stopping=stopping,  # type: ignore[arg-type]
            test_each_round=test_each_round,
            run_dir=run_dir,
            on_journal_ahead=on_journal_ahead,
            on_interrupted_round=on_interrupted_round,
            seed=seed,
            report=report,
        )
        self._context = RunContext(settings, FeatureExtractor(settings.features, settings.head))

    @property
    def extractor(self) -> FeatureExtractor:
        """What reads features; its `head` says, once a fit has begun, where the penultimate layer was found."""
        return self._context.extractor

    @property
    def history(self) -> History:
        """One record per round."""
        take_from_child(self._context)
        return self._context.state.history

    @classmethod
    def from_trainer(cls, trainer: pl.Trainer) -> ActiveLearning:
        """The callback of a Trainer.

        Raises:
            ConfigurationError: the Trainer has none.
        """
        for callback in callbacks_of(trainer):
            if isinstance(callback, cls):
                return callback
        raise ConfigurationError("The Trainer has no ActiveLearning callback: give it one in `callbacks`.")

    def stop(self, reason: str = "stopped by the user") -> None:
        """End the run after the round that is training now; nothing more is asked. A later `fit` goes on.

        Args:
            reason: for the log and the last record.
        """
        self._context.stop_reason = reason

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check what can be checked without the model, and take the place of the fit loop."""
        if stage != "fit":
            return
        check_strategy(trainer)
        context = self._context
        take_from_child(context)
        take_data(context, datamodule_of(trainer))
        ActiveLearningLoop.attach(trainer, self)
        context.limits = LoopLimits.of(trainer.fit_loop)
        context.pristine = pristine_callbacks(trainer, context.pristine)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check labels and model before anything trains; ask first where something else trains before the rounds."""
        if restores_late(trainer):
            return  # a checkpoint may still come: the loop begins the run
        begin_fit(self._context, trainer, pl_module)
        wake_finders(trainer)
        if finds_settings(trainer):
            Rounds(trainer, self._context).ask_first()
            if not len(self._context.data.labelled_indices):  # people have not answered yet
                rest_finders(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a training loader that does not cover exactly the points that train."""
        resumed = self._context.resumed
        if resumed is not None and resumed.continues_epoch:
            put_random_state_back(self._context)
        check_train_loaders(trainer.train_dataloader, self._context.data)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on exactly where a checkpoint at the end of an epoch left the random generators."""
        resumed = self._context.resumed
        if put_random_state_back(self._context):
            assert resumed is not None, "its random state was restored"
            resume_loaders(trainer, resumed.saved.get("loaders"))
        if reloads_loaders(trainer):
            check_train_loaders(trainer.train_dataloader, self._context.data)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where checkpoints are about to be written: tell the process that writes them of all generators."""
        fits = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        ranks = getattr(self._context, "ranks", None)
        if fits and ranks is not None and ranks.size > 1:
            self._context.random_states = ranks.everyone(random_state())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As after a validation."""
        self.on_validation_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let those who label see how far the training is."""
        tell_oracle(self._context, trainer, "training")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let those who label see that the next points are being chosen."""
        tell_oracle(self._context, trainer, "choosing")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let another process go on with the run."""
        Recorder(self._context).release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Bring what was learned to the process that called `fit`, where that is another one."""
        if stage == "fit":
            tell_oracle(self._context, trainer, "ended")
            hand_back(self._context, trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the run into the checkpoint, with the labels: data module state is keyed by class name."""
        context = self._context
        if not context.has_data:
            return
        if context.state.phase == "training":
            context.state.metrics = {n: float(v) for n, v in trainer.callback_metrics.items() if n != "round"}
        checkpoint[KEY] = {
            **run_for_checkpoint(context, checkpoint),
            "stopped": bool(trainer.should_stop),
            "loaders": loader_state(trainer),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the run out of the checkpoint. Only a fit does: testing an old one must not rewind the labels."""
        if KEY not in checkpoint or trainer.state.fn != TrainerFn.FITTING:
            return
        resume_checkpoint(self._context, trainer, checkpoint)
