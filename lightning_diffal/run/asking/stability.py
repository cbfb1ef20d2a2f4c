"""How far the models of successive rounds agree."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.labels.pool import LabelledPool
from lightning_diffal.run.asking.model_pass import ModelPass
from lightning_diffal.run.context import RunContext
from lightning_diffal.stopping.base import KAPPA, stop_set_size
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.numeric.arrays import array_from_state, array_state

__all__ = ["check_single_label", "cohen_kappa", "measure_stability", "stop_set"]


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    r"""Agreement of two classifiers beyond chance (Cohen 1960).

    .. math:: \kappa = \frac{p - e}{1 - e}

    with the share :math:`p` of points on which they agree and :math:`e` of those on which they would if each drew its
    classes at random, as often as it predicts them. Where both predict the same single class for everything it is
    0 / 0, and taken as 0: that agreement says nothing.

    Args:
        first: `(n,)` classes.
        second: `(n,)` classes.

    Example:
        >>> cohen_kappa([0, 0, 1, 1], [0, 0, 1, 0]), cohen_kappa([2, 2], [2, 2])
        (0.5, 0.0)
    """
    classes, codes = np.unique(np.concatenate([np.asarray(first), np.asarray(second)]), return_inverse=True)
    a, b = np.split(codes.reshape(-1), 2)
    by_chance = float(np.bincount(a, minlength=len(classes)) @ np.bincount(b, minlength=len(classes))) / len(a) ** 2
    return 0.0 if by_chance == 1 else float(((a == b).mean() - by_chance) / (1 - by_chance))


def stop_set(pool: LabelledPool, size: int | None, seed: int) -> tuple[IntArray, IntArray]:
    """The points whose predictions are compared, by a hash of their ids: the same ones in any order of the data set.

    Args:
        pool: knows the ids.
        size: how many, of the lowest hash; `None`: all.
        seed: of the run.

    Returns:
        Their hashes `(n,)`, rising, and their positions `(n,)`.

    Example:
        >>> [len(part) for part in stop_set(LabelledPool(10), 4, seed=0)]
        [4, 4]
    """
    digests = b"".join(
        hashlib.blake2b(f"{seed}/{pool.id_of(i)}".encode(), digest_size=8).digest() for i in range(len(pool))
    )
    keys = np.frombuffer(digests, dtype="<i8").astype(np.int64)
    order = np.argsort(keys, kind="stable")[:size]
    return keys[order], order


def measure_stability(context: RunContext, model_pass: ModelPass) -> dict[str, float]:
    """Compare the model that has just trained with that of the round before, where a stopping rule goes by it.

    The figure joins the record's metrics, and the predictions the run's state. Measured once per round: a later fit
    finds it there.

    Args:
        context: the run, after a round.
        model_pass: of its model.

    Returns:
        What was measured now.

    Raises:
        ConfigurationError: multi-label targets.
    """
    size = stop_set_size(context.settings.stopping)
    state, record = context.state, context.state.history[-1]
    before = state.predictions
    if size == 0 or not record.n_labelled or (before is not None and before["round"] == record.round):
        return {}
    check_single_label(context)
    keys, positions = stop_set(context.data.pool, size, state.seed)
    predicted = model_pass.predictions(positions)

    def compare() -> tuple[dict[str, Any], float | None]:
        assert predicted is not None, "on the first process"
        now = {"round": record.round, "keys": array_state(keys), "classes": array_state(predicted)}
        if before is None or before["round"] != record.round - 1:
            return now, None
        # points may have joined the data set since
        _, ours, theirs = np.intersect1d(keys, array_from_state(before["keys"]), return_indices=True)
        return now, cohen_kappa(predicted[ours], array_from_state(before["classes"])[theirs]) if len(ours) else None

    state.predictions, kappa = context.ranks.decide(compare)
    if kappa is None:
        return {}
    record.metrics[KAPPA] = kappa
    return {KAPPA: kappa}


def check_single_label(context: RunContext) -> None:
    """Refuse multi-label targets where a rule compares predictions.

    Raises:
        ConfigurationError: multi-label targets.
    """
    if stop_set_size(context.settings.stopping) != 0 and context.data.pool.is_multilabel:
        raise ConfigurationError(
            "Stopping rules that compare predictions (StablePredictions, ExploredAndStable) need one class per point, "
            "but the targets are multi-label: use TargetMetric or Explored."
        )
