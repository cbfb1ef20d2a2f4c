"""Label Studio's CSV, as the rows of its JSON-MIN: one for each annotation, with the fields of the task beside it."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

__all__ = ["csv_rows"]

_LONGEST = 2**31 - 1


def csv_rows(text: str) -> list[dict[str, Any]]:
    r"""The rows of a CSV export; cells that hold JSON are read, and what is empty is left out.

    Args:
        text: of the file.

    Raises:
        ValueError: a table without a header, or a row with more cells than it has columns.
        csv.Error: a quotation mark that is left open.

    Example:
        >>> csv_rows('id,diffal_id,label,annotation_id\n7,a.png,"{""choices"": [""cat"", ""dog""]}",1\n')
        [{'id': '7', 'diffal_id': 'a.png', 'label': {'choices': ['cat', 'dog']}, 'annotation_id': '1'}]
    """
    usual = csv.field_size_limit(_LONGEST)
    try:
        first = text.partition("\n")[0]
        delimiter = max(",\t;", key=first.count)
        header, *lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)) or [[]]
    finally:
        csv.field_size_limit(usual)
    if "annotation_id" not in header:
        raise ValueError("its columns have no `annotation_id`, as in CSV exports of Label Studio")
    rows = []
    for number, cells in enumerate(lines, start=2):
        if any(cells[len(header) :]):
            raise ValueError(f"row {number} has {len(cells)} cells, but there are {len(header)} columns")
        rows.append({name: _value(cell) for name, cell in zip(header, cells, strict=False) if cell != ""})
    return [row for row in rows if row]


def _value(cell: str) -> Any:
    if not cell.startswith(("{", "[")):
        return cell
    try:
        return json.loads(cell)
    except ValueError:
        return cell
