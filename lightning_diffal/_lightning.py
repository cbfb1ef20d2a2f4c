"""The only module that imports Lightning or touches a private name of it.

A round is one fresh fit. What "fresh" means inside Lightning is written down here, a function a fact;
`tests/test_lightning_names.py` asserts each private name, so that a new Lightning says what it broke.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.data import DistributedSampler
from torchmetrics import Metric

from lightning_diffal._namespace import choose_namespace

NAMESPACE = choose_namespace()

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning import callbacks as pl_callbacks
    from pytorch_lightning.cli import LightningCLI
    from pytorch_lightning.loops.fit_loop import _FitLoop as FitLoop
    from pytorch_lightning.strategies.launchers.multiprocessing import (
        _MultiProcessingLauncher as MultiProcessingLauncher,
    )
    from pytorch_lightning.trainer.states import TrainerFn
    from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
    from pytorch_lightning.utilities.model_helpers import is_overridden
else:
    pl = importlib.import_module(NAMESPACE)
    pl_callbacks = importlib.import_module(f"{NAMESPACE}.callbacks")
    FitLoop = importlib.import_module(f"{NAMESPACE}.loops.fit_loop")._FitLoop
    _launchers = importlib.import_module(f"{NAMESPACE}.strategies.launchers.multiprocessing")
    MultiProcessingLauncher = _launchers._MultiProcessingLauncher
    TrainerFn = importlib.import_module(f"{NAMESPACE}.trainer.states").TrainerFn
    _utilities = importlib.import_module(f"{NAMESPACE}.utilities")
    rank_zero_info, rank_zero_warn = _utilities.rank_zero_info, _utilities.rank_zero_warn
    MisconfigurationException = importlib.import_module(f"{NAMESPACE}.utilities.exceptions").MisconfigurationException
    is_overridden = importlib.import_module(f"{NAMESPACE}.utilities.model_helpers").is_overridden

__all__ = [
    "NAMESPACE",
    "FitLoop",
    "LightningCLI",
    "LoopLimits",
    "MisconfigurationException",
    "MultiProcessingLauncher",
    "Pristine",
    "TrainerFn",
    "batch_to_device",
    "best_checkpoint",
    "callbacks_of",
    "checkpoint_files",
    "configure_optimizers",
    "continue_steps",
    "datamodule_of",
    "discard_train_loader",
    "ends_with_more",
    "evaluate",
    "feature_pass",
    "finds_settings",
    "fresh_fit_loop",
    "global_batches",
    "is_complete",
    "is_overridden",
    "is_rehearsal",
    "is_supported",
    "lives_for_one_fit",
    "loader_state",
    "look_at_validation",
    "monitors",
    "muted_steps",
    "name_rounds",
    "never_trains",
    "other_namespace_hint",
    "pl",
    "pl_callbacks",
    "plain_view",
    "pristine_callbacks",
    "rank_zero_info",
    "rank_zero_warn",
    "received_sigterm",
    "reloads_loaders",
    "reset_model_checkpoints",
    "reset_results",
    "rest_finders",
    "rest_monitors",
    "restart_callbacks",
    "restores_late",
    "resume_loaders",
    "running_eagerly",
    "share_hyperparameters",
    "share_of_data",
    "stopped_inside_epoch",
    "user_sampler",
    "wake_finders",
    "was_interrupted",
]


def __getattr__(name: str) -> Any:
    if name == "LightningCLI":  # imports the optional jsonargparse
        return importlib.import_module(f"{NAMESPACE}.cli").LightningCLI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Callbacks whose life is one training. WeightAveraging (and EMA with it) came with Lightning 2.6.
_ONE_TRAINING: tuple[type, ...] = tuple(
    getattr(pl_callbacks, name)
    for name in ("EarlyStopping", "StochasticWeightAveraging", "BaseFinetuning", "Timer", "WeightAveraging")
    if hasattr(pl_callbacks, name)
)
# They change the module itself for good, so a second training cannot start from where the first did.
_CANNOT_RESTART: tuple[type, ...] = (pl_callbacks.ModelPruning,)

ROUND_FILENAME = "{round}-{epoch}-{step}"


class LoopLimits(NamedTuple):
    """How one round trains, as the Trainer was told. Read before training: callbacks such as SWA change it."""

    min_epochs: int | None
    max_epochs: int | None
    min_steps: int | None
    max_steps: int
    accumulate_grad_batches: int

    @classmethod
    def of(cls, loop: FitLoop) -> LoopLimits:
        """The limits that `loop` holds now."""
        return cls(
            loop.min_epochs, loop.max_epochs, loop.min_steps, loop.max_steps, loop.trainer.accumulate_grad_batches
        )

    def put_back(self, trainer: pl.Trainer) -> None:
        """Leave the Trainer as configured, for its next fit."""
        loop = trainer.fit_loop
        loop.min_epochs, loop.max_epochs = self.min_epochs, self.max_epochs
        loop.epoch_loop.min_steps, loop.epoch_loop.max_steps = self.min_steps, self.max_steps
        trainer.accumulate_grad_batches = self.accumulate_grad_batches


def callbacks_of(trainer: Any) -> list[pl.Callback]:
    """The Trainer's own list of callbacks (set by a connector, where type checkers do not see it)."""
    callbacks: list[pl.Callback] = trainer.callbacks
    return callbacks


