"""Labels that disagree with what diffuses to their points from all other labels: likely mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_diffal import diffusion
from lightning_diffal.graph.point_graph import build_point_graph, neighbor_lists
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["Doubt", "doubtful_labels"]

_FOLDS = 10
_FIRM = 0.5  # of the mass that arrives has to be for another class, beyond the runner-up


@dataclass(frozen=True)
class Doubt:
    """A label worth a second look.

    Args:
        row: the point.
        given: its label.
        expected: the class that diffuses to it from the other labels.
        confidence: the lead of that class over the next, as a share of all mass that arrives; 0 to 1.
    """

    row: int
    given: int
    expected: int
    confidence: float


def doubtful_labels(features: FloatArray, labelled: IntArray, labels: IntArray, num_classes: int) -> list[Doubt]:
    """Hide each tenth of the labels in turn, let the others diffuse, and compare.

    A point is not worth a look where hardly anything arrives, or where two classes arrive alike: there the label is
    news and not a contradiction.

    Args:
        features: `(n, d)` of all points.
        labelled: `(L,)` rows whose label is known.
        labels: `(L,)` their classes.
        num_classes: `C`.

    Returns:
        The doubts, the firmest first.

    Example:
        >>> points = np.concatenate([np.zeros(30), np.full(30, 9.0)])[:, None] + np.linspace(0, 1, 60)[:, None]
        >>> labels = np.array([0] * 30 + [1] * 30)
        >>> labels[4] = 1
        >>> [doubt.row for doubt in doubtful_labels(points.astype(np.float32), np.arange(60), labels, 2)]
        [4]
    """
    if len(labelled) < 2 * num_classes or len(np.unique(labels)) < 2 or len(features) < 10:
        return []
    n_neighbors = min(15, len(features) - 1)
    space = build_point_graph(features, lambda nodes, rows: neighbor_lists(nodes, n_neighbors, rows=rows))
    nodes = space.inverse[labelled]
    order = np.random.default_rng(0).permutation(len(labelled))
    found: list[Doubt] = []
    for fold in range(min(_FOLDS, len(labelled))):
        hidden = np.zeros(len(labelled), dtype=bool)
        hidden[order[fold::_FOLDS]] = True
        known = ~hidden & ~np.isin(nodes, nodes[hidden])  # copies of a hidden point would tell
        if not known.any():
            continue
        summary = diffusion.label_summary(
            space.transition, nodes[known], labels[known], num_classes, diffusion.DEFAULT_N_STEPS
        )
        typical = np.median(summary.reach[nodes[hidden]])
        for place in np.flatnonzero(hidden).tolist():
            reach, expected = float(summary.reach[nodes[place]]), int(summary.predicted[nodes[place]])
            lead = float(summary.margin[nodes[place]]) / reach if reach > 0 else 0.0
            if expected not in (-1, int(labels[place])) and lead >= _FIRM and reach >= 0.5 * typical:
                found.append(Doubt(int(labelled[place]), int(labels[place]), expected, lead))
    return sorted(found, key=lambda doubt: (-doubt.confidence, doubt.row))
