"""What Label Studio is given: tasks with predictions, and a labelling configuration. Plain JSON and XML."""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np

from lightning_diffal.data.fingerprint import steady_digests
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.labels.ids import writable
from lightning_diffal.labels.targets import Target, without_target
from lightning_diffal.oracle.base import Question
from lightning_diffal.spreadsheets.write import confidence
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.view import show_point
from lightning_diffal.view.shown import data_uri

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = [
    "ID",
    "ITEM",
    "Suggest",
    "content_digest",
    "default_task_data",
    "label_config",
    "label_names",
    "make_task",
    "to_name_of",
]

ID, ITEM, ROUND, WHY = "diffal_id", "diffal_item", "diffal_round", "diffal_why"
SUGGESTION, NEAREST, PICTURE = "diffal_suggestion", "diffal_nearest", "diffal_nearest_image"
"""Keys in a task's data. They stand there and not in `meta`, since JSON-MIN exports hold nothing else of a task."""

_SHOWN: dict[str, dict[str, str]] = {
    "image": {"maxHeight": "60vh", "zoomControl": "true", "selectionControl": "false"},
    "text": {},
    "audio": {"decoder": "none"},  # else Label Studio plays no recording that travels inside a task
    "table": {},
}
_HOTKEYS = "1234567890"
_LISTED = 20  # classes that are listed one below the other
_EXAMPLE = 160  # pixels of the nearest labelled example
_EXCERPT = 400  # characters of a text that is the nearest labelled example
_BARE = {"maxHeight": f"{_EXAMPLE}px", "zoom": "false", "zoomControl": "false", "selectionControl": "false"}
# transparent: where an item has no example, Label Studio would report an image without an address as broken, and
# sometimes one of less than 100 bytes, too
_NO_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAYAAADED76LAAAAKXRFWHRDb21tZW50AHRo"
    "ZXJlIGlzIG5vIGxhYmVsbGVkIGV4YW1wbGUgbmVhcsJ1yFUAAAAPSURBVHicY2AYBQwMDAwAAQgAAZEpH20AAAAASUVORK5CYII="
)

_IMAGE = re.compile(r"\.(png|jpe?g|gif|bmp|webp|svg|tiff?)($|[?#])", re.IGNORECASE)


Kind = Literal["image", "text", "audio", "table"]
Suggest = Literal["ticked", "shown", "hidden"]


def label_config(
    class_names: Sequence[str],
    kind: Kind = "image",
    *,
    from_name: str = "label",
    to_name: str | None = None,
    multilabel: bool = False,
    reasons: bool = True,
) -> str:
    """A labelling configuration for a Label Studio project: one item, and the classes beside it.

    An image takes up at most 60 % of the window's height, so that the classes are in sight; they have the keys 1 to 9
    and 0 in their order, but a class that is called 3 has the key 3, as on the page of `PageOracle`. More than 20
    classes become a list that can be searched.

    Args:
        class_names: the choices.
        kind: what is shown. Its data stands in a task under a key of that name.
        from_name: name of the choices.
        to_name: name of what is shown. Default: `kind`.
        multilabel: several choices, or none.
        reasons: show why a point was asked, its suggestion where that is shown, and its nearest labelled example. Tasks
            that `LabelStudioOracle` writes have these fields; for tasks from elsewhere give `False`.

    Returns:
        XML for the project's settings, Labelling Interface, Code.

    Raises:
        ConfigurationError: another kind.

    Example:
        >>> print(label_config(["cat", "dog & co"], "text", reasons=False))
        <View style="display: flex; gap: 20px; align-items: flex-start;">
          <View style="flex: 1 1 0; min-width: 0;">
            <Text name="text" value="$text" />
          </View>
          <View style="flex: 0 0 240px;">
            <Choices name="label" toName="text" choice="single" required="true" layout="vertical">
              <Choice value="cat" hotkey="1" />
              <Choice value="dog &amp; co" hotkey="2" />
            </Choices>
          </View>
        </View>
    """
    if kind not in _SHOWN:
        raise ConfigurationError(
            f"Expected argument `kind` to be 'image', 'text', 'audio' or 'table', but got {kind!r}."
        )
    view = ElementTree.Element("View", style="display: flex; gap: 20px; align-items: flex-start;")
    shown = to_name or kind
    left = ElementTree.SubElement(view, "View", style="flex: 1 1 0; min-width: 0;")
    ElementTree.SubElement(left, kind.capitalize(), {"name": shown, "value": f"${kind}", **_SHOWN[kind]})
    right = ElementTree.SubElement(view, "View", style="flex: 0 0 240px;")
    # an annotation without a choice says that no class applies, which only a multi-label target can mean
    rule = {"choice": "multiple"} if multilabel else {"choice": "single", "required": "true"}
    layout = "vertical" if len(class_names) <= _LISTED else "select"
    choices = ElementTree.SubElement(right, "Choices", {"name": from_name, "toName": shown, **rule, "layout": layout})
    keys = _keys([str(name) for name in class_names]) if layout == "vertical" else [None] * len(class_names)
    for name, key in zip(class_names, keys, strict=True):
        ElementTree.SubElement(choices, "Choice", {"value": str(name), **({} if key is None else {"hotkey": key})})
    if reasons:
        for name in (SUGGESTION, WHY):
            ElementTree.SubElement(right, "Header", value=f"${name}", size="5")
        ElementTree.SubElement(right, "HyperText", name="nearest", value=f"${NEAREST}", inline="true")
        if kind == "image":  # Label Studio takes the address of an image inside a text away
            ElementTree.SubElement(right, "Image", {"name": "nearest_image", "value": f"${PICTURE}", **_BARE})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def _keys(names: Sequence[str]) -> list[str | None]:
    """The key of each class: its own name, where that is a key, else the first that is left; `None` behind the last.

    Example:
        >>> _keys(["cat", "1", "dog"])
        ['2', '1', '3']
    """
    own = [name if name in set(_HOTKEYS) else None for name in names]
    left = iter([key for key in _HOTKEYS if key not in own])
    return [key if key is not None else next(left, None) for key in own]


