"""A temperature that calibrates probabilities, found on held-out labelled points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.optimize

from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["calibration_error", "fit_logistic", "held_out_temperature", "tempered"]

_FOLDS = 5
_FEWEST = 8  # labels below which nothing can be calibrated
_BINS = 15
_TEMPERATURES = np.logspace(-1, 1, 25)  # 1 is the one in the middle


def tempered(probabilities: FloatArray, temperature: float) -> FloatArray:
    r"""Probabilities whose logarithms were divided by a temperature, :math:`p_c^{1/\tau} / \sum_k p_k^{1/\tau}`.

    Args:
        probabilities: `(N, C)`.
        temperature: above 1 makes them less sure, below 1 surer; 1 leaves them as they are.

    Example:
        >>> tempered(np.float32([[0.9, 0.1]]), 2.0).round(2)
        array([[0.75, 0.25]], dtype=float32)
    """
    if temperature == 1:
        return probabilities
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / np.float32(temperature)
    logits -= logits.max(axis=1, keepdims=True)
    values = np.exp(logits)
    scaled: FloatArray = values / values.sum(axis=1, keepdims=True)
    return scaled


def calibration_error(probabilities: FloatArray, labels: IntArray) -> float:
    r"""The expected calibration error: how far confidence and accuracy are apart, over 15 bins of the confidence.

    .. math:: \sum_b \frac{n_b}{N} \lvert \operatorname{acc}_b - \operatorname{conf}_b \rvert

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, equation 3.

    Args:
        probabilities: `(N, C)`, at least one row.
        labels: `(N,)`.

    Example:
        >>> calibration_error(np.float32([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))
        0.25
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    surplus = confidence - (probabilities.argmax(axis=1) == labels)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    return float(np.abs(np.bincount(bins, surplus, _BINS)).sum() / len(labels))


def fit_logistic(features: FloatArray, labels: IntArray, num_classes: int, penalty: float = 0.1) -> FloatArray:
    r"""A linear classifier, by multinomial logistic regression.

    .. math:: \min_W \sum_n -\log \operatorname{softmax}(W^\top [x_n, 1])_{y_n} + \frac{\lambda}{2} \lVert W \rVert^2

    The constant is not penalised. Classes without a label get a probability, a small one.

    Args:
        features: `(L, D)`, of magnitudes of about 1.
        labels: `(L,)`.
        num_classes: `C`.
        penalty: :math:`\lambda`; 0.1 is the `C=10` of scikit-learn.

    Returns:
        `(D + 1, C)`, the constants last.

    Example:
        >>> weights = fit_logistic(np.float32([[-1], [1]]), np.array([0, 1]), 2)
        >>> bool(weights[0, 1] > weights[0, 0])
        True
    """
    rows = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    targets = np.eye(num_classes)[labels]
    shape = (rows.shape[1], num_classes)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(shape)
        logits = rows @ weights
        logits -= logits.max(axis=1, keepdims=True)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        gradient = rows.T @ (np.exp(log_probabilities) - targets)
        gradient[:-1] += penalty * weights[:-1]
        value = -float((targets * log_probabilities).sum()) + penalty / 2 * float((weights[:-1] ** 2).sum())
        return value, gradient.reshape(-1)

    found = scipy.optimize.minimize(
        loss, np.zeros(shape).reshape(-1), jac=True, method="L-BFGS-B", options={"maxiter": 100}
    )
    weights: FloatArray = found.x.reshape(shape).astype(np.float32)
    return weights


def held_out_temperature(features: FloatArray, labels: IntArray, num_classes: int) -> float:
    """The temperature of least calibration error of a linear classifier on labelled points that it was not fitted to.

    Five folds; 25 temperatures from 0.1 to 10 are tried. With fewer than eight labels, or a single class, it is 1.

    Args:
        features: `(L, D)` of labelled points in random order, of magnitudes of about 1.
        labels: `(L,)`.
        num_classes: `C`.

    Example:
        >>> held_out_temperature(np.float32([[0], [1]]), np.array([0, 1]), 2)
        1.0
    """
    if len(labels) < _FEWEST or len(np.unique(labels)) < 2:
        return 1.0
    folds = np.arange(len(labels)) % _FOLDS
    rows = np.hstack([features, np.ones((len(features), 1), np.float32)])
    logits = np.empty((len(labels), num_classes), np.float32)
    for fold in range(_FOLDS):
        is_out = folds == fold
        logits[is_out] = rows[is_out] @ fit_logistic(features[~is_out], labels[~is_out], num_classes)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    errors = [calibration_error(tempered(probabilities, float(value)), labels) for value in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(errors))])
