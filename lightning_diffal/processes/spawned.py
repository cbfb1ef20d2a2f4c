"""From processes that live for one fit back to the process that the user works in.

`ddp_spawn`, `ddp_fork` and `ddp_notebook` train copies of the objects that `fit` was given, in child processes.
Lightning brings back weights and metrics, and calls nothing of ours in the parent. So a child leaves what it learned in
a file that both know, and the parent takes it when somebody looks.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

__all__ = ["Handback"]


class Handback:
    """One object's way home. Copies of it in child processes know the same file; a deep copy has another one.

    Example:
        >>> handback = Handback()
        >>> handback.take() is None, handback.is_away
        (True, False)
    """

    def __init__(self) -> None:
        self.home = os.getpid()
        self.path = Path(tempfile.gettempdir()) / f"lightning-diffal-{secrets.token_hex(16)}.pt"
        self.last: dict[str, Any] | None = None
        """What was read last."""
        weakref.finalize(self, _discard, self.path, self.home)  # also at exit, where nobody looked

    def __deepcopy__(self, memo: dict[int, Any]) -> Handback:
        return Handback()

    @property
    def is_away(self) -> bool:
        """Whether this is a child of the process that the object was made in."""
        return os.getpid() != self.home and os.getppid() == self.home

    def leave(self, contents: dict[str, Any]) -> None:
        """In a child: put down what the parent should know, in place of what an earlier child left.

        Args:
            contents: tensors, numbers, strings, lists and dicts only.
        """
        if not self.is_away:
            return
        # made by mkstemp, so that nobody else may read it
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix="lightning-diffal-", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            torch.save(contents, file)
        Path(temporary).replace(self.path)

    def take(self) -> dict[str, Any] | None:
        """In the parent: what a child left, once; `None` where nothing is new."""
        if os.getpid() != self.home or not self.path.exists():
            return None
        contents = self._read()
        self.path.unlink()
        return contents

    def peek(self) -> dict[str, Any] | None:
        """In a child: what an earlier one left, if the parent has not looked at it."""
        return self._read() if self.is_away and self.path.exists() else None

    def _read(self) -> dict[str, Any]:
        contents: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        self.last = contents
        return contents


def _discard(path: Path, home: int) -> None:
    if os.getpid() == home:  # a forked child knows of it too
        path.unlink(missing_ok=True)