def label_names(data: ActiveDataModule) -> list[str]:
    """What the classes are called in Label Studio: `class_names`, or their numbers.

    Raises:
        ConfigurationError: neither names nor number of classes are known.
    """
    if data.class_names is not None:
        return [writable(str(name)) for name in data.class_names]
    if data.num_classes is None:
        raise ConfigurationError(
            "Label Studio needs the names of the classes: give `ActiveDataModule(class_names=...)`."
        )
    return [str(number) for number in range(data.num_classes)]


def default_task_data(index: int, item: Any, id_: str, target: Target = "auto") -> dict[str, Any]:
    """What is shown of an item, where nobody says: its text, the address of its image, or its plain fields.

    Args:
        index: position in the training data set.
        item: as the data set gives it; its label stays here.
        id_: stable id of the point. Where the item is a tensor or an image and the id ends as image files do, it is
            the image's address.
        target: where the item holds its label.

    Raises:
        ConfigurationError: an item that has nothing to show.

    Example:
        >>> default_task_data(3, ("a fine film", 1), "3"), default_task_data(4, "https://a.org/4.png", "4")
        ({'text': 'a fine film'}, {'image': 'https://a.org/4.png'})
        >>> default_task_data(5, {"text": "so so", "length": 2, "label": 0}, "5")
        {'text': 'so so', 'length': 2}
    """
    shown = without_target(item, target)
    if isinstance(shown, Mapping):
        fields = {str(k): v for k, v in shown.items() if isinstance(v, str | bool | int | float)}
        if any(isinstance(value, str) for value in fields.values()):
            return fields
    parts = shown if isinstance(shown, tuple | list) else (shown,)
    for part in parts:
        if isinstance(part, PathLike):
            return {"image": fspath(part)}
        if isinstance(part, str):
            return {"image" if _IMAGE.search(part) else "text": part}
    if _IMAGE.search(id_):
        return {"image": id_}
    raise ConfigurationError(
        f"Label Studio cannot show item {index}, a {type(item).__name__} without text or path: say what it is to show, "
        "`LabelStudioOracle(task_data=lambda index, item, id: {'image': address_of[index]})`."
    )


def content_digest(data: ActiveDataModule, index: int) -> str | None:
    """A short digest of a point's item, where the point is known by its position only; else `None`.

    A project may hold tasks of another data set under the same numbers: their labels must not be taken for ours.
    """
    digest = None if data.pool.ids is not None else steady_digests(data, [index])[0]
    return None if digest is None else digest[:16]


def to_name_of(fields: Mapping[str, Any]) -> str:
    """Name of what is shown, where nobody says: as `label_config` calls it, or the first field.

    Example:
        >>> to_name_of({"text": "a", "length": 3}), to_name_of({"audio": "a.wav"})
        ('text', 'audio')
    """
    return next((kind for kind in _SHOWN if kind in fields), next(iter(fields)))


