"""Running a model on a batch as Lightning would: `forward`, or the first step of the module that works."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lightning_diffal._lightning import is_overridden, muted_steps, pl, rank_zero_info
from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.features.calls import HINT, arguments_of, floating_tensors, ways_to_call, why_not
from lightning_diffal.features.trees import Path

__all__ = ["ModelCall", "find_call"]

_STEPS = ("validation_step", "test_step", "training_step")


class ModelCall:
    """One way of running a model, the same for all batches.

    Args:
        module: the model.
        name: the method that is called: `forward`, or a step.
        way: which of `ways_to_call` it is called in.
        label_paths: where a batch holds (placeholders for) labels.
        scores: for steps that return a loss: the submodule whose output are the class scores.
    """

    def __init__(
        self, module: nn.Module, name: str, way: str, label_paths: list[Path], scores: str | None = None
    ) -> None:
        self.module = module
        self.name = name
        self.way = way
        self.label_paths = label_paths
        self.scores = scores

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.module.forward)  # to read it takes longer than to run a small model

    def __call__(self, batch: Any) -> list[Tensor]:
        """The floating tensors that the model returns, or its class scores where it returns a loss."""
        return list(floating_tensors(self.returned(batch)))

    def returned(self, batch: Any) -> Any:
        """What the model returns, or its class scores where it returns a loss."""
        if self.scores is None:
            return self.raw(batch)
        seen: list[Any] = []
        part = self.module.get_submodule(self.scores)
        handle = part.register_forward_hook(lambda _module, _args, output: seen.append(output))
        try:
            self.raw(batch)
        finally:
            handle.remove()
        return seen[-1]

    def raw(self, batch: Any) -> Any:
        """What the method itself returns."""
        if self.name in _STEPS:
            with muted_steps(self.module):
                return getattr(self.module, self.name)(*_step_arguments(self.module, self.name, batch))
        if self.name == "predict_step":
            return _predict_step(self.module)(batch)
        args, kwargs = arguments_of(self.way, self._signature, batch, self.label_paths)
        return self.module(*args, **kwargs)


def find_call(
    module: nn.Module, batch: Any, label_paths: list[Path], num_classes: int | None, *, returns: bool = True
) -> ModelCall:
    """The first way of running the model that works on a batch.

    Args:
        module: the model, in evaluation mode.
        batch: a few items, with placeholders for labels.
        label_paths: where those are.
        num_classes: where known; it tells class scores inside a step that returns a loss.
        returns: what the model returns is of interest, and not only what its submodules do meanwhile.

    Raises:
        FeatureError: nothing works; it says what was tried.
    """
    tried: list[str] = []
    last: Exception | None = None
    for call in _candidates(module, batch, label_paths, tried):
        try:
            with _intact(module, call):
                found = list(floating_tensors(call.raw(batch)))
                if returns and call.name in _STEPS:
                    call.scores = _scores_inside(call, batch, num_classes)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model raises that wants something else
            tried.append(f"{call.way}: {type(error).__name__}: {_first_line(error)}")
            last = error
            continue
        if returns and call.name not in _STEPS and not any(tensor.ndim for tensor in found):
            tried.append(f"{call.way}: it returned no floating-point tensor")
            continue
        rank_zero_info(f"The model is run on the pool by {call.way}.")
        return call
    attempts = "; ".join(f"({number}) {attempt}" for number, attempt in enumerate(tried, 1))
    raise FeatureError(
        f"{type(module).__name__} could not be run on a batch without its labels. Tried in this order: {attempts}. "
        "Override `predict_step(self, batch, batch_idx)` so that it returns the class scores. " + HINT
    ) from last


def _candidates(module: nn.Module, batch: Any, label_paths: list[Path], tried: list[str]) -> Iterator[ModelCall]:
    is_lightning = isinstance(module, pl.LightningModule)
    if is_lightning and not is_overridden("forward", module, parent=pl.LightningModule):
        tried.append(f"`forward`: {type(module).__name__} defines no `forward`")
    else:
        ways = ways_to_call(module.forward, batch, label_paths)
        for way in ways:
            yield ModelCall(module, "forward", way, label_paths)
            tried[-1] = f"`forward` with {tried[-1]}"
        if not ways:
            name = type(module).forward.__qualname__
            why = why_not(module.forward, batch, label_paths)
            tried.append(f"`{name}` cannot be called with a batch without its label: {why}")
    steps = ("predict_step", *_STEPS) if is_lightning else ()
    for name in steps:
        own = getattr(type(module), name, None)
        if own is None or own is getattr(pl.LightningModule, name):
            continue
        if name == "training_step" and not getattr(module, "automatic_optimization", True):
            tried.append("`training_step`: it steps its optimizers by itself")
            continue
        yield ModelCall(module, name, f"`{name}`", label_paths)


def _scores_inside(call: ModelCall, batch: Any, num_classes: int | None) -> str:
    """The submodule that gives the class scores in a step that returns a loss: the last one of their width."""
    if num_classes is None:
        raise ConfigurationError("it returns no class scores, and `num_classes`, which tells them, is not given")
    executed: list[tuple[str, Any]] = []

    def remember(name: str) -> Callable[..., None]:
        return lambda _module, _args, output: executed.append((name, output))

    handles = [part.register_forward_hook(remember(name)) for name, part in call.module.named_modules() if name]
    try:
        call.raw(batch)
    finally:
        for handle in handles:
            handle.remove()
    widths = (1, 2) if num_classes == 2 else (num_classes,)
    for name, output in reversed(executed):
        if isinstance(output, Tensor) and output.is_floating_point() and output.ndim == 2 and output.shape[1] in widths:
            return str(name)
    raise FeatureError(f"none of the layers that ran has {num_classes} outputs")


@contextmanager
def _intact(module: nn.Module, call: ModelCall) -> Iterator[None]:
    """Leave parameters alone, should a step that is tried change them."""
    kept = [p.detach().clone() for p in module.parameters()] if call.name == "training_step" else []
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), kept, strict=False):
                parameter.copy_(value)


def _predict_step(module: nn.Module) -> Callable[[Any], Any]:
    # by its class: a pass through `Trainer.predict` puts a step of its own on the instance
    step: Any = getattr(type(module), "predict_step")  # noqa: B009
    return lambda batch: step(module, *_step_arguments(module, "predict_step", batch))


def _step_arguments(module: nn.Module, name: str, batch: Any) -> tuple[Any, ...]:
    """The batch, and number 0 for it and for its loader, as far as the step wants them."""
    step: Any = getattr(type(module), name)
    wanted = step.__code__.co_argcount - 1 - len(step.__defaults__ or ()) if hasattr(step, "__code__") else 2
    return (batch, 0, 0)[: max(1, min(wanted, 3))]


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else "no message"
