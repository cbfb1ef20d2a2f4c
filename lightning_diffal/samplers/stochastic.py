"""Stochastic batches: noise on the scores, so that a batch is not a heap of near copies."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler, ScoreSampler
from lightning_diffal.samplers.baselines.uncertainty import MarginSampler
from lightning_diffal.samplers.points import check_choice, check_count

__all__ = ["StochasticSampler", "log_weights"]


_MODES = ("power", "softmax", "softrank")


def log_weights(scores: npt.ArrayLike, mode: str, keys: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    r"""The logarithm of the weight that a score is drawn with, at temperature 1.

    .. math:: \text{power: } \log s_i \qquad \text{softmax: } s_i \qquad \text{softrank: } -\log r_i

    with the rank :math:`r_i` from 1 for the highest score. Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron
    and Gal, "Stochastic batch acquisition: a simple baseline for deep active learning", TMLR 2023, section 3.

    Args:
        scores: `(M,)` higher is wanted more; for `"power"` none below 0.
        mode: `"power"`, `"softmax"` or `"softrank"`.
        keys: `(M,)` order equal scores in the ranks.

    Returns:
        `(M,)`; minus infinity for what `"power"` never draws while anything else is left.

    Example:
        >>> log_weights([1.0, 4.0, 2.0], "softrank", np.zeros(3)).round(4).tolist()
        [-1.0986, -0.0, -0.6931]
    """
    values = np.asarray(scores, np.float64)
    if mode == "softmax":
        return values
    if mode == "power":
        if values.min(initial=0) < 0:
            raise ConfigurationError(
                f"Expected scores of at least 0 for mode 'power', but got {values.min():g}. Take 'softrank'."
            )
        return np.log(values, out=np.full(len(values), -np.inf), where=values > 0)
    ranks = np.empty(len(values))
    ranks[np.lexsort((keys, -values))] = np.arange(1, len(values) + 1)
    return -np.log(ranks)


class StochasticSampler(QuerySampler):
    r"""Asks points drawn by their score instead of the highest ones, which are often copies of one another.

    Gumbel noise on the log-weights makes the highest ones a draw without replacement:

    .. math:: \text{the } b \text{ highest of } \log w_i + \tau \, \epsilon_i, \qquad \epsilon_i \sim
        \operatorname{Gumbel}(0, 1)

    so that each pick has probability in proportion to :math:`w_i^{1 / \tau}`; see `log_weights` for the modes. Kirsch
    et al., TMLR 2023, section 3, with the coldness :math:`\beta = 1 / \tau`. It costs as much as taking the highest
    ones. Scores of the query are those of `base`, in the order of the draw.

    Args:
        base: any sampler that scores each point for itself (a `ScoreSampler`): `DiffusionSampler` (its scores before
            the first pick of a batch), `BALDSampler`, `MarginSampler`, `EntropySampler`, `LeastConfidenceSampler`, or
            one of yours. Default: `MarginSampler()`.
        mode: `"power"` (the paper's advice: scores near 0 are of no use), `"softmax"` or `"softrank"` (the order of the
            scores alone counts).
        temperature: :math:`\tau` above 0; towards 0 the highest scores are taken. 1 in the paper.

    Raises:
        ConfigurationError: a sampler without scores, or an argument out of range.

    Example:
        >>> from lightning_diffal.samplers import EntropySampler
        >>> data = QueryData(probabilities=np.array([[0.5, 0.5], [1.0, 0.0], [0.4, 0.6]]))
        >>> sorted(StochasticSampler(EntropySampler()).select(data, 2, np.random.default_rng(0)).indices.tolist())
        [0, 2]
    """

    stochastic: bool = True

    def __init__(
        self,
        base: ScoreSampler | None = None,
        mode: Literal["power", "softmax", "softrank"] = "power",
        temperature: float = 1.0,
    ) -> None:
        self.base = MarginSampler() if base is None else base
        if not isinstance(self.base, ScoreSampler):
            raise ConfigurationError(
                "Expected argument `base` to be a ScoreSampler, which scores each point for itself, "
                f"but got {self.base!r}."
            )
        check_choice("mode", mode, _MODES)
        is_number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
        if not is_number or not 0 < temperature < np.inf:
            raise ConfigurationError(
                f"Expected argument `temperature` to be a finite number above 0, but got {temperature!r}."
            )
        self.mode = mode
        self.temperature = temperature
        self.requires = self.base.requires
        self.penultimate_alone = self.base.penultimate_alone
        self.mc_passes = self.base.mc_passes

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Draw `min(query_size, M)` of the candidates.

        Args:
            data: needs what `base` requires.
            query_size: how many points to draw.
            generator: draws two numbers per point of the data set: a key and the noise.

        Returns:
            The drawn points in the order of the draw.

        Raises:
            ConfigurationError: a `query_size` below 1, or scores below 0 for `"power"`.
        """
        check_count("query_size", query_size)
        keys = generator.random(data.num_points)[data.candidates]
        # of 1 - u, which is never 0 as u may be
        noise = -np.log(-np.log1p(-generator.random(data.num_points)[data.candidates]) + np.finfo(np.float64).tiny)
        scores = self.base.scores(data)[data.candidates]
        values = log_weights(scores, self.mode, keys) / self.temperature + noise
        drawn = np.lexsort((keys, -values))[:query_size]
        return Query(data.candidates[drawn], scores[drawn])