def make_task(
    index: int,
    fields: Mapping[str, Any],
    question: Question,
    data: ActiveDataModule,
    *,
    from_name: str = "label",
    to_name: str | None = None,
    suggest: Suggest = "ticked",
    examples: bool = True,
) -> dict[str, Any]:
    """One point as a task of Label Studio, with the suggested label as a prediction.

    Args:
        index: position in the training data set.
        fields: what is shown.
        question: why it was asked.
        data: knows ids and class names.
        from_name: name of the choices in the project's configuration.
        to_name: name of what is shown there.
        suggest: whether the suggested label is a prediction, which Label Studio ticks beforehand, or is shown beside
            the choices, or only noted in `meta`.
        examples: whether the nearest labelled point is shown, and not only named.

    Returns:
        `data` with the stable id, `meta` with the sampler's reasons, and `predictions`.

    Raises:
        ConfigurationError: fields that are no dict, or stand where ours do.
    """
    if not isinstance(fields, Mapping) or not fields or not all(isinstance(key, str) for key in fields):
        raise ConfigurationError(
            f"Expected `task_data` to return a dict of what Label Studio shows, but got {fields!r} for point {index}."
        )
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`task_data` gave something for point {index} that JSON cannot hold ({error}): give strings and numbers."
        ) from None
    taken = sorted(set(fields) & {ID, ITEM, ROUND, WHY, SUGGESTION, NEAREST, PICTURE, from_name})
    if taken:
        raise ConfigurationError(f"`task_data` cannot set {taken}: these names are taken in the tasks of Label Studio.")
    names, pool, query = label_names(data), data.pool, question.query
    places = np.flatnonzero(query.indices == index)
    details = {n: to_jsonable(v[places[0]]) for n, v in query.details.items()} if len(places) else {}
    content = content_digest(data, index)
    # keys that a configuration names have to be there, in every task
    shown = {**fields, ID: pool.id_of(index), ROUND: question.round, WHY: _why(details), SUGGESTION: "", NEAREST: ""}
    if "image" in fields:
        shown[PICTURE] = _NO_PICTURE
    meta: dict[str, Any] = {"run": question.run_id, "round": question.round}
    if len(places):
        meta |= {"order": int(places[0]), "score": to_jsonable(query.scores[places[0]]), **details}
    if "nearest_labelled" in details:
        nearest = details["nearest_labelled"]
        label = pool.labels_of(np.array([nearest])).get(nearest)
        known = None if label is None else {"id": pool.id_of(nearest), "label": _named(label, names)}
        meta["nearest_labelled"] = known
        if known is not None:
            shown |= _example(nearest, known, data if examples else None)
    predicted = _named(details.get("predicted"), names)
    if predicted:
        meta["predicted"] = predicted
        if suggest == "shown":
            shown[SUGGESTION] = f"Suggestion: {', '.join(predicted)}{_percent(confidence(details))}"
    task: dict[str, Any] = {"data": shown if content is None else {**shown, ITEM: content}, "meta": meta}
    if predicted and suggest == "ticked":
        task["predictions"] = [_prediction(predicted, details, from_name, to_name or to_name_of(fields))]
    return task


def _prediction(predicted: list[str], details: Mapping[str, Any], from_name: str, to_name: str) -> dict[str, Any]:
    """The suggested label, and how sure it is, from 0 to 1."""
    result = {"from_name": from_name, "to_name": to_name, "type": "choices", "value": {"choices": predicted}}
    # one version for all rounds: a project shows the predictions of the version that was imported first, and no others
    prediction: dict[str, Any] = {"model_version": "lightning-diffal", "result": [result]}
    sure = confidence(details)
    if sure is not None:
        prediction["score"] = sure
    return prediction


def _percent(sure: float | None) -> str:
    return "" if sure is None else f" ({sure:.0%} sure)"


def _example(nearest: int, known: Mapping[str, Any], data: ActiveDataModule | None) -> dict[str, str]:
    """The nearest labelled point as HTML without anything that runs, and as a picture; named only without `data`."""
    name = html.escape(f"Nearest labelled example: {', '.join(known['label'])} ({known['id']})")
    found = {NEAREST: f"<p>{name}</p>"}
    if data is not None:
        with suppress(ConfigurationError):  # what cannot be shown is named
            shown = show_point(data, nearest)
            picture = shown.thumbnail(_EXAMPLE)
            if picture is not None:
                found[PICTURE] = data_uri(picture, "image/png")
            elif shown.kind in ("text", "table"):
                text = textwrap.shorten(shown.text or "", _EXCERPT, placeholder=" …") if shown.kind == "text" else None
                found[NEAREST] += replace(shown, text=text).html()
    return found


def _why(details: Mapping[str, Any]) -> str:
    """The reason in a few words, which people can sort and filter by."""
    phase = details.get("phase")
    reasons = {"exploration": "exploration: far from every label", "refinement": "refinement: between labels"}
    return reasons.get(str(phase), "chosen by the sampler" if phase is None else str(phase))


def _named(label: Any, names: Sequence[str]) -> list[str]:
    """Names of a class, or of all that apply; empty where there is none."""
    if isinstance(label, list | tuple):
        return [name for name, applies in zip(names, label, strict=False) if applies > 0]
    return [names[label]] if isinstance(label, int) and 0 <= label < len(names) else []
