"""Whether a data set is the one that a run began with, told by a few of its items."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_diffal.exceptions import ResumeError
from lightning_diffal.labels.events import positions_of
from lightning_diffal.labels.targets import without_target
from lightning_diffal.utils.seeding import isolated_random_state

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["check_fingerprint", "fingerprint", "item_digest", "steady_digests"]

_LABELLED = 32  # read twice each in every round: what a mini-batch costs


def item_digest(item: Any) -> str | None:
    """A digest of an item's values, the same in every process, or `None` where it holds something without values.

    Args:
        item: tensors, arrays, images, numbers, strings, in tuples, lists, dicts or dataclasses.

    Example:
        >>> item_digest((torch.zeros(2), 1)) == item_digest((torch.zeros(2), 1))
        True
        >>> item_digest(object()) is None
        True
    """
    digest = hashlib.sha256()
    return digest.hexdigest() if _feed(digest, item) else None


def steady_digests(data: ActiveDataModule, indices: Sequence[int]) -> list[str | None]:
    """Digests of what the model sees of some points: not of their labels, which may come between two runs.

    Args:
        data: items are read without augmentation where `pool_dataset` is given; the random state is left alone.
        indices: of the points.

    Returns:
        One each; `None` where two reads disagree, or the item holds something without values.
    """
    found: list[str | None] = []
    with isolated_random_state():
        for index in indices:
            first, second = (item_digest(without_target(item, data.target)) for item in data.pool_item_twice(index))
            found.append(first if first == second else None)
    return found


def fingerprint(data: ActiveDataModule) -> dict[str, Any]:
    """Digests of the first, the middle, the last and of labelled items, where two reads agree.

    A file renamed in the middle of a folder moves only the items between its old and its new place: the labels that
    would move with them are seen to by the labelled points themselves, up to 32 of them, evenly spread.

    Args:
        data: items are read without augmentation where `pool_dataset` is given; the random state is left alone.

    Returns:
        Indices, ids (or `None`) and digests, of plain types.
    """
    n_points, ids = len(data.pool), data.pool.ids
    labelled = data.pool.labelled_indices
    spread = labelled[np.linspace(0, len(labelled) - 1, min(len(labelled), _LABELLED)).astype(np.int64)].tolist()
    looked_at = sorted({0, n_points // 2, n_points - 1, *spread})
    digests = {
        index: digest for index, digest in zip(looked_at, steady_digests(data, looked_at), strict=True) if digest
    }
    indices = list(digests)
    return {
        "indices": indices,
        "ids": None if ids is None else [ids[index] for index in indices],
        "digests": list(digests.values()),
    }


def check_fingerprint(data: ActiveDataModule, saved: Mapping[str, Any]) -> None:
    """Refuse a data set whose items are not those that the run began with.

    Args:
        data: the data set now.
        saved: what `fingerprint` said then.

    Raises:
        ResumeError: an item is another one.
    """
    indices = positions_of(saved, data.pool.ids)
    for index, digest, now in zip(indices, saved["digests"], steady_digests(data, indices), strict=True):
        if now is not None and now != digest:
            raise ResumeError(
                f"Item {index} of the training data set is not the one that the run began with: the data set was "
                "reordered, exchanged or preprocessed in another way, and every label would belong to another item. "
                "Give the data set that the run began with, or `ids` from the start of a run."
            )


def _feed(digest: Any, value: Any) -> bool:
    """Add a value's type, shape and content; `False` where it has none that can be read."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if value is None or isinstance(value, str | int | float | bytes):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
        return True
    if isinstance(value, Mapping):
        return all(_feed(digest, key) and _feed(digest, value[key]) for key in sorted(value, key=str))
    if isinstance(value, tuple | list):
        digest.update(f"sequence:{len(value)};".encode())
        return all(_feed(digest, part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _feed(digest, vars(value))
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array_interface__"):  # images
        array = np.asarray(value)
        digest.update(f"{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
        return array.dtype.kind != "O"
    return False
