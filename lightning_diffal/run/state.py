"""Where a run stands: everything that a resumed process needs to go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lightning_diffal.exceptions import ResumeError, TransitionError
from lightning_diffal.history.history import History, RoundRecord
from lightning_diffal.samplers.base import Query

__all__ = ["FORMAT", "KNOWN_FORMATS", "TRANSITIONS", "Phase", "RunState"]

FORMAT = 2
"""Version of what `RunState.to_checkpoint` writes; of format 2 the initial weights may lie in the run's folder."""
KNOWN_FORMATS = (1, 2)
"""What is read."""

Phase = Literal["train", "redo", "training", "query", "answers"]
"""What comes next: a round from its start; again, since it was cut off; the rest of one; a query; answers to it."""

TRANSITIONS: dict[str, tuple[frozenset[Phase], Phase]] = {
    "begin_round": (frozenset({"train", "redo"}), "training"),
    "redo": (frozenset({"training"}), "redo"),
    "start_over": (frozenset({"redo"}), "train"),
    "finish_round": (frozenset({"training"}), "query"),
    "begin_cold": (frozenset({"train"}), "query"),
    "ask": (frozenset({"query"}), "answers"),
    "ask_others": (frozenset({"answers"}), "query"),
    "answered": (frozenset({"answers"}), "train"),
    "retrain": (frozenset({"query"}), "redo"),
}
"""The phases that each transition may start from, and the phase that it leads to."""


@dataclass
class RunState:
    """One active learning run: where it stands, and the only way to get from one phase to the next.

    ============== =================== ========== ==========================================
    transition     from                to         when
    ============== =================== ========== ==========================================
    `begin_round`  `train`, `redo`     `training` a round starts from clean weights
    `redo`         `training`          `redo`     the round was cut off
    `start_over`   `redo`              `train`    a first round that was cut off is forgotten
    `finish_round` `training`          `query`    the round has trained
    `begin_cold`   `train`             `query`    no label is known before the first query
    `ask`          `query`             `answers`  points were chosen
    `ask_others`   `answers`           `query`    all points asked were skipped
    `answered`     `answers`           `train`    enough answers have arrived
    `retrain`      `query`             `redo`     the weights of the round cannot be used
    ============== =================== ========== ==========================================

    Any other transition raises a `TransitionError`. `TRANSITIONS` holds the same table.

    Args:
        round: the round that trains, or that has trained last.
        phase: what comes next.
        seed: of the run; the training of a round is seeded with `seed + round`.
        history: a record for each finished round.
        asked: positions of the running query.
        bought_before: labels that an earlier run on the same data had bought; they cost nothing of this one's budget.
        initial_weights: what every round starts from; set before the first one.
        round_weights: what the running round started from, where that is not `initial_weights`.
        metrics: what the running round had logged when this was saved.
        steps: batches trained on in all rounds that have ended: the loggers' step axis.
        pseudo_labels: those that the running round trains on, as `pseudo_labels.joined.pseudo_state` gives
            them; `None` for none.
        predictions: what the model of a round predicted on the stop set (`"round"`, `"keys"`, `"classes"`), where a
            stopping rule compares it with the next one's.

    Example:
        >>> state = RunState(seed=7)
        >>> RunState.from_checkpoint(state.to_checkpoint()).seed
        7
    """

    round: int = 0
    phase: Phase = "train"
    seed: int = 0
    history: History = field(default_factory=History)
    asked: list[int] = field(default_factory=list)
    bought_before: int = 0
    initial_weights: dict[str, Any] | None = None
    round_weights: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    pseudo_labels: dict[str, Any] | None = None
    predictions: dict[str, Any] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything happened that a new model would not know of."""
        return self.round > 0 or self.phase != "train" or len(self.history) > 0

    @property
    def has_trained(self) -> bool:
        """Whether a round has ended, so that weights other than the initial ones exist."""
        return any(record.n_labelled for record in self.history)

    # ---------------------------------------------------------------------------------------------- transitions

    def begin_round(self) -> None:
        """A round starts training, from the start."""
        self._move("begin_round")

    def redo(self) -> None:
        """The round that trains was cut off; it has to be trained again from its start."""
        self._move("redo")

    def retrain(self) -> None:
        """The weights of the round that has trained last cannot be used: it has to be trained again."""
        self._move("retrain")
        del self.history[-1]

    def start_over(self) -> None:
        """Forget half of a first round, so that another model may begin the run."""
        self._move("start_over")

    def finish_round(self, record: RoundRecord) -> None:
        """The round has trained.

        Args:
            record: of this round.
        """
        self._move("finish_round")
        self.history.append(record)
        self.metrics, self.round_weights = {}, None

    def begin_cold(self) -> None:
        """No label is known: the first query comes before any training, and has a record of its own."""
        self._move("begin_cold")
        self.history.append(RoundRecord(round=0, seed=self.seed, labelled=np.empty(0, dtype=np.int64)))

    def ask(self, query: Query) -> None:
        """Points were chosen after the last round; their answers come next.

        Args:
            query: joins what was asked after the same round, where all of that was skipped.
        """
        self._move("ask")
        record = self.history[-1]
        record.query = query if record.query is None else record.query.followed_by(query)
        record.stop_reason = None
        self.asked = query.indices.tolist()

    def ask_others(self) -> None:
        """All points asked were skipped: training on the same labels again would teach nothing."""
        self._move("ask_others")
        self.asked = []

    def answered(self) -> None:
        """Enough answers have arrived: the next round trains."""
        self._move("answered")
        self.round += 1
        self.asked = []
        self.history[-1].stop_reason = None  # it goes on

    def _move(self, transition: str) -> None:
        origins, target = TRANSITIONS[transition]
        if self.phase not in origins:
            raise TransitionError(
                f"A run in phase {self.phase!r} (round {self.round}) cannot {transition.replace('_', ' ')}: that is "
                f"possible only in {', '.join(map(repr, sorted(origins)))}."
            )
        self.phase = target

    # ----------------------------------------------------------------------------------------------- checkpoints

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dicts only: `torch.load(weights_only=True)` reads it."""
        return {
            "format": FORMAT,
            "round": self.round,
            "phase": self.phase,
            "seed": self.seed,
            "history": self.history.state_dict(),
            "asked": list(self.asked),
            "bought_before": self.bought_before,
            "initial_weights": self.initial_weights,
            "round_weights": self.round_weights,
            "metrics": dict(self.metrics),
            "steps": self.steps,
            "pseudo_labels": self.pseudo_labels,
            "predictions": self.predictions,
        }

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any], position: Callable[[int], int] | None = None) -> RunState:
        """What `to_checkpoint` gave.

        Args:
            saved: as it was given.
            position: of each point that was asked or labelled then, where the data set has another order now.

        Raises:
            ResumeError: written in a format that this version does not read.
        """
        if saved.get("format") not in KNOWN_FORMATS:
            raise ResumeError(
                f"The active learning state in this checkpoint has format {saved.get('format')!r}, and this version of "
                f"lightning-diffal reads formats {KNOWN_FORMATS}: install the version that wrote it."
            )
        values = {name: saved[name] for name in cls.__dataclass_fields__ if name != "history" and name in saved}
        state = cls(history=History.from_state(saved["history"]), **values)
        if position is not None:
            state.asked = [position(index) for index in state.asked]
            for record in state.history:
                record.move(position)
        return state
