"""Thumbnails that are made once, kept in a folder of bounded size."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from lightning_diffal.utils.storage.files import replacing
from lightning_diffal.view.shown import Shown

__all__ = ["Thumbnails"]

_LIMIT = 256 * 2**20
_KEPT = 0.8  # share of the limit that is left after a clean-up


class Thumbnails:
    """Makes thumbnails and keeps them as files, those that were used last.

    Args:
        folder: for the files, such as `thumbnails` in the folder of a run.
        limit: bytes that the files may take together; the least recently used ones go first.

    Example:
        >>> import tempfile, numpy as np
        >>> from lightning_diffal.view import ItemView
        >>> shown = ItemView().show(0, np.zeros((8, 8)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     thumbnails = Thumbnails(Path(folder))
        ...     first = thumbnails.png("0", shown, 64)
        ...     again = thumbnails.png("0", shown, 64) == first
        ...     files = len(list(Path(folder).iterdir()))
        >>> again, files
        (True, 1)
    """

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._size: int | None = None

    def png(self, key: str, shown: Shown, size: int = 256) -> bytes | None:
        """The thumbnail of an item, as PNG; `None` where there is no image.

        Args:
            key: of the item and of everything that changes how it looks; it never becomes part of a path.
            shown: the item.
            size: in pixels.
        """
        if shown.load_image is None:
            return None
        name = hashlib.sha256(f"{key}\0{shown.path}\0{shown.version}\0{size}".encode()).hexdigest()[:40]
        path = self.folder / f"{name}.png"
        with suppress(OSError):
            content = path.read_bytes()
            os.utime(path)  # used now
            return content
        made = shown.thumbnail(size)
        assert made is not None, "there is an image"
        with suppress(OSError):  # a full disk makes it slow, not wrong
            with replacing(path) as temporary:
                temporary.write_bytes(made)
            self._count(len(made))
        return made

    def _count(self, added: int) -> None:
        if self._size is None:
            self._size = sum(path.stat().st_size for path in self.folder.glob("*.png"))
        else:
            self._size += added
        if self._size <= self.limit:
            return
        files = sorted(((path, path.stat()) for path in self.folder.glob("*.png")), key=lambda pair: pair[1].st_mtime)
        left = sum(about.st_size for _, about in files)
        for path, about in files:
            if left <= self.limit * _KEPT:
                break
            path.unlink(missing_ok=True)
            left -= about.st_size
        self._size = left
