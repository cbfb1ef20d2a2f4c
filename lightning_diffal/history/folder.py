"""The folder of a run: its journal, and its state at the border of the last round."""

from __future__ import annotations

import secrets
import shutil
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.journal import FILENAME, Journal, storing
from lightning_diffal.history.lines import read_journal
from lightning_diffal.utils.environment import environment, package_version
from lightning_diffal.utils.storage.files import remove_temporaries, replacing

__all__ = ["INITIAL", "INSTEAD", "PARTS", "STATE", "RunFolder", "new_run_id", "read_initial"]

STATE = "state.ckpt"
"""The file that holds the state."""
INITIAL = "initial.ckpt"
"""The file that holds what every round starts from: once, and not again in each state."""

PARTS = ".parts"
"""How the name of a folder ends that holds weights of a model that is split over processes."""


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
        self.initial_id: str | None = None
        """Of the initial weights in it, where this process has written or read them."""

    @classmethod
    def begin(cls, path: Path, header: dict[str, Any]) -> RunFolder:
        """Make the folder of a new run.

        Args:
            path: the folder.
            header: of the journal: the run's id, its data set and the labels that it begins with.
        """
        written_by = {"version": package_version(), "environment": environment()}
        found = cls(path, Journal.create(path / FILENAME, {**header, **written_by}))
        found.clean()
        return found

    @classmethod
    def find(cls, places: Sequence[Path]) -> RunFolder | None:
        """The first of some folders that holds a journal.

        Args:
            places: where to look, best first.
        """
        path = next((place for place in places if (place / FILENAME).exists()), None)
        if path is None or _never_began(path):
            return None
        found = cls(path, Journal.open(path / FILENAME))
        found.clean()
        return found

    def describe(self) -> dict[str, Any]:
        """What a checkpoint has to know to find this folder again, and the place in the journal."""
        return {"run": self.journal.run, "folder": str(self.path.absolute()), "lines": self.journal.position}

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes in the order by which labels are numbered in this folder, where they have any."""
        header = self.journal.header
        names = header["data"].get("class_names") or header.get("class_names")
        return None if names is None else [str(name) for name in names]

    @property
    def has_state(self) -> bool:
        """Whether a state was kept."""
        return (self.path / STATE).exists()

    def save(self, contents: dict[str, Any]) -> None:
        """Keep the state at the border of a round, in place of the last one.

        Raises:
            StorageError: it cannot be written; the last one is as it was.
        """
        self._write(STATE, {**contents, _KEY: self.without_initial(contents[_KEY], anew=not self.has_state)})
        self._remove_parts(contents.get("parts"))

    def keep_initial(self, weights: dict[str, Any], parts: dict[str, Any] | None = None) -> None:
        """Write what every round starts from, once for all states and checkpoints.

        Args:
            weights: of the model; empty where they are in parts.
            parts: where they are, for a model that is split over processes.
        """
        self.initial_id = secrets.token_hex(8)
        self._write(INITIAL, {"run": self.journal.run, "id": self.initial_id, "weights": weights, "parts": parts})

    def lacks_initial(self, *, anew: bool) -> bool:
        """Whether what every round starts from has to be written.

        Args:
            anew: whether what lies here may be of an earlier start of the run, with other weights.
        """
        return (anew and self.initial_id is None) or not self.has_initial

    def without_initial(self, run: dict[str, Any], *, anew: bool = False) -> dict[str, Any]:
        """The run as a file holds it that can name this folder: its initial weights lie here, once for all of them.

        Args:
            run: as a checkpoint holds it.
            anew: whether what lies here may be of an earlier start of the run, with other weights.

        Raises:
            StorageError: they cannot be written.
        """
        if run["initial_weights"] is None:
            return run
        if self.lacks_initial(anew=anew):
            self.keep_initial(run["initial_weights"])
        elif self.initial_id is None:
            self.initial_weights()
        return {**run, "initial_weights": None, "initial_weights_beside": self.initial_id}

    def _write(self, name: str, contents: dict[str, Any]) -> None:
        path = self.path / name
        with storing(path), replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(contents, file)
            except RuntimeError as error:  # torch's own words for what the system said
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load(self) -> dict[str, Any] | None:
        """The state that was kept last, if any.

        Raises:
            ResumeError: the file is damaged, or of another run.
        """
        path = self.path / STATE
        if not self.has_state:
            return None
        contents = load_archive(path, INSTEAD)
        try:
            run = contents[_KEY]["journal"]["run"]
        except (KeyError, TypeError, IndexError):
            raise ResumeError(f"{path} holds no state of a run. {INSTEAD}") from None
        if run != self.journal.run:
            raise ResumeError(
                f"{path} is the state of run {run}, but the journal beside it is of run {self.journal.run}: put the "
                f"two of one run together. {INSTEAD}"
            )
        found: dict[str, Any] = contents
        if found[_KEY].get("initial_weights_beside"):  # states of earlier versions hold them themselves
            initial = self.initial_weights(found[_KEY].pop("initial_weights_beside"))
            found[_KEY]["initial_weights"], found["initial_parts"] = initial["weights"], initial.get("parts")
        return found

    @property
    def has_initial(self) -> bool:
        """Whether what every round starts from lies here."""
        return (self.path / INITIAL).exists()

    def initial_weights(self, id_: str | None = None) -> dict[str, Any]:
        """What every round starts from, as `read_initial` reads it.

        Args:
            id_: that a state or a checkpoint names.
        """
        found = read_initial(self.path, self.journal.run, id_)
        self.initial_id = found["id"]
        return found

    def _remove_parts(self, used: dict[str, Any] | None) -> None:
        """Take away weights in parts that neither the last state nor the initial weights name."""
        present = [path for path in self.path.glob(f"*{PARTS}") if path.is_dir()]
        if not present:
            return
        initial = load_archive(self.path / INITIAL, INSTEAD).get("parts") if self.has_initial else None
        names = {parts["name"] for parts in (used, initial) if parts}
        for path in present:
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)

    def clean(self) -> None:
        """Take away what writers left that were killed while they wrote. Only for the one that writes."""
        for name in (STATE, INITIAL, FILENAME, *_FOR_REPORTS):
            remove_temporaries(self.path / name)


def read_initial(folder: Path, run: str, id_: str | None = None) -> dict[str, Any]:
    """What every round of a run starts from: `"weights"`, or where their `"parts"` are, and the `"id"` of them.

    Args:
        folder: of the run.
        run: its id.
        id_: that a state or a checkpoint names; `None` takes whatever is there.

    Raises:
        ResumeError: the file is gone, damaged, or another than the one that is named.
    """
    path = folder / INITIAL
    if not path.exists():
        raise ResumeError(f"{path} is gone, which every round of this run starts from. {INSTEAD}")
    kept = load_archive(path, INSTEAD)
    if not isinstance(kept, dict) or kept.get("run") != run:
        raise ResumeError(f"{path} is of another run. {INSTEAD}")
    if id_ not in (None, kept["id"]):
        raise ResumeError(
            f"{path} was written anew since: the run was started again from its first round, with other weights. Go on "
            f"with what it wrote since then. {INSTEAD}"
        )
    return kept


_FOR_REPORTS = ("run.json", "projection.npz", "items.jsonl")
_KEY = "active_learning"  # where a state holds the run, as a checkpoint does
INSTEAD = (
    "Restore it from a backup, or take state.ckpt out of the folder: the run is then trained again from its first "
    "round, with every query and label of its journal, and nothing is asked twice."
)
"""What to do where a file of the folder is damaged or gone."""


def load_archive(path: Path, instead: str = "") -> Any:
    """What `torch.save` wrote, after a look at the checksums in it: torch itself does not look at them.

    Args:
        path: of the file.
        instead: what to do without it.

    Raises:
        ResumeError: it is damaged.
    """
    check_archive(path, instead)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises all kinds of errors for a file that is not what it wrote
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:200]}", instead) from error


def check_archive(path: Path, instead: str = "") -> None:
    """Refuse a file of `torch.save` whose contents are not what was written.

    Args:
        path: of the file. What is not a zip archive is let pass: torch's format of before 1.6 has no checksums.
        instead: what to do without it.

    Raises:
        ResumeError: it is damaged.
    """
    has_checksums = getattr(torch.serialization, "get_crc32_options", lambda: True)  # which a user may turn off
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK" or zipfile.is_zipfile(path)
        wrong = None
        if is_archive and has_checksums():
            with zipfile.ZipFile(path) as archive:
                wrong = archive.testzip()
    except Exception as error:  # of zipfile's: any, for a damaged directory
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:200]}", instead) from error
    if wrong is not None:
        raise _damaged(path, f"the checksum of {wrong!r} in it is wrong", instead)


def _damaged(path: Path, reason: str, instead: str) -> ResumeError:
    return ResumeError(f"{path} is damaged ({reason}). {instead}".rstrip())


def _never_began(path: Path) -> bool:
    """Whether a run was killed while it wrote the header of its journal, before anything was asked.

    Raises:
        ResumeError: the journal was emptied later.
    """
    if read_journal(path / FILENAME).events:
        return False
    if (path / STATE).exists():
        raise ResumeError(
            f"{path / FILENAME} is empty, but {STATE} beside it is of a run that had begun: restore the journal from a "
            f"backup. {STATE} holds the labels up to the end of its round."
        )
    return True
