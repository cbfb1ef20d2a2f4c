"""Passes between rounds: features in evaluation mode, a step without a trace, validation and test inside a fit."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torchmetrics import Metric

from lightning_diffal._lightning.names import TrainerFn, pl
from lightning_diffal._lightning.trainer import datamodule_of

__all__ = ["batch_to_device", "evaluate", "feature_pass", "muted_steps", "running_eagerly"]


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
