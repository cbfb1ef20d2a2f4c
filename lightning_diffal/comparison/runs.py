"""One run of a comparison: one sampler on one seed, through a real Trainer."""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from lightning_diffal._lightning import NAMESPACE, pl
from lightning_diffal.callback import ActiveLearning
from lightning_diffal.comparison.tasks.task import Task
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.data.fingerprint import fingerprint
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.history.history import History
from lightning_diffal.samplers import QuerySampler
from lightning_diffal.utils.jsonable import to_jsonable
from lightning_diffal.utils.seeding import isolated_environment_seed, isolated_random_state, seed_everything

__all__ = ["FORMAT", "RunPlan", "callback_of", "execute", "prepared", "quiet", "threads"]

FORMAT = 1
"""Of result files; another number means another meaning."""

Tell = Callable[[dict[str, Any]], object]

_OURS = ("sampler", "query_size", "max_rounds", "run_dir", "seed")
"""Arguments of `ActiveLearning` that a comparison sets itself."""

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class RunPlan:
    """All that one run needs; it is pickled for another process.

    Args:
        name: of the sampler in this comparison.
        sampler: copied before it is used.
        seed: of the task; round `r` is seeded with `1000 * seed + r`, whatever the sampler.
        task: makes model and data.
        query_size: labels bought per round.
        rounds: queries.
        trainer_kwargs: for the Trainer, after those of the task.
        callback_kwargs: for `ActiveLearning`.
        threads: of torch.
    """

    name: str
    sampler: QuerySampler
    seed: int
    task: Task
    query_size: int
    rounds: int
    trainer_kwargs: dict[str, Any] = field(default_factory=dict)
    callback_kwargs: dict[str, Any] = field(default_factory=dict)
    threads: int = 1


def prepared(plan: RunPlan) -> tuple[pl.LightningModule, ActiveDataModule]:
    """The model and the data of a run, made with all global generators seeded, and checked.

    Raises:
        InvalidTypeError: the task gives something else.
        ConfigurationError: fewer points than labels are wanted.
    """
    seed_everything(plan.seed)
    made = plan.task(plan.seed)
    if not (
        isinstance(made, tuple)
        and len(made) == 2
        and isinstance(made[0], pl.LightningModule)
        and isinstance(made[1], ActiveDataModule)
    ):
        raise InvalidTypeError(
            f"Expected argument `task` to return a {pl.__name__}.LightningModule and an ActiveDataModule, "
            f"but got {made!r}."
        )
    model, data = made
    if data.train_dataset is not None:  # else `setup` gives it, and the run will tell
        wanted = plan.query_size * plan.rounds
        if len(data.pool_indices) < wanted:
            raise ConfigurationError(
                f"Expected at most {len(data.pool_indices)} labels to be asked, as many as there are points without a "
                f"label for seed {plan.seed}, but got rounds={plan.rounds} times query_size={plan.query_size}, which "
                f"is {wanted}: take fewer."
            )
    return model, data


def callback_of(plan: RunPlan) -> ActiveLearning:
    """The callback of a run.

    Raises:
        ConfigurationError: `callback_kwargs` that it does not take.
    """
    known = inspect.signature(ActiveLearning).parameters
    for name in plan.callback_kwargs:
        if name not in known or name in _OURS:
            raise ConfigurationError(
                "Expected argument `callback_kwargs` to hold arguments of ActiveLearning other than "
                f"{', '.join(_OURS)}, which a comparison sets itself, but got {name!r}."
            )
    return ActiveLearning(
        copy.deepcopy(plan.sampler),
        query_size=plan.query_size,
        max_rounds=plan.rounds,
        run_dir=False,  # these labels cost nothing, and a run that was cut off begins again
        seed=1000 * plan.seed,
        **{"test_each_round": True, **copy.deepcopy(plan.callback_kwargs)},
    )


def execute(plan: RunPlan, tell: Tell) -> dict[str, Any]:
    """Run it.

    Args:
        plan: what to run.
        tell: gets a message about the start, with `"start"`, and one after each round, with `"n_labelled"`.

    Returns:
        The result: what was asked, what it led to and how long it took, of types that JSON knows.
    """
    began = time.perf_counter()
    with quiet(), threads(plan.threads), isolated_random_state(), isolated_environment_seed():
        model, data = prepared(plan)
        active = callback_of(plan)
        observer = _Observer(plan, tell)
        settings = {**_QUIET, **getattr(plan.task, "trainer_kwargs", {}), **copy.deepcopy(plan.trainer_kwargs)}
        callbacks = [observer, active, *settings.pop("callbacks", ())]
        trainer = pl.Trainer(**settings, callbacks=callbacks)
        trainer.fit(model, datamodule=data)
    return {
        "format": FORMAT,
        "name": plan.name,
        "sampler": repr(plan.sampler),
        "seed": plan.seed,
        "start": observer.start,
        **_as_plain(active.history),
        "total_seconds": round(time.perf_counter() - began, 3),
        "versions": _versions(),
    }


class _Observer(pl.Callback):
    """Notes what a run starts from, before anything trains, and tells of each round."""

    def __init__(self, plan: RunPlan, tell: Tell) -> None:
        self.plan, self.tell = plan, tell
        self.start: dict[str, Any] = {}

    def _say(self, **message: Any) -> None:
        self.tell({"name": self.plan.name, "seed": self.plan.seed, **message})

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = ActiveLearning.from_trainer(trainer)._context.data
        self.start = {
            "n_points": len(data.pool),
            "points": _digest(repr(fingerprint(data)["digests"]).encode()),
            "labels": _digest(data.labelled_indices.tobytes(), data.labels.tobytes()),
            "weights": _digest(*_weight_bytes(pl_module)),
        }
        self._say(start=self.start)

    def on_round_end(self, trainer: pl.Trainer) -> None:
        record = ActiveLearning.from_trainer(trainer).history[-1]
        self._say(n_labelled=record.n_labelled, metrics=record.metrics)


def _as_plain(history: History) -> dict[str, Any]:
    """The records as columns; a round that lacks a value has null there."""
    metrics = list(dict.fromkeys(name for record in history for name in record.metrics))
    parts = list(dict.fromkeys(name for record in history for name in record.seconds))
    summaries = [{} if record.query is None else dict(record.query.summary) for record in history]
    figures = list(dict.fromkeys(name for summary in summaries for name in summary))
    return {
        "n_labelled": [record.n_labelled for record in history],
        "metrics": {name: to_jsonable([record.metrics.get(name) for record in history]) for name in metrics},
        "seconds": {name: [_rounded(record.seconds.get(name)) for record in history] for name in parts},
        "query_summary": {name: to_jsonable([summary.get(name) for summary in summaries]) for name in figures},
        "initial": history[0].labelled.tolist(),
        "asked": [record.query.indices.tolist() for record in history if record.query is not None],
        "stop_reason": history[-1].stop_reason,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _weight_bytes(module: pl.LightningModule) -> Iterator[bytes]:
    for name, values in sorted(module.state_dict().items()):
        yield name.encode()
        if isinstance(values, torch.Tensor):
            yield values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    packages = {"lightning": NAMESPACE.partition(".")[0].replace("_", "-"), "lightning_diffal": "lightning-diffal"}
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    for name, package in packages.items():
        with suppress(PackageNotFoundError):  # used from a checkout
            found[name] = version(package)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """A comparison has a progress display of its own; what Lightning says about devices and loaders would drown it."""
    names = ("pytorch_lightning", "lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    try:
        for logger, _ in levels:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Small networks gain nothing from threads, and runs side by side would fight over the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
