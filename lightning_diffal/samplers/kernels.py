"""The Gaussian kernel of greedy coverage, in blocks."""

from __future__ import annotations

import numpy as np

from lightning_diffal.samplers.points import squared_distances
from lightning_diffal.utils.aliases import FloatArray

__all__ = ["gaussian_gains", "gaussian_rows"]

_BLOCK_VALUES = 2**21  # of the kernel held at a time


def gaussian_rows(points: FloatArray, centre: FloatArray, width: float) -> FloatArray:
    r"""A Gaussian kernel around one point, :math:`e^{-\lVert x - c \rVert^2 / \sigma^2}`, exactly 1 at equal rows.

    Args:
        points: `(M, D)`.
        centre: `(D,)`.
        width: :math:`\sigma`.

    Returns:
        `(M,)`.

    Example:
        >>> gaussian_rows(np.float32([[1, 2], [4, 6]]), np.float32([1, 2]), 5.0).round(4)
        array([1.    , 0.3679], dtype=float32)
    """
    values = squared_distances(points, centre)
    values *= np.float32(-1 / width**2)
    kernel: FloatArray = np.exp(values, out=values)
    return kernel


def gaussian_gains(
    points: FloatArray, targets: FloatArray, weights: FloatArray, covered: FloatArray, width: float
) -> FloatArray:
    r"""How much of the targets each point would newly cover, by the Gram form in float32.

    .. math:: \sum_n u_n \max\big(0, e^{-\lVert x - n \rVert^2 / \sigma^2} - \mathrm{cov}_n\big)

    Args:
        points: `(M, D)`, centred.
        targets: `(T, D)`.
        weights: `(T,)` at least 0.
        covered: `(T,)` how well each target is covered already.
        width: :math:`\sigma`.

    Returns:
        `(M,)`.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> gaussian_gains(np.float32([[0], [5]]), np.float32([[0], [1]]), one, 0 * one, 1.0).round(4)
        array([1.3679, 0.    ], dtype=float32)
    """
    gains = np.zeros(len(points), np.float32)
    if not len(targets):
        return gains
    factor = np.float32(1 / width**2)
    norms = np.einsum("ij,ij->i", targets, targets)
    # -|x - y|^2 / width^2 as one product of matrices
    right = np.concatenate(
        [2 * factor * targets, -factor * norms[:, None], np.ones((len(targets), 1), np.float32)], 1
    ).T
    block = max(1, _BLOCK_VALUES // len(targets))
    for start in range(0, len(points), block):
        part = points[start : start + block]
        # a little short, so that rounding does not part a point from itself where the kernel is sharp
        own = np.float32(1 - 2.0**-20) * np.einsum("ij,ij->i", part, part)[:, None]
        kernel = np.concatenate([part, np.ones((len(part), 1), np.float32), -factor * own], axis=1) @ right
        np.minimum(kernel, 0, out=kernel)  # in place throughout: one block and not three
        np.exp(kernel, out=kernel)
        kernel -= covered
        np.maximum(kernel, 0, out=kernel)
        gains[start : start + block] = kernel @ weights
    return gains
