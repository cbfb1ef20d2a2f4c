"""Where a run stands: everything that a resumed process needs to go on as if nothing had happened."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.history import History

__all__ = ["FORMAT", "Phase", "RunState", "put_weights", "weights_of"]

FORMAT = 1
"""Version of what `RunState.to_checkpoint` writes."""

Phase = Literal["train", "redo", "training", "query", "answers"]
"""What comes next: a round from its start; again, since it was cut off; the rest of one; a query; answers to it."""


@dataclass
class RunState:
    """One active learning run.

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
        pseudo_labels: those that the running round trains upon, as `pseudo_labels.joined.pseudo_state` gives
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
        if saved.get("format") != FORMAT:
            raise ResumeError(
                f"The active learning state in this checkpoint has format {saved.get('format')!r}, and this version of "
                f"lightning-diffal reads format {FORMAT}: install the version that wrote it."
            )
        values = {name: saved[name] for name in cls.__dataclass_fields__ if name != "history" and name in saved}
        state = cls(history=History.from_state(saved["history"]), **values)
        if position is not None:
            state.asked = [position(index) for index in state.asked]
            for record in state.history:
                record.move(position)
        return state


def weights_of(module: nn.Module) -> dict[str, Any]:
    """A copy of the module's state on the CPU, what it gives as `get_extra_state` with it."""
    return {
        name: value.detach().cpu().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in module.state_dict().items()
    }


def put_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Put back what `weights_of` gave; as strictly as a `LightningModule` wants its checkpoints loaded.

    Args:
        module: whose `strict_loading` counts, where it has that.
        weights: copied, since a module may keep what it is given.
    """
    extra = {name: copy.deepcopy(value) for name, value in weights.items() if not isinstance(value, Tensor)}
    module.load_state_dict({**weights, **extra}, strict=bool(getattr(module, "strict_loading", True)))
