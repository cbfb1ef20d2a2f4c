"""Items to label before there is a run: a folder of images, or a file of questions as `diffal select` writes it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.oracle.page.board import Board, labelled
from lightning_diffal.oracle.page.cards import PROJECT, key_of, write_json
from lightning_diffal.oracle.page.source import reason_words
from lightning_diffal.spreadsheets.read import Problems, Row, read_table
from lightning_diffal.utils.storage.files import write_csv
from lightning_diffal.view import ItemView, Shown, Thumbnails
from lightning_diffal.view.sounds import AUDIO_TYPES

__all__ = ["FilesBoard", "files_below"]

_IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
_SIZES = {"item": 1024, "thumb": 128}
_NUMBERS = re.compile(r"(\d+)")
_REST = 1.0  # seconds between two writings of the table


class FilesBoard(Board):
    """Images of a folder, or the rows of a file of questions; labels go into a table that other tools read.

    Answers are kept beside the table, in `OUT.diffal`, the moment they are given; the table follows within a second.

    Args:
        out: the table: `id`, `label` (class names, several separated by `|`; `?` where nobody can tell), `note`.
        classes: names to begin with; more can be added on the page.
        images: a folder, whose images and recordings are shown.
        query: a file of questions: only what it asks is shown, in its order, with its suggestions; text from its
            column `text`. Files are looked for in `images` only, by the names there.
        multilabel: whether an item may have several classes.
        suggest: whether suggestions are shown before the answer.

    Raises:
        ConfigurationError: nothing to label, or a table that something else wrote.
        AnswerFileError: a file of questions that cannot be read.
    """

    def __init__(
        self,
        out: Path,
        classes: Sequence[str],
        *,
        images: Path | None = None,
        query: Path | None = None,
        multilabel: bool = False,
        suggest: bool = True,
    ) -> None:
        names = [" ".join(name.split()) for name in classes]
        if not names or not all(names) or len(set(names)) != len(names):
            raise ConfigurationError(f"Expected the classes to be different names, but got {list(classes)}.")
        folder = out.with_name(f"{out.name}.diffal")
        title = (query or images or out).name
        project = {"title": title, "classes": names, "num_classes": None, "multilabel": multilabel, "suggest": suggest}
        _check_kept(out, folder, project)
        super().__init__(folder, project)
        self.out = out
        self._thumbnails = Thumbnails(folder / "thumbnails")
        self._view = ItemView()
        self._paths = files_below(images) if images is not None else {}
        self._wants_writing = threading.Event()
        self._closed = threading.Event()
        self._writer: threading.Thread | None = None
        rows = None if query is None else _rows(query)
        if rows is None:
            for id_ in self._paths:
                self.add_card(self._card(id_, {}))
        else:
            for row in rows:
                self.add_card(self._asked(row, query))
        if not self.order:
            raise ConfigurationError(f"There is nothing to label in {query or images}.")
        write_json(folder / PROJECT, project)
        self.log.repair()
        self.log.read()

    def _asked(self, row: Row, query: Path | None) -> dict[str, Any]:
        id_ = row.text("id") or row.text("index")
        text = row.text("text")
        name = next((n for n in (id_, row.text("path")) if n in self._paths), None)
        if name is None and not text:
            raise ConfigurationError(
                f"{query}, line {row.line}: {id_!r} has nothing to show: it is not a file in the folder given with "
                "--images, and has no column `text`. Give the folder in which the files lie, or that column (`diffal "
                "select` takes it over from its --ids table)."
            )
        names = {c: place for place, c in enumerate(self.project["classes"])}
        suggested = [part for part in row.text("suggested_label").split("|") if part in names]
        card = self._card(id_, {"text": text or None}, name)
        card["suggestion"] = [names[part] for part in suggested] or None
        try:
            card["confidence"] = float(row.text("confidence"))
        except ValueError:
            card["confidence"] = None
        card["why"] = reason_words(row.text("why") or None)
        nearest, label = row.text("nearest_id"), row.text("nearest_label")
        if nearest and label and all(part in names for part in label.split("|")):
            shown = self._card(nearest, {}, nearest if nearest in self._paths else None)
            card["examples"] = [{**shown, "classes": [names[part] for part in label.split("|")]}]
        return card

    def _card(self, id_: str, fields: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
        name = id_ if name is None and id_ in self._paths else name
        path = None if name is None else self._paths[name]
        kind = "text" if path is None else "audio" if path.suffix.lower() in AUDIO_TYPES else "image"
        words = {"text": fields.get("text") or id_, "image": f"image {id_}", "audio": f"recording {id_}"}[kind]
        return {
            "key": key_of(id_),
            "id": id_,
            "kind": kind,
            "alt": words[:80],
            "text": words if kind == "text" else id_,
            "rows": [],
            "media": None if name is None else {"name": name},
            "suggestion": None,
            "confidence": None,
            "why": "",
            "examples": [],
        }

    def media(self, key: str, part: str) -> tuple[bytes, str] | None:
        """See `Board.media`."""
        card = self.cards.get(key)
        if card is not None and part.isdecimal():
            card = card["examples"][int(part)] if int(part) < len(card["examples"]) else None
        if card is None or card["media"] is None:
            return None
        path = self._paths[card["media"]["name"]]
        try:
            shown: Shown = self._view.show(0, path)
            if shown.kind == "audio":
                return shown.audio()
            png = self._thumbnails.png(card["id"], shown, _SIZES.get(part, 320))
        except ConfigurationError:  # broken, or gone: the page says that it cannot be shown
            return None
        return None if png is None else (png, "image/png")

    # ---------------------------------------------------------------------------------------------------- the table

    def changed(self) -> None:
        """See `Board.changed`."""
        self._wants_writing.set()
        if self._writer is None:
            self._writer = threading.Thread(target=self._keep_writing, name="diffal-table", daemon=True)
            self._writer.start()

    def _keep_writing(self) -> None:
        while not self._closed.wait(_REST):
            if self._wants_writing.is_set():
                self.write()

    def write(self) -> int:
        """Write the table now. Returns how many labels it holds."""
        self._wants_writing.clear()
        with self._lock:
            rows = []
            for card, point in labelled(self):
                names = None if point.label is None else [self.classes[c] for c in point.label]
                said = "?" if point.status == "skipped" else None if names is None else "|".join(names) or "[]"
                if said is not None or point.note:
                    rows.append((card["id"], said or "", point.note))
        write_csv(self.out, ["id", "label", "note"], rows)
        return sum(1 for _, said, _ in rows if said)

    def close(self) -> int:
        """Write the table for the last time. Returns how many labels it holds."""
        self._closed.set()
        if self._writer is not None:
            self._writer.join()
        return self.write()


def files_below(folder: Path) -> dict[str, Path]:
    """Images and recordings in a folder and those below, by their names in it, in the order in which people count.

    Args:
        folder: hidden files and folders in it are left out.

    Raises:
        ConfigurationError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"Expected --images to be a folder, but {folder} is not one.")
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix.lower() in _IMAGES | AUDIO_TYPES.keys() and not is_hidden and path.is_file():
            found[name.as_posix()] = path
    order = sorted(found, key=lambda name: [int(p) if p.isdecimal() else p for p in _NUMBERS.split(name)])
    return {name: found[name] for name in order}


def _rows(query: Path) -> list[Row]:
    problems = Problems()
    table = read_table(query, problems, needs_label=False)
    problems.check()
    return table.rows


def _check_kept(out: Path, folder: Path, project: Mapping[str, Any]) -> None:
    """A table is never taken over from something else, and classes keep their places."""
    try:
        before = json.loads((folder / PROJECT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if out.exists():
            raise ConfigurationError(
                f"{out} exists, and was not written by this command: it is not overwritten. Give another --out."
            ) from None
        return
    except ValueError:
        raise ConfigurationError(f"{folder / PROJECT} is not whole: give another --out.") from None
    kept, now = before.get("classes", []), project["classes"]
    if now != kept or before.get("multilabel") != project["multilabel"]:
        raise ConfigurationError(
            f"{out} was begun with --classes {','.join(kept)}{' --multilabel' if before.get('multilabel') else ''}"
            ": go on with the same ones (more can be added on the page), or give another --out."
        )
