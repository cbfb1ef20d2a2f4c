"""Class scores among what a model returns, and rows of features before the head that makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_diffal._lightning import rank_zero_info
from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.features.calls import HINT, floating_tensors
from lightning_diffal.features.cut import Cut, find_cut, watch
from lightning_diffal.features.trees import fields_of

__all__ = ["Head", "Scores", "are_probabilities", "find_head", "find_scores", "rows_before", "to_probabilities"]


@dataclass(frozen=True)
class Scores:
    """Which of the tensors that a model returns holds its class scores.

    Args:
        output: which of the floating tensors.
        width: size of that output: the number of classes, or 1 where one number tells two classes apart.
        returned_as_is: whether it comes straight from a layer with weights, so that it holds logits.
    """

    output: int
    width: int
    returned_as_is: bool


@dataclass(frozen=True)
class Head:
    """What makes class scores of the penultimate layer.

    Args:
        name: of the submodule that is given the penultimate layer, or gives it (`cut.side`).
        output: which of the floating tensors that the model returns holds the scores.
        width: size of that output: the number of classes, or 1 where one number tells two classes apart.
        returned_as_is: whether nothing comes after a layer with weights, so that the model returns logits.
        cut: where exactly the penultimate layer is.
    """

    name: str
    output: int
    width: int
    returned_as_is: bool
    cut: Cut


def find_scores(module: nn.Module, run: Callable[[], Any], rows: int, num_classes: int | None = None) -> Scores:
    """Which output holds the class scores; never a guess between several.

    Args:
        module: the model.
        run: runs it and gives what it returned. In a dict or an output of Hugging Face `logits` are the scores.
        rows: how many items it is run on.
        num_classes: where known; an output of another width is none of class scores.

    Raises:
        ConfigurationError: no output has `num_classes` columns.
        FeatureError: several outputs could be meant, or none.

    Example:
        >>> model = nn.Linear(4, 3)
        >>> find_scores(model, lambda: model(torch.randn(2, 4)), 2)
        Scores(output=0, width=3, returned_as_is=True)
    """
    made: list[Tensor] = []

    def remember(_module: nn.Module, _args: Any, output: Any) -> None:
        made.extend(floating_tensors(output))

    layers = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Bilinear | nn.modules.conv._ConvNd)]
    handles = [layer.register_forward_hook(remember) for layer in layers]
    try:
        output = run()
    finally:
        for handle in handles:
            handle.remove()
    returned = list(floating_tensors(output))
    # a loss has no dimension; with labels left out there should be none, but models differ
    places = [place for place, tensor in enumerate(returned) if tensor.ndim]
    shapes = ", ".join(f"{number}: {tuple(returned[number].shape)}" for number in places) or "none"
    flat = [place for place in places if returned[place].ndim <= 2 and len(returned[place]) == rows]
    widths = {num_classes, 1} if num_classes == 2 else {num_classes}
    fitting = flat if num_classes is None else [place for place in flat if _width(returned[place]) in widths]
    other = next((len(returned[p]) for p in places if returned[p].ndim <= 2 and len(returned[p]) != rows), None)
    if not flat and other is not None:
        raise FeatureError(
            f"Expected one row of class scores for each of {rows} points, but got {other}: the collate function or the "
            f"model changes the number of items. {HINT}"
        )
    if not flat:
        raise FeatureError(
            f"{type(module).__name__} returns no class scores, which have one row for each of {rows} items (outputs: "
            f"{shapes}): models for segmentation, detection or sequences are not supported. {HINT}"
        )
    if not fitting:
        raise ConfigurationError(
            f"The model has {' and '.join(str(_width(returned[place])) for place in flat)} outputs, but the data "
            f"module says `num_classes={num_classes}`: an output of another width is not taken for class scores. "
            "If `forward` returns an embedding, let it return the scores, name features with "
            "`ActiveLearning(features=...)`, or correct `num_classes`."
        )
    first, named = fitting[0], "logits" in (fields_of(output) or {})
    if num_classes is None and not named and len({_width(returned[place]) for place in fitting}) > 1:
        raise FeatureError(
            f"{type(module).__name__} returns several outputs that could be class scores ({shapes}): say how many "
            "classes there are with `ActiveDataModule(num_classes=...)`."
        )
    if len(fitting) > 1 and not named:
        rank_zero_info(f"Class scores are output {first} of the model's outputs ({shapes}).")
    pointers = {tensor.data_ptr() for tensor in made}
    return Scores(first, _width(returned[first]), returned[first].data_ptr() in pointers)


def find_head(
    module: nn.Module,
    run: Callable[[Any], Sequence[Tensor]],
    scores: Scores,
    batches: Sequence[Any],
    name: str | None = None,
) -> Head:
    """The head of a model: what makes class scores of the last place that holds anything else.

    Args:
        module: the model, in evaluation mode.
        run: runs it on a batch and gives the floating tensors that it returns.
        scores: which of those holds the class scores.
        batches: the first, and others of as many items.
        name: of the submodule whose input is meant, where the user says it.

    Raises:
        FeatureError: the output does not depend on the items through one place alone, or `name` did not run.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=-1))
        >>> find_head(model, lambda x: [model(x)], Scores(0, 3, False), [torch.randn(2, 4), torch.randn(2, 4)]).name
        '2'
    """
    output, width, as_is = scores.output, scores.width, scores.returned_as_is
    if name is not None:
        places = watch(module, lambda: run(batches[0]), kept=range(0))
        if not any(place.name == name for place in places):
            raise FeatureError(f"`head={name!r}` did not run when the model ran, so it is given nothing.")
        return Head(name, output, width, as_is, Cut(name))
    cut, candidates = find_cut(module, lambda batch: run(batch)[output], batches[0], batches[1:], width)
    if cut is None:
        found = ", ".join(candidates) or "none"
        raise FeatureError(
            f"The output of {type(module).__name__} does not depend on its items through one layer alone, so the "
            f"penultimate layer is unknown. Layers that make scores, and what they are given: {found}. Say which input "
            f"is meant with `ActiveLearning(head=...)`. {HINT}"
        )
    return Head(cut.name, output, width, as_is, cut)


def _width(tensor: Tensor) -> int:
    return tensor.shape[-1] if tensor.ndim > 1 else 1  # a single output squeezed away


def rows_before(inputs: Tensor, outputs: Tensor, returned: Tensor) -> Tensor:
    """One vector per item out of what goes into the head.

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
