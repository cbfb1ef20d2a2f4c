"""What a run writes down as it goes, and what it reads back instead of doing it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_diffal._lightning import is_rehearsal, pl, rank_zero_info
from lightning_diffal.data.fingerprint import check_fingerprint
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.folder import read_initial
from lightning_diffal.labels.class_order import class_moves
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.resuming.checkpoint import KEY, restore_run, run_contents
from lightning_diffal.run.resuming.class_order import in_class_order
from lightning_diffal.run.resuming.parts import read_parts, write_parts
from lightning_diffal.run.resuming.run_folder import initial_folder, open_run_folder
from lightning_diffal.run.resuming.run_journal import RunJournal
from lightning_diffal.run.resuming.sameness import warn_of_changes
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.modules import holds_parts, is_split, put_weights, weights_of

__all__ = ["Recorder"]


class Recorder:
    """The run's folder, seen from any process: the first one reads and writes, all apply the same.

    Args:
        context: the run, whose `folder` is `None` on other processes, and where nothing is written.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context

    def open(self, trainer: pl.Trainer, module: pl.LightningModule, saved: dict[str, Any] | None) -> None:
        """Find or make the run's folder; without a checkpoint, go on from what it kept.

        Args:
            trainer: in a fit.
            module: the model; without a checkpoint it gets the weights that the folder kept.
            saved: what the checkpoint holds of the run, or `None`.

        Raises:
            ResumeError: the folder belongs to another run, data set or number of classes.
        """
        context, data = self.context, self.context.data
        context.folder, context.is_open, context.journal_ids = None, True, {}
        self._take_initial_weights(trainer, module, saved)
        if is_rehearsal(trainer) or context.settings.run_dir is False:
            data.pool.observer = None  # an earlier run's, to which these labels do not belong
            return

        def find() -> tuple[dict[str, Any], dict[str, Any] | None]:
            place = None if saved is None else saved["journal"]
            context.folder = open_run_folder(context, trainer, place, resumes=saved is not None)
            context.folder.initial_id = None if saved is None else saved.get("initial_weights_beside")
            check_fingerprint(data, context.folder.journal.header["fingerprint"])
            kept = context.folder.load() if saved is None else None
            if kept is not None:
                check_fingerprint(data, kept[KEY]["fingerprint"])  # which knows of points labelled later
                context.folder.journal.rewind(kept[KEY]["journal"]["lines"])
            return context.folder.journal.header, kept

        try:
            header, kept = context.ranks.decide(find)
            self._begin(trainer, module, header, kept, saved)
        except BaseException:
            self.release()
            raise
        # one process writes; another may have written in an earlier fit, or hold a copy of one that did
        data.pool.observer = None if context.folder is None else RunJournal(context).record

    def _begin(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        header: dict[str, Any],
        kept: dict[str, Any] | None,
        saved: dict[str, Any] | None,
    ) -> None:
        """Go on from what the folder or the checkpoint holds."""
        context, data = self.context, self.context.data
        began = saved or (header if kept is None else kept[KEY])
        context.journal_ids = {int(index): name for index, name in (began["data"]["pool"]["ids"] or {}).items()}
        if data.num_classes is None:  # a sampler that needs no model output does not tell
            data.num_classes = header["num_classes"]
        if header["num_classes"] not in (None, data.num_classes):
            raise ResumeError(
                f"The run was begun with {header['num_classes']} classes, but now there are {data.num_classes}: give "
                "the model and the data module that it began with."
            )
        first = {"class_names": header.get("class_names"), **header["data"]}  # earlier versions kept names here only
        class_moves(first["class_names"], data.ordered_names)  # refuses others
        if saved is None:
            context.state.seed = header["seed"]
            data.restore(first)
        if kept is not None:
            self._restore(kept, module)
            self._say_what_goes_on()
            warn_of_changes(context, trainer, kept[KEY])

    def _take_initial_weights(
        self, trainer: pl.Trainer, module: pl.LightningModule, saved: dict[str, Any] | None
    ) -> None:
        """Read what every round starts from, where a checkpoint leaves that to the folder of its run.

        Before a folder is made: it would stand where the lost one is put back.
        """
        context = self.context
        if saved is None or context.state.initial_weights is not None or not saved.get("initial_weights_beside"):
            return

        def read() -> tuple[Path, dict[str, Any]] | None:
            folder = initial_folder(context, trainer, saved)
            run, id_ = saved["journal"]["run"], saved["initial_weights_beside"]
            return None if folder is None else (folder, read_initial(folder, run, id_))

        found = context.ranks.decide(read)
        if found is not None:
            folder, initial = found
            self._put_initial(folder, initial["weights"], initial.get("parts"), module)

    def _put_initial(
        self, folder: Path | None, weights: dict[str, Any], parts: dict[str, Any] | None, module: pl.LightningModule
    ) -> None:
        """Remember what every round starts from."""
        context = self.context
        context.state.initial_weights = weights if parts is None else read_parts(context.ranks, folder, parts, module)

    def _say_what_goes_on(self) -> None:
        """An explicit `run_dir` continues, and a person who runs a cell again may not think of it."""
        context, state = self.context, self.context.state
        trained = sum(1 for record in state.history if record.n_labelled)
        rank_zero_info(
            f"Continuing the run in {context.settings.run_dir}: {several(trained, 'round')} trained, "
            f"{several(len(context.data.labelled_indices), 'label')} known. For a new run, give another run_dir."
        )

    def resume(self) -> None:
        """Hold the folder again in a later fit of the same process.

        Raises:
            ResumeError: another process holds it.
        """
        folder = self.context.folder
        self.context.ranks.decide(lambda: None if folder is None else folder.journal.resume())

    def release(self) -> None:
        """Let another process go on with this run."""
        if self.context.folder is not None:
            self.context.folder.journal.release()

    def restore_round_end(self, module: pl.LightningModule) -> bool:
        """Go to where the round that trains had ended, if the folder kept that.

        Args:
            module: gets the weights of then.

        Returns:
            Whether it did.
        """
        context, folder = self.context, self.context.folder

        def find() -> dict[str, Any] | None:
            kept = None if folder is None else folder.load()
            if folder is None or kept is None:
                return None
            then = kept[KEY]
            if then["round"] != context.state.round or then["phase"] not in ("query", "answers"):
                return None
            folder.journal.rewind(then["journal"]["lines"])
            return kept

        kept = context.ranks.decide(find)
        if kept is None:
            return False
        self._restore(kept, module)
        return True

    def _restore(self, kept: dict[str, Any], module: pl.LightningModule) -> None:
        context, folder = self.context, None if self.context.folder is None else self.context.folder.path
        restore_run(context, kept[KEY], context.data)
        if kept.get("initial_parts") is not None:
            self._put_initial(folder, {}, kept["initial_parts"], module)
        weights = kept["state_dict"]
        if kept.get("parts") is not None:
            weights = read_parts(context.ranks, folder, kept["parts"], module)
        try:
            put_weights(module, weights)
        except RuntimeError as error:  # torch lists every weight that does not fit
            raise ResumeError(f"The run was begun with another model than this one: {error}") from error

    def keep(self, module: pl.LightningModule, *, first: bool = False) -> None:
        """Keep the state at the border of a round, from which an explicit `run_dir` goes on.

        Args:
            module: the model, with the weights that the next query will need.
            first: before anything trains; only where nothing is kept yet.
        """
        context, folder, ranks = self.context, self.context.folder, self.context.ranks
        if not ranks.decide(lambda: folder is not None and not (first and folder.has_state)):
            return
        weights: dict[str, Any] = {}
        parts: dict[str, Any] | None = None
        path = None if folder is None else folder.path
        if is_split(module):
            self._keep_initial_parts()
            parts = write_parts(ranks, path, weights_of(module))
        elif folder is not None:
            weights = weights_of(module)
        contents = run_contents(context, gathers=True)

        def save() -> None:
            if folder is not None:
                run = in_class_order(contents, folder.class_names)
                folder.save({KEY: run, "state_dict": weights, "parts": parts})

        ranks.together(save)

    def _keep_initial_parts(self) -> None:
        """Write what every round starts from, where no process holds all of it."""
        context, folder, initial = self.context, self.context.folder, self.context.state.initial_weights
        lacks = context.ranks.decide(lambda: folder is not None and folder.lacks_initial(anew=not folder.has_state))
        if initial is None or not holds_parts(initial) or not lacks:
            return
        parts = write_parts(context.ranks, None if folder is None else folder.path, initial)
        context.ranks.together(lambda: None if folder is None else folder.keep_initial({}, parts))
