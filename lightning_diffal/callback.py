"""`ActiveLearning`: the one callback."""

from __future__ import annotations

import copy
import datetime
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import torch

from lightning_diffal._lightning import (
    LoopLimits,
    Pristine,
    TrainerFn,
    callbacks_of,
    datamodule_of,
    finds_settings,
    is_rehearsal,
    lives_for_one_fit,
    pl,
    pristine_callbacks,
    rank_zero_warn,
    resume_iterator,
    splits_the_model,
    stopped_inside_epoch,
)
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.data.fingerprint import fingerprint
from lightning_diffal.data.loader_checks import check_evaluation, check_pseudo_labels, check_train_loader
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.history.history import History
from lightning_diffal.loop import ActiveLearningLoop
from lightning_diffal.oracle import Oracle, as_oracle
from lightning_diffal.processes.ranks import Ranks, share_labels
from lightning_diffal.processes.spawned import Handback
from lightning_diffal.pseudo_labels.rule import PseudoLabels, as_pseudo_labels
from lightning_diffal.run.pseudo_labels import join_pseudo_labels
from lightning_diffal.run.recorder import Recorder
from lightning_diffal.run.rounds import Rounds
from lightning_diffal.run.stability import check_single_label
from lightning_diffal.run.state import RunState
from lightning_diffal.samplers import DiffusionSampler, QuerySampler
from lightning_diffal.stopping.base import Rule, StoppingRule, as_rules, stop_set_size
from lightning_diffal.utils.arguments import (
    as_seconds,
    check_choice,
    check_integers,
    check_reset,
    check_run_dir,
    checked_sampler,
)
from lightning_diffal.utils.jsonable import stable_repr
from lightning_diffal.utils.modules import Unsaved
from lightning_diffal.utils.seeding import random_state, restore_random_state

__all__ = ["KEY", "ActiveLearning"]

KEY = "active_learning"
"""Where a checkpoint holds the run."""


