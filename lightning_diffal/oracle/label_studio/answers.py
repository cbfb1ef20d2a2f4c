"""What Label Studio gives back: its exports, and what the annotations of one point amount to. Plain JSON."""

from __future__ import annotations

import csv
import datetime
import json
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.labels.class_names import tidy
from lightning_diffal.labels.ids import writable
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.oracle.label_studio.flat import csv_rows
from lightning_diffal.oracle.label_studio.tasks import ID, ITEM
from lightning_diffal.spreadsheets.packed import members

__all__ = [
    "DISPUTED",
    "AnnotatedTask",
    "Annotation",
    "MalformedError",
    "latest",
    "read_export",
    "read_tasks",
    "refuse",
    "verdict",
]

DISPUTED: Final = "disputed"
"""What `verdict` says where the annotators do not agree."""

_ZIP = b"PK\x03\x04"
_NUMBER = re.compile(r"\d+(\.\d*)?([eE]\+?\d+)?")
_FRACTION = re.compile(r"\.(\d+)")
_MILLISECONDS = 1e11  # seconds until the year 5138
_SHOWN = 5  # problems listed in one message
_NEVER = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


class MalformedError(ValueError):
    """What is wrong with one task, in half a sentence."""


@dataclass(frozen=True)
class Annotation:
    """What one person said of one task.

    Args:
        author: who; `None` where the export does not say.
        updated: when, for the last time.
        skipped: the person pressed "skip".
        ground_truth: marked as such.
        choices: names of the chosen classes; `None` where nothing was chosen.
    """

    author: str | None
    updated: datetime.datetime
    skipped: bool
    ground_truth: bool
    choices: tuple[str, ...] | None


@dataclass(frozen=True)
class AnnotatedTask:
    """A task as Label Studio holds it, as far as it concerns us.

    Args:
        where: for messages: file and number of the task.
        key: of the task within its Label Studio: project and number.
        id: our stable id; `None` for a task that was not exported here.
        content: digest of the item, where it has one.
        updated: when the task or one of its annotations changed last.
        annotations: of all people.
        others: names of choices in the task that are not the ones looked for.
    """

    where: str
    key: tuple[str, str]
    id: str | None
    content: str | None
    updated: datetime.datetime
    annotations: tuple[Annotation, ...]
    others: frozenset[str] = frozenset()


def read_export(path: Path, from_name: str) -> list[AnnotatedTask]:
    """Read a JSON, JSON-MIN or CSV export, packed or not.

    Args:
        path: of the file.
        from_name: name of the choices in the project's configuration.

    Raises:
        AnswerFileError: no export; says file, place and reason.
    """
    content = path.read_bytes()
    if not content.startswith(_ZIP):
        return _read_one(content, str(path), path.suffix, from_name)
    try:
        found = [part for part in members(content) if part[0].lower().endswith((".json", ".csv", ".tsv"))]
    except AnswerFileError as error:
        raise AnswerFileError(f"{path}: {error}. Nothing was applied.") from None
    if not found:
        raise AnswerFileError(f"{path} holds no JSON and no CSV: export as one of them. Nothing was applied.")
    return [task for name, inner in found for task in _read_one(inner, f"{path}/{name}", Path(name).suffix, from_name)]


def _read_one(content: bytes, source: str, suffix: str, from_name: str) -> list[AnnotatedTask]:
    try:
        text = content.decode("utf-8-sig")
        rows = csv_rows(text) if suffix.lower() in (".csv", ".tsv") else json.loads(text)
    except UnicodeDecodeError as error:
        raise AnswerFileError(f"{source} is not UTF-8 at byte {error.start}. Nothing was applied.") from None
    except json.JSONDecodeError as error:
        raise AnswerFileError(
            f"{source}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}). Is it whole, and exported "
            "as JSON, JSON-MIN or CSV? Nothing was applied."
        ) from None
    except csv.Error as error:
        raise AnswerFileError(f"{source} is not CSV ({error}). Nothing was applied.") from None
    except (ValueError, RecursionError) as error:
        raise AnswerFileError(f"{source} is not the JSON of an export ({error}). Nothing was applied.") from None
    tasks, problems = read_tasks(rows, source, from_name)
    others = frozenset[str]().union(*(task.others for task in tasks))
    if others and all(said.choices is None for task in tasks for said in task.annotations):
        problems.append(f"{source} holds choices of {sorted(others)}, but none of `from_name={from_name!r}`")
    refuse(problems)
    return tasks


def refuse(problems: Sequence[str]) -> None:
    """Raise one error for all that is wrong.

    Raises:
        AnswerFileError: there is something.
    """
    if not problems:
        return
    rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise AnswerFileError(f"{'; '.join(problems[:_SHOWN])}{rest}. Nothing was applied.")


