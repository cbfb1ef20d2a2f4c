"""Pictures and recordings in the folder of a run take up no more than so much room."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from lightning_diffal.oracle.page.cards import EXAMPLE_SIZE, MEDIA
from lightning_diffal.utils.storage.files import replacing

__all__ = ["bound_media"]

_LIMIT = 2**30


def bound_media(folder: Path, open_keys: Collection[str], limit: int = _LIMIT) -> None:
    """Where the files take up too much, make those of answered items smaller, the oldest first.

    An answered item is looked at again for a correction only, for which a small picture does; a recording goes. What is
    still open, and the examples beside it, stay as they are.

    Args:
        folder: `label` in the folder of a run.
        open_keys: of points that have no answer yet.
        limit: bytes that all files may take up together.
    """
    files = [(path, path.stat()) for path in (folder / MEDIA).glob("*.*")]
    left = sum(about.st_size for _, about in files)
    for path, about in sorted(files, key=lambda pair: (pair[1].st_mtime_ns, pair[0].name)):
        if left <= limit:
            return
        if path.stem in open_keys or path.stem.endswith("-small") or path.name.startswith("."):
            continue
        with suppress(OSError):  # another process, or a full disk: it is only larger than it might be
            left -= about.st_size - _reduced(path, about.st_mtime)


def _reduced(path: Path, modified: float) -> int:
    """Make a file smaller, or remove it. Returns what it takes up then."""
    from PIL import Image

    if path.suffix == ".audio":
        path.unlink()
        return 0
    with Image.open(path) as image:
        if max(image.size) <= EXAMPLE_SIZE:
            return path.stat().st_size
        kind = image.format
        image.thumbnail((EXAMPLE_SIZE, EXAMPLE_SIZE))
        with replacing(path) as temporary, temporary.open("wb") as file:
            image.save(file, format=kind)
    os.utime(path, (modified, modified))
    return path.stat().st_size
