"""The start of a fit: its data taken in, everything checked that can be, the run's folder opened."""

from __future__ import annotations

import copy
import time
import warnings
import weakref

import torch

from lightning_diffal._lightning import finds_settings, is_rehearsal, is_supported, pl, restores_late
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.data.fingerprint import check_fingerprint, fingerprint
from lightning_diffal.data.loader_checks import check_evaluation, check_pseudo_labels
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.processes.ranks import Ranks
from lightning_diffal.run.asking.model_pass import outputs_read, outputs_required
from lightning_diffal.run.asking.stability import check_single_label
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.first_round import check_first_round, check_trainer
from lightning_diffal.run.resuming.checkpoint import catch_up_in_child
from lightning_diffal.run.resuming.recorder import Recorder
from lightning_diffal.run.telling.notices import notice_earlier_runs

__all__ = ["begin_fit", "check_strategy", "take_data"]


def check_strategy(trainer: pl.Trainer) -> None:
    """Refuse strategies that split the model in a way that is not supported.

    Args:
        trainer: at the start of a fit.

    Raises:
        ConfigurationError: such a strategy, or a finder beside one that restores checkpoints late.
    """
    if not is_supported(trainer):
        raise ConfigurationError(
            f"ActiveLearning does not work with {type(trainer.strategy).__name__}: where a model fits no single "
            "device, use `ModelParallelStrategy` (FSDP2), else `strategy='ddp'`. Or choose points between fits of "
            "your own: `sampler.select(QueryData(...), ...)` and `data.label(...)`."
        )
    if restores_late(trainer) and finds_settings(trainer):
        raise ConfigurationError(
            f"A learning rate or batch size finder cannot be part of a run with {type(trainer.strategy).__name__}, "
            "which restores checkpoints only after it: leave it out, and find the setting in a fit of its own."
        )


def take_data(context: RunContext, data: pl.LightningDataModule | None) -> None:
    """Begin a fit on these data, which are set up.

    Args:
        context: the run.
        data: the fit's data module.

    Raises:
        ConfigurationError: there is no data module.
        InvalidTypeError: one that does not know which points are labelled.
    """
    if data is None:
        raise ConfigurationError(
            "ActiveLearning needs a data module that knows which points are labelled: "
            "`trainer.fit(model, datamodule=ActiveDataModule(train_set, ...))`."
        )
    if not isinstance(data, ActiveDataModule):
        raise InvalidTypeError(
            f"Expected an ActiveDataModule, but got {type(data).__name__}: derive it from ActiveDataModule, or "
            "wrap it with `ActiveDataModule.from_datamodule(data_module, ...)`."
        )
    catch_up_in_child(context, data)
    settings, state = context.settings, context.state
    first = [settings.query_size, len(data.pool)] + ([] if settings.budget is None else [settings.budget])
    data.expected_labels = max(min(first), 1)
    context.data = data
    context.resumed, context.stop_reason = None, None
    if (context.extractor.features, context.extractor.head_name) != (settings.features, settings.head):
        context.extractor = FeatureExtractor(settings.features, settings.head)
    if state.phase == "training":  # interrupted, and fit again: exact only from the start of the round
        state.redo()