class ActiveLearning(pl.Callback):
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
        features: where features come from: `"auto"` (the penultimate layer, found by running the model), the name
            of a submodule (its output), the name of a method of the model, `"inputs"` (the items themselves), or
            several of them, joined by `+`, each as a unit vector. `"inputs+auto"` gains a point or more in the first
            rounds where items are good features themselves, as small images are; the default asks nothing of them.
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

    Raises:
        ConfigurationError: an argument out of range.
        InvalidTypeError: an argument of the wrong kind.

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
        >>> points = TensorDataset(torch.randn(40, 4), torch.arange(40) % 2)
        >>> data = ActiveDataModule(points, initial_labels=4, batch_size=4)
        >>> active = ActiveLearning(query_size=3, max_rounds=2, seed=0, run_dir=False)
        >>> trainer = pl.Trainer(max_epochs=1, callbacks=[active], accelerator="cpu", logger=False,
        ...                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        >>> trainer.fit(Model(), datamodule=data)
        >>> [record.n_labelled for record in active.history]
        [4, 7, 10]
    """

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
        reset: str | float = "initial",
        weights: str = "last",
        pseudo_labels: bool | PseudoLabels = False,
        stopping: Sequence[Rule] | Rule = (),
        test_each_round: bool = False,
        run_dir: str | PathLike[str] | Literal[False] | None = None,
        on_journal_ahead: Literal["replay", "branch"] = "replay",
        on_interrupted_round: Literal["redo", "continue"] = "redo",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if query_size is None:
            raise ConfigurationError("Expected argument `query_size` to be an integer of at least 1, but got None.")
        check_integers(1, query_size=query_size, budget=budget, min_answers=min_answers)
        check_integers(0, max_rounds=max_rounds, seed=seed)
        check_run_dir(run_dir)
        check_reset(reset)
        check_choice("weights", weights, ("last", "best"))
        check_choice("on_journal_ahead", on_journal_ahead, ("replay", "branch"))
        check_choice("on_interrupted_round", on_interrupted_round, ("redo", "continue"))
        if not isinstance(features, str) or not all(part.strip() for part in features.split("+")):
            raise InvalidTypeError(
                "Expected argument `features` to be 'auto', 'inputs' or the name of a submodule or method of the "
                f"model, or several of them joined by '+', but got {features!r}."
            )
        self.sampler = checked_sampler(DiffusionSampler() if sampler is None else sampler)
        self.query_size = query_size
        self.max_rounds = max_rounds
        self.budget = budget
        self.max_seconds = as_seconds(max_time)
        self.oracle = as_oracle(oracle)
        self.min_answers = min_answers
        self.extractor = FeatureExtractor(features)
        self.reset = reset
        self.weights = weights
        self.pseudo_labels = as_pseudo_labels(pseudo_labels)
        self.stopping = stopping
        self.test_each_round = test_each_round
        self.run_dir = run_dir
        self.on_journal_ahead = on_journal_ahead
        self.on_interrupted_round = on_interrupted_round
        self.seed = seed
        self._handback = Handback()
        self._state = RunState()
        self._forget_trainer()

    def _forget_trainer(self) -> None:
        self.pristine: dict[int, Pristine] = {}
        self.precision_state: dict[str, Any] = {}
        self._precision: Any = None
        self._data: ActiveDataModule | None = None
        self._ranks: Ranks | None = None
        self._limits: LoopLimits | None = None
        self._subjects: tuple[weakref.ref[Any], ...] = ()
        self.unsaved: Unsaved | None = None  # of the model, from before it trained; noted by the rounds
        self.recorder: Recorder | None = None
        self.fingerprint: dict[str, Any] | None = None
        self._saved: dict[str, Any] | None = None  # what a checkpoint says, in the fit that resumes it
        self._resumed_random_state: dict[str, Any] | None = None
        self._continues_epoch = False
        self._random_states: list[dict[str, Any]] = []  # of all processes, when an epoch ended
        self.stop_reason: str | None = None
        self.deadline = float("inf")

    def __getstate__(self) -> dict[str, Any]:
        # what belongs to one Trainer in one process is found again in `setup`
        gone = ActiveLearning.__new__(ActiveLearning)
        gone._forget_trainer()
        return {**vars(self), **vars(gone)}

    # --------------------------------------------------------------------------------------------------- public

    @property
    def state(self) -> RunState:
        """Where the run stands; after a fit in child processes (`ddp_spawn`, a notebook), where they left it."""
        left = self._handback.take()
        if left is not None:
            self._state = RunState.from_checkpoint(left)
        return self._state

    @state.setter
    def state(self, state: RunState) -> None:
        self._state = state

    @property
    def history(self) -> History:
        """One record a round."""
        return self.state.history

    @property
    def stopping(self) -> tuple[StoppingRule, ...]:
        """The rules that may end the run; set others, or `()`, to go on after one did."""
        return self._stopping

    @stopping.setter
    def stopping(self, stopping: Sequence[Rule] | Rule) -> None:
        self._stopping = as_rules(stopping)

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
        """End the run after the round that is training now; nothing more is asked. A later `fit` goes on."""
        self.stop_reason = reason

    # ---------------------------------------------------------------------------------- what the rounds work with

    @property
    def data(self) -> ActiveDataModule:
        """The data module of the running fit."""
        assert self._data is not None, "set in `setup`"
        return self._data

    @property
    def reads(self) -> frozenset[str]:
        """What is read of the model after each round, in one pass: for the sampler, stopping rules, pseudo-labels."""
        compares = {"probabilities"} if stop_set_size(self._stopping) != 0 else set()
        diffuses = set() if self.pseudo_labels is None else {"features"}
        return frozenset(self.shown | compares | diffuses)

    @property
    def shown(self) -> frozenset[str]:
        """What the sampler is shown: what it requires, and what it wants besides where that costs nothing."""
        comes_along = "auto" in self.extractor.parts  # else it would take a second call, or a head that is not there
        return frozenset(self.sampler.wants(self.query_size) if comes_along else self.sampler.requires)

    @property
    def ranks(self) -> Ranks:
        """The processes of the running fit."""
        assert self._ranks is not None, "set in `on_fit_start`"
        return self._ranks

    @property
    def limits(self) -> LoopLimits:
        """How long each round trains."""
        assert self._limits is not None, "set in `setup`"
        return self._limits

    def contents(self) -> dict[str, Any]:
        """The run as a checkpoint holds it."""
        return {
            **self.state.to_checkpoint(),
            # only the first process writes, whenever it likes: what the others had, it was told before
            "random_states": [random_state(), *self._random_states[1:]],
            "data": self.data.keep(),
            "fingerprint": self.fingerprint,
            "settings": self._settings(),
            "journal": None if self.recorder is None else self.recorder.describe(),
        }

    def _settings(self) -> dict[str, str]:
        """What should stay the same throughout a run: it decides which points are asked, and what trains upon them."""
        values = {name: getattr(self, name) for name in ("sampler", "pseudo_labels", "reset", "weights")}
        return {name: stable_repr(value) for name, value in {**values, "features": self.extractor.features}.items()}

    def compare_settings(self, saved: Mapping[str, str]) -> None:
        """Name the settings that a run goes on with and did not begin with.

        Args:
            saved: the `"settings"` of `contents`.
        """
        for name, now in self._settings().items():
            before = saved.get(name, now)
            if before != now:
                rank_zero_warn(f"This run began with {name}={before} and goes on with {name}={now}.")

    def hand_back(self, trainer: pl.Trainer) -> None:
        """From a process that ends with this fit, to the one that called it: where the run stands.

        Done whenever something was asked or answered, since a fit that fails takes all its processes with it.
        """
        if self._data is not None and lives_for_one_fit(trainer) and trainer.local_rank == 0:
            contents = self.contents()
            contents["data"].pop("wrapped", None)  # another package's, and not known to be plain
            self._handback.leave(contents)
            self._data.handback.leave(contents["data"])

    def _arrive(self, data: ActiveDataModule) -> None:
        """In a child process: let go of the parent's processes and files, and catch up with an earlier child."""
        if not self._handback.is_away:
            return
        self._forget_trainer()
        left = self._handback.peek()
        if left is not None:
            self.state = RunState.from_checkpoint(left)
            data.pool.load_state_dict(left["data"]["pool"])

    def forget_resumed_state(self) -> None:
        """A resumed round has ended, whether an epoch was left to train or not."""
        self._resumed_random_state, self._continues_epoch = None, False

    @property
    def resumes_stopped(self) -> bool:
        """Whether the checkpoint that this fit goes on from was written after something had stopped the training."""
        return self._saved is not None and bool(self._saved.get("stopped"))

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check what can be checked without the model, and take the place of the fit loop."""
        if stage != "fit":
            return
        data = datamodule_of(trainer)
        if splits_the_model(trainer):
            raise ConfigurationError(
                f"ActiveLearning does not work with {type(trainer.strategy).__name__}, which splits the model over "
                "processes: use `strategy='ddp'`. For a model that fits no single device, choose points between fits "
                "of your own: `sampler.select(QueryData(...), ...)` and `data.label(...)`."
            )
        self.take(data)
        ActiveLearningLoop.attach(trainer, self)
        self._limits = LoopLimits.of(trainer.fit_loop)
        self.pristine = pristine_callbacks(trainer, self.pristine)

    def take(self, data: pl.LightningDataModule | None) -> None:
        """Begin a fit on these data, which are set up.

        Raises:
            ConfigurationError: no data module.
            InvalidTypeError: one that does not know who is labelled.
        """
        if data is None:
            raise ConfigurationError(
                "ActiveLearning needs a data module that knows who is labelled: "
                "`trainer.fit(model, datamodule=ActiveDataModule(train_set, ...))`."
            )
        if not isinstance(data, ActiveDataModule):
            raise InvalidTypeError(
                f"Expected an ActiveDataModule, but got {type(data).__name__}: derive it from ActiveDataModule, or "
                "wrap it with `ActiveDataModule.from_datamodule(data_module, ...)`."
            )
        self._arrive(data)
        first = [self.query_size, len(data.pool)] + ([] if self.budget is None else [self.budget])
        data.expected_labels = max(min(first), 1)
        self._data = data
        self._saved, self.stop_reason = None, None
        self.forget_resumed_state()
        if self.state.phase == "training":  # interrupted, and fit again: exact only from the start of the round
            self.state.phase = "redo"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check labels and model before anything trains; ask first where something else trains before the rounds."""
        self.begin(trainer, pl_module)
        if finds_settings(trainer):
            Rounds(trainer, self).ask_first()

    def begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check labels and model; open the journal.

        Raises:
            ConfigurationError: another model or data module than the run began with, or what cannot work.
        """
        data = self.data
        subjects = (weakref.ref(pl_module), weakref.ref(data))
        are_others = self._saved is None and bool(self._subjects) and self._subjects != subjects
        if are_others and self.state.phase == "redo" and not self.state.history:
            self.state.phase = "train"  # half of a first round is not worth an error
        if self.state.has_begun and are_others:
            raise ConfigurationError(
                f"This ActiveLearning is in round {self.state.round} of a run with another model or data module: make "
                "a new ActiveLearning for a new run, or give the same objects to go on."
            )
        if self._subjects != subjects:
            self.unsaved = None
        self._subjects = subjects
        if self._ranks is None or not self._ranks.serves(trainer):
            self._ranks = Ranks(trainer)
        share_labels(self)
        if not self.state.has_begun:
            seed = torch.initial_seed() % 2**31 if self.seed is None else self.seed
            self.state.seed = self.ranks.decide(lambda: seed)
            self.state.initial_weights = None  # taken by the rounds, after everyone's `on_fit_start`
            self.state.bought_before = data.pool.n_bought
        if self._precision is not trainer.precision_plugin:  # another Trainer's; the same one's scale has moved since
            self._precision = trainer.precision_plugin
            self.precision_state = copy.deepcopy(trainer.precision_plugin.state_dict())
        if self.max_seconds is not None:
            self.deadline = time.monotonic() + self.max_seconds
        self.ranks.together(lambda: self._look_at_data(trainer, pl_module))
        if self.recorder is None or self._saved is not None or not self.state.has_begun:
            self.recorder = Recorder.open(self, trainer, pl_module, self._saved or self._handback.last)
        else:
            self.recorder.resume()
        if not is_rehearsal(trainer):
            folder = self.recorder.folder
            known = (None, None) if folder is None else (folder.path, folder.journal.run)
            self.ranks.decide(lambda: self.oracle.prepare(data, *known))

    def _look_at_data(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Number of classes from the model where nobody gave it; every known label must fit."""
        data = self.data
        check_evaluation(trainer, pl_module, data, tests=self.test_each_round, uses_best=self.weights == "best")
        if not is_rehearsal(trainer):
            self.fingerprint = fingerprint(data)
        if self.pseudo_labels is not None:
            check_pseudo_labels(data)
        outputs = self.extractor.prepare(trainer, data, self.reads)
        if data.num_classes is None:
            data.num_classes = outputs
        elif outputs is not None and outputs < data.num_classes:
            raise ConfigurationError(
                f"The model has {outputs} outputs, but the data module says `num_classes={data.num_classes}`."
            )
        data.check_labels()
        check_single_label(self)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a training loader that does not cover exactly the points that train."""
        if self._continues_epoch and self._resumed_random_state is not None:
            restore_random_state(self._resumed_random_state)
            self.forget_resumed_state()
        check_train_loader(trainer.train_dataloader, self.data)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on exactly where a checkpoint at the end of an epoch left the random generators."""
        if self._resumed_random_state is not None:
            restore_random_state(self._resumed_random_state)
            self.forget_resumed_state()
            resume_iterator(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where checkpoints are about to be written: tell the process that writes them of everyone's generators."""
        fits = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fits and self._ranks is not None and self._ranks.size > 1:
            self._random_states = self._ranks.everyone(random_state())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As after a validation."""
        self.on_validation_end(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let another process go on with the run."""
        if self.recorder is not None:
            self.recorder.release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Bring what was learned to the process that called `fit`, where that is another one."""
        if stage == "fit":
            self.hand_back(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the run into the checkpoint, with the labels once more: data module state is keyed by class name."""
        if self._data is None:
            return
        if self.state.phase == "training":
            self.state.metrics = {n: float(v) for n, v in trainer.callback_metrics.items() if n != "round"}
        checkpoint[KEY] = {**self.contents(), "stopped": bool(trainer.should_stop)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the run out of the checkpoint. Only a fit does: testing an old one must not rewind the labels."""
        if KEY not in checkpoint or trainer.state.fn != TrainerFn.FITTING:
            return
        saved = checkpoint[KEY]
        self.data.restore(saved["data"])
        self.state = RunState.from_checkpoint(saved, self.data.pool.moved(saved["data"]["pool"]))
        self._saved = saved
        self.compare_settings(saved["settings"])
        if self.state.phase != "training":
            return
        join_pseudo_labels(self)  # the training loader may be built before the round goes on
        states = saved["random_states"]
        if not stopped_inside_epoch(checkpoint):
            self._resumed_random_state = states[trainer.global_rank % len(states)]
        elif self.on_interrupted_round == "redo":
            self.state.phase = "redo"  # exact only from the start of the round
        else:
            rank_zero_warn(
                f"Round {self.state.round} goes on from the middle of an epoch (`on_interrupted_round='continue'`): "
                "its weights will not be exactly those of an uninterrupted run."
            )
            self._resumed_random_state = states[trainer.global_rank % len(states)]
            self._continues_epoch = True
