"""What makes a training set harder: classes that are rare, labels that are wrong, duplicated points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.seeding import generator_of

__all__ = ["CONDITIONS", "apply_condition"]


_PLACE = 1  # of the run's seed: the condition draws from a generator of its own

RARE_CLASSES, DROPPED = 3, 0.9
WRONG_LABELS = 0.05
COPIES = 0.25


def apply_condition(condition: str, labels: IntArray, seed: int, num_classes: int) -> tuple[IntArray, IntArray]:
    """Change a training set; the test set stays as it is.

    Args:
        condition: `"plain"`: nothing. `"imbalanced"`: 90 % of three classes are dropped, which ones is drawn (of fewer
            than six classes, half of them). `"noisy"`: 5 % of the points have another label, drawn evenly from the
            other classes; whoever asks for it gets the wrong one. `"duplicated"`: a quarter of the points are exact
            copies of others.
        labels: `(N,)` classes.
        seed: of the draw.
        num_classes: `C`.

    Returns:
        `(M,)` positions of the points to take, and their labels `(M,)`.

    Example:
        >>> labels = np.arange(1000) % 10
        >>> kept, _ = apply_condition("imbalanced", labels, 0, 10)
        >>> np.sort(np.bincount(labels[kept])).tolist()
        [10, 10, 10, 100, 100, 100, 100, 100, 100, 100]
    """
    return CONDITIONS[condition](labels, generator_of(seed, _PLACE), num_classes)


def _plain(labels: IntArray, generator: np.random.Generator, num_classes: int) -> tuple[IntArray, IntArray]:
    return np.arange(len(labels)), labels


def _imbalanced(labels: IntArray, generator: np.random.Generator, num_classes: int) -> tuple[IntArray, IntArray]:
    kept = np.ones(len(labels), dtype=bool)
    for rare in generator.choice(num_classes, min(RARE_CLASSES, num_classes // 2), replace=False):
        members = np.flatnonzero(labels == rare)
        kept[generator.choice(members, round(DROPPED * len(members)), replace=False)] = False
    return np.flatnonzero(kept), labels[kept]


def _noisy(labels: IntArray, generator: np.random.Generator, num_classes: int) -> tuple[IntArray, IntArray]:
    wrong = generator.choice(len(labels), round(WRONG_LABELS * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + generator.integers(1, num_classes, len(wrong))) % num_classes
    return np.arange(len(labels)), noisy


def _duplicated(labels: IntArray, generator: np.random.Generator, num_classes: int) -> tuple[IntArray, IntArray]:
    taken = np.arange(len(labels))
    order = generator.permutation(len(labels))
    n_copies = round(COPIES * len(labels))
    taken[order[:n_copies]] = generator.choice(order[n_copies:], n_copies)
    return taken, labels[taken]


CONDITIONS: dict[str, Callable[[IntArray, np.random.Generator, int], tuple[IntArray, IntArray]]] = {
    "plain": _plain,
    "imbalanced": _imbalanced,
    "noisy": _noisy,
    "duplicated": _duplicated,
}
"""By name, what a condition does."""
