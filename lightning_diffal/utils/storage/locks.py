"""One writer at a time: an advisory lock on a file, which the operating system lets go when its process dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

__all__ = ["FileLock"]

_NOT_SUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}
_NAP = 0.1  # seconds between two attempts
_LOCKED_BYTE = 1 << 30  # behind whatever is written there, since Windows lets nobody read what is locked


class FileLock:
    """A lock of this process on a file. The file stays where it is; only the lock on it comes and goes.

    It is a POSIX record lock (on Windows a locked byte): child processes do not inherit it, so that a loader's workers
    which outlive a killed process keep nobody out, and it works over NFS where the server runs a lock service. Within
    one process nobody is kept out: who acquires it last has it.

    Args:
        path: of the file; missing folders are made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lock = FileLock(Path(folder) / "writer.lock")
        ...     lock.acquire(), lock.is_held, lock.release(), lock.is_held
        (True, True, None, False)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_supported = True
        """Whether the file system can lock; where it cannot, `acquire` succeeds and keeps nobody out."""

    @property
    def is_held(self) -> bool:
        """Whether this process holds it, by this object."""
        held = _HELD.get(self._key)
        return held is not None and held.owner is self and held.process == os.getpid()

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock, unless another process has it.

        Args:
            timeout: seconds to go on trying.

        Returns:
            Whether this object holds it now.

        Raises:
            OSError: the file cannot be opened.
        """
        held = _HELD.get(self._key)
        if held is not None and held.process == os.getpid():
            held.owner = self  # opened once: closing any other file object on it would let go of the lock
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("r+b" if self.path.exists() else "w+b", buffering=0)
        if not self._lock(file, time.monotonic() + timeout):
            file.close()
            return False
        _HELD[self._key] = _Held(self, file, os.getpid())
        told = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with contextlib.suppress(OSError):  # a full disk, say: the lock holds all the same
            file.truncate(0)
            file.write(json.dumps(told).encode())
        return True

    def release(self) -> None:
        """Let go of the lock, if this object holds it."""
        if not self.is_held:
            return
        file = _HELD.pop(self._key).file
        with contextlib.suppress(OSError):
            _unlock(file)
        with contextlib.suppress(OSError):
            file.close()

    def holder(self) -> str:
        """Who said last that it took the lock, in words, for the message of somebody who could not."""
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            return f"process {int(told['process'])} on {str(told['host'])[:100]}, since {str(told['since'])[:30]}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a process that did not say its name"

    @property
    def _key(self) -> str:
        return os.path.realpath(self.path)

    def _lock(self, file: FileIO, deadline: float) -> bool:
        while True:
            try:
                _lock(file)
                return True
            except OSError as error:
                if error.errno in _NOT_SUPPORTED:
                    self.is_supported = False
                    return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_NAP)


@dataclass
class _Held:
    owner: FileLock
    file: FileIO
    process: int  # a forked child has a copy of this, and not the lock


_HELD: dict[str, _Held] = {}  # by the real path


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def _lock(file: FileIO) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        file.seek(0)

    def _unlock(file: FileIO) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:
    import fcntl

    def _lock(file: FileIO) -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: FileIO) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN)
