"""`RunContext`: everything that the parts of a run work with, below the callback."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from lightning_diffal._lightning import LoopLimits, Pristine
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.features.extractor import FeatureExtractor
from lightning_diffal.history.folder import RunFolder
from lightning_diffal.monitor.monitor import Monitor
from lightning_diffal.processes.ranks import Ranks
from lightning_diffal.processes.spawned import Handback
from lightning_diffal.run.settings import RunSettings
from lightning_diffal.run.state import RunState
from lightning_diffal.utils.modules import Unsaved

__all__ = ["Resumed", "RunContext"]


@dataclass
class Resumed:
    """What the checkpoint says that the running fit resumes.

    Args:
        saved: the run as the checkpoint holds it.
        random_state: of this process, until it has been put back.
        continues_epoch: whether the round goes on from the middle of an epoch.
    """

    saved: dict[str, Any]
    random_state: dict[str, Any] | None = None
    continues_epoch: bool = False

    @property
    def was_stopped(self) -> bool:
        """Whether the checkpoint was written after something had stopped the training."""
        return bool(self.saved.get("stopped"))

    def forget_round(self) -> None:
        """The resumed round has ended, or its random state has been put back."""
        self.random_state, self.continues_epoch = None, False


@dataclass
class RunContext:
    """One active learning run in one process.

    `settings`, `state` and `handback` outlive a Trainer and go along into child processes; everything else belongs to
    the Trainer and the current process, and is found again when a fit begins. An attribute without a default is not
    there before that.

    Args:
        settings: the user's arguments.
        extractor: reads features.
        handback: brings the state home from processes that live for one fit.
        state: where the run stands.
    """

    settings: RunSettings
    extractor: FeatureExtractor
    handback: Handback = field(default_factory=Handback)
    state: RunState = field(default_factory=RunState)

    # ------------------------------------------------------------------------------------------- of the running fit
    data: ActiveDataModule = field(init=False, repr=False)
    ranks: Ranks = field(init=False, repr=False)
    limits: LoopLimits = field(init=False, repr=False)
    """How long each round trains."""
    folder: RunFolder | None = field(default=None, init=False)
    """The run's folder on the process that writes; `None` on others, and where nothing is written."""
    monitor: Monitor = field(default_factory=Monitor, init=False, repr=False)
    """What people see of the run while it runs."""
    is_open: bool = field(default=False, init=False)
    """Whether the folder has been looked for."""
    journal_ids: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    """Ids of points by the positions that they have in the journal."""
    fingerprint: dict[str, Any] | None = field(default=None, init=False, repr=False)
    """Of the data set."""
    resumed: Resumed | None = field(default=None, init=False, repr=False)
    stop_reason: str | None = field(default=None, init=False)
    """Why the user wants the run to end after this round."""
    deadline: float = field(default=float("inf"), init=False)
    """On the monotonic clock: no query is made after it."""

    # --------------------------------------------------------------------- of the Trainer, from before anything trained
    subjects: tuple[weakref.ref[Any], ...] = field(default=(), init=False, repr=False)
    """The model and the data module that the run began with."""
    unsaved: Unsaved | None = field(default=None, init=False, repr=False)
    """What `state_dict` does not know of the model."""
    pristine: dict[int, Pristine] = field(default_factory=dict, init=False, repr=False)
    """Of callbacks."""
    precision: Any = field(default=None, init=False, repr=False)
    """The precision plugin whose state is `precision_state`."""
    precision_state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    random_states: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    """Of all processes, when an epoch ended."""

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(RunContext(self.settings, self.extractor, self.handback, self.state)))

    @property
    def has_data(self) -> bool:
        """Whether a fit has begun."""
        return hasattr(self, "data")

    def forget_trainer(self) -> None:
        """Let go of everything that belongs to one Trainer in one process."""
        kept = self.__getstate__()
        vars(self).clear()
        vars(self).update(kept)
