"""What a run writes down as it goes, and what it reads back instead of doing it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_diffal._lightning import is_rehearsal, pl, rank_zero_info
from lightning_diffal.data.fingerprint import check_fingerprint
from lightning_diffal.exceptions import DiffalError, ResumeError
from lightning_diffal.history.folder import RunFolder, open_run_folder
from lightning_diffal.history.history import moved_query
from lightning_diffal.history.journal import query_event, query_from_event
from lightning_diffal.labels.events import positions_of, replay
from lightning_diffal.labels.targets import parse_label
from lightning_diffal.run.state import RunState, put_weights, weights_of
from lightning_diffal.samplers.base import Query

if TYPE_CHECKING:
    from lightning_diffal.callback import ActiveLearning

__all__ = ["Recorder"]

_KEY = "active_learning"


class Recorder:
    """The run's folder, seen from any process: the first one reads and writes, all apply the same.

    Args:
        active: the run.
        folder: `None` on other processes, and where nothing is written.
    """

    def __init__(self, active: ActiveLearning, folder: RunFolder | None) -> None:
        self.active = active
        self.folder = folder
        self._names: dict[int, str] = {}  # ids of points by the positions that they have in the journal

    @classmethod
    def open(
        cls, active: ActiveLearning, trainer: pl.Trainer, module: pl.LightningModule, saved: dict[str, Any] | None
    ) -> Recorder:
        """Find or make the run's folder; without a checkpoint, go on from what it kept.

        Args:
            active: the run, its state restored where there is a checkpoint.
            trainer: in a fit.
            module: the model; without a checkpoint it gets the weights that the folder kept.
            saved: what the checkpoint holds of the run, or `None`.

        Raises:
            ResumeError: the folder belongs to another run, data set or number of classes.
        """
        recorder = cls(active, None)
        if saved is not None:
            active.ranks.decide(lambda: check_fingerprint(active.data, saved["fingerprint"]))
        if is_rehearsal(trainer) or active.run_dir is False:
            active.data.pool.observer = None  # an earlier run's, which these labels are none of
            return recorder
        data = active.data

        def find() -> tuple[dict[str, Any], dict[str, Any] | None]:
            place = None if saved is None else saved["journal"]
            recorder.folder = open_run_folder(active, trainer, place, resumes=saved is not None)
            check_fingerprint(data, recorder.folder.journal.header["fingerprint"])
            kept = recorder.folder.load() if saved is None else None
            if kept is not None:
                recorder.folder.journal.rewind(kept[_KEY]["journal"]["lines"])
            return recorder.folder.journal.header, kept

        try:
            header, kept = active.ranks.decide(find)
            recorder._begin(header, kept, saved, module)
        except BaseException:
            recorder.release()
            raise
        # one process writes; another may have written in an earlier fit, or hold a copy of one that did
        data.pool.observer = None if recorder.folder is None else recorder.folder.journal.record
        return recorder

    def _begin(
        self,
        header: dict[str, Any],
        kept: dict[str, Any] | None,
        saved: dict[str, Any] | None,
        module: pl.LightningModule,
    ) -> None:
        """Go on from what the folder or the checkpoint holds."""
        active, data = self.active, self.active.data
        began = saved or (header if kept is None else kept[_KEY])
        self._names = {int(index): name for index, name in (began["data"]["pool"]["ids"] or {}).items()}
        if data.num_classes is None:  # a sampler that needs no model output does not tell
            data.num_classes = header["num_classes"]
        if header["num_classes"] not in (None, data.num_classes):
            raise ResumeError(
                f"The run was begun with {header['num_classes']} classes, but now there are {data.num_classes}: give "
                "the model and the data module that it began with."
            )
        if saved is None:
            active.state.seed = header["seed"]
            data.restore(header["data"])
        if kept is not None:
            self._take(kept, module)
            active.compare_settings(kept[_KEY]["settings"])

    def resume(self) -> None:
        """Hold the folder again in a later fit of the same process.

        Raises:
            ResumeError: another process holds it.
        """
        folder = self.folder
        self.active.ranks.decide(lambda: None if folder is None else folder.journal.resume())

    def release(self) -> None:
        """Let another process go on with this run."""
        if self.folder is not None:
            self.folder.journal.release()

    def restore_round_end(self, module: pl.LightningModule) -> bool:
        """Go to where the round that trains had ended, if the folder kept that.

        Args:
            module: gets the weights of then.

        Returns:
            Whether it did.
        """
        active, folder = self.active, self.folder

        def find() -> dict[str, Any] | None:
            kept = None if folder is None else folder.load()
            if folder is None or kept is None:
                return None
            then = kept[_KEY]
            if then["round"] != active.state.round or then["phase"] not in ("query", "answers"):
                return None
            folder.journal.rewind(then["journal"]["lines"])
            return kept

        kept = active.ranks.decide(find)
        if kept is None:
            return False
        self._take(kept, module)
        return True

    def _take(self, kept: dict[str, Any], module: pl.LightningModule) -> None:
        saved, active = kept[_KEY], self.active
        active.data.restore(saved["data"])
        active.state = RunState.from_checkpoint(saved, active.data.pool.moved(saved["data"]["pool"]))
        try:
            put_weights(module, kept["state_dict"])
        except RuntimeError as error:  # torch lists every weight that does not fit
            raise ResumeError(f"The run was begun with another model than this one: {error}") from error

    @property
    def is_behind(self) -> bool:
        """Whether the journal knows what comes next."""
        return self.active.ranks.decide(lambda: self.folder is not None and self.folder.journal.behind > 0)

    def describe(self) -> dict[str, Any] | None:
        """What a checkpoint has to know to find the journal, and the place in it."""
        return None if self.folder is None else self.folder.describe()

    def replayed_query(self) -> Query | None:
        """What the journal says was asked next, if it knows; labels given before that are applied.

        Raises:
            ResumeError: the journal goes on in another round.
        """
        self.replay_labels()
        folder, state = self.folder, self.active.state

        def read() -> tuple[dict[str, Any], str] | None:
            event = None if folder is None else folder.journal.next_event(["query"])
            if folder is None or event is None:
                return None
            if event["round"] != state.round:
                raise ResumeError(
                    f"The journal goes on with a query of round {event['round']}, but the run is in round "
                    f"{state.round}: it is not the journal of this checkpoint."
                )
            return event, folder.journal.where()

        found = self.active.ranks.decide(read)
        if found is None:
            return None
        event, where = found
        query = query_from_event(event)
        self._note_names(event)
        pool = self.active.data.pool
        if self._names:
            named = {"indices": list(self._names), "ids": list(self._names.values())}
            now = dict(zip(self._names, positions_of(named, pool.ids), strict=True))
            query = moved_query(query, lambda index: now.get(index, -1))
        wrong = set(query.indices.tolist()) - set(pool.pool_indices.tolist())
        if wrong:
            raise ResumeError(
                f"{where} does not fit this run: it asks point {min(wrong)}, which is not in the pool. Give the data "
                "set and the checkpoint of this run."
            )
        return query

    def _note_names(self, event: dict[str, Any]) -> None:
        """Keep the ids of a line's points by where they stood then."""
        if event.get("ids") is not None:
            self._names.update(zip(event["indices"], event["ids"], strict=True))

    def write_down(self, query: Query) -> None:
        """Put a query into the journal, before it is asked."""
        if self.folder is not None:
            ids = self.active.data.pool.ids
            names = None if ids is None else [ids[i] for i in query.indices]
            self.folder.journal.record(query_event(query, self.active.state.round, names))

    def replay_labels(self) -> None:
        """Apply the labels, corrections and skips that the journal says came next, up to a query."""
        while self._replay_next():
            pass

    def replay_answers(self, is_enough: Callable[[], bool]) -> None:
        """Apply what the journal says came while answers were collected.

        What was labelled by hand after the next round had trained stays for then: a hook may do it once more.

        Args:
            is_enough: whether the next round can train.
        """
        number = self.active.state.round + 1
        while self._replay_next(number) or (not is_enough() and self._replay_next()):
            pass

    def _replay_next(self, round_: int | None = None) -> bool:
        """Apply the next line that is no query, and of answers only those of this round; whether there was one."""
        folder = self.folder

        def read() -> tuple[dict[str, Any], str] | None:
            event = None if folder is None else folder.journal.next_event(["answer", "correction", "skip"], round_)
            return None if folder is None or event is None else (event, folder.journal.where())

        found = self.active.ranks.decide(read)
        if found is None:
            return False
        event, where = found
        self._note_names(event)
        data = self.active.data
        try:
            for label in event.get("labels", ()):
                parse_label(label, data.num_classes)
            replay(data.pool, event)
        except DiffalError as error:
            raise ResumeError(f"{where} does not fit this run: {error}") from error
        return True

    def take_in_missed(self) -> None:
        """Label what a script had labelled before it went on with this run, which does not know of it.

        Not before the run is where its journal ends: until then everything happens as it did.
        """
        pool = self.active.data.pool
        if self.is_behind:
            return
        missed = self.active.ranks.decide(lambda: pool.missed)
        pool.missed = {}
        known = set(pool.labelled_indices.tolist())
        new = {index: label for index, label in missed.items() if index not in known}
        if new:
            rank_zero_info(f"{len(new)} labels that were given before this fit join those of the run.")
            pool.label(list(new), list(new.values()), round_=0)

    def keep(self, module: pl.LightningModule, *, first: bool = False) -> None:
        """Keep the state at the border of a round, from which an explicit `run_dir` goes on.

        Args:
            module: the model, with the weights that the next query will need.
            first: before anything trains; only where nothing is kept yet.
        """
        folder = self.folder

        def save() -> None:
            if folder is not None and not (first and folder.has_state):
                weights = weights_of(module)
                folder.save({_KEY: self.active.contents(), "state_dict": weights})

        self.active.ranks.together(save)