def datamodule_of(trainer: Any) -> pl.LightningDataModule | None:
    """The data module given to this call of the Trainer, if any."""
    datamodule: pl.LightningDataModule | None = getattr(trainer, "datamodule", None)
    return datamodule


def ends_with_more(trainer: Any) -> bool:
    """Whether somebody does something when a training ends, other than to write files or to show it."""
    shows = (pl_callbacks.Checkpoint, pl_callbacks.ProgressBar, pl_callbacks.Timer)
    package = __name__.partition(".")[0]  # what this package does at the end of a round changes no weights
    callbacks = [
        c for c in callbacks_of(trainer) if not isinstance(c, shows) and type(c).__module__.partition(".")[0] != package
    ]
    return is_overridden("on_train_end", trainer.lightning_module) or any(
        is_overridden("on_train_end", callback, parent=pl.Callback) for callback in callbacks
    )


_FINDERS = (pl_callbacks.LearningRateFinder, pl_callbacks.BatchSizeFinder)


def finds_settings(trainer: pl.Trainer) -> bool:
    """Whether a callback trains for itself before the fit does, to find a learning rate or a batch size."""
    return not is_rehearsal(trainer) and any(isinstance(c, _FINDERS) for c in callbacks_of(trainer))


def rest_finders(trainer: pl.Trainer) -> None:
    """Keep callbacks that search for a setting from training in this fit, where there is nothing to train on yet."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, _FINDERS):
            vars(callback)["on_fit_start"] = _do_nothing


def wake_finders(trainer: pl.Trainer) -> None:
    """Let callbacks that search for a setting do so again."""
    for callback in callbacks_of(trainer):
        if vars(callback).get("on_fit_start") is _do_nothing:
            del vars(callback)["on_fit_start"]


def _do_nothing(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """In place of a hook."""


def is_rehearsal(trainer: Any) -> bool:
    """Whether the Trainer only tries things out: `fast_dev_run` or `overfit_batches`."""
    return bool(trainer.fast_dev_run or trainer.overfit_batches)


def was_interrupted(trainer: Any) -> bool:
    """Whether Ctrl-C ended what the Trainer did last."""
    return str(getattr(trainer.state.status, "value", trainer.state.status)) == "interrupted"


def received_sigterm(trainer: Any) -> bool:
    """Whether the process was told to end; Lightning takes note of the signal, and its loops look for it."""
    return bool(trainer.received_sigterm)


def other_namespace_hint(thing: Any) -> str:
    """What to write instead, where something is of the other Lightning package than the one in use.

    Args:
        thing: a data module or a model that is not of this package's classes.
    """
    for namespace in ("pytorch_lightning", "lightning.pytorch"):
        modules = (kind.__module__ for kind in type(thing).__mro__)
        if namespace != NAMESPACE and any(f"{module}.".startswith(f"{namespace}.") for module in modules):
            return (
                f" It is made for {namespace}, and the classes of the two packages do not mix: call "
                f'`lightning_diffal.for_lightning("{namespace}")` before any other name of lightning_diffal is used '
                f"(or set LIGHTNING_DIFFAL_NAMESPACE={namespace}), and take Trainer and model from {namespace} too."
            )
    return ""


def share_hyperparameters(source: pl.LightningDataModule, taker: pl.LightningDataModule) -> None:
    """Let `taker.hparams` be those of `source`, where it saved any.

    Args:
        source: an existing data module.
        taker: the one around it.
    """
    names = ("_hparams", "_hparams_initial", "_hparams_name", "_log_hyperparams")
    vars(taker).update({name: vars(source)[name] for name in names if name in vars(source)})


# ------------------------------------------------------------------------------------------- several processes


def restores_late(trainer: pl.Trainer) -> bool:
    """Whether the strategy restores a checkpoint after `on_fit_start`: those that split the model over processes."""
    return bool(getattr(trainer.strategy, "restore_checkpoint_after_setup", False))


def is_supported(trainer: pl.Trainer) -> bool:
    """Whether the strategy leaves the model whole, or splits it in the one way that is known to work: FSDP2."""
    kind = getattr(importlib.import_module(f"{NAMESPACE}.strategies"), "ModelParallelStrategy", None)  # of 2.4
    return not restores_late(trainer) or (kind is not None and isinstance(trainer.strategy, kind))


def share_of_data(trainer: pl.Trainer) -> tuple[int, int]:
    """Which share of the data this process reads, and how many shares there are.

    Processes that hold parts of the same layers (tensor parallelism) read the same one.
    """
    settings = getattr(trainer.strategy, "distributed_sampler_kwargs", None)
    if not settings:
        return trainer.global_rank, trainer.world_size
    return int(settings["rank"]), int(settings["num_replicas"])


def lives_for_one_fit(trainer: pl.Trainer) -> bool:
    """Whether fits run in child processes of the one that called the Trainer: spawned, or forked in a notebook."""
    return isinstance(trainer.strategy.launcher, MultiProcessingLauncher)


def user_sampler(sampler: Any) -> Any:
    """The sampler that a loader was given, where Lightning put another around it to share it out over processes."""
    if not isinstance(sampler, DistributedSampler):
        return sampler
    return getattr(sampler.dataset, "_sampler", sampler)


# ------------------------------------------------------------------------------------------------ the loop


def plain_view(loop: FitLoop, base: type[FitLoop]) -> FitLoop:
    """A `base` that shares the state of `loop`.

    Progress bars, loggers, checkpointing and resuming all look at `trainer.fit_loop` and expect a plain one.
    """
    view = base.__new__(base)
    view.__dict__ = loop.__dict__
    return view


def fresh_fit_loop(trainer: pl.Trainer, limits: LoopLimits) -> None:
    """Give the Trainer the fit loop that `Trainer.__init__` would have built, on the same data source.

    Resetting the progress of the old loop is not enough: it silently skips the first epoch of every later round.
    """
    old = trainer.fit_loop
    new = type(old)(trainer, min_epochs=limits.min_epochs, max_epochs=limits.max_epochs)
    new.epoch_loop = type(old.epoch_loop)(trainer, min_steps=limits.min_steps, max_steps=limits.max_steps)
    new._data_source = old._data_source
    new.epoch_loop.val_loop._data_source = old.epoch_loop.val_loop._data_source
    new.epoch_loop._batches_that_stepped = old.epoch_loop._batches_that_stepped  # the loggers' step axis goes on
    old.teardown()  # stops the workers of the old loaders
    trainer.fit_loop = new
    trainer.accumulate_grad_batches = limits.accumulate_grad_batches
    trainer.should_stop = False


def discard_train_loader(trainer: pl.Trainer) -> None:
    """Have the training loader built anew: it may be older than the labels restored from a checkpoint."""
    trainer.fit_loop._combined_loader = None


def reloads_loaders(trainer: Any) -> bool:
    """Whether loaders are built again during a training: `reload_dataloaders_every_n_epochs`."""
    return bool(trainer.reload_dataloaders_every_n_epochs)


def loader_state(trainer: pl.Trainer) -> dict[str, Any]:
    """What a checkpoint has to know of the loaders, so that a round goes on with the same draws."""
    fit, validation = trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop
    return {
        "train_loaded": float(fit._last_train_dl_reload_epoch),
        "val_loaded": float(validation._last_val_dl_reload_epoch),
        "keeps_workers": any(_keeps_workers(loop._combined_loader) for loop in (fit, validation)),
    }


def resume_loaders(trainer: pl.Trainer, saved: Mapping[str, Any] | None) -> None:
    """Build the loaders in this epoch if the interrupted fit had, which draws random numbers; then their iterators.

    Args:
        trainer: at the start of the epoch that a checkpoint goes on with, its random state restored.
        saved: of `loader_state`; `None` in checkpoints of earlier versions.
    """
    fit = trainer.fit_loop
    if saved is not None and reloads_loaders(trainer):
        fit._last_train_dl_reload_epoch = saved["train_loaded"]
        fit.epoch_loop.val_loop._last_val_dl_reload_epoch = saved["val_loaded"]
        if fit._should_reload_train_dl:
            fit.setup_data()
            for loader in () if fit._combined_loader is None else fit._combined_loader.flattened:
                _set_sampler_epoch(loader, trainer.current_epoch)
    _resume_iterator(trainer)


def _set_sampler_epoch(loader: Any, epoch: int) -> None:
    for sampler in (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)):
        set_epoch = getattr(sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


def _keeps_workers(combined_loader: Any) -> bool:
    """Whether a loader keeps its workers from one epoch to the next, with random states that nobody else knows."""
    loaders = () if combined_loader is None else combined_loader.flattened
    return any(bool(getattr(loader, "persistent_workers", False) and loader.num_workers) for loader in loaders)


def look_at_validation(trainer: pl.Trainer) -> None:
    """What a fit does before it trains: build the validation loaders, and try a few batches where that leaves a trace.

    A round builds them with the generators put back afterwards, as a fit does. The batches are tried only where a
    loader keeps its workers: they have been started then, and draw no seed in the first validation.
    """
    loop = trainer.fit_loop.epoch_loop.val_loop
    if not (trainer.enable_validation and trainer.num_sanity_val_steps > 0):
        return
    stage = trainer.state.stage
    trainer.sanity_checking = True
    try:
        loop.setup_data()
        if _keeps_workers(loop._combined_loader):
            trainer._run_sanity_check()
    finally:
        trainer.state.stage = stage


def is_complete(trainer: pl.Trainer, checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written in the last epoch of its training."""
    processed = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return (epochs is not None and 0 <= epochs <= processed) or 0 <= steps <= int(checkpoint["global_step"])


