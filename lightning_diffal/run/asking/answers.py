"""What the oracle says of the points asked: put to it, waited for, checked and applied; on one process or many."""

from __future__ import annotations

import itertools
import time

import numpy as np

from lightning_diffal._lightning import pl, rank_zero_warn, received_sigterm
from lightning_diffal.exceptions import DiffalError
from lightning_diffal.labels.targets import Label
from lightning_diffal.oracle import SKIP, Oracle, Question, checked_answers, checked_corrections
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.telling.news import tell_oracle
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.phases import announce

__all__ = ["collect_answers", "count_answers", "take_late_answers", "waiting_reason"]

Checked = tuple[dict[int, Label], list[int], dict[int, Label]]
"""Corrections, points to skip, labels."""

_NAP = 0.5  # seconds after which somebody who waits looks whether it is to end


def count_answers(context: RunContext) -> tuple[int, int, bool]:
    """How many of the points asked wait for an answer, how many labels have arrived, and whether that is enough.

    Args:
        context: the run, after a query.
    """
    pool, state = context.data.pool, context.state
    waiting = len(set(state.asked) & set(pool.pending_indices.tolist()))
    asked = {i for record in state.history if record.query is not None for i in record.query.indices.tolist()}
    labelled = pool.labelled_indices
    new = labelled[pool.rounds_of(labelled) == state.round + 1]  # an earlier run on the same data has such rounds too
    arrived = sum(index in asked for index in new.tolist())
    enough = not waiting or (context.settings.min_answers is not None and arrived >= context.settings.min_answers)
    return waiting, arrived, enough


def waiting_reason(context: RunContext) -> str:
    """Why a fit ends while answers are missing: how many, where they are waited for, and what to do then.

    Args:
        context: the run, after a query.
    """
    return context.ranks.decide(lambda: _waiting_reason(context))


def _waiting_reason(context: RunContext) -> str:
    waiting, _, _ = count_answers(context)
    words = f"waiting for answers to {waiting} of the {several(len(context.state.asked), 'point')} asked"
    where = context.settings.oracle.whereabouts()
    if where is None:
        return words
    folder = context.folder
    if context.settings.run_dir:
        then = "run this script again"
    elif folder is None:
        then = "call fit again in this process"
    else:
        then = f"call fit again, or run this script with ActiveLearning(run_dir={str(folder.path)!r})"
    return f"{words}, in {where}: give them there and {then}"


def collect_answers(trainer: pl.Trainer, context: RunContext, query: Query) -> None:
    """Put what is pending to the oracle, wait as long as it wants to, and apply what it knows.

    What one look finds, corrections and skipped points included, is applied as a whole or not at all.

    Args:
        trainer: in a fit.
        context: the run, after a query.
        query: what was asked last.
    """
    waits = _Answers(trainer, context, query)
    if not len(waits.pending()):
        return
    announce(f"asking for {several(len(waits.pending()), 'label')}")
    waits.ask()
    while waits.look():
        pass


def take_late_answers(trainer: pl.Trainer, context: RunContext) -> None:
    """Apply what people have answered or corrected since the last look, where the run asks no more: it was paid for.

    Args:
        trainer: in a fit.
        context: the run, as it ends.
    """
    query = next((record.query for record in reversed(context.state.history) if record.query is not None), None)
    if query is None:
        return
    waits = _Answers(trainer, context, query)
    if len(waits.pending()) or type(context.settings.oracle).corrections is not Oracle.corrections:
        waits.look()


