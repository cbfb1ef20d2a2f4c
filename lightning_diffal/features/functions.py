"""Penultimate layers that no module is given: what a function of torch takes together with a parameter of the model.

In `F.relu(self.fc(x)) @ self.weight` the last module is `fc`, and the penultimate layer is what the activation made of
its output. Calls of torch's functions are watched and held as modules are in `cut`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_diffal.features.trees import mapped, tensors_of

__all__ = ["Argument", "last_argument", "watched_arguments"]


@dataclass(frozen=True)
class Argument:
    """A tensor that a function of torch was given.

    Args:
        function: its name.
        from_end: which of that function's calls counts, from the last one, 1.
        leaf: which of the tensors among its arguments.
        step: which of all calls it is.
        value: the tensor as it was then.
    """

    function: str
    from_end: int
    leaf: int
    step: int
    value: Tensor = field(repr=False)


@contextmanager
def watched_arguments(function: str, runs: int) -> Iterator[deque[list[Tensor]]]:
    """The tensors that a function is given, of its last calls inside the block.

    Args:
        function: its name.
        runs: how many of its calls are kept.

    Example:
        >>> with watched_arguments("matmul", 1) as seen:
        ...     _ = torch.ones(1, 2) @ torch.ones(2, 3)
        >>> [tuple(tensor.shape) for tensor in seen[0]]
        [(1, 2), (2, 3)]
    """
    seen: deque[list[Tensor]] = deque(maxlen=runs)

    def note(name: str, args: Any) -> Any:
        if name == function:
            seen.append([tensor.clone() for tensor in tensors_of(args)])
        return args

    with _Calls(note):
        yield seen


def last_argument(
    run: Callable[[Any], Tensor],
    first: Any,
    other: Any,
    width: int,
    reaches: Callable[[Tensor], bool],
    scope: nn.Module | None,
    side: str,
    before: Tensor | None,
) -> Argument | None:
    """The last argument of a function that all of the output passes, and that is combined with a parameter there.

    Args:
        run: runs the model on a batch and returns its class scores, `(B, C)`.
        first: a batch.
        other: a batch of as many items that gives another output.
        width: how many scores; what is as wide is taken for scores.
        reaches: whether an output is that of the first batch.
        scope: the module that was found: calls after its last output count, or those inside of it.
        side: `"output"` or `"input"` for one or the other.
        before: what that module gives or is given; an argument whose rows only have another length adds nothing to it.

    Returns:
        The argument, the first one where others only rescale its rows; `None` where there is none.
    """
    calls, others = _calls_of(run, first, scope, side), _calls_of(run, other, scope, side)
    if [(call.name, call.shapes) for call in calls] != [(call.name, call.shapes) for call in others]:
        return None  # what happens depends on the items
    names = [call.name for call in calls]
    arguments: list[tuple[Argument, bool]] = []
    for step, (call, same_call) in enumerate(zip(calls, others, strict=True)):
        depends = [not torch.equal(a, b) for a, b in zip(call.tensors, same_call.tensors, strict=True)]
        fixed = [t for t, d in zip(call.tensors, depends, strict=True) if not d and t.is_floating_point()]
        combined = any(tensor.numel() > 1 for tensor in fixed)
        for leaf, tensor in enumerate(call.tensors):
            if depends[leaf] and tensor.is_floating_point() and tensor.ndim > 1:
                from_end = names[step:].count(call.name)
                arguments.append((Argument(call.name, from_end, leaf, step, tensor), combined))

    def is_cut(argument: Argument) -> bool:
        try:
            with _held(argument):
                return reaches(run(other))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return False  # what was held does not fit what goes with it

    for argument, combined in reversed(arguments):
        rows = argument.value
        if not combined or rows.shape[-1] in (width, 1) or not is_cut(argument):
            continue
        if before is not None and _alike(rows, before):
            return None
        same = (a for a, _ in arguments if a.step <= argument.step and _alike(a.value, rows))
        return next(same, argument)
    return None


class _Calls(TorchFunctionMode):
    """Shows each call of a function of torch, which may change its arguments."""

    def __init__(self, note: Callable[[str, Any], Any]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = self.note(getattr(func, "__name__", ""), (args, kwargs or {}))
        return func(*args, **kwargs)


@dataclass(frozen=True)
class _Call:
    """A call of a function of torch, and the tensors that it was given; none where the call does not count."""

    name: str
    tensors: list[Tensor]

    @property
    def shapes(self) -> list[torch.Size]:
        return [tensor.shape for tensor in self.tensors]


def _calls_of(run: Callable[[Any], Tensor], batch: Any, scope: nn.Module | None, side: str) -> list[_Call]:
    """All calls while the model runs; those after a module's last output count, or those while it runs."""
    calls: list[_Call] = []
    counts = scope is None

    def switch(on: bool) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            nonlocal counts
            counts = on

        return hook

    def note(name: str, args: Any) -> Any:
        calls.append(_Call(name, [tensor.detach().clone() for tensor in tensors_of(args)] if counts else []))
        return args

    with ExitStack() as hooks:
        if scope is not None:
            hooks.callback(scope.register_forward_pre_hook(switch(side == "input")).remove)
            hooks.callback(scope.register_forward_hook(switch(side == "output")).remove)
        with _Calls(note):
            run(batch)
    return calls


@contextmanager
def _held(argument: Argument) -> Iterator[None]:
    """Put an argument back in there, whatever comes."""
    steps = iter(range(10**9))

    def note(_name: str, args: Any) -> Any:
        if next(steps) != argument.step:
            return args
        leaves = iter(range(len(list(tensors_of(args)))))
        return mapped(args, lambda tensor: argument.value.clone() if next(leaves) == argument.leaf else tensor)

    with _Calls(note):
        yield


def _alike(rows: Tensor, others: Tensor) -> bool:
    """Whether rows point into the same directions, item by item, as far as half precision tells."""
    one, other = (tensor.float().flatten(1) for tensor in (rows, others))
    if one.shape != other.shape:
        return False
    lengths = (one.norm(dim=1), other.norm(dim=1))
    zero = lengths[0] * lengths[1] == 0
    same = nn.functional.cosine_similarity(one, other) > 1 - 1e-4
    return bool(torch.where(zero, lengths[0] == lengths[1], same).all())