def _resume_iterator(trainer: pl.Trainer) -> None:
    """Draw the loader's seed again after the random state was restored (Lightning 2.5.1 and later skips it)."""
    if getattr(trainer.fit_loop, "is_resuming", False):
        fetcher: Any = trainer.fit_loop._data_fetcher
        iter(fetcher)


def checkpoint_files(trainer: pl.Trainer) -> list[Path]:
    """The files on this machine that the fit resumes from; of a checkpoint in parts the one that holds the run."""
    path = None if trainer.ckpt_path is None or "://" in str(trainer.ckpt_path) else Path(trainer.ckpt_path)
    if path is None:
        return []
    return [file for file in (path, path / "meta.pt") if file.is_file()]


def stopped_inside_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written in the middle of an epoch, where an exact continuation is impossible."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(progress["ready"] != progress["processed"])


def continue_steps(trainer: pl.Trainer, steps: int) -> None:
    """Let the loggers' step axis go on from where an earlier process left it; it never goes back."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = max(loop._batches_that_stepped, steps)


def global_batches(trainer: pl.Trainer) -> int:
    """The step axis of the loggers: batches that stepped, over all rounds."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


# --------------------------------------------------------------------------------- what a fresh fit starts from


def reset_results(trainer: pl.Trainer, round_: int) -> None:
    """Empty metrics, as before a fit; the round stands among them so that checkpoint files can name it."""
    for module in trainer.lightning_module.modules():
        if isinstance(module, Metric):
            module.reset()
    trainer._logger_connector.reset_results()
    trainer._logger_connector.reset_metrics()
    trainer.callback_metrics["round"] = torch.tensor(round_)


