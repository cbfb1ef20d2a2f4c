"""How a function may be called with a batch of a data set, and the tensors that it returns."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from lightning_diffal.exceptions import FeatureError
from lightning_diffal.features.trees import Path, fields_of, tensors_of, without

__all__ = ["HINT", "Arguments", "arguments_of", "call_method", "floating_tensors", "ways_to_call", "why_not"]

HINT = (
    "Say where features are with `ActiveLearning(features=...)`: the name of a submodule whose output they are "
    '(for example `features="backbone.pool"`), or the name of a method of the model that returns them.'
)

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def ways_to_call(function: Callable[..., Any], batch: Any, label_paths: list[Path]) -> dict[str, Arguments]:
    """Arguments that a function may want of a batch, by what they are, the most likely ones first.

    Args:
        function: `forward`, or another method of the model.
        batch: as the loader gives it, with placeholders for labels.
        label_paths: where they are.

    Returns:
        Positional and keyword arguments that fit its signature.

    Example:
        >>> list(ways_to_call(lambda image: None, {"image": 1, "label": 0}, [("label",)]))
        ['its fields by name', 'its inputs at once']
        >>> ways_to_call(lambda x: None, ["images", "labels"], [(1,)])["its first inputs"]
        (('images',), {})
    """
    signature = inspect.signature(function)
    return {what: way for what, way in _ways(signature, batch, label_paths) if _fits(signature, way)}


def arguments_of(way: str, signature: inspect.Signature, batch: Any, label_paths: list[Path]) -> Arguments:
    """`ways_to_call(...)[way]` of a function that is called again and again: the other ways are not looked at.

    Args:
        way: one that fits its signature.
        signature: of the function.
        batch: as the loader gives it, with placeholders for labels.
        label_paths: where they are.

    Raises:
        KeyError: this batch has no such way.

    Example:
        >>> arguments_of("its first inputs", inspect.signature(lambda x: None), ["images", "labels"], [(1,)])
        (('images',), {})
    """
    for what, arguments in _ways(signature, batch, label_paths):
        if what == way and _fits(signature, arguments):
            return arguments
    raise KeyError(way)


def _ways(signature: inspect.Signature, batch: Any, label_paths: list[Path]) -> Iterator[tuple[str, Arguments]]:
    parameters = list(signature.parameters.values())
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in {*_BY_KEYWORD, *_BY_POSITION}]
    if needed[:1] == ["batch"] or (parameters and parameters[0].name == "batch"):
        yield "the whole batch", ((batch,), {"batch_idx": 0} if "batch_idx" in needed else {})
    inputs = without(batch, label_paths)
    yield from _by_name(parameters, inputs)
    if isinstance(inputs, tuple):
        yield from _by_position(parameters, needed, inputs)
    yield "its inputs at once", ((inputs,), {})
    if isinstance(inputs, tuple):
        yield "its first inputs", (inputs[: max(1, min(len(needed), len(inputs)))], {})
    tensors = list(tensors_of(inputs))
    large = [tensor for tensor in tensors if tensor.ndim > 1]
    for what, found in (("the one tensor in it", tensors), ("the one tensor of several dimensions in it", large)):
        if len(found) == 1:
            yield what, ((found[0],), {})


def _by_name(parameters: list[inspect.Parameter], inputs: Any) -> Iterator[tuple[str, Arguments]]:
    named = fields_of(inputs) or {}
    if not named or not all(isinstance(name, str) for name in named):
        return
    names = [p.name for p in parameters if p.kind in _BY_KEYWORD]
    needed = [p.name for p in parameters if p.kind in _BY_KEYWORD and p.default is p.empty]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        yield "all its fields by name", ((), named)
    if set(names) & set(named) and set(needed) <= set(named):
        yield "its fields by name", ((), {name: named[name] for name in names if name in named})


def _by_position(
    parameters: list[inspect.Parameter], needed: list[str], inputs: tuple[Any, ...]
) -> Iterator[tuple[str, Arguments]]:
    places = sum(p.kind in _BY_POSITION for p in parameters)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    surplus = inputs[len(needed) :]
    # what is optional is filled with further inputs, and not with an index or a name that items carry along
    if variadic or (len(inputs) <= places and all(isinstance(value, Tensor) and value.ndim > 1 for value in surplus)):
        yield "its inputs by position", (inputs, {})


def _fits(signature: inspect.Signature, way: Arguments) -> bool:
    try:
        signature.bind(*way[0], **way[1])
    except TypeError:
        return False
    return True


def call_method(method: Callable[..., Any], batch: Any, label_paths: list[Path]) -> Tensor:
    """The features that a method of the model returns; it is called as `forward` is.

    Args:
        method: of the model or of a submodule.
        batch: as the loader gives it, with placeholders for labels.
        label_paths: where they are.

    Raises:
        FeatureError: no way of calling it with the batch works, or it returns no tensor.
    """
    name = getattr(method, "__qualname__", "the method")
    failed: list[str] = []
    for what, (args, kwargs) in ways_to_call(method, batch, label_paths).items():
        try:
            result = method(*args, **kwargs)
        except (TypeError, KeyError, AttributeError, IndexError, ValueError) as error:
            failed.append(f"with {what}: {type(error).__name__}: {error}")
            continue
        if not isinstance(result, Tensor):
            kind = type(result).__name__
            raise FeatureError(f"Expected the method for `features` to return a tensor, but got {kind}.")
        return result
    tried = "; ".join(failed) or why_not(method, batch, label_paths)
    raise FeatureError(f"`{name}` cannot be called with a batch without its label: {tried}. {HINT}")


def why_not(function: Callable[..., Any], batch: Any, label_paths: list[Path]) -> str:
    """What a function misses that has no way to be called.

    Args:
        function: `forward`, or another method of the model.
        batch: as the loader gives it, with placeholders for labels.
        label_paths: where they are.
    """
    inputs = without(batch, label_paths)
    try:
        inspect.signature(function).bind(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    except TypeError as error:
        return str(error)
    return f"its parameters are {inspect.signature(function)}"


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
