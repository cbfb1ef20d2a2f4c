"""The folder of a run: its journal, and its state at the border of the last round."""

from __future__ import annotations

import secrets
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_diffal._lightning import pl, rank_zero_warn
from lightning_diffal.exceptions import ConfigurationError, ResumeError
from lightning_diffal.history.journal import FILENAME, Journal, storing
from lightning_diffal.history.lines import read_journal
from lightning_diffal.utils.environment import environment, package_version
from lightning_diffal.utils.files import remove_temporaries, replacing

if TYPE_CHECKING:
    from lightning_diffal.callback import ActiveLearning

__all__ = ["STATE", "RunFolder", "open_run_folder"]

STATE = "state.ckpt"
"""The file that holds the state."""


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
    def begin(cls, active: ActiveLearning, trainer: pl.Trainer, run: str | None = None) -> RunFolder:
        """Make the folder of a new run, with the labels that it begins with.

        Args:
            active: the run.
            trainer: its `default_root_dir` holds folders of runs that were given none.
            run: its id; a new one by default.

        Raises:
            ConfigurationError: a folder that is not local.
        """
        run = run or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        path = _folder(active, trainer, run)
        data = active.data
        header = {
            "run": run,
            "version": package_version(),
            "environment": environment(),
            "n_points": len(data.pool),
            "num_classes": data.num_classes,
            "class_names": None if data.class_names is None else [str(name) for name in data.class_names],
            "seed": active.state.seed,
            "data": data.keep(),
            "fingerprint": active.fingerprint,
        }
        found = cls(path, Journal.create(path / FILENAME, header))
        found.clean()
        return found

    @classmethod
    def find(cls, active: ActiveLearning, trainer: pl.Trainer, saved: dict[str, Any] | None) -> RunFolder | None:
        """The folder of a run that began earlier, if it is there.

        Args:
            active: the run.
            trainer: its `default_root_dir` holds folders of runs that were given none.
            saved: what a checkpoint says of its folder; `None` without a checkpoint, where only an explicit
                `run_dir` is looked at.

        Raises:
            ResumeError: the journal belongs to another run or data set.
        """
        places = [Path(active.run_dir)] if active.run_dir else []
        if saved is not None and not places:
            places = [Path(saved["folder"]), _folder(active, trainer, saved["run"])]
        path = next((place for place in places if (place / FILENAME).exists()), None)
        if path is None or _never_began(path):
            return None
        journal = Journal.open(path / FILENAME)
        header, data = journal.header, active.data
        if saved is not None and journal.run != saved["run"]:
            raise ResumeError(
                f"{path} holds the journal of run {journal.run}, but the checkpoint is of run {saved['run']}: give the "
                "`run_dir` of that run, or none."
            )
        if not data.has_points_of(header["data"]):
            raise ResumeError(
                f"{path} holds the journal of a run on another data set ({header['n_points']} points, this one has "
                f"{len(data.pool)}): give another `run_dir`, or the data set that the run began with."
            )
        return cls(path, journal)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint has to know to find this folder again, and the place in the journal."""
        return {"run": self.journal.run, "folder": str(self.path.absolute()), "lines": self.journal.position}

    @property
    def has_state(self) -> bool:
        """Whether a state was kept."""
        return (self.path / STATE).exists()

    def save(self, contents: dict[str, Any]) -> None:
        """Keep the state at the border of a round, in place of the last one.

        Raises:
            StorageError: it cannot be written; the last one is as it was.
        """
        with storing(self.path / STATE), replacing(self.path / STATE) as temporary, temporary.open("wb") as file:
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
        contents = load_archive(path, _INSTEAD)
        try:
            run = contents["active_learning"]["journal"]["run"]
        except (KeyError, TypeError, IndexError):
            raise ResumeError(f"{path} holds no state of a run. {_INSTEAD}") from None
        if run != self.journal.run:
            raise ResumeError(
                f"{path} is the state of run {run}, but the journal beside it is of run {self.journal.run}: put the "
                f"two of one run together. {_INSTEAD}"
            )
        found: dict[str, Any] = contents
        return found

    def clean(self) -> None:
        """Take away what writers left that were killed while they wrote. Only for the one that writes."""
        for name in (STATE, FILENAME):
            remove_temporaries(self.path / name)


_INSTEAD = (
    "Restore it from a backup, or take it out of the folder: the run is then trained again from its first round, with "
    "every query and label of its journal, and nothing is asked twice."
)


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
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK" or zipfile.is_zipfile(path)
        wrong = None
        if is_archive:
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


def _folder(active: ActiveLearning, trainer: pl.Trainer, run: str) -> Path:
    if active.run_dir:
        return Path(active.run_dir)
    if "://" in str(trainer.default_root_dir):
        raise ConfigurationError(
            f"The journal of labels needs a local folder, but `default_root_dir` is {trainer.default_root_dir!r}: give "
            "`ActiveLearning(run_dir=...)`, or `run_dir=False` to keep no journal."
        )
    return Path(trainer.default_root_dir) / "active" / run


def open_run_folder(
    active: ActiveLearning, trainer: pl.Trainer, saved: dict[str, Any] | None, *, resumes: bool
) -> RunFolder:
    """The folder of the run that `active` begins or goes on with, on the process that writes.

    Args:
        active: the run, its state restored where there is a checkpoint.
        trainer: in a fit.
        saved: what the checkpoint says of its folder; `None` without a checkpoint, or where it had none.
        resumes: whether there is a checkpoint.
    """
    if resumes and (saved is None or active.on_journal_ahead == "branch"):
        return RunFolder.begin(active, trainer)
    found = RunFolder.find(active, trainer, saved)
    if found is None:
        if saved is not None:
            rank_zero_warn(
                f"The journal of run {saved['run']} was not found (it was in {saved['folder']}): labels given after "
                "this checkpoint was written are not known, and may be asked again. Give its folder as `run_dir`."
            )
        return RunFolder.begin(active, trainer, None if saved is None else saved["run"])
    found.clean()
    found.journal.rewind(1 if saved is None else saved["lines"])
    return found
