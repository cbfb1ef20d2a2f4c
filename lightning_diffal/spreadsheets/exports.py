"""What tools for labelling write, as rows with `id` and `label`: doccano, Argilla, CVAT, COCO, Label Studio.

A tool's own `id` is not a point's. Where a row carries ours under `diffal_id`, the tool's is left aside; where it
cannot be told whose it is, the row is refused.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["OUR_ID", "UnreadableError", "array_entries", "as_row", "once_each"]

OUR_ID = "diffal_id"
"""The name under which an item takes the id of its point through a tool."""

_INSIDE = ("meta", "metadata", "data", "fields")
_IMAGES = ("image", "image_name", "image_path", "image_id", "imageid", "file_name", "filename", "file")
_CLASSES = ("label_name", "labelname", "class", "class_label", "category", "tag")


class UnreadableError(ValueError):
    """What is wrong with one row, in half a sentence."""


def as_row(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row by our names, where it comes from a tool; any other row as it is.

    Args:
        cells: by column in lower case.

    Raises:
        UnreadableError: it cannot be told which point it is about, or what its label is.

    Example:
        >>> as_row({"id": 12, "text": "fine", "label": ["pos"], "meta": {"diffal_id": "7"}})["id"]
        '7'
        >>> as_row({"image_name": "a.png", "label": "cat"})
        {'image_name': 'a.png', 'label': 'cat', 'id': 'a.png'}
    """
    row = dict(cells)
    ours = _our_id(row)
    if ours is not None:
        row.pop("index", None)
        row["id"] = ours
        if row.get("label") == []:  # not looked at yet, and not: none of the classes applies
            row["label"] = ""
    label = _argilla(row)
    if label is not None:
        row["label"] = label
    if "id" not in row and "index" not in row:
        names = [name for name in _IMAGES if row.get(name) not in (None, "")]
        if names:
            row["id"] = str(row[names[0]])
            kinds = [name for name in _CLASSES if name in row]
            if "label" not in row and kinds:
                row["label"] = row[kinds[0]]
    if ours is None and _has_own_id(cells):
        raise UnreadableError(
            f"an `id` that may be the tool's own, beside a list of labels: give the id of the point as `{OUR_ID}`, or "
            "its `index`"
        )
    return row


def once_each(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON that says everything once; Python takes the last of two values in silence.

    Args:
        pairs: names and values.

    Raises:
        UnreadableError: a name that appears twice, with different values.

    Example:
        >>> once_each([("id", 7), ("label", "pos")])
        {'id': 7, 'label': 'pos'}
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise UnreadableError(f"`{name}` appears twice, with {reprlib.repr(found[name])} and {reprlib.repr(value)}")
        found[name] = value
    return found


def _our_id(row: Mapping[str, Any]) -> Any:
    places = (row, *(row[name] for name in _INSIDE if isinstance(row.get(name), Mapping)))
    found = {str(place[OUR_ID]) for place in places if place.get(OUR_ID) not in (None, "")}
    if len(found) > 1:
        raise UnreadableError(f"several `{OUR_ID}`: {', '.join(sorted(found))}")
    return next(iter(found), None)


def _has_own_id(cells: Mapping[str, Any]) -> bool:
    """Whether a row is as doccano writes it: a number of its own, the text, and a list of labels."""
    is_number = isinstance(cells.get("id"), int) and not isinstance(cells.get("id"), bool)
    return is_number and "index" not in cells and "text" in cells and bool(isinstance(cells.get("label"), list))


def _argilla(row: Mapping[str, Any]) -> Any:
    """What Argilla's annotators said: `None` where the row is not of Argilla, `""` where nobody has said anything."""
    if isinstance(row.get("responses"), Mapping):
        said = row["responses"].get("label")
        if said is None:
            return ""
        if not isinstance(said, list) or not all(isinstance(part, Mapping) for part in said):
            raise UnreadableError(f"expected `responses` as Argilla writes them, but got {reprlib.repr(said)}")
        return _agreed([(part.get("value"), part.get("status", "submitted")) for part in said])
    if "label.responses" in row:
        values = _listed(row["label.responses"])
        states = _listed(row.get("label.responses.status")) or ["submitted"] * len(values)
        if len(states) != len(values):
            raise UnreadableError("`label.responses` and `label.responses.status` of different lengths")
        return _agreed(list(zip(values, states, strict=True)))
    if "annotation" in row and "label" not in row and "status" in row:  # before Argilla 2
        status = str(row["status"]).casefold()
        return "?" if status == "discarded" else row["annotation"] if status == "validated" else ""
    return None


def _listed(cell: Any) -> list[Any]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:
            raise UnreadableError(f"expected a JSON list, but got {reprlib.repr(cell)}") from None
    return [] if cell in (None, "") else list(cell) if isinstance(cell, list) else [cell]


def _agreed(said: list[tuple[Any, Any]]) -> Any:
    submitted = [value for value, status in said if status == "submitted" and value not in (None, [])]
    if not submitted:
        return "?" if any(status == "discarded" for _, status in said) else ""
    if any(value != submitted[0] for value in submitted):
        raise UnreadableError(f"annotators who do not agree: {', '.join(map(str, submitted))}")
    return submitted[0]


def array_entries(values: Any) -> Iterator[dict[str, Any]]:
    """The rows of a JSON file: a list of objects, or images with their categories as COCO has them.

    Args:
        values: the whole file.

    Raises:
        UnreadableError: anything else.

    Example:
        >>> coco = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 5, "name": "cat"}],
        ...         "annotations": [{"image_id": 1, "category_id": 5}]}
        >>> list(array_entries(coco))
        [{'id': 'a.png', 'label': ['cat']}]
    """
    if isinstance(values, Mapping) and {"images", "annotations", "categories"} <= values.keys():
        yield from _coco(values)
        return
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise UnreadableError("no list of objects, and no images, annotations and categories as COCO has them")
    for value in values:
        if "annotations" in value and "data" in value:
            raise UnreadableError("tasks of Label Studio, which `LabelStudioOracle(folder=...)` reads from `exports`")
        yield once_each((str(name).strip().lower(), cell) for name, cell in value.items())


def _coco(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        names = {category["id"]: str(category["name"]) for category in values["categories"]}
        found: dict[Any, list[str]] = {image["id"]: [] for image in values["images"]}
        for annotation in values["annotations"]:
            if annotation.get("bbox") or annotation.get("segmentation"):
                raise UnreadableError("boxes or outlines: a point has a class, so export a classification")
            found[annotation["image_id"]].append(names[annotation["category_id"]])
        if len(found) < len(values["images"]) or len(names) < len(values["categories"]):
            raise UnreadableError("several images or categories with one id")
        for image in values["images"]:
            own = image.get(OUR_ID, image.get("file_name"))
            if own is None:
                raise UnreadableError(f"image {image['id']} without `file_name` or `{OUR_ID}`")
            names_of = list(dict.fromkeys(found[image["id"]]))
            yield {"id": str(own), "label": names_of or ""}  # without any it may not have been looked at
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(f"no COCO, or half of it ({type(error).__name__}: {error})") from None
