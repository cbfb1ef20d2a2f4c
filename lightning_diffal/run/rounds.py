"""The rounds of a run: train from a clean start, ask, label, train again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from lightning_diffal import _lightning as lightning
from lightning_diffal._lightning import pl, rank_zero_info
from lightning_diffal.history.history import RoundRecord
from lightning_diffal.pseudo_labels.joined import pseudo_figures
from lightning_diffal.run.answers import collect_answers, count_answers, take_late_answers, waiting_reason
from lightning_diffal.run.model_pass import ModelPass
from lightning_diffal.run.pseudo_labels import join_pseudo_labels, renew_pseudo_labels
from lightning_diffal.run.query import ask, joined, next_query_size
from lightning_diffal.run.recorder import Recorder
from lightning_diffal.run.stability import measure_stability
from lightning_diffal.run.state import put_weights, weights_of
from lightning_diffal.stopping.base import reason_to_stop
from lightning_diffal.utils.modules import Unsaved
from lightning_diffal.utils.seeding import (
    isolated_environment_seed,
    isolated_random_state,
    seed_everything,
    seed_sharing_sampler,
)

if TYPE_CHECKING:
    from lightning_diffal.callback import ActiveLearning

__all__ = ["Rounds"]


class Rounds:
    """One call of `fit`: goes on from where `active.state` stands until the run ends.

    Args:
        trainer: in a fit; its fit loop is a plain one.
        active: the run.
        module: what trains. Default: the Trainer's.
    """

    def __init__(self, trainer: pl.Trainer, active: ActiveLearning, module: pl.LightningModule | None = None) -> None:
        self.trainer = trainer
        self.active = active
        self.state = active.state
        self.data = active.data
        self.module = trainer.lightning_module if module is None else module
        self.recorder = active.recorder or Recorder(active, None)
        self.seconds: dict[str, float] = {}
        self.is_idle = True  # nothing was asked and nothing has trained yet
        self.model_pass: ModelPass | None = None  # of the model that has trained last

    def run(self) -> None:
        """Train, ask, train again; ends with the reason in the last record."""
        lightning.discard_train_loader(self.trainer)
        with lightning.name_rounds(self.trainer), isolated_environment_seed():
            try:
                if lightning.is_rehearsal(self.trainer):
                    self._rehearse()
                else:
                    self._go()
            finally:
                self.active.limits.put_back(self.trainer)

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
                join_pseudo_labels(self.active)
                self._train()
        finally:
            self.data.joined_points = None  # of this run
        self.state.history[-1].stop_reason = reason
        self.recorder.keep(self.module)  # with the reason, for whoever looks into the folder
        rank_zero_info(f"Active learning ended after round {self.state.round}: {reason}.")

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
        with self._timed("fit"):
            self.trainer.fit_loop.run()
        self.active.forget_resumed_state()
        self._finish_round()

    def _has_ended(self) -> bool:
        """Where a round goes on that was over already: whether it is over with all that its end does to the model.

        A checkpoint of the last epoch is written before the end of the training, where weights are averaged. What the
        run's folder kept of that round's border knows of it; without, the round is done again.
        """
        self.trainer.should_stop |= self.active.resumes_stopped
        if not (self.trainer.fit_loop.done and lightning.ends_with_more(self.trainer)):
            return False
        self.active.forget_resumed_state()
        if self.recorder.restore_round_end(self.module):
            self.state = self.active.state
            return True
        self.state.phase = "redo"
        return False

    def _finish_round(self) -> None:
        """Metrics and the record of the round that has trained; tell those who want to know."""
        self.is_idle = False
        state = self.state
        logged = {name: float(v) for name, v in self.trainer.callback_metrics.items() if name != "round"}
        # a round resumed after its last epoch logs nothing again
        metrics = {**state.metrics, **logged} | self._evaluate()
        pseudo = {} if self.active.pseudo_labels is None else pseudo_figures(state.pseudo_labels)
        metrics |= {f"active/{name}": value for name, value in pseudo.items()}
        record = RoundRecord(
            round=state.round,
            seed=state.seed + state.round,
            labelled=self.data.labelled_indices,
            metrics=self.active.ranks.decide(lambda: metrics),  # each process has its own where nothing is reduced
            seconds=self.seconds,
        )
        state.history.append(record)
        state.phase, state.metrics, state.round_weights = "query", {}, None
        self._log({"round": state.round, "n_labelled": record.n_labelled, **pseudo})
        self._tell("on_round_end")
        self.recorder.keep(self.module)  # last, so that a hook that is killed is called again
        self.active.hand_back(self.trainer)

    def _begin_round(self) -> None:
        """Everything as in a fresh `Trainer.fit` with this seed, in the order in which Lightning does it."""
        trainer, active = self.trainer, self.active
        self._reset_weights()
        lightning.fresh_fit_loop(trainer, active.limits)
        lightning.reset_results(trainer, self.state.round)
        lightning.reset_model_checkpoints(trainer)
        self._tell("on_round_start")
        active.ranks.wait()  # for a process that was kept, here rather than in the Trainer's group, which gives up
        seed_everything(self.state.seed + self.state.round)
        lightning.restart_callbacks(trainer, active.pristine, "setup")
        lightning.configure_optimizers(trainer, active.precision_state)
        lightning.restart_callbacks(trainer, active.pristine, "on_fit_start")
        self.state.phase = "training"

    def _remember_start(self) -> None:
        """What every round starts from, as the hooks that begin a fit left it: some load weights or freeze them."""
        if self.active.unsaved is None:
            self.active.unsaved = Unsaved(self.module)
        if self.state.initial_weights is None:
            self.state.initial_weights = weights_of(self.module)
        self.recorder.keep(self.module, first=True)

    def _reset_weights(self) -> None:
        """The weights that this round starts from; the same ones where the round has to be done again."""
        module, state, reset = self.module, self.state, self.active.reset
        initial = state.initial_weights or {}
        if self.active.unsaved is not None:
            self.active.unsaved.put_back(module)
        if reset != "initial":
            self.active.ranks.share_buffers(module)  # as a fresh DDP does
        if state.round_weights is not None:
            put_weights(module, state.round_weights)
        elif reset == "initial" or not state.has_trained:
            put_weights(module, initial)
        elif isinstance(reset, float):
            with torch.no_grad():  # shrink and perturb (Ash & Adams 2020): old weights shrunk, new ones as noise
                for name, parameter in module.named_parameters():
                    if name in initial:  # a frozen part may be left out of the state
                        parameter.mul_(reset).add_(initial[name].to(parameter.device), alpha=1 - reset)
        if reset != "initial":
            state.round_weights = weights_of(module)

    def _evaluate(self) -> dict[str, float]:
        """Metrics of the best weights where they are wanted, and of the test set."""
        found: dict[str, float] = {}
        best = None
        if self.active.weights == "best":
            best = self.active.ranks.decide(lambda: lightning.best_checkpoint(self.trainer))
        if best is None and not self.active.test_each_round:
            return found
        with isolated_random_state(), self._timed("evaluate"):
            if best is not None:
                saved = self.trainer.strategy.load_checkpoint(best)
                put_weights(self.module, saved["state_dict"])
                if self.trainer.enable_validation:  # else a metric of training says which are best
                    found |= self._run_loop("validate")
            if self.active.test_each_round:
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
        state.history.append(RoundRecord(round=0, seed=state.seed, labelled=np.empty(0, dtype=np.int64)))
        state.phase = "query"

    def _next_labels(self) -> str | None:
        """Get to where the next round can train. Returns why the run ends instead, where it does."""
        state = self.state
        while state.phase in ("query", "answers"):
            self.is_idle &= state.phase == "query"
            self.recorder.take_in_missed()
            self.seconds = state.history[-1].seconds
            reason = self._ask() if state.phase == "query" else self._collect()
            if reason is not None:
                return reason
        return None

    def _ask(self) -> str | None:
        """Query: choose points, write them down, and count them as asked. Returns why nothing is asked, if so."""
        state, active, record = self.state, self.active, self.state.history[-1]
        size = next_query_size(active)
        if isinstance(size, str):
            if self.is_idle and not self.recorder.is_behind:  # else people have just been asked
                take_late_answers(self.trainer, active)
            return size
        self.model_pass = self.model_pass or ModelPass(self.trainer, active, self._timed)
        self._log(measure_stability(active, self.model_pass))
        reason = active.ranks.decide(lambda: reason_to_stop(active.stopping, active.history))
        if reason is not None:
            return reason
        query = self.recorder.replayed_query()
        if query is None:
            query = ask(active, size, self.model_pass)
            asked = query
            active.ranks.decide(lambda: self.recorder.write_down(asked))
        record.query = query if record.query is None else joined(record.query, query)
        record.stop_reason = None
        self.data.pool.ask(query.indices)
        state.asked, state.phase = query.indices.tolist(), "answers"
        active.hand_back(self.trainer)
        self._log(dict(query.summary))
        if active.pseudo_labels is None:
            self.model_pass = None  # people may take their time, and it is large
        return None

    def _collect(self) -> str | None:
        """Get the answers. Returns why the run ends where too few are there."""
        state, active, data = self.state, self.active, self.data
        query = state.history[-1].query
        assert query is not None, "something was asked"
        self.recorder.replay_answers(lambda: count_answers(active)[2])
        if not self.recorder.is_behind:
            with self._timed("oracle"):
                collect_answers(self.trainer, active, query)
        _, arrived, enough = count_answers(active)
        if not enough:
            return waiting_reason(active)
        if not arrived and set(state.asked) <= set(data.skipped_indices.tolist()):
            # training again on the same labels would teach nothing, and cost one of `max_rounds`
            rank_zero_info(f"Round {state.round}: all {len(state.asked)} points asked were skipped; others are asked.")
            state.phase, state.asked = "query", []
            return None
        rank_zero_info(
            f"Round {state.round}: asked {len(state.asked)} points, {arrived} answers arrived; "
            f"{len(data.labelled_indices)} of {len(data.pool)} are labelled."
        )
        renew_pseudo_labels(active, self.model_pass or ModelPass(self.trainer, active, self._timed))
        self.model_pass = None  # the model that it is of is about to train again
        state.round, state.phase, state.asked = state.round + 1, "train", []
        state.history[-1].stop_reason = None  # it goes on
        active.hand_back(self.trainer)
        return None

    def _rehearse(self) -> None:
        """`fast_dev_run` and `overfit_batches`: one plain fit and one batch of features; nothing is asked."""
        self._remember_start()
        state = self.state
        phase, round_weights = state.phase, state.round_weights
        weights = weights_of(self.module) if state.has_begun else None  # the next query is theirs
        self.data.joined_points = None
        if len(self.data.labelled_indices):
            self._begin_round()
            self.trainer.fit_loop.run()
            state.phase, state.round_weights = "redo" if phase == "training" else phase, round_weights
        self.active.extractor(
            self.trainer,
            self.data,
            np.arange(min(self.data.batch_size, len(self.data.pool))),
            self.active.reads,
            seed=self.state.seed,
            mc_passes=self.active.sampler.mc_passes,
        )
        if weights is not None:
            put_weights(self.module, weights)
        rank_zero_info("fast_dev_run or overfit_batches: one round without a query; no label was bought.")

    # -------------------------------------------------------------------------------------------------- helpers

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started

    def _tell(self, hook: str) -> None:
        """Call an optional hook of callbacks, model and data module."""
        for listener in (*lightning.callbacks_of(self.trainer), self.module, self.data):
            method: Any = getattr(listener, hook, None)
            if callable(method):
                method(self.trainer)

    def _log(self, values: dict[str, float]) -> None:
        """Send the run's own numbers to the loggers, on the step axis of training."""
        if not values or not self.trainer.is_global_zero:
            return
        step = lightning.global_batches(self.trainer)
        for logger in self.trainer.loggers:
            logger.log_metrics({f"active/{name}": float(value) for name, value in values.items()}, step=step)
            logger.save()
