"""The linear layer that makes a model's output, found by running the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_diffal.exceptions import FeatureError
from lightning_diffal.features.calls import HINT, floating_tensors

__all__ = ["Head", "are_probabilities", "find_head", "rows_before", "to_probabilities"]


@dataclass(frozen=True)
class Head:
    """The linear layer that makes the model's output.

    Args:
        name: of the submodule.
        output: which of the floating tensors that `forward` returns is its output.
        width: size of that output: the number of classes, or 1 where one number tells two classes apart.
        returned_as_is: whether nothing comes after it, so that the model returns logits.
    """

    name: str
    output: int
    width: int
    returned_as_is: bool


def find_head(module: nn.Module, call: Callable[[], Any], num_classes: int | None = None) -> Head:
    """The executed `nn.Linear` whose output is what the model returns; its input is the penultimate layer.

    The last *defined* linear layer is the wrong one in models that define the head first, or an auxiliary or a
    projection head after it. So the model is run once: the head is the layer that wrote the memory which the model
    returns; failing that (softmax after it, pooling over tokens), the last one run of the same width.

    Args:
        module: the model.
        call: runs its forward pass once, on two items or more.
        num_classes: where known, tells the classes' output from others that the model returns (an embedding, say).

    Raises:
        FeatureError: no linear layer made the output.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=-1))
        >>> find_head(model, lambda: model(torch.randn(2, 4)))
        Head(name='2', output=0, width=3, returned_as_is=False)
    """
    executed: list[tuple[str, Tensor]] = []

    def remember(name: str) -> Callable[..., None]:
        return lambda _module, _args, output: executed.append((name, output))

    handles = [
        part.register_forward_hook(remember(name))
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
    ]
    try:
        returned = list(floating_tensors(call()))
    finally:
        for handle in handles:
            handle.remove()
    latest_first = executed[::-1]
    # a loss has no dimension; with labels left out there should be none, but models differ
    places = [(place, tensor) for place, tensor in enumerate(returned) if tensor.ndim]
    widths = {num_classes, 1} if num_classes == 2 else {num_classes}
    places = [(place, tensor) for place, tensor in places if _width(tensor) in widths] or places
    for place, tensor in places:  # all are alive, so equal addresses mean the same memory
        for name, output in latest_first:
            if output.data_ptr() == tensor.data_ptr():
                return Head(name, place, _width(tensor), returned_as_is=True)
    for place, tensor in places:
        for name, output in latest_first:
            if output.shape[-1] == _width(tensor):
                return Head(name, place, _width(tensor), returned_as_is=False)
    ran = ", ".join(f"{name} ({output.shape[-1]} outputs)" for name, output in executed) or "none"
    raise FeatureError(
        f"No nn.Linear of {type(module).__name__} makes its output, so the penultimate layer is unknown "
        f"(linear layers that ran: {ran}). {HINT}"
    )


def _width(tensor: Tensor) -> int:
    return tensor.shape[-1] if tensor.ndim > 1 else 1  # a single output squeezed away


def rows_before(inputs: Tensor, outputs: Tensor, returned: Tensor) -> Tensor:
    """One vector an item out of what goes into the head.

    Where the head runs on every token and the model returns one token's output (the first, or the last that is no
    padding), that token's input; where it pools outputs, the mean: the head is linear, so the mean is what it pools.

    Args:
        inputs: `(B, D)`, or `(B, ..., D)` with tokens or places between.
        outputs: `(B, C)` or `(B, ..., C)` what the head made of them.
        returned: what the model made of those.

    Returns:
        `(B, D)`.

    Example:
        >>> tokens = torch.tensor([[[1.0], [2.0], [6.0]]])
        >>> [rows_before(tokens, 2 * tokens, torch.tensor([[returned]])).item() for returned in (4.0, 6.0)]
        [2.0, 3.0]
    """
    if inputs.ndim <= 2:
        return inputs.reshape(len(inputs), -1)
    tokens, logits = inputs.flatten(1, -2), outputs.flatten(1, -2)
    mean = tokens.mean(dim=1)
    if returned.shape != (len(logits), logits.shape[-1]):
        return mean
    is_returned = (logits == returned.unsqueeze(1)).all(dim=-1)
    chosen = tokens[torch.arange(len(tokens), device=tokens.device), is_returned.int().argmax(dim=1)]
    return torch.where(is_returned.any(dim=1, keepdim=True), chosen, mean)


def to_probabilities(output: Tensor, *, are_logits: bool = False, multilabel: bool = False) -> Tensor:
    """Class probabilities from what a model returns: logits, log-probabilities or probabilities.

    Args:
        output: `(B, C)`, or `(B, 1)` and `(B,)` for two classes.
        are_logits: known to be logits. Else numbers that look like probabilities are taken for such.
        multilabel: each column is a label of its own, present or not.

    Returns:
        `(B, C)` float32 rows that sum to 1; two columns for binary models. Of several labels, the probability of each.

    Example:
        >>> to_probabilities(torch.tensor([[0.0, 0.0]])), to_probabilities(torch.tensor([[0.25, 0.75]]))
        (tensor([[0.5000, 0.5000]]), tensor([[0.2500, 0.7500]]))
        >>> to_probabilities(torch.tensor([[0.0, 100.0, -100.0]]), multilabel=True)
        tensor([[0.5000, 1.0000, 0.0000]])
    """
    output = output.float()
    are_logits = are_logits or not are_probabilities(output, multilabel=multilabel)
    if multilabel:
        return output.sigmoid() if are_logits else output
    if output.ndim <= 1 or output.shape[1] == 1:
        positive = output.reshape(-1)
        if are_logits:
            positive = positive.sigmoid()
        return torch.stack([1 - positive, positive], dim=1)
    if not are_logits:
        return output / output.sum(dim=1, keepdim=True)
    return output.softmax(dim=1)  # of log-probabilities it is their exponential


def are_probabilities(output: Tensor, *, multilabel: bool = False) -> bool:
    """Whether all of a model's outputs could be probabilities, as exact as half precision is.

    Args:
        output: `(B, C)`, or `(B, 1)` and `(B,)` for two classes.
        multilabel: each column is a label of its own; rows need not sum to 1.

    Example:
        >>> are_probabilities(torch.tensor([[0.25, 0.75]])), are_probabilities(torch.tensor([[0.25, 0.25]]))
        (True, False)
    """
    if multilabel or output.ndim <= 1 or output.shape[1] == 1:
        return bool(((output >= 0) & (output <= 1)).all())
    return bool((output >= 0).all() and ((output.sum(dim=1) - 1).abs() < 1e-2).all())
