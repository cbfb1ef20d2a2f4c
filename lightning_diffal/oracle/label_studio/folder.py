"""Label Studio through files: tasks to import there, and exports that came back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.labels.ids import writable
from lightning_diffal.oracle.label_studio.answers import AnnotatedTask, read_export
from lightning_diffal.oracle.label_studio.tasks import ID
from lightning_diffal.spreadsheets.patience import patiently
from lightning_diffal.spreadsheets.unread import is_of_programs
from lightning_diffal.utils.storage.files import replacing

__all__ = ["LabelStudioFolder"]

_READ = (".json", ".csv", ".tsv", ".zip")


class LabelStudioFolder:
    """A folder with `tasks-round-NNN.json`, `label_config.xml` and exports (JSON, CSV, zipped) in `exports`.

    A file of tasks is written once and never changed, so that each can be imported once.

    Args:
        path: of the folder.
        from_name: name of the choices in the project's configuration.
    """

    def __init__(self, path: Path, from_name: str) -> None:
        self.path, self.from_name = path, from_name

    def __str__(self) -> str:
        unread = [f"not read there: {path.name}" for path in self._exports() if path.suffix.lower() not in _READ]
        exports = f"{self.path / 'exports'}{' (' + ', '.join(unread) + ')' if unread else ''}"
        return f"Label Studio (import {self.path / 'tasks-round-*.json'}, put its exports into {exports})"

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that no file of tasks has, in their order.

        Raises:
            AnswerFileError: a file of tasks was changed by hand.
        """
        written = {id_ for path in self.path.glob("tasks-round-*.json") for id_ in _ids(path)}
        return [id_ for id_ in ids if id_ not in written]

    def add(self, tasks: Sequence[Mapping[str, Any]], round_: int, config: str | None) -> None:
        """Write tasks, in this order, and the labelling configuration for a new project.

        Args:
            tasks: that are missing.
            round_: after which they were asked.
            config: XML.
        """
        (self.path / "exports").mkdir(parents=True, exist_ok=True)
        if config is not None:
            _write(self.path / "label_config.xml", config)
        if not tasks:
            return
        first = self.path / f"tasks-round-{round_:03d}.json"
        path, count = first, 2
        while path.exists():
            path, count = first.with_name(f"{first.stem}-{count}.json"), count + 1
        _write(path, json.dumps(tasks, ensure_ascii=False, allow_nan=False, indent=1))

    def annotated(self) -> list[AnnotatedTask]:
        """The tasks of all exports.

        Raises:
            AnswerFileError: a file that is not an export, or not whole.
        """

        def read() -> list[AnnotatedTask]:
            paths = [path for path in self._exports() if path.suffix.lower() in _READ]
            return [task for path in paths for task in read_export(path, self.from_name)]

        return patiently(read, self.path / "exports")

    def _exports(self) -> list[Path]:
        folder = self.path / "exports"
        there = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in there if path.is_file() and not is_of_programs(path.name))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(writable(text), encoding="utf-8")  # JSON reads the escape of half a surrogate pair back


def _ids(path: Path) -> list[str]:
    try:
        return [task["data"][ID] for task in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise AnswerFileError(
            f"{path} is no longer as it was written: restore it, or delete it to have its tasks written again."
        ) from None