def configure_optimizers(trainer: pl.Trainer, precision_state: Mapping[str, Any]) -> None:
    """New optimizers and schedulers from the model, and the precision plugin (loss scale) as at the start."""
    trainer.lightning_module.zero_grad()
    trainer.precision_plugin.load_state_dict(copy.deepcopy(dict(precision_state)))
    trainer.strategy.setup_optimizers(trainer)
    trainer.strategy.setup_precision_plugin()


class Pristine(NamedTuple):
    """A callback and its state from before its first `setup`. It is held on to, so that its `id` stays its own."""

    callback: pl.Callback
    state: dict[str, Any]


def pristine_callbacks(trainer: pl.Trainer, known: Mapping[int, Pristine]) -> dict[int, Pristine]:
    """The callbacks that live for one training, by `id`, as they were before their `setup`.

    Args:
        trainer: its callbacks are looked at.
        known: what earlier fits found; it is kept, since the same callbacks have trained meanwhile.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, _CANNOT_RESTART):
            rank_zero_warn(
                f"{type(callback).__name__} changes the model for good, so rounds after the first do not start "
                "from the same model. Leave it out while labels are being bought."
            )
    new = [c for c in callbacks_of(trainer) if isinstance(c, _ONE_TRAINING) and id(c) not in known]
    return {**known, **{id(c): Pristine(c, copy.deepcopy(vars(c))) for c in new}}


def restart_callbacks(trainer: pl.Trainer, pristine: Mapping[int, Pristine], hook: str) -> None:
    """Live the beginning of a fit again: `hook="setup"` (with the state put back), then `"on_fit_start"`."""
    module = trainer.lightning_module
    for callback in callbacks_of(trainer):
        if id(callback) not in pristine:
            continue
        if hook == "setup":
            vars(callback).clear()
            vars(callback).update(copy.deepcopy(pristine[id(callback)].state))
            callback.setup(trainer, module, "fit")
        else:
            callback.on_fit_start(trainer, module)


def reset_model_checkpoints(trainer: pl.Trainer) -> None:
    """Each round has its own best models; files of earlier rounds stay and `last` goes on being replaced."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, pl_callbacks.ModelCheckpoint):
            callback._last_global_step_saved = 0
            callback._last_checkpoint_saved = ""
            callback.best_k_models = {}
            callback.kth_best_model_path = callback.best_model_path = ""
            callback.current_score = callback.best_model_score = None
            callback.kth_value = torch.tensor(torch.inf if callback.mode == "min" else -torch.inf)


