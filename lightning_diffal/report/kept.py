"""What a run keeps in its folder for its report: what it is, a small projection of its features, how items look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh

from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.report.items import ItemThumb, thumb_of
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.utils.storage.files import replacing

__all__ = ["Kept", "keep_facts", "keep_items", "keep_projection", "project", "read_kept"]

_FACTS, _PROJECTION, _ITEMS = "run.json", "projection.npz", "items.jsonl"
_DIMENSIONS = 16
_MOST_POINTS = 20_000  # on the map; of a larger data set a sample is kept, with all points that were asked
_FITTED = 4096  # rows from which the axes are found


class Kept(NamedTuple):
    """What was found in a run's folder.

    Args:
        facts: what the run is, by name.
        points: `(n,)` positions of the points that were projected; `None` without a projection.
        projection: `(n, d)` their features along the axes in which they spread most.
        round: whose features they are.
        items: how points look, by position.
    """

    facts: dict[str, Any]
    points: IntArray | None
    projection: FloatArray | None
    round: int
    items: dict[int, ItemThumb]


def keep_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write down what the run is, once; a run that goes on keeps what it began as.

    Args:
        folder: of the run.
        facts: values of plain types, by name.
    """
    path = folder / _FACTS
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(to_jsonable(dict(facts)), indent=1) + "\n", encoding="utf-8")


def project(rows: FloatArray) -> FloatArray:
    """Rows along the few axes in which they spread most.

    The axes are those of at most 4,096 rows, evenly spaced, so that this costs little beside reading the features.

    Args:
        rows: `(n, D)` finite numbers.

    Returns:
        `(n, min(n, D, 16))`.

    Example:
        >>> project(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], np.float32)).round(3)[:, 0]
        array([-1.414,  0.   ,  1.414], dtype=float32)
    """
    sample = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _FITTED)).astype(np.int64))]
    mean = sample.mean(axis=0)
    centred = sample - mean
    if centred.shape[1] <= len(centred):
        last = centred.shape[1] - 1
        scatter = centred.T @ centred  # for a picture
        axes = eigh(scatter, subset_by_index=(max(0, last + 1 - _DIMENSIONS), last))[1][:, ::-1]
    else:
        axes = np.linalg.svd(centred, full_matrices=False)[2].T[:, :_DIMENSIONS]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)  # one of two directions, always
    projected: FloatArray = ((rows - mean) @ axes.astype(np.float32)).astype(np.float32)
    return projected


def keep_projection(folder: Path, rows: FloatArray, asked: IntArray, round_: int) -> None:
    """Keep the features that a query went by, made small: 16 numbers each, for at most 20,000 points and those asked.

    Args:
        folder: of the run.
        rows: `(N, D)` features of all points.
        asked: positions of points that have to be among those kept: labelled, pending, chosen.
        round_: whose features they are.
    """
    points = np.arange(len(rows))
    if len(rows) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(rows), _MOST_POINTS, replace=False)
        points = np.union1d(chosen, asked)
    small = project(rows[points] if len(points) < len(rows) else rows)
    scale = float(np.abs(small).max(initial=0.0)) or 1.0
    with replacing(folder / _PROJECTION) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            points=points.astype(np.int64),
            projection=(small / scale).astype(np.float16),
            round=np.array(round_, dtype=np.int64),
        )


def keep_items(folder: Path, data: ActiveDataModule, indices: Iterable[int]) -> None:
    """Keep how some points look, those that are not kept yet.

    Args:
        folder: of the run.
        data: their items are read, without augmentation.
        indices: which points.
    """
    path = folder / _ITEMS
    known = _read_items(path)
    new = [index for index in indices if index not in known]
    if not new:
        return
    with path.open("a", encoding="utf-8") as file:
        for index in new:
            file.write(json.dumps({"index": index, **thumb_of(data, index)._asdict()}) + "\n")


def read_kept(folder: Path) -> Kept:
    """What a run's folder holds for its report; what is missing is empty.

    Args:
        folder: of a run.

    Raises:
        ResumeError: a file that cannot be read.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8")) if (folder / _FACTS).exists() else {}
        points = projection = None
        round_ = 0
        if (folder / _PROJECTION).exists():
            with np.load(folder / _PROJECTION, allow_pickle=False) as kept:
                points, round_ = kept["points"].astype(np.int64), int(kept["round"])
                projection = kept["projection"].astype(np.float32)
        return Kept(dict(facts), points, projection, round_, _read_items(folder / _ITEMS))
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise ResumeError(
            f"What {folder} keeps for its report cannot be read ({type(error).__name__}: {error}): take away "
            f"{_FACTS}, {_PROJECTION} and {_ITEMS}, which a report can do without."
        ) from error


def _read_items(path: Path) -> dict[int, ItemThumb]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries = [entry for entry in map(_entry, lines) if entry is not None]
    return {int(entry["index"]): ItemThumb(entry["image"], entry["text"], entry["alt"]) for entry in entries}


def _entry(line: str) -> dict[str, Any] | None:
    """A line; `None` for the one that a killed run was writing."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"index", "image", "text", "alt"} <= entry.keys() else None
