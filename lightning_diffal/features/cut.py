"""The penultimate layer, found by cause: the last place that everything the model returns has to pass.

Hold what a module is given (or gives) fixed while other items go through the model. Where the output stays exactly the
same, the output depends on the items through that place alone: it is a cut. The last cut that does not hold class
scores already is the penultimate layer, whatever the head behind it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_diffal.features.functions import last_argument
from lightning_diffal.features.trees import mapped, tensors_of

__all__ = ["Cut", "Place", "candidates_of", "find_cut", "noise_for_zeros", "parts_of", "run_noted", "watch"]

_WINDOW = 48  # places whose values are kept at a time
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_AFFINE = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


@dataclass
class Place:
    """What a module was given or gave, the first or the `call`-th time it ran.

    Args:
        name: of the module.
        module: itself.
        side: `"input"` or `"output"`.
        call: how many times it had run before.
        value: its arguments, or its output, as they were then.
        pointers: where the tensors lay in memory: a model may return one of them.
    """

    name: str
    module: nn.Module
    side: str
    call: int
    value: Any = field(repr=False)
    pointers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cut:
    """The penultimate layer.

    Args:
        name: of the module, or of the function.
        side: whether what it is given counts, or what it gives; `"function"` where it is a function of torch that is
            given it together with a parameter of the model.
        from_end: which of the module's runs counts, from the last one, 1.
        leaves: which of the tensors there, side by side.
        tokens: which positions of `(B, T, D)` tokens, where only a few of them count; else none.
    """

    name: str
    side: str = "input"
    from_end: int = 1
    leaves: tuple[int, ...] = (0,)
    tokens: tuple[int, ...] = ()


def find_cut(
    module: nn.Module,
    run: Callable[[Any], Tensor],
    first: Any,
    others: Sequence[Any],
    width: int,
    accepts: Callable[[Place], bool] | None = None,
) -> tuple[Cut | None, list[str]]:
    """The last place that all of the output passes, and that does not hold class scores.

    Args:
        module: the model, in evaluation mode.
        run: runs it on a batch and returns its class scores, `(B, C)`.
        first: a batch.
        others: batches of as many other items; one that gives another output is used.
        width: how many scores.
        accepts: which places may be meant, where not the penultimate layer is looked for.

    Returns:
        The cut, and where there is none, inputs of layers that make scores, described: `"head (8 numbers)"`.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=-1))
        >>> find_cut(model, model, torch.randn(2, 4), [torch.randn(2, 4)], 3)[0]
        Cut(name='2', side='input', from_end=1, leaves=(0,), tokens=())
    """
    with noise_for_zeros(module):
        expected = run(first)
        tolerance = float((run(first) - expected).abs().max())
        other = next((batch for batch in others if not _equal(_attempt(run, batch), expected, tolerance)), None)
        search = _Search(module, run, first, other, expected, tolerance, width, [t.float() for t in tensors_of(first)])
        places = watch(module, lambda: run(first), kept=range(0))
        for end in range(len(places), 0, -_WINDOW):
            window = range(max(0, end - _WINDOW), end)
            places = watch(module, lambda: run(first), kept=window)
            for i in reversed(window):
                place = places[i]
                if accepts is not None:
                    if not accepts(place) or not search.is_cut(place):
                        continue
                elif search.is_scores(place, places) or not search.is_cut(place) or search.is_to_pass_over(place):
                    continue
                runs = sum(p.name == place.name and p.side == place.side for p in places)
                leaves = search.leaves_of(place)
                if leaves:
                    cut = Cut(place.name, place.side, runs - place.call, leaves, search.tokens_of(place, leaves))
                    return (cut if accepts is not None else search.in_functions(place, cut) or cut), []
        if accepts is None and not any(_is_layer(place.module) for place in places):  # functions do all of it
            late = search.in_functions(None, None)
            if late is not None:
                return late, []
        everything = watch(module, lambda: run(first), kept=range(len(places)))
    return None, candidates_of(everything, width)


def watch(module: nn.Module, run: Callable[[], Any], kept: range) -> list[Place]:
    """Every input and output of every submodule, in the order in which they ran.

    Args:
        module: the model.
        run: runs it.
        kept: for which of them the values are kept; all of a large model's might not fit into memory.
    """
    places: list[Place] = []
    alive: list[Any] = []  # so that equal addresses mean the same memory

    def note(name: str, part: nn.Module, side: str, call: int, value: Any) -> None:
        if len(places) not in kept:
            places.append(Place(name, part, side, call, None))
            return
        alive.append(value)
        pointers = tuple(tensor.data_ptr() for tensor in tensors_of(value))
        places.append(Place(name, part, side, call, mapped(value, _kept), pointers))

    run_noted(module, run, note)
    return places


def run_noted(module: nn.Module, run: Callable[[], Any], note: Callable[[str, nn.Module, str, int, Any], None]) -> None:
    """Run the model, and tell of every input and output of every submodule, in the order in which they come.

    Args:
        module: the model.
        run: runs it.
        note: is given the submodule's name, the submodule, `"input"` or `"output"`, how many of these it had before in
            this run, and the value; an input is `(args, kwargs)`.
    """
    counts: dict[tuple[str, str], int] = {}

    def count(name: str, part: nn.Module, side: str, value: Any) -> None:
        call = counts[name, side] = counts.get((name, side), -1) + 1
        note(name, part, side, call, value)

    with ExitStack() as hooks:
        for name, part in parts_of(module):
            before = lambda _m, args, kwargs, name=name, part=part: count(name, part, "input", (args, kwargs))  # noqa: E731
            after = lambda _m, _args, output, name=name, part=part: count(name, part, "output", output)  # noqa: E731
            hooks.callback(part.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(part.register_forward_hook(after).remove)
        run()


def candidates_of(places: Sequence[Place], width: int) -> list[str]:
    """Inputs of the layers that make scores, for a message where none of them is all that the output depends on."""
    found: dict[str, None] = {}
    inputs = {(place.name, place.call): place for place in places if place.side == "input"}
    for place in places:
        given = inputs.get((place.name, place.call))
        output = place.value
        if place.side == "input" or given is None or not isinstance(output, Tensor) or any(place.module.children()):
            continue
        tensor = next((t for t in tensors_of(given.value) if t.is_floating_point()), None)
        if tensor is not None and _width(output) == width and _width(tensor) != width:
            found[f"{place.name!r} ({_width(tensor)} numbers)"] = None
    return list(found)


class _Search:
    """Tests of one place, all on the same batches."""

    def __init__(
        self,
        module: nn.Module,
        run: Callable[[Any], Tensor],
        first: Any,
        other: Any,
        expected: Tensor,
        tolerance: float,
        width: int,
        given: list[Tensor],
    ) -> None:
        self.module = module
        self.run = run
        self.first = first
        self.other = other
        self.expected = expected
        self.tolerance = tolerance
        self.width = width
        self.given = given

    def is_scores(self, place: Place, places: Sequence[Place]) -> bool:
        """Whether a place holds class scores already, or nothing that could be features."""
        tensors = [tensor for tensor in tensors_of(place.value) if tensor.is_floating_point() and tensor.ndim]
        if not tensors:
            return True
        wide = [tensor for tensor in tensors if _width(tensor) in (self.width, 1)]
        if len(wide) < len(tensors):
            return False
        # as wide as the scores: features only where a layer with a weight matrix takes what an activation gave
        if place.side == "output" or _width(tensors[0]) == 1 or not _mixes(place.module):
            return True
        own = [p for p in places if p.side == "output" and set(p.pointers) & set(place.pointers)]
        made_by_layer = any(isinstance(p.module, _AFFINE) for p in own)
        rows = tensors[0].flatten(0, -2).float() if tensors[0].ndim > 1 else tensors[0].float()[None]
        probable = bool((rows >= 0).all() and ((rows.sum(-1) - 1).abs() < 1e-3).all())
        return made_by_layer or probable or not own

    def is_cut(self, place: Place, leaves: Sequence[int] | None = None) -> bool:
        """Whether the output is that of the first batch where this place is, whatever the items are."""
        if self.other is None:  # all items give the same output, so nothing tells
            return leaves is not None or (place.side == "input" and _mixes(place.module))
        made: list[Any] = []
        try:
            with _held(self.module, place, leaves, made):
                found = self.run(self.other)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError):
            return False  # what was held does not fit what goes with it
        if _equal(found, self.expected, self.tolerance):
            return True
        # a head over all tokens, of which the model returns one that the items choose: the last before padding
        tokens = made[-1] if made else None
        if not isinstance(tokens, Tensor) or tokens.ndim != 3 or found.shape != (len(tokens), tokens.shape[-1]):
            return False
        return bool((tokens == found.unsqueeze(1)).all(dim=-1).any(dim=1).all())

    def is_to_pass_over(self, place: Place) -> bool:
        """Whether a cut holds class scores among others, or the items as they are before more than one layer."""
        tensors = list(tensors_of(place.value))
        scores = [i for i, t in enumerate(tensors) if t.is_floating_point() and t.ndim and _width(t) == self.width]
        if place.side == "output" and any(self.is_cut(place, [i]) for i in scores):
            return True
        raw = [_is_among(tensor, self.given) for tensor in tensors if tensor.is_floating_point()]
        if not raw or not all(raw):
            return False
        return place.side == "output" or (any(place.module.children()) and not self._linear())

    def _linear(self) -> bool:
        """Whether the output is an affine function of the items: half way between two lies half way between theirs."""
        inputs = [tensor for tensor in tensors_of(self.other) if tensor.is_floating_point()]
        if not inputs:
            return False
        firsts = iter(self.given)
        try:
            middle = mapped(
                self.other, lambda t: (t + _next(firsts, t)) / 2 if t.is_floating_point() else _skip(firsts, t)
            )
            found = self.run(middle)
            between = (self.expected + self.run(self.other)) / 2
        except (RuntimeError, TypeError, ValueError, StopIteration):
            return False
        return bool(torch.allclose(found.float(), between.float(), atol=1e-4, rtol=1e-3))

    def in_functions(self, place: Place | None, cut: Cut | None) -> Cut | None:
        """A later cut, where a head is a parameter and what it is given is made by functions and not by a module."""
        if self.other is None:
            return None
        before: Tensor | None = None
        if place is not None and cut is not None:
            is_own = not any(place.module.children()) and not _is_layer(place.module)
            if cut.from_end != 1 or len(cut.leaves) != 1 or not (place.side == "output" or is_own):
                return None
            before = list(tensors_of(place.value))[cut.leaves[0]]
        found = last_argument(
            self.run,
            self.first,
            self.other,
            self.width,
            lambda output: _equal(output, self.expected, self.tolerance),
            None if place is None else place.module,
            "output" if place is None else place.side,
            before,
        )
        return None if found is None else Cut(found.function, "function", found.from_end, (found.leaf,))

    def leaves_of(self, place: Place) -> tuple[int, ...]:
        """The tensors of a cut that count: one where it is enough, else all of them."""
        tensors = list(tensors_of(place.value))
        floating = [i for i, tensor in enumerate(tensors) if tensor.is_floating_point() and tensor.ndim > 1]
        rows = len(self.expected)
        floating = [i for i in floating if len(tensors[i]) == rows] or floating
        if len(floating) > 1:
            alone = next((i for i in floating if self.is_cut(place, [i])), None)
            if alone is None:
                return tuple(
                    i for n, i in enumerate(floating) if not _is_among(tensors[i], [tensors[j] for j in floating[:n]])
                )
            return (alone,)
        return tuple(floating)

    def tokens_of(self, place: Place, leaves: tuple[int, ...]) -> tuple[int, ...]:
        """Positions of the few tokens that the output depends on, by its gradient; none where it depends on many."""
        tensor = list(tensors_of(place.value))[leaves[0]]
        if tensor.ndim != 3 or len(leaves) > 1 or self.other is None:
            return ()
        try:
            with torch.enable_grad():
                leaf = tensor.detach().clone().requires_grad_()
                replaced = Place(
                    place.name, place.module, place.side, place.call, _with_leaf(place.value, leaves[0], leaf)
                )
                with _held(self.module, replaced, leaves, []):
                    output = self.run(self.other)
                (slope,) = torch.autograd.grad(output.float().square().sum(), leaf)
        except RuntimeError:  # inference mode, or an operation without a gradient
            return ()
        counts = (slope != 0).any(dim=-1)
        same = bool((counts == counts[0]).all())
        positions = counts[0].nonzero().flatten().tolist()
        if not same or not 1 <= len(positions) <= 4 or len(positions) == tensor.shape[1]:
            return ()
        return tuple(i if 2 * i < tensor.shape[1] else i - tensor.shape[1] for i in positions)


@contextmanager
def noise_for_zeros(module: nn.Module) -> Iterator[None]:
    """Small numbers in parameters that are all zero: a layer that starts so hides what its input does to the output."""
    zeros = [p for p in module.parameters() if p.is_floating_point() and p.numel() and not p.count_nonzero()]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in zeros:
            noise = torch.randn(parameter.shape, generator=generator) * 0.05
            parameter.copy_(noise.to(parameter.device, parameter.dtype))
        try:
            yield
        finally:
            for parameter in zeros:
                parameter.zero_()


@contextmanager
def _held(module: nn.Module, place: Place, leaves: Sequence[int] | None, made: list[Any]) -> Iterator[None]:
    """Put what a place held back in there, whatever comes; all of it, or some of its tensors."""
    calls = {"input": -1, "output": -1}
    part = place.module

    def swapped(value: Any) -> Any:
        if leaves is None:
            return mapped(place.value, lambda tensor: tensor.clone())
        kept, number = list(tensors_of(place.value)), iter(range(len(list(tensors_of(value)))))

        def change(tensor: Tensor) -> Tensor:
            i = next(number)
            return kept[i] if i in leaves else tensor

        return mapped(value, change)

    def before(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        calls["input"] += 1
        return swapped((args, kwargs)) if place.side == "input" and calls["input"] == place.call else None

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        calls["output"] += 1
        if calls["output"] != place.call:
            return None
        made.append(output)
        return swapped(output) if place.side == "output" else None

    handles = [part.register_forward_pre_hook(before, with_kwargs=True), part.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def parts_of(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every submodule by name, but for those of metrics."""
    metrics = {id(inner) for part in module.modules() if isinstance(part, Metric) for inner in part.modules()}
    return ((name, part) for name, part in module.named_modules() if name and id(part) not in metrics)