@contextmanager
def name_rounds(trainer: pl.Trainer) -> Iterator[None]:
    """Put the round into the names of checkpoints whose name the user left to Lightning."""
    unnamed = [c for c in callbacks_of(trainer) if isinstance(c, pl_callbacks.ModelCheckpoint) and c.filename is None]
    for callback in unnamed:
        callback.filename = ROUND_FILENAME
    try:
        yield
    finally:
        for callback in unnamed:
            callback.filename = None


@contextmanager
def rest_monitors(trainer: Any) -> Iterator[list[str]]:
    """Let whoever waits for a metric of the validation do nothing where it is not there, instead of failing.

    Args:
        trainer: its optimizers are configured, and this training has nothing to validate on.

    Yields:
        Who rests, in words.
    """
    stopping = [c for c in callbacks_of(trainer) if isinstance(c, pl_callbacks.EarlyStopping) and c.strict]
    schedules = [c for c in trainer.lr_scheduler_configs if c.reduce_on_plateau and c.strict]
    keeping = [c for c in callbacks_of(trainer) if isinstance(c, pl_callbacks.ModelCheckpoint) and c.monitor]
    for waiting in (*stopping, *schedules):
        waiting.strict = False
    try:
        with warnings.catch_warnings():
            for said in (
                "ReduceLROnPlateau conditioned on",
                "Early stopping conditioned on",
                "`ModelCheckpoint\\(monitor=",
            ):
                warnings.filterwarnings("ignore", message=said)
            names = [type(c).__name__ for c in (*stopping, *keeping)] + ["ReduceLROnPlateau"] * bool(schedules)
            yield list(dict.fromkeys(names))
    finally:
        for waiting in (*stopping, *schedules):
            waiting.strict = True


def never_trains(trainer: Any) -> str | None:
    """The setting with which a Trainer trains nothing at all, if it has one."""
    if trainer.limit_train_batches == 0:
        return f"limit_train_batches={trainer.limit_train_batches}"
    if trainer.max_epochs == 0:
        return "max_epochs=0"
    return "max_steps=0" if trainer.max_steps == 0 else None


def monitors(trainer: pl.Trainer) -> bool:
    """Whether a `ModelCheckpoint` monitors a metric and keeps the best weights by it."""
    return any(
        isinstance(c, pl_callbacks.ModelCheckpoint) and c.monitor and c.save_top_k != 0 for c in callbacks_of(trainer)
    )


