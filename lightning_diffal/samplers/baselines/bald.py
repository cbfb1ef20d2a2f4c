"""BALD: points on which the passes of Monte-Carlo dropout disagree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers.base import QueryData, ScoreSampler
from lightning_diffal.samplers.baselines.uncertainty import entropy
from lightning_diffal.samplers.points import check_count
from lightning_diffal.utils.aliases import FloatArray

__all__ = ["BALDSampler", "mutual_information"]


def mutual_information(mean_probabilities: npt.ArrayLike, mean_entropy: npt.ArrayLike) -> FloatArray:
    r"""What a label would tell about the model's weights, in nats.

    .. math:: I[y; w \mid x] = H\Big[\frac{1}{T} \sum_t p_t\Big] - \frac{1}{T} \sum_t H[p_t]

    Houlsby, Huszár, Ghahramani and Lengyel, "Bayesian active learning for classification and preference learning",
    2011, equation 2; with the passes of Monte-Carlo dropout Gal, Islam and Ghahramani, "Deep Bayesian active learning
    with image data", ICML 2017, section 4.

    Args:
        mean_probabilities: `(N, C)` mean over the passes.
        mean_entropy: `(N,)` mean over the passes of the entropy of one.

    Returns:
        `(N,)` at least 0.

    Example:
        >>> mutual_information([[0.5, 0.5], [0.5, 0.5]], [0.0, np.log(2)]).round(4)
        array([0.6931, 0.    ], dtype=float32)
    """
    information: FloatArray = np.maximum(entropy(mean_probabilities) - np.asarray(mean_entropy, np.float32), 0)
    return information


class BALDSampler(ScoreSampler):
    """Asks the points on which models with different units dropped disagree most; see `mutual_information`.

    The model needs dropout modules. In the pass over the data set only they are in training mode, seeded, so that a
    resumed run asks the same points. For multi-label targets the score is the mean over the labels.

    Args:
        n_passes: how often the model runs over the data set. The information is underestimated by a share of about
            `1 / n_passes`, for all points alike, since an average of few passes is too sure.

    Raises:
        ConfigurationError: `n_passes` below 2, which cannot disagree.

    Example:
        >>> means, entropies = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.1], [0.6]])
        >>> data = QueryData(mc_probabilities=np.hstack([means, entropies]))
        >>> BALDSampler().select(data, 1, np.random.default_rng(0)).indices
        array([0])
    """

    requires: frozenset[str] = frozenset({"mc_probabilities"})

    def __init__(self, n_passes: int = 20) -> None:
        expected = "an integer of at least 2"
        check_count("n_passes", n_passes, expected)
        if n_passes < 2:
            raise ConfigurationError(f"Expected argument `n_passes` to be {expected}, but got {n_passes!r}.")
        self.n_passes = n_passes
        self.mc_passes = n_passes

    def scores(self, data: QueryData) -> FloatArray:
        """The mutual information of every point's label and the weights.

        Args:
            data: needs `mc_probabilities`, `(N, C + 1)`.

        Returns:
            `(N,)`.

        Raises:
            ConfigurationError: no Monte-Carlo passes.
        """
        if data.mc_probabilities is None:
            raise ConfigurationError("Expected argument `data` to hold `mc_probabilities`, but got None.")
        means, entropies = data.mc_probabilities[:, :-1], data.mc_probabilities[:, -1]
        if not data.is_multilabel:
            return mutual_information(means, entropies)
        total = sum((entropy(np.stack([column, 1 - column], axis=1)) for column in means.T), np.float32(0))
        information: FloatArray = np.maximum(total / np.float32(means.shape[1]) - entropies, 0)
        return information
