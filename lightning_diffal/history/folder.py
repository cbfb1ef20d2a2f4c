"""The folder of a run: its journal, and its state at the border of the last round."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_diffal.history.journal import FILENAME, Journal
from lightning_diffal.utils.files import replacing

__all__ = ["STATE", "RunFolder", "new_run_id"]

STATE = "state.ckpt"
"""The file that holds the state."""


def new_run_id() -> str:
    """An id for a run: the time, and some random digits."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


class RunFolder:
    """Where a run writes down what must not be lost.

    Args:
        path: the folder.
        journal: every query and label.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self.journal = journal

    @classmethod
    def begin(cls, path: Path, header: dict[str, Any]) -> RunFolder:
        """Make the folder of a new run.

        Args:
            path: the folder.
            header: of the journal: the run's id, its data set and the labels that it begins with.
        """
        return cls(path, Journal.create(path / FILENAME, header))

    @classmethod
    def find(cls, places: Sequence[Path]) -> RunFolder | None:
        """The first of some folders that holds a journal.

        Args:
            places: where to look, best first.
        """
        path = next((place for place in places if (place / FILENAME).exists()), None)
        return None if path is None else cls(path, Journal.open(path / FILENAME))

    def describe(self) -> dict[str, Any]:
        """What a checkpoint has to know to find this folder again, and the place in the journal."""
        return {"run": self.journal.run, "folder": str(self.path.absolute()), "lines": self.journal.position}

    @property
    def has_state(self) -> bool:
        """Whether a state was kept."""
        return (self.path / STATE).exists()

    def save(self, contents: dict[str, Any]) -> None:
        """Keep the state at the border of a round, in place of the last one."""
        with replacing(self.path / STATE) as temporary:
            torch.save(contents, temporary)

    def load(self) -> dict[str, Any] | None:
        """The state that was kept last, if any."""
        if not self.has_state:
            return None
        contents: dict[str, Any] = torch.load(self.path / STATE, map_location="cpu", weights_only=True)
        return contents