def _mixes(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _is_layer(module: nn.Module) -> bool:
    """Whether it is a module of torch that mixes numbers, so that nothing is to be looked for inside."""
    from_torch = type(module).__module__.startswith("torch.nn.")  # what compiles a module comes from elsewhere
    return from_torch and _mixes(module) and not isinstance(module, _CONTAINERS)


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()  # more may happen to it in place


def _width(tensor: Tensor) -> int:
    if tensor.ndim < 2:
        return 1
    return tensor.shape[1] if tensor.ndim > 3 else tensor.shape[-1]


def _attempt(run: Callable[[Any], Tensor], batch: Any) -> Tensor | None:
    try:
        return run(batch)
    except RuntimeError:
        return None


def _equal(found: Tensor | None, expected: Tensor, tolerance: float) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    if tolerance == 0:
        return torch.equal(found, expected)
    return bool(((found - expected).abs() <= 10 * tolerance).all())


def _is_among(tensor: Tensor, given: list[Tensor]) -> bool:
    flat = tensor.detach().float().flatten()
    return any(g.numel() == flat.numel() and torch.equal(g.float().flatten().to(flat.device), flat) for g in given)


def _next(values: Iterator[Tensor], like: Tensor) -> Tensor:
    return next(values).to(like.dtype)


def _skip(values: Iterator[Tensor], tensor: Tensor) -> Tensor:
    next(values)
    return tensor


def _with_leaf(value: Any, place: int, leaf: Tensor) -> Any:
    number = iter(range(len(list(tensors_of(value)))))
    return mapped(value, lambda tensor: leaf if next(number) == place else tensor)