def read_tasks(content: Any, source: str, from_name: str) -> tuple[list[AnnotatedTask], list[str]]:
    """Tasks as Label Studio exports or lists them.

    Args:
        content: a list of tasks (JSON), or of annotations that repeat their task's data (JSON-MIN).
        source: file or project, for messages.
        from_name: name of the choices in the project's configuration.

    Returns:
        The tasks, and what is wrong with the others, one sentence each.

    Example:
        >>> row = {"id": 7, "diffal_id": "a.png", "label": "cat", "annotation_id": 1, "annotator": 2}
        >>> tasks, problems = read_tasks([row], "export.json", "label")
        >>> tasks[0].id, tasks[0].annotations[0].choices, problems
        ('a.png', ('cat',), [])
    """
    if not isinstance(content, list):
        return [], [f"{source}: expected a list of tasks, but got {reprlib.repr(content)}"]
    found: dict[tuple[str, str], AnnotatedTask] = {}
    problems: list[str] = []
    for place, row in enumerate(content, start=1):
        number = row.get("id") if isinstance(row, Mapping) else None
        where = f"{source}, entry {place}" if number is None else f"{source}, task {number}"
        key = (source, str(place)) if number is None else (str(row.get("project")), str(number))
        try:
            task = _task(row, where, key, from_name)
        except MalformedError as error:
            problems.append(f"{where}: {error}")
            continue
        first = found.get(task.key)  # JSON-MIN has a row for each annotation
        found[task.key] = task if first is None else _together(first, task)
    return list(found.values()), problems


def latest(tasks: Iterable[AnnotatedTask]) -> dict[str, list[AnnotatedTask]]:
    """Tasks by our id; of one that stands in several exports, the version that changed last.

    One id has several tasks where an exported file was imported twice.
    """
    newest: dict[tuple[Any, ...], AnnotatedTask] = {}
    for task in tasks:
        known = newest.get((task.id, *task.key))
        if known is None or task.updated >= known.updated:
            newest[(task.id, *task.key)] = task
    by_id: dict[str, list[AnnotatedTask]] = {}
    for task in newest.values():
        if task.id is not None:
            by_id.setdefault(task.id, []).append(task)
    return by_id


def verdict(tasks: Sequence[AnnotatedTask], names: Sequence[str], *, multilabel: bool) -> Any:
    """What the annotations of one point amount to.

    A ground truth goes before all others. Of each person the last annotation counts, skips do not outvote labels, and
    the label that more than half of the people gave is taken.

    Args:
        tasks: all tasks of the point.
        names: of the classes, in their order.
        multilabel: whether a point has several classes, or none.

    Returns:
        A class, or zeros and ones; `SKIP` where nobody could tell; `PENDING` where nobody has said anything;
        `DISPUTED` where no label has a majority.

    Raises:
        MalformedError: a choice that is not a class, or several choices where one is wanted.

    Example:
        >>> said = [Annotation(who, _NEVER, False, False, (what,)) for who, what in zip("abc", ["cat", "dog", "cat"])]
        >>> task = AnnotatedTask("task 1", ("3", "1"), "a.png", None, _NEVER, tuple(said))
        >>> verdict([task], ["dog", "cat"], multilabel=False)
        1
    """
    said = [(task, annotation) for task in tasks for annotation in task.annotations]
    truths = [(task, annotation) for task, annotation in said if annotation.ground_truth and not annotation.skipped]
    last: dict[Any, tuple[AnnotatedTask, Annotation]] = {}
    for place, (task, annotation) in enumerate(sorted(truths or said, key=lambda pair: pair[1].updated)):
        last[place if annotation.author is None else annotation.author] = (task, annotation)
    votes: Counter[Any] = Counter()
    for task, annotation in last.values():
        if not annotation.skipped:
            label = _label(task, annotation, names, multilabel)
            votes.update([] if label is None else [label])
    if not votes:
        return SKIP if any(annotation.skipped for _, annotation in last.values()) else PENDING
    label, count = votes.most_common(1)[0]
    return label if 2 * count > votes.total() else DISPUTED


def _label(
    task: AnnotatedTask, annotation: Annotation, names: Sequence[str], multilabel: bool
) -> int | tuple[int, ...] | None:
    if annotation.choices is None:
        return (0,) * len(names) if multilabel else None
    known = {tidy(name): place for place, name in enumerate(names)}
    chosen = list(dict.fromkeys(tidy(writable(choice)) for choice in annotation.choices))
    unknown = [choice for choice in chosen if choice not in known]
    if unknown:
        raise MalformedError(f"{task.where} has the label {unknown[0]!r}, but the classes are {_few(names)}")
    places = [known[choice] for choice in chosen]
    if multilabel:
        return tuple(int(place in places) for place in range(len(names)))
    if len(places) > 1:
        raise MalformedError(
            f"{task.where} has the labels {_few(chosen)}, but a point has one (`LabelStudioOracle(multilabel=True)` "
            "takes several)"
        )
    return places[0] if places else None


