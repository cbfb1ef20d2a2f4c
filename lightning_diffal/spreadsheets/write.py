"""What is asked, as a table for people to fill in: CSV for spreadsheets, JSON lines for programs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.labels.class_names import class_words
from lightning_diffal.labels.ids import writable
from lightning_diffal.labels.targets import Label
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.utils.storage.files import replacing, write_rows
from lightning_diffal.view import path_of, show_point

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["add_rows", "class_words", "confidence", "content_of", "query_rows"]

QueryRow = dict[str, Any]

_CONTENT = ("path", "text")
_ABOUT = ("suggested_label", "confidence", "why", "score", "nearest_id", "nearest_label")
_COLUMNS = ("id", "index", *_CONTENT, "label", *_ABOUT)
_LONGEST = 32_000  # characters; a cell of Excel holds 32,767
# A spreadsheet that splits at another character than the comma would find the begin of a formula behind it.
_HIDDEN_FORMULA = re.compile(r"(?<=[;\t|])(?=[=+\-@])")


def query_rows(
    indices: Sequence[int],
    query: Query,
    id_of: Callable[[int], str],
    label_of: Callable[[int], Label | None],
    class_names: Sequence[str] | None,
    content: Callable[[int], Mapping[str, str]] = lambda index: {},
) -> list[QueryRow]:
    """One row per point, of plain types; `label` is empty.

    Args:
        indices: which points; of one that is not in the query nothing but itself is told.
        query: why they were asked: its scores, and `predicted`, `margin`, `reach`, `probability`, `phase` and
            `nearest_labelled` among its details.
        id_of: the id of a point.
        label_of: the label of a labelled point.
        class_names: names of the classes, where they have any.
        content: what shows a point to a person, by column (`path`, `text`).

    Example:
        >>> import numpy as np
        >>> details = {"predicted": np.array([1]), "margin": np.array([0.2]), "reach": np.array([0.8])}
        >>> rows = query_rows([4], Query([4], [0.5], details), str, lambda i: None, ["cat", "dog"])
        >>> rows[0]["suggested_label"], rows[0]["confidence"], rows[0]["label"]
        ('dog', 0.25, None)
    """
    places = {index: place for place, index in enumerate(query.indices.tolist())}
    rows = []
    for index in indices:
        row: QueryRow = {"id": id_of(index), "index": index, **content(index), "label": None}
        if index in places:
            place = places[index]
            row["suggested_label"], row["confidence"] = _suggestion(query, place, class_names)
            row["why"] = str(query.details["phase"][place]) if "phase" in query.details else None
            row["score"] = float(f"{query.scores[place]:.4g}")
            nearest = int(query.details["nearest_labelled"][place]) if "nearest_labelled" in query.details else -1
            label = None if nearest < 0 else label_of(nearest)
            row["nearest_id"] = None if nearest < 0 else id_of(nearest)
            row["nearest_label"] = None if label is None else class_words(label, class_names)
        rows.append(row)
    return rows


def _suggestion(query: Query, place: int, class_names: Sequence[str] | None) -> tuple[str | None, float | None]:
    """The label that the sampler would guess, and how sure it is, between 0 and 1."""
    if "predicted" not in query.details:
        return None, None
    predicted = query.details["predicted"][place]
    if predicted.ndim == 0 and predicted < 0:
        return None, None
    label: Label = int(predicted) if predicted.ndim == 0 else tuple(int(v) for v in predicted)
    sure = confidence({name: to_jsonable(values[place]) for name, values in query.details.items()})
    return class_words(label, class_names), None if sure is None else float(f"{sure:.3g}")


def confidence(details: Mapping[str, Any]) -> float | None:
    """How sure whoever suggests a label is of it, from 0 to 1; `None` where nobody says.

    Args:
        details: of one point in a query, as JSON knows them.

    Example:
        >>> confidence({"margin": 0.25, "reach": 0.5}), confidence({"probability": 0.75}), confidence({"reach": 0.5})
        (0.5, 0.75, None)
    """
    sure, margin, reach = details.get("probability"), details.get("margin"), details.get("reach")
    if sure is None and isinstance(margin, float) and isinstance(reach, float) and reach > 0:
        sure = margin / reach  # of the walks that meet a label, how many more meet the first class than the second
    return None if sure is None else min(max(float(sure), 0.0), 1.0)


def content_of(data: ActiveDataModule, index: int) -> dict[str, str]:
    """What shows a point to a person: the path of its file, or its text; nothing where the data set gives neither.

    A path comes from `samples`, as torchvision's folders have them; else what the view of the data module shows
    counts, where that is a file or text. `ActiveDataModule(view=...)` says what stands there for other items.

    Args:
        data: its items are read only where no path is known.
        index: which point.

    Example:
        >>> from lightning_diffal import ActiveDataModule
        >>> content_of(ActiveDataModule([("good", 1), ("bad", 0)]), 1)
        {'text': 'bad'}
    """
    path = None if data.view is not None else path_of(data.pool_dataset or data.train_dataset, index)
    if path is not None:
        return {"path": path}
    try:
        shown = show_point(data, index)
    except ConfigurationError:  # a table can do without, since it names each point
        return {}
    address = shown.path or shown.url
    if address is not None:
        return {"path": address}
    is_told = shown.kind == "text" or (data.view is not None and shown.text)
    return {"text": shown.text or ""} if is_told else {}


def add_rows(
    path: Path, rows: Sequence[QueryRow], encoding: str = "utf-8", columns: Sequence[str] = (), delimiter: str = ""
) -> None:
    """Write rows, or add them behind those that stand in the file already, which stay byte for byte.

    Args:
        path: `.jsonl` is JSON lines, anything else CSV.
        rows: what to write.
        encoding: of the file.
        columns: of a CSV that is there.
        delimiter: of a CSV that is there.
    """
    before = path.read_bytes() if path.exists() else b""
    if path.suffix == ".jsonl":
        added = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    else:
        names = list(columns) or [c for c in _COLUMNS if c not in _CONTENT or any(c in row for row in rows)]
        text = io.StringIO(newline="")
        table = [[_cell(name, row.get(name.lower())) for name in names] for row in rows]
        write_rows(text, table if before else [names, *table], delimiter or ",")
        added = text.getvalue()
    end = "" if not before or before.endswith((b"\n", b"\r")) else "\n"
    with replacing(path) as temporary:
        # a byte order mark belongs at the start of a file only
        written = writable(end + added)  # in JSON the escape of half a surrogate pair is read back as that
        temporary.write_bytes(before + written.encode(encoding.removesuffix("-sig") if before else encoding))


def _cell(name: str, value: Any) -> Any:
    """A value on one line, so that line numbers are row numbers."""
    if name.lower() == "text" and isinstance(value, str):
        value = _HIDDEN_FORMULA.sub(" ", " ".join(value.split()))
        value = value if len(value) <= _LONGEST else value[:_LONGEST] + "..."
    return value
