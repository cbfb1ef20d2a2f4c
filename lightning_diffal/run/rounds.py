"""The rounds of a run: train from a clean start, ask, label, train again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from lightning_diffal import _lightning as lightning
from lightning_diffal._lightning import pl
from lightning_diffal.data.fingerprint import fingerprint
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import RoundRecord
from lightning_diffal.monitor.rows import class_counts, class_tags
from lightning_diffal.pseudo_labels.joined import pseudo_figures
from lightning_diffal.run.asking.answers import collect_answers, count_answers, take_late_answers, waiting_reason
from lightning_diffal.run.asking.model_pass import ModelPass, outputs_read
from lightning_diffal.run.asking.pseudo_labels import join_pseudo_labels, renew_pseudo_labels
from lightning_diffal.run.asking.query import ask, next_query_size
from lightning_diffal.run.asking.stability import measure_stability
from lightning_diffal.run.context import RunContext
from lightning_diffal.run.resuming.checkpoint import hand_back
from lightning_diffal.run.resuming.recorder import Recorder
from lightning_diffal.run.resuming.run_journal import RunJournal
from lightning_diffal.run.round_weights import remember_start, reset_weights
from lightning_diffal.run.state import RunState
from lightning_diffal.run.telling.hyperparameters import hyperparameters
from lightning_diffal.run.telling.notices import note_trained
from lightning_diffal.run.telling.reporting import describe_run, write_report
from lightning_diffal.stopping.base import reason_to_stop
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.modules import is_split, put_weights, weights_of
from lightning_diffal.utils.seeding import (
    isolated_environment_seed,
    isolated_random_state,
    seed_everything,
    seed_sharing_sampler,
)

__all__ = ["Rounds"]


class Rounds:
    """One call of `fit`: goes on from where `context.state` stands until the run ends.

    Args:
        trainer: in a fit; its fit loop is a plain one.
        context: the run.
        module: what trains. Default: the Trainer's.
    """

    def __init__(self, trainer: pl.Trainer, context: RunContext, module: pl.LightningModule | None = None) -> None:
        self.trainer = trainer
        self.context = context
        self.data = context.data
        self.module = trainer.lightning_module if module is None else module
        self.recorder = Recorder(context)
        self.journal = RunJournal(context)
        self.monitor = context.monitor
        self.seconds: dict[str, float] = {}
        self.is_idle = True  # nothing was asked and nothing has trained yet
        self.has_told_of_rest = False
        self.model_pass: ModelPass | None = None  # of the model that has trained last

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self.context.state

    def run(self) -> None:
        """Train, ask, train again; ends with the reason in the last record."""
        lightning.discard_train_loader(self.trainer)
        with lightning.name_rounds(self.trainer), isolated_environment_seed():
            try:
                if lightning.is_rehearsal(self.trainer):
                    self._rehearse()
                else:
                    self._attach_monitor()
                    with self.monitor.watching():
                        self._go()
            finally:
                self.context.limits.put_back(self.trainer)

    def _go(self) -> None:
        try:
            self._go_on()
        finally:
            self.recorder.release()

    def _go_on(self) -> None:
        self._remember_start()
        self._begin_without_labels()
        try:
            while (reason := self._next_labels()) is None:
                join_pseudo_labels(self.context)
                self._train()
        finally:
            self.data.joined_points = None  # of this run
        self.state.history[-1].stop_reason = reason
        self.recorder.keep(self.module)  # with the reason, for whoever looks into the folder
        write_report(self.context)
        self.monitor.ended(self.state.history, reason)
        self.monitor.status.say(f"Active learning ended after round {self.state.round}: {reason}.")

    def _attach_monitor(self) -> None:
        context, facts = self.context, hyperparameters(self.context)
        describe_run(context, self.module)
        self.state.history.facts = {"run": facts["run"], "sampler": repr(context.settings.sampler)}
        self.monitor.attach(
            self.trainer,
            lambda: (self.state.round, context.settings.max_rounds, len(self.data.labelled_indices)),
            facts,
            self.state.steps,
        )

    # ------------------------------------------------------------------------------------------------- training

    def _train(self) -> None:
        state = self.state
        self.seconds = {}
        seed_sharing_sampler(state.seed + state.round)
        if state.phase == "training" and self._has_ended():
            return
        if state.phase != "training":
            self._begin_round()
        self.trainer.callback_metrics["round"] = torch.tensor(state.round)
        self.monitor.status.training()
        with self._timed("fit"), self._resting():
            self.trainer.fit_loop.run()
        if self.trainer.fit_loop.max_batches == 0:
            raise ConfigurationError(
                f"Round {state.round} trained nothing: its training loader over {len(self.data.train_indices)} points "
                "holds no batch. Leave out `drop_last`, or give a smaller `batch_size`."
            )
        self._forget_resumed_round()
        self._finish_round()

    def _has_ended(self) -> bool:
        """Where a round goes on that was over already: whether it is over with all that its end does to the model.

        A checkpoint of the last epoch is written before the end of the training, where weights are averaged. What the
        run's folder kept of that round's border knows of it; without, the round is done again.
        """
        self.trainer.should_stop |= self.context.resumed is not None and self.context.resumed.was_stopped
        if not (self.trainer.fit_loop.done and lightning.ends_with_more(self.trainer)):
            return False
        self._forget_resumed_round()
        if self.recorder.restore_round_end(self.module):
            return True
        self.state.redo()
        return False

    def _finish_round(self) -> None:
        """Metrics and the record of the round that has trained; tell those who want to know."""
        self.is_idle = False
        state = self.state
        logged = {name: float(v) for name, v in self.trainer.callback_metrics.items() if name != "round"}
        # a round resumed after its last epoch logs nothing again
        metrics = {**state.metrics, **logged} | self._evaluate()
        pseudo = {} if self.context.settings.pseudo_labels is None else pseudo_figures(state.pseudo_labels)
        metrics |= {f"active/{name}": value for name, value in pseudo.items()}
        record = RoundRecord(
            round=state.round,
            seed=state.seed + state.round,
            labelled=self.data.labelled_indices,
            metrics=self.context.ranks.decide(lambda: metrics),  # each process has its own where nothing is reduced
            seconds=self.seconds,
        )
        if self.data.num_classes:
            names = class_tags(self.data.num_classes, self.data.class_names)
            record.classes = dict(zip(names, class_counts(self.data.pool, self.data.num_classes), strict=True))
        state.finish_round(record)
        state.steps = self.monitor.steps
        self.monitor.round_ended(state.history, self.data)
        note_trained(self.module)
        self._tell("on_round_end")
        self.recorder.keep(self.module)  # last, so that a hook that is killed is called again
        hand_back(self.context, self.trainer)

    def _begin_round(self) -> None:
        """Everything as in a fresh `Trainer.fit` with this seed, in the order in which Lightning does it."""
        trainer, context = self.trainer, self.context
        reset_weights(context, self.module)
        lightning.fresh_fit_loop(trainer, context.limits)
        lightning.reset_results(trainer, self.state.round)
        lightning.reset_model_checkpoints(trainer)
        self._tell("on_round_start")
        context.ranks.wait()  # for a process that was kept, here rather than in the Trainer's group, which gives up
        seed_everything(self.state.seed + self.state.round)
        lightning.restart_callbacks(trainer, context.pristine, "setup")
        lightning.configure_optimizers(trainer, context.precision_state)
        lightning.restart_callbacks(trainer, context.pristine, "on_fit_start")
        with isolated_random_state():
            lightning.look_at_validation(trainer)
        self.state.begin_round()

    def _remember_start(self) -> None:
        remember_start(self.context, self.module)
        self.recorder.keep(self.module, first=True)

    def _evaluate(self) -> dict[str, float]:
        """Metrics of the best weights where they are wanted, and of the test set."""
        found: dict[str, float] = {}
        best = None
        if self.context.settings.weights == "best":
            best = self.context.ranks.decide(lambda: lightning.best_checkpoint(self.trainer))
        if best is None and not self.context.settings.test_each_round:
            return found
        with isolated_random_state(), self._timed("evaluate"):
            if best is not None:
                saved = self.trainer.strategy.load_checkpoint(best)
                if not is_split(self.module):  # else it was loaded in place
                    put_weights(self.module, saved["state_dict"])
                if self.trainer.enable_validation:  # else a metric of training says which are best
                    found |= self._run_loop("validate")
            if self.context.settings.test_each_round:
                found |= self._run_loop("test")
        return found

    def _run_loop(self, stage: Literal["validate", "test"]) -> dict[str, float]:
        return lightning.evaluate(self.trainer, stage)

    # --------------------------------------------------------------------------------------------------- labels

    def ask_first(self) -> None:
        """Get the first labels of a cold start now, since something is about to train before the rounds do."""
        self._begin_without_labels()
        self._next_labels()

    def _begin_without_labels(self) -> None:
        """A cold start: the first query comes before any training, and has a record of its own."""
        state = self.state
        if state.has_begun or len(self.data.labelled_indices):
            return
        state.begin_cold()

    def _next_labels(self) -> str | None:
        """Get to where the next round can train. Returns why the run ends instead, where it does."""
        state = self.state
        while state.phase in ("query", "answers"):
            self.is_idle &= state.phase == "query"
            self.journal.take_in_missed()
            self.seconds = state.history[-1].seconds
            reason = self._ask() if state.phase == "query" else self._collect()
            if reason is not None:
                return reason
        return None

    def _ask(self) -> str | None:
        """Query: choose points, write them down, and count them as asked. Returns why nothing is asked, if so."""
        state, context = self.state, self.context
        size = next_query_size(context)
        if isinstance(size, str):
            if self.is_idle and not self.journal.is_behind:  # else people have just been asked
                take_late_answers(self.trainer, context)
            return size
        self.model_pass = self.model_pass or ModelPass(self.trainer, context, self._timed)
        self.monitor.log(measure_stability(context, self.model_pass))
        reason = context.ranks.decide(self._reason_to_stop)
        if reason is not None:
            return reason
        query = self.journal.replayed_query()
        if query is None:
            query = ask(context, size, self.model_pass)
            asked = query
            context.ranks.decide(lambda: self.journal.write_down(asked))
        self.data.pool.ask(query.indices)
        state.ask(query)
        write_report(context)
        hand_back(context, self.trainer)
        if context.settings.pseudo_labels is None:
            self.model_pass = None  # people may take their time, and it is large
        return None

    def _collect(self) -> str | None:
        """Get the answers. Returns why the run ends where too few are there."""
        state, context, data = self.state, self.context, self.data
        query = state.history[-1].query
        assert query is not None, "something was asked"
        self.journal.replay_answers(lambda: count_answers(context)[2])
        if not self.journal.is_behind:
            with self._timed("oracle"):
                collect_answers(self.trainer, context, query)
        _, arrived, enough = count_answers(context)
        if not enough:
            return waiting_reason(context)
        if not arrived and set(state.asked) <= set(data.skipped_indices.tolist()):
            self.monitor.status.say(
                f"Round {state.round}: all {len(state.asked)} points asked were skipped; others are asked."
            )
            state.ask_others()  # training again on the same labels would cost one of `max_rounds`
            return None
        self.monitor.status.say(
            f"Round {state.round}: asked {several(len(state.asked), 'point')}, {several(arrived, 'answer')} arrived; "
            f"{len(data.labelled_indices)} of {len(data.pool)} are labelled."
        )
        renew_pseudo_labels(context, self.model_pass or ModelPass(self.trainer, context, self._timed))
        self.model_pass = None  # the model that it is of is about to train again
        context.fingerprint = context.ranks.decide(lambda: fingerprint(data))  # of what is labelled by now
        state.answered()
        hand_back(context, self.trainer)
        return None

    def _rehearse(self) -> None:
        """`fast_dev_run` and `overfit_batches`: one plain fit and one batch of features; nothing is asked."""
        self._remember_start()
        state = self.state
        weights = weights_of(self.module) if state.has_begun else None  # the next query is theirs
        self.data.joined_points = None
        if len(self.data.labelled_indices):
            self.context.state = RunState(
                round=state.round,
                seed=state.seed,
                history=state.history,
                initial_weights=state.initial_weights,
                round_weights=state.round_weights,
            )
            try:
                self._begin_round()
                self.trainer.fit_loop.run()
            finally:
                self.context.state = state
        self.context.extractor(
            self.trainer,
            self.data,
            np.arange(min(self.data.batch_size, len(self.data.pool))),
            outputs_read(self.context),
            seed=self.state.seed,
            mc_passes=self.context.settings.sampler.mc_passes,
        )
        if weights is not None:
            put_weights(self.module, weights)
        self.monitor.status.say("fast_dev_run or overfit_batches: one round without a query; no label was bought.")

    # -------------------------------------------------------------------------------------------------- helpers

    def _forget_resumed_round(self) -> None:
        """A resumed round has ended, whether an epoch was left to train or not."""
        if self.context.resumed is not None:
            self.context.resumed.forget_round()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """In a round without a point to validate on, whoever waits for a metric of the validation rests."""
        if not self.data.lacks_validation:
            yield
            return
        with lightning.rest_monitors(self.trainer) as names:
            if not self.has_told_of_rest:
                self.has_told_of_rest = True
                rest = f" Until then {', '.join(names)} rest." if names else ""
                lightning.rank_zero_warn(
                    f"None of the {len(self.data.labelled_indices)} labelled points validates yet "
                    f"(`val_fraction={self.data.val_fraction:g}`): rounds have no metric of the validation until one "
                    f"does.{rest} Give more `initial_labels` or a `val_dataset` to have it from the start."
                )
            yield

    def _reason_to_stop(self) -> str | None:
        try:
            return reason_to_stop(self.context.settings.stopping, self.context.state.history)
        except ConfigurationError:
            if self.data.lacks_validation:  # the metric that is waited for cannot be there yet
                return None
            raise

    def _tell(self, hook: str) -> None:
        """Call an optional hook of callbacks, model and data module."""
        for listener in (*lightning.callbacks_of(self.trainer), self.module, self.data):
            method: Any = getattr(listener, hook, None)
            if callable(method):
                method(self.trainer)
