"""BADGE: different points with large gradients."""

from __future__ import annotations

import numpy as np

from lightning_diffal.neighbors.rows import scaled_points
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.kmeans import draw_by_weight
from lightning_diffal.samplers.baselines.uncertainty import checked_probabilities
from lightning_diffal.samplers.points import check_count, check_features
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["BADGESampler", "gradient_factors", "squared_gradient_distances"]


_CACHED_VALUES = 2**18  # of a temporary that is read again at once


def gradient_factors(probabilities: FloatArray, *, multilabel: bool = False) -> FloatArray:
    r"""The gradient of the loss with respect to the logits, had the model guessed the label right.

    .. math:: g_x = p_x - e_{\hat y}, \qquad \hat y = \arg\max_c p_{xc}

    The gradient with respect to the head's weights is :math:`g_x \otimes h_x` with the head's input :math:`h_x`:
    Ash, Zhang, Krishnamurthy, Langford and Agarwal, "Deep batch active learning by diverse, uncertain gradient lower
    bounds", ICLR 2020, equation 1.

    Args:
        probabilities: `(M, C)`.
        multilabel: each column is a label of its own, guessed to be present above one half.

    Returns:
        `(M, C)`.

    Example:
        >>> gradient_factors(np.float32([[0.75, 0.25]]))
        array([[-0.25,  0.25]], dtype=float32)
    """
    factors = probabilities.astype(np.float32, copy=True)
    if multilabel:
        return factors - (factors > 0.5)
    factors[np.arange(len(factors)), factors.argmax(axis=1)] -= 1
    return factors


def squared_gradient_distances(gradients: FloatArray, features: FloatArray, centre: int) -> FloatArray:
    r"""Squared distances of outer products to one of them, from the factors alone.

    .. math:: \lVert g_i \otimes h_i - g_j \otimes h_j \rVert^2 = \lVert \Delta g \rVert^2 \lVert h_i \rVert^2
        + \lVert g_j \rVert^2 \lVert \Delta h \rVert^2 + 2 (\Delta g \cdot g_j)(h_i \cdot \Delta h)

    with :math:`\Delta g = g_i - g_j` and :math:`\Delta h = h_i - h_j`. Unlike the form with
    :math:`-2 (g_i \cdot g_j)(h_i \cdot h_j)` nothing large cancels, and equal points are at 0 exactly. `C + D` numbers
    a point instead of `C * D`.

    Args:
        gradients: `(M, C)` one factor.
        features: `(M, D)` the other one.
        centre: the position `j`.

    Returns:
        `(M,)`.

    Example:
        >>> squared_gradient_distances(np.float32([[1, 0], [0, 2]]), np.float32([[3], [1]]), 0)
        array([ 0., 13.], dtype=float32)
    """
    result = np.empty(len(gradients), np.float32)
    gradient, feature = gradients[centre], features[centre]
    length = gradient @ gradient
    block = max(1, _CACHED_VALUES // (gradients.shape[1] + features.shape[1] + 1))
    for start in range(0, len(gradients), block):
        rows = features[start : start + block]
        to_gradient, to_feature = gradients[start : start + block] - gradient, rows - feature
        squared = _dots(to_gradient, to_gradient) * _dots(rows, rows)
        squared += length * _dots(to_feature, to_feature)
        squared += 2 * (to_gradient @ gradient) * _dots(rows, to_feature)
        np.maximum(squared, 0, out=result[start : start + block])
    return result


class BADGESampler(QuerySampler):
    """Asks points by k-means++ on the gradients that they would cause: uncertain ones, and different ones.

    Ash et al., ICLR 2020, algorithm 1: the batch is drawn by the seeding of k-means++ on gradient embeddings, each
    point with a probability in proportion to its squared distance to the nearest one drawn. The first is the one of
    the largest gradient, as in the authors' code. Embeddings are never formed, see `squared_gradient_distances`.
    Labelled and pending points play no part, as in the paper. Scores are the distances at the time of the draw, for
    the first one the length of its gradient.

    Features have to be what goes into the model's last linear layer; `ActiveLearning` gives that to it alone, where it
    would give more to others.

    Example:
        >>> probabilities = np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
        >>> data = QueryData(features=np.array([[2.0], [3.0], [1.0]]), probabilities=probabilities)
        >>> BADGESampler().select(data, 2, np.random.default_rng(0)).indices.tolist()[0]
        0
    """

    requires: frozenset[str] = frozenset({"features", "probabilities"})
    stochastic: bool = True
    penultimate_alone: bool = True

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Draw `min(query_size, M)` of the candidates.

        Args:
            data: needs `features`, `(N, D)`, and `probabilities`, `(N, C)`.
            query_size: how many points to draw.
            generator: draws one key per point of the data set, then the points.

        Returns:
            The drawn points in the order of the draw.

        Raises:
            ConfigurationError: no features or probabilities, or a `query_size` below 1.
        """
        check_count("query_size", query_size)
        keys = generator.random(data.num_points)
        candidates = data.candidates[np.argsort(keys[data.candidates], kind="stable")]
        features, exponent = scaled_points(check_features(data)[candidates], "euclidean")
        gradients = gradient_factors(checked_probabilities(data)[candidates], multilabel=data.is_multilabel)
        positions, squared = _draw(gradients, features, min(query_size, len(candidates)), generator)
        lengths = np.ldexp(np.sqrt(squared.astype(np.float64)), exponent)
        return Query(candidates[positions], np.minimum(lengths, np.finfo(np.float32).max))


def _draw(
    gradients: FloatArray, features: FloatArray, size: int, generator: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Positions drawn by k-means++ and their squared distances; the first left where all distances are 0."""
    positions, squared = np.empty(size, np.int64), np.empty(size, np.float32)
    nearest = _dots(gradients, gradients) * _dots(features, features)
    left = np.ones(len(gradients), dtype=bool)
    for place in range(size):
        if place == 0:
            drawn = int(nearest.argmax())
        elif nearest.max() > 0:
            drawn = draw_by_weight(nearest, generator)
        else:
            drawn = int(left.argmax())
        positions[place], squared[place], left[drawn] = drawn, nearest[drawn], False
        distances = squared_gradient_distances(gradients, features, drawn)
        nearest = distances if place == 0 else np.minimum(nearest, distances)  # 0 for what is drawn
    return positions, squared


def _dots(a: FloatArray, b: FloatArray) -> FloatArray:
    dots: FloatArray = np.einsum("ij,ij->i", a, b)
    return dots
