"""Several training loaders at once: each is checked, so that none shows a label that was never bought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.data.loader_checks import check_train_loader
from lightning_diffal.data.views import LabelledDataset, UnlabelledDataset, covered_indices, under_subsets
from lightning_diffal.exceptions import LoaderMismatchError

__all__ = ["check_train_loaders", "loaders_in"]

_DEPTH = 6  # data sets around data sets that are looked into


def check_train_loaders(loaders: Any, data: ActiveDataModule) -> None:
    """Refuse training loaders that leave out a labelled point, or show a label that nobody has given.

    One of them has to cover exactly the points that train. Any other may go over labelled points, over
    `data.unlabelled_dataset`, or over a data set that has nothing to do with the training data set.

    Args:
        loaders: what `train_dataloader` gave: one loader, or several in a dict, a list or a `CombinedLoader`.
        data: the data module.

    Raises:
        LoaderMismatchError: with what to write instead.
    """
    found = dict(loaders_in(loaders))
    if len(found) < 2:
        check_train_loader(next(iter(found.values()), loaders), data)
        return
    errors = {name: _error_of(loader, data) for name, loader in found.items()}
    main = next((name for name, loader in found.items() if errors[name] is None and not _is_unlabelled(loader)), None)
    if main is None:
        raise next(
            (error for error in errors.values() if error is not None),
            LoaderMismatchError(
                "None of the training loaders goes over the labelled points: give one over `self.labelled_dataset`."
            ),
        )
    for name, loader in found.items():
        if name != main:
            _check_beside(name, loader, data)


def loaders_in(loaders: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All loaders in nested dicts and lists, by a name that says where.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> [name for name, _ in loaders_in({"a": DataLoader([1]), "b": [DataLoader([2]), DataLoader([3])]})]
        ["['a']", "['b'][0]", "['b'][1]"]
    """
    inside = getattr(loaders, "iterables", loaders)  # of a CombinedLoader
    if isinstance(inside, Mapping):
        for key, value in inside.items():
            yield from loaders_in(value, f"{name}[{key!r}]")
    elif isinstance(inside, list | tuple):
        for place, value in enumerate(inside):
            yield from loaders_in(value, f"{name}[{place}]")
    elif inside is not None:
        yield name, inside


def _error_of(loader: Any, data: ActiveDataModule) -> LoaderMismatchError | None:
    if not isinstance(loader, DataLoader):
        return LoaderMismatchError(f"A training loader that is a {type(loader).__name__} cannot be looked into.")
    try:
        check_train_loader(loader, data)
    except LoaderMismatchError as error:
        return error
    return None


def _check_beside(name: str, loader: Any, data: ActiveDataModule) -> None:
    """A loader beside the one that goes over the labelled points."""
    if _is_unlabelled(loader):
        return
    inner = under_subsets(loader)
    covered = covered_indices(loader, data.train_dataset)
    if isinstance(covered, np.ndarray):
        if isinstance(inner, LabelledDataset) and np.isin(covered, data.train_indices).all():
            return
        hidden = np.setdiff1d(covered, data.labelled_indices)
        what = f"{len(covered)} points of the training data set, {len(hidden)} of which nobody has labelled"
    else:
        known = [d for d in (data.train_dataset, data.pool_dataset) if d is not None]
        if isinstance(loader, DataLoader) and not _reaches(inner, known) and covered != len(data.pool):
            return  # other data altogether
        what = "a data set in which the training data set is hidden, or that cannot be looked into"
    raise LoaderMismatchError(
        f"The training loader {name} goes over {what}, and may show labels that were never bought. Build it over "
        "`self.unlabelled_dataset`, which holds the points without a label, with a placeholder in place of it; or over "
        "`self.labelled_dataset`."
    )


def _is_unlabelled(loader: Any) -> bool:
    return isinstance(under_subsets(loader), UnlabelledDataset)


def _reaches(dataset: Any, wanted: list[Any], depth: int = _DEPTH) -> bool:
    """Whether a data set is one of some, or holds one in an attribute."""
    if any(dataset is other for other in wanted):
        return True
    if depth == 0 or not hasattr(dataset, "__dict__"):
        return False
    parts = [
        part for value in vars(dataset).values() for part in (value if isinstance(value, list | tuple) else [value])
    ]
    return any(_reaches(part, wanted, depth - 1) for part in parts[:1000] if hasattr(part, "__getitem__"))
