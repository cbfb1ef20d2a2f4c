"""The folder of a run: its journal, and its state at the border of the last round."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_diffal._lightning import pl, rank_zero_warn
from lightning_diffal.exceptions import ConfigurationError, ResumeError
from lightning_diffal.history.journal import FILENAME, Journal
from lightning_diffal.utils.files import replacing

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
            "n_points": len(data.pool),
            "num_classes": data.num_classes,
            "class_names": None if data.class_names is None else [str(name) for name in data.class_names],
            "seed": active.state.seed,
            "data": data.keep(),
            "fingerprint": active.fingerprint,
        }
        return cls(path, Journal.create(path / FILENAME, header))

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
        if path is None:
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
        """Keep the state at the border of a round, in place of the last one."""
        with replacing(self.path / STATE) as temporary:
            torch.save(contents, temporary)

    def load(self) -> dict[str, Any] | None:
        """The state that was kept last, if any."""
        if not self.has_state:
            return None
        contents: dict[str, Any] = torch.load(self.path / STATE, map_location="cpu", weights_only=True)
        return contents


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
    found.journal.rewind(1 if saved is None else saved["lines"])
    return found
