"""The stopping rules themselves."""

from __future__ import annotations

import math
from typing import Any, Literal

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.history.history import History
from lightning_diffal.history.tables import names_of
from lightning_diffal.stopping.base import KAPPA, STOP_SET, AllOf, StoppingRule
from lightning_diffal.utils.arguments import check_choice, check_integers

__all__ = ["Budget", "Explored", "ExploredAndStable", "StablePredictions", "TargetMetric"]


class Budget(StoppingRule):
    """Stops when so many labels were bought. `ActiveLearning(budget=...)` cuts the last query to it as well.

    It is here to be combined: `StablePredictions() & Budget(100)` buys at least 100.

    Args:
        n: labels beyond the initial ones.

    Example:
        >>> from lightning_diffal.history.history import RoundRecord
        >>> Budget(2)(History([RoundRecord(0, 1, labelled=[4]), RoundRecord(1, 2, labelled=[4, 7, 9])]))
        '2 labels were bought (budget 2)'
    """

    def __init__(self, n: int) -> None:
        if n is None:
            raise ConfigurationError("Expected argument `n` to be an integer of at least 1, but got None.")
        check_integers(1, n=n)
        self.n = n

    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`."""
        bought = history[-1].n_labelled - history[0].n_labelled
        return f"{bought} labels were bought (budget {self.n})" if bought >= self.n else None


class TargetMetric(StoppingRule):
    """Stops when a metric is good enough.

    Args:
        metric: its name as it was logged. Those of the test set are there with `test_each_round=True`.
        target: how good.
        mode: `"max"` where more is better, `"min"` where less is.
        patience: in how many rounds in a row the target has to be met: more than one where the metric is noisy.

    Example:
        >>> from lightning_diffal.history.history import RoundRecord
        >>> rule = TargetMetric("val_acc", 0.9)
        >>> rule(History([RoundRecord(0, 1, labelled=[4, 2], metrics={"val_acc": 0.912})]))
        'val_acc=0.912 has reached 0.9'
    """

    def __init__(self, metric: str, target: float, mode: Literal["max", "min"] = "max", patience: int = 1) -> None:
        if not isinstance(metric, str) or not metric:
            raise InvalidTypeError(f"Expected argument `metric` to be the name of a metric, but got {metric!r}.")
        check_choice("mode", mode, ("max", "min"))
        if isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target):
            raise ConfigurationError(f"Expected argument `target` to be a finite number, but got {target!r}.")
        check_integers(1, patience=patience)
        self.metric = metric
        self.target = target
        self.mode = mode
        self.patience = patience

    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`.

        Raises:
            ConfigurationError: rounds have trained, and none has logged the metric.
        """
        known = names_of(history, "metrics")
        if self.metric not in known and history[-1].n_labelled:
            raise ConfigurationError(
                f"{self!r} waits for a metric that no round has logged: log it in the validation loop, or in the test "
                f"loop with `test_each_round=True`. There are: {', '.join(known) or 'none'}."
            )
        values = [record.metrics.get(self.metric, math.nan) for record in history[-self.patience :]]
        if len(values) < self.patience or not all(map(self._is_met, values)):
            return None
        if self.patience == 1:
            return f"{self.metric}={values[0]:.4g} has reached {self.target:g}"
        shown = ", ".join(f"{value:.4g}" for value in values)
        return f"{self.metric} has reached {self.target:g} in {self.patience} rounds in a row ({shown})"

    def _is_met(self, value: float) -> bool:
        return value >= self.target if self.mode == "max" else value <= self.target


class StablePredictions(StoppingRule):
    """Stops when new labels no longer change what the model says.

    After each round the model and that of the round before predict the same points, the stop set; Cohen's kappa is
    how far they agree beyond chance, 1 where they do everywhere. The mean over the last `window` rounds has to reach
    `threshold`. The defaults are those of Bloodgood and Vijay-Shanker, "A method for stopping active learning based on
    stabilizing predictions and the need for user-adjustable stopping", CoNLL 2009. A network that trains anew each
    round differs from its predecessor by its seed too: where problem or training are noisy, kappa may level off below
    .99. Then take a threshold a little below the level that `prediction_kappa` shows in the history.

    Predictions come from the pass over the data set that the sampler needs anyway; where it needs none, only the stop
    set is read. Labelled points stay in it: a set that changes with the rounds would measure something else.

    Args:
        threshold: of the mean kappa, above 0 and at most 1. A lower one stops earlier.
        window: over how many rounds. The first kappa is there after the second training.
        stop_set: how many points, chosen by a hash of the run's seed and their ids, so that they stay the same when
            the data set grows. `None`: all.

    Example:
        >>> from lightning_diffal.history.history import RoundRecord
        >>> history = History([RoundRecord(r, r, [4], {"prediction_kappa": 0.98 + 0.005 * r}) for r in range(1, 4)])
        >>> StablePredictions(threshold=0.985)(history)
        'predictions are stable: kappa 0.990 on average over 3 rounds (threshold 0.985)'
    """

    requires = frozenset({KAPPA})

    def __init__(self, threshold: float = 0.99, window: int = 3, *, stop_set: int | None = STOP_SET) -> None:
        _check_share("threshold", threshold, "a number above 0 and at most 1", above_zero=True)
        check_integers(1, window=window, stop_set=stop_set)
        self.threshold = threshold
        self.window = window
        self.stop_set = stop_set

    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`."""
        values = [record.metrics.get(KAPPA, math.nan) for record in history[-self.window :]]
        mean = sum(values) / len(values)
        if len(values) < self.window or not mean >= self.threshold:
            return None
        over = f"{self.window} rounds" if self.window > 1 else "1 round"
        return f"predictions are stable: kappa {mean:.3f} on average over {over} (threshold {self.threshold:g})"


