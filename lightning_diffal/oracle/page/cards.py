"""What the page shows of each point: written by the training into its folder, read by the server."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_diffal.utils.storage.files import replacing
from lightning_diffal.view import Shown
from lightning_diffal.view.images import encode_png, fitted

__all__ = ["CARDS", "EXAMPLE_SIZE", "MEDIA", "PROGRESS", "PROJECT", "CardWriter", "key_of", "read_lines", "write_json"]

CARDS, PROJECT, PROGRESS, MEDIA = "cards.jsonl", "project.json", "progress.json", "media"

_IMAGE_SIZE = 1024  # pixels of an item
EXAMPLE_SIZE = 320  # pixels of a labelled example beside it
_LARGE = 300_000  # bytes of a PNG that JPEG would make much smaller: a photograph
_TEXT = 100_000  # characters


def key_of(id_: str) -> str:
    """What names a point in addresses: nothing of an id reaches a path.

    Example:
        >>> key_of("../../etc/passwd")
        '3754d6cb3a38e1185e5b'
    """
    return hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file at once."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def read_lines(path: Path, start: int) -> tuple[list[Any], int]:
    """The whole JSON lines of a file from a place on, and the place behind them."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], start
    if not newline:
        return [], start
    return [json.loads(line) for line in whole.split(b"\n")], start + len(whole) + 1


class CardWriter:
    """Writes points with their pictures and recordings, each once.

    Args:
        folder: `label` in the folder of a run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cards, _ = read_lines(folder / CARDS, 0)
        self.known = {card["key"] for card in cards}

    def content(self, id_: str, shown: Shown, *, is_example: bool = False) -> dict[str, Any]:
        """What is shown of a point, its picture or recording written beside.

        Args:
            id_: of the point.
            shown: the item.
            is_example: a labelled point beside the one that is asked: a smaller picture does.
        """
        media = pixels = None
        name = f"{key_of(id_)}{'-small' if is_example else ''}"
        if shown.load_image is not None:
            image = shown.image()
            pixels = list(image.size)
            content, suffix, media_type = _picture(image, EXAMPLE_SIZE if is_example else _IMAGE_SIZE)
            media = self._media(name + suffix, media_type, content)
        elif shown.load_audio is not None:
            content, media_type = shown.audio()
            media = self._media(f"{key_of(id_)}.audio", media_type, content)
        return {
            "id": id_,
            "kind": shown.kind,
            "alt": shown.alt,
            "text": None if shown.text is None else shown.text[:_TEXT],
            "rows": [list(row) for row in shown.rows] if shown.kind in ("table", "text") else [],
            "media": media,
            "pixels": pixels,
        }

    def add(self, cards: Iterable[Mapping[str, Any]]) -> None:
        """Append points that are not there yet; they are on the disk when this returns."""
        new = [card for card in cards if card["key"] not in self.known]
        if not new:
            return
        lines = "".join(json.dumps(card, ensure_ascii=False, allow_nan=False) + "\n" for card in new)
        path = self.folder / CARDS
        _cut_half_line(path)
        with path.open("ab") as file:
            file.write(lines.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        self.known |= {card["key"] for card in new}

    def _media(self, name: str, media_type: str, content: bytes) -> dict[str, str]:
        path = self.folder / MEDIA / name
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        return {"file": name, "type": media_type}


def _picture(image: Any, size: int) -> tuple[bytes, str, str]:
    image = fitted(image, size)
    png = encode_png(image)
    if len(png) <= _LARGE or image.mode != "RGB":
        return png, ".png", "image/png"
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=92)
    return content.getvalue(), ".jpg", "image/jpeg"


def _cut_half_line(path: Path) -> None:
    """Of a process that was killed while it wrote."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("rb+") as file:
                file.truncate(whole)
