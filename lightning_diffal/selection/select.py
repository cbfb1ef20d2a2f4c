"""What to label next, where there is no model and no training loop: embeddings and a few labels in files."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.graph.kept import keeping_graphs
from lightning_diffal.neighbors.backends import has_faiss
from lightning_diffal.neighbors.projection import projected_search
from lightning_diffal.samplers import DiffusionSampler, Query, QueryData, QuerySampler
from lightning_diffal.selection.embeddings import load_features
from lightning_diffal.selection.files import check_out, read_ids, read_labels, read_pending
from lightning_diffal.spreadsheets.points import PointReader
from lightning_diffal.spreadsheets.write import QueryRow, add_rows, query_rows
from lightning_diffal.utils.numeric.rows import digest_of
from lightning_diffal.utils.seeding import generator_of
from lightning_diffal.utils.storage.files import replacing
from lightning_diffal.utils.storage.stages import Stages

__all__ = ["Selection", "select_from_files"]

PathLike = str | os.PathLike[str]

_LARGE = 20_000  # points up to which the exact search takes a second or two
_SELECTION = 2  # the place in which a run draws for its selection, see `lightning_diffal.run.asking.query`


@dataclass(frozen=True)
class Selection:
    """Points to label next, and what is known.

    Args:
        query: the sampler's query.
        rows: of the query file.
        data: features, labels and candidates.
        class_names: names of the classes, where labels are names.
    """

    query: Query
    rows: list[QueryRow]
    data: QueryData
    class_names: list[str] | None

    def write(self, path: PathLike) -> None:
        """Write the query file: JSON lines where it is called so, else CSV. A file that holds labels is never replaced.

        Args:
            path: of the file; missing folders are made.

        Raises:
            ConfigurationError: the file is there and holds labels, or is not a query file.
        """
        path = Path(path)
        check_out(path)
        with replacing(path) as temporary:
            add_rows(temporary, self.rows, "utf-8" if path.suffix == ".jsonl" else "utf-8-sig")

    def __str__(self) -> str:
        """What was done, for people."""
        data, n_points = self.data, self.data.num_points
        classes = "" if self.class_names is None else f" as {', '.join(self.class_names[:10])}"
        more = "" if self.class_names is None or len(self.class_names) <= 10 else ", ..."
        counts = f"{len(data.labelled):,} of {n_points:,} points are labelled{classes}{more}"
        pending = f", {len(data.pending):,} asked earlier wait for a label" if len(data.pending) else ""
        phases = self.query.details.get("phase")
        why = "" if phases is None else f" ({_count(phases, 'exploration')}, {_count(phases, 'refinement')})"
        return f"{counts}{pending}; {len(self.query):,} chosen out of {len(data.candidates):,}{why}."


def _count(phases: npt.NDArray[Any], phase: str) -> str:
    return f"{int((phases == phase).sum())} for {phase}"


def select_from_files(
    features: PathLike | Sequence[PathLike],
    query_size: int,
    *,
    labels: Iterable[PathLike] = (),
    ids: PathLike | None = None,
    pending: Iterable[PathLike] = (),
    key: str | None = None,
    class_names: Sequence[str] | None = None,
    sampler: QuerySampler | None = None,
    seed: int = 0,
    work: PathLike | None = None,
) -> Selection:
    r"""Choose points to label next from embeddings and labels in files.

    Args:
        features: `.npy` with an array `(N, D)`, `.npz`, or `.parquet` with a column of vectors; a folder of such files,
            or a list of them, is read as one array. Nothing is unpickled. More than 2 GiB of `.npy` files are mapped
            and not loaded.
        query_size: how many points to choose.
        labels: CSV or JSON lines with columns `id` or `index` and `label`, among them query files that were filled in:
            of these a row without a label counts as asked and not answered. Without any label the choice covers the
            data.
        ids: a name for each point: one per line, or a CSV with a column `id`. Its columns `text` and `path`, if any, go
            into the query file, so that people see what they label. Default: positions are the names.
        pending: further points asked already: one id per line, or a CSV with a column `id` or `index`.
        key: of the array in an `.npz` that holds several, or of the column in a Parquet file.
        class_names: of all classes. Default: those that stand in `labels`, or numbers where all are numbers.
        sampler: one that needs features only. Default: `DiffusionSampler()`. Where faiss is not installed, its
            `backend="auto"` means, for more than 20,000 points, neighbours shortlisted along 64 principal axes.
        seed: breaks ties.
        work: a folder for finished stages of the search and for the graph. A choice that was killed goes on from
            there, and the next choice from the same features starts with the graph. It may be deleted at any time.

    Returns:
        The choice; `write` writes the query file.

    Raises:
        ConfigurationError: a file that cannot be used, a sampler that needs a model, or nothing left to choose.
        AnswerFileError: something in a file of labels that cannot be; file, line and reason.
        FeatureError: features that are not finite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(folder + "/emb.npy", np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.5]]))
        ...     _ = Path(folder, "labels.csv").write_text("index,label\n0,cat")
        ...     chosen = select_from_files(folder + "/emb.npy", 2, labels=[folder + "/labels.csv"])
        >>> sorted(chosen.query.indices.tolist())
        [4, 5]
        >>> print(chosen)
        1 of 6 points are labelled as cat; 2 chosen out of 5 (2 for exploration, 0 for refinement).
    """
    sampler = DiffusionSampler() if sampler is None else sampler
    if set(sampler.requires) - {"features"}:
        raise ConfigurationError(
            f"{type(sampler).__name__} needs {', '.join(sorted(sampler.requires))} of a model, and there are only "
            "embeddings: take one that needs features, or use `ActiveLearning`."
        )
    matrix = load_features(features, key)
    if not isinstance(sampler, DiffusionSampler):
        matrix = np.asarray(matrix, np.float32)  # the others need all of it at once
    elif sampler.backend == "auto" and len(matrix) > _LARGE and not has_faiss():
        sampler = copy.copy(sampler)  # pynndescent compiles longer than all of this takes
        sampler.backend = partial(projected_search, metric=sampler.metric)
    names, contents = (None, None) if ids is None else read_ids(Path(ids), len(matrix))
    points = PointReader(len(matrix), names)
    known = read_labels([Path(path) for path in labels], points, class_names)
    waiting = known.open_points | read_pending([Path(path) for path in pending], points)
    labelled = np.array(sorted(known.labels), dtype=np.int64)
    asked = np.array(sorted(waiting - known.labels.keys() - known.skipped), dtype=np.int64)
    taken = np.zeros(len(matrix), dtype=bool)
    taken[labelled] = taken[asked] = taken[sorted(known.skipped)] = True
    if taken.all():
        raise ConfigurationError(
            f"All {len(matrix)} points are labelled, asked or skipped: there is nothing to choose."
        )
    data = QueryData(
        features=matrix,
        labelled=labelled,
        labels=np.array([known.labels[i] for i in labelled.tolist()], dtype=np.int64),
        candidates=np.flatnonzero(~taken),
        pending=asked,
        num_classes=known.num_classes or 0,
    )
    size = min(query_size, len(data.candidates))
    source = "" if work is None else f"{digest_of(matrix)} {_settings(sampler)}"
    stages = Stages(None if work is None else Path(work) / "search", source=source)
    with stages.used(), keeping_graphs(None if work is None else Path(work)):
        query = sampler.select(data, size, generator_of(seed, _SELECTION, len(labelled)))
    id_of: Callable[[int], str] = str if names is None else names.__getitem__
    content: Callable[[int], dict[str, str]] = (lambda _: {}) if contents is None else contents.__getitem__
    rows = query_rows(query.indices.tolist(), query, id_of, known.labels.get, known.class_names, content)
    return Selection(query, rows, data, known.class_names)


def _settings(sampler: QuerySampler) -> str:
    """What a search depends on beside the features."""
    return repr([getattr(sampler, name, None) for name in ("n_neighbors", "metric", "backend")])
