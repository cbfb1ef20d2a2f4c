"""Calling a model with a batch of a data set, and the tensors that it returns."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from lightning_diffal._lightning import is_overridden, pl
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.labels.targets import Target, without_target

__all__ = ["HINT", "call_forward", "call_method", "floating_tensors"]

HINT = (
    "Say where features are with `ActiveLearning(features=...)`: the name of a submodule whose output they are "
    '(for example `features="backbone.pool"`), or the name of a method of the model that returns them.'
)

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def call_forward(module: nn.Module, batch: Any, target: Target) -> Any:
    """What `forward` returns for a batch without its label, or for the whole batch where its parameter is `batch`.

    Raises:
        FeatureError: the model has no `forward`, or one that such a batch does not fit.

    Example:
        >>> import torch
        >>> call_forward(nn.Flatten(), [torch.zeros(2, 3, 4), torch.zeros(2)], "auto").shape
        torch.Size([2, 12])
    """
    if isinstance(module, pl.LightningModule) and not is_overridden("forward", module, parent=pl.LightningModule):
        raise FeatureError(f"{type(module).__name__} defines no `forward`, so it cannot be run on the pool. {HINT}")
    args, kwargs = _arguments(module.forward, batch, target)
    return module(*args, **kwargs)


def call_method(method: Callable[..., Any], batch: Any, target: Target) -> Tensor:
    """The features that a method of the model returns; it is called as `forward` is.

    Raises:
        FeatureError: the batch does not fit it, or it returns no tensor.
    """
    args, kwargs = _arguments(method, batch, target)
    result = method(*args, **kwargs)
    if not isinstance(result, Tensor):
        raise FeatureError(f"Expected the method for `features` to return a tensor, but got {type(result).__name__}.")
    return result


def floating_tensors(output: Any) -> Iterator[Tensor]:
    """The floating tensors that a model returned, in order, but the `logits` of a Hugging Face output first.

    Example:
        >>> import torch
        >>> [len(t) for t in floating_tensors({"embedding": torch.zeros(1), "logits": torch.zeros(2)})]
        [2, 1]
    """
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
        return
    if dataclasses.is_dataclass(output) and not isinstance(output, Mapping | type):
        output = vars(output)
    elif hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        for key in sorted(output, key=lambda key: key != "logits"):
            yield from floating_tensors(output[key])
    elif isinstance(output, tuple | list):
        for part in output:
            yield from floating_tensors(part)


def _arguments(function: Callable[..., Any], batch: Any, target: Target) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How to pass what is left of a batch: keywords for a dict where they fit, else positions."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "batch":
        return (batch,), {}
    inputs = without_target(batch, target)
    args: tuple[Any, ...] = (inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        names = {p.name for p in parameters if p.kind in _BY_KEYWORD}
        needed = {p.name for p in parameters if p.kind in _BY_KEYWORD and p.default is p.empty}
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            args, kwargs = (), dict(inputs)
        elif names & set(inputs) and needed <= set(inputs):
            args, kwargs = (), {name: value for name, value in inputs.items() if name in names}
    elif isinstance(inputs, tuple):
        places = sum(p.kind in _BY_POSITION for p in parameters)
        if len(inputs) <= places or any(p.kind is p.VAR_POSITIONAL for p in parameters):
            args = inputs
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__qualname__", "forward")
        raise FeatureError(f"`{name}` cannot be called with a batch without its label: {error}. {HINT}") from None
    return args, kwargs