def begin_fit(context: RunContext, trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Check labels and model before anything trains; open the run's folder.

    Args:
        context: the run, its data taken in.
        trainer: in a fit.
        module: the model.

    Raises:
        ConfigurationError: another model or data module than the run began with, or what cannot work.
    """
    settings, state, data = context.settings, context.state, context.data
    _check_subjects(context, module)
    if not hasattr(context, "ranks") or not context.ranks.serves(trainer):
        context.ranks = Ranks(trainer)
    _share_labels(context)
    if not state.has_begun:
        seed = torch.initial_seed() % 2**31 if settings.seed is None else settings.seed
        state.seed = context.ranks.decide(lambda: seed)
        state.initial_weights = None  # taken by the rounds, after every `on_fit_start`
        state.bought_before = data.pool.n_bought
    if context.precision is not trainer.precision_plugin:  # another Trainer's; the same one's scale has moved since
        context.precision = trainer.precision_plugin
        context.precision_state = copy.deepcopy(trainer.precision_plugin.state_dict())
    if settings.max_time is not None:
        context.deadline = time.monotonic() + settings.max_time
    opens = not context.is_open or context.resumed is not None or not state.has_begun
    saved = context.handback.last if context.resumed is None else context.resumed.saved
    if opens and saved is not None:  # first: on another data set everything else would be a misleading complaint
        context.ranks.decide(lambda: check_fingerprint(data, saved["fingerprint"]))
    context.ranks.run_model(lambda: _check_data(context, trainer, module))
    if opens:
        Recorder(context).open(trainer, module, saved)
        if not context.state.has_begun and context.resumed is None:
            notice_earlier_runs(context, module)
    else:
        Recorder(context).resume()
    if not is_rehearsal(trainer):
        folder = context.folder
        known = (None, None) if folder is None else (folder.path, folder.journal.run)
        context.ranks.decide(lambda: settings.oracle.prepare(data, *known))


def _check_subjects(context: RunContext, module: pl.LightningModule) -> None:
    """A run goes on with the model and the data module that it began with."""
    state = context.state
    subjects = (weakref.ref(module), weakref.ref(context.data))
    are_others = context.resumed is None and bool(context.subjects) and context.subjects != subjects
    if are_others and state.phase == "redo" and not state.history:
        state.start_over()  # half of a first round is not worth an error
    if state.has_begun and are_others:
        raise ConfigurationError(
            f"This ActiveLearning is in round {state.round} of a run with another model or data module: make "
            "a new ActiveLearning for a new run, or give the same objects to go on."
        )
    if context.subjects != subjects:
        context.unsaved = None
    context.subjects = subjects


def _check_data(context: RunContext, trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Number of classes from the model where nobody gave it; every known label must fit."""
    settings, state, data = context.settings, context.state, context.data
    data.check_items()
    check_evaluation(trainer, module, data, tests=settings.test_each_round, uses_best=settings.weights == "best")
    if not is_rehearsal(trainer):
        check_trainer(trainer)
        if not state.has_begun and not len(data.labelled_indices) and context.resumed is None:
            check_first_round(trainer, data)
        context.fingerprint = fingerprint(data)
    if settings.pseudo_labels is not None:
        check_pseudo_labels(data)
    required = outputs_required(context)
    context.extractor.withheld = frozenset()  # not yet known
    context.extractor.penultimate_alone = settings.sampler.penultimate_alone
    outputs = context.extractor.prepare(trainer, data, required, outputs_read(context) - required)
    if outputs is None and data.num_classes is None:
        outputs = _outputs_of(context, trainer)
    if data.num_classes is None:
        data.num_classes = outputs
    data.adopt_names(outputs)
    data.check_labels()
    check_single_label(context)


def _outputs_of(context: RunContext, trainer: pl.Trainer) -> int | None:
    """How many outputs the model has, where nothing else reads them: a label beyond them would fail in every fit.

    `None` where a model cannot be run as it is, which is not a fault where only labels are checked by it.
    """
    reader = FeatureExtractor("auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what concerns features that nobody reads
        try:
            return reader.prepare(trainer, context.data, frozenset({"probabilities"}))
        except Exception:
            return None


def _share_labels(context: RunContext) -> None:
    """Begin on every process with the first one's labels: a script that draws them unseeded draws others on each.

    Raises:
        ConfigurationError: processes that hold different data sets, or are at different places of the run.
    """
    ranks, data, state = context.ranks, context.data, context.state
    if ranks.size == 1:
        return
    split = data.keep()["split"]
    if len(set(ranks.everyone((len(data.pool), split)))) > 1:
        raise ConfigurationError(
            "The processes hold different training data sets: give `random_split`, and whatever else draws at random "
            "in `setup`, a seeded generator."
        )
    places = ranks.everyone((state.round, state.phase))
    if len(set(places)) > 1:
        raise ConfigurationError(
            f"The processes stand at different places of the run (round and phase by rank: {places}): give all of them "
            "the same `ckpt_path`."
        )
    labels = ranks.decide(data.pool.state_dict)
    if not ranks.is_first:
        data.pool.load_state_dict(labels)