def _task(row: Any, where: str, key: tuple[str, str], from_name: str) -> AnnotatedTask:
    if not isinstance(row, Mapping):
        raise MalformedError(f"expected a task, but got {reprlib.repr(row)}")
    is_full = "data" in row
    shown = row["data"] if is_full else row
    if not isinstance(shown, Mapping):
        raise MalformedError(f"expected `data` to be an object, but got {reprlib.repr(shown)}")
    annotations = row.get("annotations", row.get("completions", [])) if is_full else _of_row(row, from_name)
    if not isinstance(annotations, list):
        raise MalformedError(f"expected `annotations` to be a list, but got {reprlib.repr(annotations)}")
    read = [_annotation(annotation, from_name) for annotation in annotations]
    id_ = shown.get(ID)
    return AnnotatedTask(
        where=where,
        key=key,
        id=None if id_ is None else str(id_),
        content=None if shown.get(ITEM) is None else str(shown[ITEM]),
        updated=max([_time(row.get("updated_at")), *(annotation.updated for annotation, _ in read)]),
        annotations=tuple(annotation for annotation, _ in read),
        others=frozenset[str]().union(*(others for _, others in read)),
    )


def _of_row(row: Mapping[str, Any], from_name: str) -> list[Any]:
    """The annotation that a row of JSON-MIN holds, in the shape that the full export has."""
    if row.get("annotation_id") is None:  # the task was not annotated
        return []
    chosen = row.get(from_name, [])
    if isinstance(chosen, Mapping):
        chosen = chosen.get("choices")
    choices = [chosen] if isinstance(chosen, str) else chosen
    result = {"type": "choices", "from_name": from_name, "value": {"choices": choices}}
    return [
        {
            "completed_by": row.get("annotator"),
            "updated_at": row.get("updated_at"),
            "result": [result] if from_name in row else [],
        }
    ]


def _annotation(annotation: Any, from_name: str) -> tuple[Annotation, frozenset[str]]:
    if not isinstance(annotation, Mapping) or not isinstance(annotation.get("result"), list):
        raise MalformedError(f"expected an annotation with a `result`, but got {reprlib.repr(annotation)}")
    choices: list[str] | None = None
    others = set()
    for part in annotation["result"]:
        if not isinstance(part, Mapping):
            raise MalformedError(f"expected a part of a result, but got {reprlib.repr(part)}")
        if part.get("type") != "choices":
            continue
        if part.get("from_name") != from_name:
            others.add(str(part.get("from_name")))
            continue
        value = part.get("value")
        chosen = value.get("choices") if isinstance(value, Mapping) else None
        if not isinstance(chosen, list) or not all(isinstance(choice, str) for choice in chosen):
            raise MalformedError(f"expected a list of choices, but got {reprlib.repr(value)}")
        choices = [*(choices or []), *chosen]
    author = annotation.get("completed_by")
    if isinstance(author, Mapping):
        author = author.get("id", author.get("email"))
    read = Annotation(
        author=None if author is None else str(author),
        updated=_time(annotation.get("updated_at")),
        skipped=bool(annotation.get("was_cancelled", annotation.get("skipped", False))),
        ground_truth=bool(annotation.get("ground_truth", False)),
        choices=None if choices is None else tuple(choices),
    )
    return read, frozenset(others)


def _together(first: AnnotatedTask, second: AnnotatedTask) -> AnnotatedTask:
    """One task of two rows."""
    return AnnotatedTask(
        first.where,
        first.key,
        first.id,
        first.content,
        max(first.updated, second.updated),
        first.annotations + second.annotations,
        first.others | second.others,
    )


def _time(value: Any) -> datetime.datetime:
    """A time as text, or as seconds or milliseconds since 1970, as a number or as text."""
    if value is None or value == "":
        return _NEVER
    text = str(value).strip()
    try:
        if not isinstance(value, bool) and _NUMBER.fullmatch(text):
            seconds = float(text)
            return datetime.datetime.fromtimestamp(
                seconds / 1000 if seconds > _MILLISECONDS else seconds, datetime.timezone.utc
            )
        whole = _FRACTION.sub(lambda found: f".{found[1][:6]:0<6}", text.replace("Z", "+00:00"))
        time = datetime.datetime.fromisoformat(whole)
    except (ValueError, OverflowError, OSError):
        raise MalformedError(f"expected a time, but got {reprlib.repr(value)}") from None
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names[:10]))}{', ...' if len(names) > 10 else ''}"
