"""The arguments of `ActiveDataModule`, checked when they are given or first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from numbers import Integral, Real
from typing import Any

from torch.utils.data import IterableDataset

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.labels.class_names import check_names, completed

__all__ = [
    "as_names",
    "check_classes",
    "check_indexed",
    "check_loading",
    "check_validation",
    "check_view",
    "checked_length",
]

_OWN_SAMPLING = ("sampler", "batch_sampler", "dataset", "batch_size", "num_workers", "collate_fn", "generator")


def check_validation(val_fraction: Any, val_dataset: Any) -> None:
    """A share of the labelled points, or a data set; not both."""
    if isinstance(val_fraction, bool) or not isinstance(val_fraction, Real) or not 0.0 <= float(val_fraction) < 1.0:
        raise ConfigurationError(
            f"Expected argument `val_fraction` to be at least 0 and less than 1, but got {val_fraction!r}."
        )
    if val_fraction and val_dataset is not None:
        raise ConfigurationError("Give `val_dataset` or `val_fraction`, not both: one of them has to validate.")


def check_view(view: Any) -> None:
    """An `ItemView`, a function, or nothing."""
    if view is None or (not isinstance(view, type) and (callable(view) or callable(getattr(view, "show", None)))):
        return
    raise InvalidTypeError(
        f"Expected argument `view` to be an ItemView, a function (index, item, id) -> what to show, or None, but got "
        f"{view!r}."
    )


def check_loading(batch_size: Any, pool_batch_size: Any, loader_kwargs: Any) -> None:
    """Sizes of batches, and further arguments for `DataLoader` that leave the choice of points alone."""
    for name, size in {"batch_size": batch_size, "pool_batch_size": pool_batch_size}.items():
        if size is None and name == "pool_batch_size":
            continue
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise ConfigurationError(f"Expected argument `{name}` to be an integer of at least 1, but got {size!r}.")
    if loader_kwargs is not None and not isinstance(loader_kwargs, Mapping):
        raise InvalidTypeError(f"Expected argument `loader_kwargs` to be a dict, but got {loader_kwargs!r}.")
    refused = sorted(set(loader_kwargs or {}) & set(_OWN_SAMPLING))
    if refused:
        raise ConfigurationError(
            f"`loader_kwargs` cannot hold {refused}: use the arguments of ActiveDataModule, or override "
            "`train_dataloader` with a loader over `self.labelled_dataset`."
        )


def check_classes(num_classes: Any, class_names: Any, target: Any) -> None:
    """How many classes there are, what they are called, and where an item holds its own."""
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, Integral)):
        raise ConfigurationError(f"Expected argument `num_classes` to be an integer, but got {num_classes!r}.")
    if num_classes is not None and num_classes < 1:
        raise ConfigurationError(f"Expected argument `num_classes` to be at least 1, but got {num_classes}.")
    if class_names is not None:
        if isinstance(class_names, Sequence) and not len(class_names):
            raise ConfigurationError("Expected argument `class_names` to hold at least one name, but it is empty.")
        if isinstance(class_names, str) or not isinstance(class_names, Sequence):
            raise InvalidTypeError(f"Expected argument `class_names` to be a list of names, but got {class_names!r}.")
        if len(set(class_names)) != len(class_names):
            raise ConfigurationError(f"Expected `class_names` to be different, but got {list(class_names)}.")
        check_names(completed(class_names, None if num_classes is None else int(num_classes)))
        if num_classes is not None and num_classes < len(class_names):
            raise ConfigurationError(
                f"Expected `num_classes` and `class_names` to agree, but got {num_classes} and {len(class_names)}."
            )
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise InvalidTypeError(
            "Expected argument `target` to be a position in a tuple, a key of a dict or 'auto', "
            f"but got {target!r}. Labels of all points go into `targets`."
        )


def checked_length(dataset: Any, name: str) -> int:
    """The length of a data set whose items can be asked for by position; anything else is refused."""
    if dataset is None:
        raise ConfigurationError(f"No `{name}`: give it to ActiveDataModule, or set `self.{name}` in `setup`.")
    check_indexed(dataset, name)
    if isinstance(dataset, IterableDataset):
        raise InvalidTypeError(
            f"Expected `{name}` to be a map-style data set, but got the IterableDataset {type(dataset).__name__}: "
            "points are asked by their position, so items must be reachable by index."
        )
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        raise InvalidTypeError(
            f"Expected `{name}` to have a length and items by index (`__len__`, `__getitem__`), "
            f"but {type(dataset).__name__} has not."
        )
    if len(dataset) == 0:
        raise ConfigurationError(f"Expected `{name}` to hold at least one item, but it is empty.")
    return len(dataset)


def as_names(class_names: Any) -> Any:
    """Class names as a list, where they come as an array, or as a column or the index of a data frame."""
    is_column = hasattr(class_names, "tolist") and getattr(class_names, "ndim", 0) == 1
    return list(class_names.tolist()) if is_column else class_names


def check_indexed(dataset: Any, name: str) -> None:
    """Refuse what gives columns or values by key where an item is asked for by its position."""
    if hasattr(dataset, "columns") and hasattr(dataset, "iloc"):
        raise InvalidTypeError(
            f"Expected `{name}` to give one item for each position, but got a {type(dataset).__name__}, which is asked "
            "by columns: give a Dataset over its rows, for numbers such as `TensorDataset(torch.tensor("
            "df[columns].to_numpy(dtype='float32')))`, for texts `df['text'].tolist()`; its labels go into `targets`."
        )
    if isinstance(dataset, Mapping):
        raise InvalidTypeError(
            f"Expected `{name}` to give one item for each position, but got a {type(dataset).__name__}, which is asked "
            "by keys: give a list of its values, with its keys as `ids`."
        )