class Explored(StoppingRule):
    """Stops when diffusion has explored the pool: nothing is left that known labels do not reach.

    Goes by `exploration_share`, the share of a query asked where no label had arrived, which `DiffusionSampler` says of
    each. Combine it: an explored pool still has borders to refine.

    Args:
        max_share: at most this share of each of the last `window` queries explored. Not 0, since an outlier that
            nothing is connected to counts as unexplored for ever.
        window: how many queries in a row.

    Example:
        >>> from lightning_diffal import Query
        >>> from lightning_diffal.history.history import RoundRecord
        >>> queries = [Query([r], [1.0], summary={"exploration_share": 0.0}) for r in range(2)]
        >>> records = [RoundRecord(r, r, [9], query=query) for r, query in enumerate(queries)]
        >>> Explored(window=2)(History([*records, RoundRecord(2, 2, [9])]))
        'the pool is explored: at most 0% of each of the last 2 queries explored (limit 10%)'
    """

    def __init__(self, max_share: float = 0.1, window: int = 3) -> None:
        _check_share("max_share", max_share, "a number from 0 to 1")
        check_integers(1, window=window)
        self.max_share = max_share
        self.window = window

    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`.

        Raises:
            ConfigurationError: queries of a sampler that does not explore.
        """
        queries = [record.query for record in history if record.query is not None]
        if queries and not any("exploration_share" in query.summary for query in queries):
            raise ConfigurationError(
                f"{self!r} goes by the `exploration_share` of queries, which this run's sampler does not give: use "
                "DiffusionSampler, or StablePredictions() alone."
            )
        shares = [query.summary.get("exploration_share", math.nan) for query in queries[-self.window :]]
        if len(shares) < self.window or not all(share <= self.max_share for share in shares):
            return None
        which = f"each of the last {self.window} queries" if self.window > 1 else "the last query"
        return f"the pool is explored: at most {max(shares):.0%} of {which} explored (limit {self.max_share:.0%})"


class ExploredAndStable(AllOf):
    """Stops a run with `DiffusionSampler` when it has nothing left to find: explored, and stable since.

    Both have to hold over the same rounds, since either alone says little: predictions are stable, and wrong, while a
    region that holds no label is out of reach; and an explored pool has borders that labels still move. It is
    `Explored(max_share, window) & StablePredictions(threshold, window, stop_set=stop_set)`.

    Args:
        threshold: of the mean kappa between the models of successive rounds.
        window: over how many rounds, and over how many queries.
        max_share: at most this share of each of these queries explored.
        stop_set: points whose predictions are compared; `None`: all.

    Example:
        >>> ExploredAndStable(window=2)
        ExploredAndStable(threshold=0.99, window=2, max_share=0.1, stop_set=2000)
    """

    def __init__(
        self,
        threshold: float = 0.99,
        window: int = 3,
        *,
        max_share: float = 0.1,
        stop_set: int | None = STOP_SET,
    ) -> None:
        self.threshold = threshold
        self.window = window
        self.max_share = max_share
        self.stop_set = stop_set
        super().__init__(Explored(max_share, window), StablePredictions(threshold, window, stop_set=stop_set))

    __repr__ = StoppingRule.__repr__


def _check_share(name: str, value: Any, words: str, *, above_zero: bool = False) -> None:
    low = isinstance(value, int | float) and (value <= 0 if above_zero else value < 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or low or not value <= 1:
        raise ConfigurationError(f"Expected argument `{name}` to be {words}, but got {value!r}.")