class _Answers:
    """Asks once, and looks for answers until there are enough of them or the oracle's time is over.

    All methods but `pending` have to be called on every process.

    Args:
        trainer: in a fit.
        context: the run, after a query.
        query: what was asked last.
    """

    def __init__(self, trainer: pl.Trainer, context: RunContext, query: Query) -> None:
        self.trainer, self.context, self.query = trainer, context, query
        timeout = context.settings.oracle.timeout
        self.deadline = float("inf") if timeout is None else time.monotonic() + timeout
        self.waits = timeout != 0
        self.refused: str | None = None
        self.has_told = False

    def pending(self) -> IntArray:
        """`(b,)` open points in the order of choice, which people label in: what an earlier query left open first."""
        asked = [record.query.indices.tolist() for record in self.context.state.history if record.query is not None]
        rank = {index: place for place, index in enumerate(itertools.chain(*asked))}
        open_points = self.context.data.pending_indices.tolist()
        return np.array(sorted(open_points, key=lambda index: rank.get(index, -1)), dtype=np.int64)

    def ask(self) -> None:
        """Put the question to the oracle."""
        context = self.context

        def put() -> None:
            run_id = None if context.folder is None else context.folder.journal.run
            question = Question(self.query, self.pending(), context.state.round, run_id)
            context.settings.oracle.ask(question, context.data)
            tell_oracle(context, self.trainer, "waiting")

        context.ranks.decide(put)

    def look(self) -> bool:
        """Apply what is known now. Returns whether to look again, after a while."""
        context, pool = self.context, self.context.data.pool
        corrections, skipped, labels = context.ranks.decide(self._checked)
        round_ = context.state.round + 1

        def apply() -> None:
            known = set(pool.labelled_indices.tolist())
            replaced = {i: label for i, label in corrections.items() if i in known}
            arrived = {i: label for i, label in corrections.items() if i not in known} | labels
            pool.correct(list(replaced), list(replaced.values()))
            pool.skip(skipped)
            pool.label(list(arrived), list(arrived.values()), round_)

        context.ranks.together(apply)
        done = [(len(corrections), "corrected", "label"), (len(skipped), "skipped", "point")]
        words = [f"{verb} {several(number, noun)}" for number, verb, noun in done if number]
        if words:
            self.context.monitor.status.say(f"The oracle {' and '.join(words)}.")
        enough = count_answers(context)[2]
        return not enough and context.ranks.decide(self._wait)

    def _checked(self) -> Checked:
        """What the oracle says, all of it checked before any of it is applied."""
        oracle, data, asked = self.context.settings.oracle, self.context.data, self.pending()
        try:
            corrections = checked_corrections(oracle.corrections(data), data)
            answers = checked_answers(oracle.answer(asked, data), asked, data.num_classes, data.class_names)
            labels = {index: value for index, value in answers.items() if value is not SKIP}
            together = corrections | labels
            data.pool.fitting(list(together), list(together.values()))
        except DiffalError as error:
            if time.monotonic() >= self.deadline or not self.waits:
                raise
            # somebody is at it: what cannot be read now may be mended, or written to its end, before the next look
            if str(error) != self.refused:
                self.refused = str(error)
                rank_zero_warn(f"{error} The answers are looked at again in a while.")
            return {}, [], {}
        return corrections, [index for index, value in answers.items() if value is SKIP], labels

    def _wait(self) -> bool:
        """On the first process: sleep until the next look; `False` once the waiting is over."""
        if time.monotonic() >= self.deadline:
            if self.waits and self.has_told:
                waiting, read, _ = count_answers(self.context)
                self.context.monitor.status.say(
                    f"The oracle's timeout of {self.context.settings.oracle.timeout:g} s is over: {read} answers were "
                    f"read, {waiting} are missing."
                )
            return False
        if not self.has_told:
            self.has_told = True
            self.context.monitor.status.say(
                f"{_waiting_reason(self.context)}; or wait: they are looked for from time to time."
            )
        until = min(time.monotonic() + self.context.settings.oracle.poll_seconds, self.deadline)
        waiting, read, _ = count_answers(self.context)
        deadline = None if self.deadline == float("inf") else self.deadline
        while (left := until - time.monotonic()) > 0:
            self.context.monitor.status.wait(waiting, read, left, deadline)
            if self.context.stop_reason is not None or received_sigterm(self.trainer):
                return False
            time.sleep(min(left, _NAP))
        return True
