"""Rows of features, one per item, from what a model is given, holds inside or returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_diffal.exceptions import FeatureError
from lightning_diffal.features.calls import HINT
from lightning_diffal.features.cut import Cut
from lightning_diffal.features.head import rows_before
from lightning_diffal.features.trees import Path, tensors_of, without

__all__ = [
    "as_rows",
    "check_n_rows",
    "common_length",
    "input_rows",
    "penultimate_rows",
    "side_by_side",
    "single_tensors",
]


def penultimate_rows(cut: Cut, inputs: Any, output: Any, returned: Tensor) -> Tensor:
    """One row per item out of what passes the cut."""
    value = inputs if cut.side == "input" else output
    tensors = list(tensors_of(value))
    parts: list[Tensor] = []
    for leaf in cut.leaves:
        tensor = tensors[leaf]
        if cut.side == "input" and tensor.ndim == 3 and _scores_each(tensor, output, returned):
            parts.append(rows_before(tensor, output, returned))
        elif cut.tokens and tensor.ndim == 3:
            parts.append(tensor[:, list(cut.tokens)].flatten(1))
        else:
            parts.append(as_rows(tensor))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _scores_each(tokens: Tensor, output: Any, returned: Tensor) -> bool:
    """Whether a layer makes scores of each token, of which the model then returns one, or a mean."""
    if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[:2] != tokens.shape[:2]:
        return False
    return output.shape[-1] == (returned.shape[-1] if returned.ndim > 1 else 1)


def input_rows(batch: Any, label_paths: list[Path]) -> Tensor:
    """A batch without its label, one row per item."""
    inputs = without(batch, label_paths)
    tensors = [tensor.reshape(len(tensor), -1) for tensor in tensors_of(inputs) if tensor.is_floating_point()]
    if not tensors:
        raise FeatureError(
            f"Expected items with floating-point numbers for features='inputs', but found none of them. {HINT}"
        )
    return torch.cat([tensor.float() for tensor in tensors], dim=1)


def single_tensors(given: list[Any]) -> Tensor | None:
    """What a model is given of all batches, where it is one floating tensor of equal rows."""
    tensors = [list(tensors_of(batch)) for batch in given]
    if any(len(found) != 1 or not found[0].is_floating_point() or not found[0].ndim for found in tensors):
        return None
    rows = [found[0] for found in tensors]
    return torch.cat(rows) if len({row.shape[1:] for row in rows}) == 1 else None


def side_by_side(parts: list[Tensor]) -> Tensor:
    """One part as it is; of several each as a unit vector, so that all count alike."""
    if len(parts) == 1:
        return parts[0]
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise FeatureError(f"Expected as many rows from all parts of the features, but got {lengths}. {HINT}")
    return torch.cat([nn.functional.normalize(part.float()) for part in parts], dim=1)


def common_length(rows: dict[str, Tensor]) -> int:
    """How many items the rows are of; they have to agree."""
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        raise FeatureError(f"Expected as many rows of features as of outputs, but got {lengths}. {HINT}")
    return max(lengths.values())


def check_n_rows(found: int, expected: int) -> None:
    """Refuse a pass that gave more or fewer rows than there are points."""
    if found != expected:
        raise FeatureError(
            f"Expected one row of features for each of {expected} points, but got {found}: the collate function "
            f"or the layer changes the number of items. {HINT}"
        )


def as_rows(features: Tensor) -> Tensor:
    """One vector per item: the mean over places `(B, D, H, W)` or over tokens `(B, T, D)`."""
    while features.ndim > 2 and features.shape[-1] == 1:  # what is left of pooled places
        features = features.squeeze(-1)
    if features.ndim <= 2:
        return features.reshape(len(features), -1)
    return features.flatten(2).mean(dim=2) if features.ndim > 3 else features.mean(dim=1)
