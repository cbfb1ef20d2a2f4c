"""A disk on which the n-th operation goes wrong: it fails, or the process dies before, after or half-way.

Death is an exception after which no operation reaches the disk any more, so that a whole run of deaths fits one
process; `test_resume.py` kills real ones.
"""

import errno
import io
import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock


class Killed(BaseException):
    """The process is dead."""


class FaultyDisk:
    """Counts what is done to files in a folder, and lets one operation go wrong.

    Args:
        folder: other files are left alone.
        mode: `"fail"`, `"half fail"`, `"before"`, `"after"`, `"half"`; with `"count"` nothing goes wrong.
        number: of the operation, from 0.
    """

    def __init__(self, folder, mode="count", number=-1):
        self.folder, self.mode, self.number = Path(folder).resolve(), mode, number
        self.count, self.is_dead, self.descriptors = 0, False, set()

    def step(self, do, half=None):
        if self.is_dead:
            raise Killed
        self.count += 1
        if self.mode == "count" or self.count - 1 != self.number:
            return do()
        if self.mode == "fail":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.mode == "half fail":
            if half is not None:
                half()
            raise OSError(errno.ENOSPC, "No space left on device")
        self.is_dead = True
        if self.mode == "after":
            do()
        elif self.mode == "half" and half is not None:
            half()
        raise Killed

    def holds(self, path):
        return isinstance(path, str | os.PathLike) and self.folder in Path(path).resolve().parents

    @contextmanager
    def installed(self):
        disk, real_open, real_fsync = self, io.open, os.fsync
        real_replace, real_unlink = os.replace, os.unlink

        class File(io.FileIO):
            def write(self, data):
                data = bytes(data)
                whole = super().write
                return disk.step(lambda: whole(data), lambda: whole(data[: len(data) // 2]))

            def truncate(self, size=None):
                cut = super().truncate
                return disk.step(lambda: cut(size))

            def close(self):
                if not self.closed:
                    disk.descriptors.discard(self.fileno())
                super().close()

        def opened(path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **kwargs):
            if not disk.holds(path) or not set(mode) & set("wa+x"):
                return real_open(path, mode, buffering, encoding, errors, newline, **kwargs)
            raw = disk.step(lambda: File(os.fspath(path), mode.replace("b", "").replace("t", "")))
            disk.descriptors.add(raw.fileno())
            if buffering == 0:
                return raw
            binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

        def fsync(descriptor):
            return disk.step(lambda: real_fsync(descriptor)) if descriptor in disk.descriptors else None

        def replace(source, target, **kwargs):
            inside = disk.holds(target)
            return disk.step(lambda: real_replace(source, target, **kwargs)) if inside else real_replace(source, target)

        def unlink(path, **kwargs):
            return disk.step(lambda: real_unlink(path, **kwargs)) if disk.holds(path) else real_unlink(path, **kwargs)

        with (
            mock.patch("io.open", opened),
            mock.patch("os.fsync", fsync),
            mock.patch("os.replace", replace),
            mock.patch("os.unlink", unlink),
        ):
            yield self
