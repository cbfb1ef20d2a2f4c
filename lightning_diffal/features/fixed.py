"""What stands beside the penultimate layer, or in its place: what a model computes, or is given, before it trains.

The layer that trains forgets what does not tell the classes labelled so far apart. Where most of a network is frozen,
the output of the frozen part takes its place: a layer behind it gained nothing beside it, and what never changes needs
one graph for all rounds. Where nothing is frozen, items that are vectors (embeddings, it may be) or small grey images
are good enough to stand beside the penultimate layer, which is better than either alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_diffal.features.cut import Cut, find_cut, run_noted
from lightning_diffal.features.trees import tensors_of

__all__ = ["Fixed", "find_fixed"]

_LEAST_LENGTH = 32  # of a vector; fewer numbers are columns of a table, of which some may say nothing
_LARGEST_LENGTH = 4096  # of a vector; more is no embedding, and a whole data set of such might not fit into memory
_LARGEST_SIDE = 32  # of an image whose pixels are compared
_LARGEST_SHARE = 0.5  # of one column in all differences: beyond it the columns have scales of their own

_Key = tuple[str, str, int]
Run = Callable[[Any], Sequence[Tensor]]


@dataclass(frozen=True)
class Fixed:
    """What does not train.

    Args:
        cut: where in the model; `None` for the items themselves.
        alone: whether it takes the place of the penultimate layer, and does not stand beside it.
        told: in words, for the log.
    """

    cut: Cut | None
    alone: bool
    told: str


@dataclass
class _Flow:
    """What of one run hangs on weights that train."""

    untrained: set[_Key]
    """Outputs behind frozen weights that hang on none that train, by module, side and number of the call."""
    trained: set[_Key]
    """Inputs and outputs that do, by module, side and number of the call from the end, which is 1."""
    frozen_size: int
    trained_size: int


def find_fixed(
    module: nn.Module, run: Run, output: int, width: int, batches: Sequence[Any], items: Tensor | None, head: Cut
) -> Fixed | None:
    """Look for it, before training starts.

    Args:
        module: the model, in evaluation mode.
        run: runs it on a batch and gives the floating tensors that it returns.
        output: which of those holds the class scores.
        width: how many scores.
        batches: the first, and others of as many items.
        items: what the model is given of all of them, where that is one tensor of numbers; labels do not count.
        head: where the penultimate layer is.

    Returns:
        `None` where the penultimate layer itself does not train, or nothing is worth standing beside it.
    """
    try:
        with torch.enable_grad():
            flow = _flow(module, lambda: run(batches[0]))
    except RuntimeError:  # inference mode, or weights that are spread over processes
        return None
    if head.side != "function" and (head.name, head.side, head.from_end) not in flow.trained:
        return None  # a linear head on what is frozen, or on the items
    if flow.untrained and flow.frozen_size >= flow.trained_size:
        cut, _ = find_cut(
            module,
            lambda batch: run(batch)[output],
            batches[0],
            batches[1:],
            width,
            accepts=lambda place: (place.name, place.side, place.call) in flow.untrained and _is_short(place.value),
        )
        if cut is not None:
            return Fixed(cut, True, f"the output of {cut.name!r}, which does not train")
    if items is None:
        return None
    if items.ndim == 2 and items.shape[1] >= _LEAST_LENGTH and _is_short(items) and not _has_loud_column(items):
        return Fixed(None, False, f"the items, vectors of {items.shape[1]} numbers")
    if items.ndim == 4 and items.shape[1] == 1 and max(items.shape[2:]) <= _LARGEST_SIDE:
        return Fixed(None, False, f"the items, grey images of {items.shape[2]} x {items.shape[3]}")
    return None


def _flow(module: nn.Module, run: Callable[[], Any]) -> _Flow:
    """Run the model once, with gradients as in training, and see which tensors have one."""
    seen: list[tuple[str, str, int, bool, bool]] = []  # module, side, call, whether it trains, weights so far
    counts: Counter[tuple[str, str]] = Counter()
    sizes: dict[int, tuple[int, bool]] = {}

    def note(name: str, part: nn.Module, side: str, call: int, value: Any) -> None:
        counts[name, side] += 1
        tensors = [tensor for tensor in tensors_of(value) if tensor.is_floating_point()]
        trains = any(tensor.requires_grad for tensor in tensors)
        if side == "output":
            for weight in part.parameters(recurse=False):
                sizes[id(weight)] = (weight.numel(), trains)
        seen.append((name, side, call, trains, bool(tensors) and bool(sizes)))

    run_noted(module, run, note)
    return _Flow(
        {(name, side, call) for name, side, call, trains, weighs in seen if side == "output" and weighs and not trains},
        {(name, side, counts[name, side] - call) for name, side, call, trains, _ in seen if trains},
        sum(size for size, trains in sizes.values() if not trains),
        sum(size for size, trains in sizes.values() if trains),
    )


def _is_short(value: Any) -> bool:
    """Whether rows made of a value are no longer than embeddings are; places and tokens are averaged first."""
    return all(tensor.ndim != 2 or tensor.shape[1] <= _LARGEST_LENGTH for tensor in tensors_of(value))


def _has_loud_column(items: Tensor) -> bool:
    """Whether one column makes up most of the distances, as one that counts money does beside one of ages."""
    squares = (items.double() - items.double().mean(dim=0)).square().sum(dim=0)
    return bool(squares.max() > _LARGEST_SHARE * squares.sum())
