"""Which folder a run writes into: the one it began with, one that the user names, or a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_diffal._lightning import pl, rank_zero_warn
from lightning_diffal.exceptions import ConfigurationError, ResumeError
from lightning_diffal.history.folder import INITIAL, RunFolder, new_run_id
from lightning_diffal.run.context import RunContext
from lightning_diffal.utils.storage.files import check_writable

__all__ = ["initial_folder", "open_run_folder"]


def open_run_folder(
    context: RunContext, trainer: pl.Trainer, saved: dict[str, Any] | None, *, resumes: bool
) -> RunFolder:
    """The folder of the run that begins or goes on, on the process that writes.

    Args:
        context: the run, its state restored where there is a checkpoint.
        trainer: its `default_root_dir` holds the folders of runs that were given none.
        saved: what the checkpoint says of its folder; `None` without a checkpoint, or where it had none.
        resumes: whether there is a checkpoint.

    Raises:
        ConfigurationError: a folder that is not local.
        StorageError: a folder that cannot be written to.
        ResumeError: the folder holds the journal of another run or data set.
    """
    if context.settings.run_dir:
        check_writable(context.settings.run_dir, "ActiveLearning(run_dir=...)")
    if resumes and (saved is None or context.settings.on_journal_ahead == "branch"):
        return _begin(context, trainer)
    found = _find(context, trainer, saved)
    if found is None:
        if saved is not None:
            rank_zero_warn(
                f"The journal of run {saved['run']} was not found (it was in {saved['folder']}): labels given after "
                "this checkpoint was written are not known, and may be asked again. Give its folder as `run_dir`."
            )
        return _begin(context, trainer, None if saved is None else saved["run"])
    found.journal.rewind(1 if saved is None else saved["lines"])
    return found


def initial_folder(context: RunContext, trainer: pl.Trainer, saved: dict[str, Any]) -> Path | None:
    """The folder with the weights that every round starts from, where a checkpoint leaves them to it.

    `None` where it is gone, and `reset="warm"` goes on from the weights of the checkpoint.

    Args:
        context: the run.
        trainer: its `default_root_dir` holds the folders of runs that were given none.
        saved: the run as the checkpoint holds it, without these weights.

    Raises:
        ResumeError: they are not there any more.
    """
    then, run_dir = saved["journal"], context.settings.run_dir
    places = [Path(then["folder"])]
    if "://" not in str(trainer.default_root_dir):
        places.append(_own(trainer, then["run"]))
    if run_dir:
        places.append(Path(run_dir))
    place = next((path for path in places if (path / INITIAL).exists()), None)
    if place is None and not (context.settings.reset == "warm" and context.state.has_trained):
        raise ResumeError(
            f"The weights that every round of run {then['run']} starts from are in its folder and not in each "
            f"checkpoint, and {places[0] / INITIAL} is not there: give the folder where it is now as "
            "`ActiveLearning(run_dir=...)`, or put it back. Without it, `reset='warm'` goes on from the weights of the "
            "checkpoint, with all of its labels; its rounds are others than those of this run."
        )
    return place


def _begin(context: RunContext, trainer: pl.Trainer, run: str | None = None) -> RunFolder:
    """Make the folder of a new run, with the labels that it begins with."""
    run = run or new_run_id()
    path, data = _folder(context, trainer, run), context.data
    header = {
        "run": run,
        "n_points": len(data.pool),
        "num_classes": data.num_classes,
        "class_names": None if data.class_names is None else [str(name) for name in data.class_names],
        "seed": context.state.seed,
        "data": data.keep(),
        "fingerprint": context.fingerprint,
    }
    return RunFolder.begin(path, header)


def _find(context: RunContext, trainer: pl.Trainer, saved: dict[str, Any] | None) -> RunFolder | None:
    """The folder of a run that began earlier, if it is there."""
    run_dir, data = context.settings.run_dir, context.data
    places = [Path(run_dir)] if run_dir else []
    if saved is not None and not places:
        places = [Path(saved["folder"]), _folder(context, trainer, saved["run"])]
    folder = RunFolder.find(places)
    if folder is None:
        return None
    header = folder.journal.header
    if saved is not None and folder.journal.run != saved["run"]:
        raise ResumeError(
            f"{folder.path} holds the journal of run {folder.journal.run}, but the checkpoint is of run "
            f"{saved['run']}: give the `run_dir` of that run, or none."
        )
    if not data.has_points_of(header["data"]):
        raise ResumeError(
            f"{folder.path} holds the journal of a run on another data set ({header['n_points']} points, this one has "
            f"{len(data.pool)}): give another `run_dir`, or the data set that the run began with."
        )
    return folder


def _folder(context: RunContext, trainer: pl.Trainer, run: str) -> Path:
    if context.settings.run_dir:
        return Path(context.settings.run_dir)
    if "://" in str(trainer.default_root_dir):
        raise ConfigurationError(
            f"The journal of labels needs a local folder, but `default_root_dir` is {trainer.default_root_dir!r}: give "
            "`ActiveLearning(run_dir=...)`, or `run_dir=False` to keep no journal."
        )
    check_writable(trainer.default_root_dir, "Trainer(default_root_dir=...)")
    return _own(trainer, run)


def _own(trainer: pl.Trainer, run: str) -> Path:
    """Where a run writes that was given no folder."""
    return Path(trainer.default_root_dir) / "active" / run