def best_checkpoint(trainer: pl.Trainer) -> Path | None:
    """The file of this round's best weights, where a `ModelCheckpoint` monitors a metric."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, pl_callbacks.ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return Path(callback.best_model_path)
    return None


# ----------------------------------------------------------------------------------------- passes between rounds


def running_eagerly() -> AbstractContextManager[Any]:
    """Compiled modules run uncompiled inside: hooks added to them later are silently not called in compiled code."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if set_stance is None else set_stance("force_eager")


@contextmanager
def feature_pass(trainer: pl.Trainer) -> Iterator[nn.Module]:
    """The module in evaluation mode, `trainer.predicting` set (so that augmentation in batch hooks stays off).

    Every submodule's own mode is put back afterwards. Compiled modules run eagerly: hooks added later are
    silently not called in compiled code.
    """
    module = trainer.lightning_module
    modes = {submodule: submodule.training for submodule in module.modules()}
    stage = trainer.state.stage
    module.eval()
    trainer.predicting = True
    try:
        with running_eagerly(), torch.no_grad(), trainer.precision_plugin.predict_step_context():
            yield module
    finally:
        trainer.state.stage = stage
        for submodule, training in modes.items():
            submodule.training = training


@contextmanager
def muted_steps(module: nn.Module) -> Iterator[None]:
    """Run a step of the module without a trace: nothing is logged, and all that it counts or collects is put back."""
    metrics = [part for part in module.modules() if isinstance(part, Metric)]
    inside = {id(part) for metric in metrics for part in metric.modules()}
    counted = [
        {name: value for name, value in vars(metric).items() if name in metric._defaults or name in _COUNTS}
        for metric in metrics
    ]
    counted = copy.deepcopy(counted)  # at once: metrics of a collection may share their state
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    registered = [(part, dict(part._buffers)) for part in module.modules() if id(part) not in inside]
    collected: dict[str, tuple[Any, Any]] = {
        name: (value, copy.copy(value))
        for name, value in vars(module).items()
        if isinstance(value, list | dict | set | int | float | str) and not name.startswith("_")
    }
    own: dict[str, Any] = {name: vars(module)[name] for name in ("log", "log_dict") if name in vars(module)}
    vars(module).update(log=_say_nothing, log_dict=_say_nothing)
    try:
        yield
    finally:
        for name in ("log", "log_dict"):
            vars(module).pop(name, None)
        vars(module).update(own)
        for metric, state in zip(metrics, counted, strict=True):
            vars(metric).update(state)
        for part, buffers_then in registered:
            part._buffers.update(buffers_then)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.data = before
        for name, (value, copied) in collected.items():
            vars(module)[name] = value
            if isinstance(value, list):
                value[:] = copied
            elif isinstance(value, dict | set):
                value.clear()
                value.update(copied)


_COUNTS = ("_update_count", "_update_called", "_computed", "_forward_cache", "_to_sync", "_should_unsync", "_is_synced")


def _say_nothing(*_args: Any, **_kwargs: Any) -> None:
    """Takes the place of `log`."""


def batch_to_device(trainer: pl.Trainer, batch: Any) -> Any:
    """A batch as the model would meet it in `predict_step`: precision, transfer hooks, device."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def evaluate(trainer: pl.Trainer, stage: Literal["validate", "test"]) -> dict[str, float]:
    """Run the whole `"validate"` or `"test"` loop inside a fit, and come back as if nothing had happened.

    Returns:
        What the model logged, by name.
    """
    loop = trainer.test_loop if stage == "test" else trainer.validate_loop
    datamodule = datamodule_of(trainer)
    if datamodule is not None and stage == "test":
        datamodule.setup("test")  # a fit sets up its own stages only
    fn, running, verbose = trainer.state.fn, trainer.state.stage, loop.verbose
    try:
        loop.verbose = False
        trainer.state.fn = TrainerFn.TESTING if stage == "test" else TrainerFn.VALIDATING
        if stage == "test":
            trainer.testing = True
        else:
            trainer.validating = True
        outputs: Iterable[Mapping[str, Any]] = loop.run()
    finally:
        loop.verbose = verbose
        trainer.state.fn, trainer.state.stage = fn, running
        torch.set_grad_enabled(True)
    return {name: float(value) for output in outputs for name, value in output.items()}
