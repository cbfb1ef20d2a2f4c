"""Pseudo-labels: points whose diffused label is firm enough to be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_diffal import diffusion
from lightning_diffal.exceptions import ConfigurationError, InvalidLabelError, InvalidTypeError
from lightning_diffal.graph.point_graph import PointGraph, build_point_graph, neighbor_lists
from lightning_diffal.neighbors.backends import BACKENDS
from lightning_diffal.neighbors.nearest import NeighborBackend, Neighbors
from lightning_diffal.samplers.base import QueryData
from lightning_diffal.samplers.points import check_choice, check_count, check_features
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["PseudoLabelled", "PseudoLabels", "as_pseudo_labels", "choose_pseudo_labels", "relative_margin"]


_LABELS_PER_CLASS = 4


class PseudoLabelled(NamedTuple):
    """The points that got a pseudo-label.

    Attributes:
        indices: `(P,)` int64 positions in the data set, sorted.
        labels: `(P,)` int64 classes.
        weights: `(P,)` float32 in `(0, 1]`.
    """

    indices: IntArray
    labels: IntArray
    weights: FloatArray


@dataclass(frozen=True)
class PseudoLabels:
    r"""Which points get a pseudo-label, and how much they count in training.

    Labels diffuse from the labelled points over the nearest-neighbour graph of the features. A point gets the class
    that most of the mass at it has, with the weight :math:`(m_i / r_i)^p` of its relative margin; that is the gap
    between the two largest masses as a share of all mass that arrives. So two conditions are apart: enough has to
    arrive (`label_equivalents`), and what arrives has to agree (`margin`).

    In training a point's weight is the probability with which it takes part in a round, since a weight cannot reach
    the loss of a `training_step` that knows nothing of it.

    Args:
        margin: least relative margin, between 0 and 1. A point at which two labels balance has 0.
        label_equivalents: least reach, in labels (`lightning_diffal.diffusion.label_equivalents`). On graphs so small
            that no reach amounts to that, a reach of one half does.
        power: :math:`p`, at least 0, by which the weight falls with the relative margin. 0: all that pass count alike.
        labelled_share: how much of an epoch the labelled points make up, from 0 to below 1: they are repeated as often
            as comes closest to that, and stand there at least once. 0: once.
        min_labels: labels from which on a run trains on pseudo-labels. With fewer, features are poor, and a network
            that learns wrong labels by heart has features that confirm them. `None`: four per class.
        n_neighbors: neighbours of each point in the graph.
        n_steps: steps of diffusion, or `"auto"`: `lightning_diffal.diffusion.DEFAULT_N_STEPS`, 10.
        metric: `"euclidean"`, or `"cosine"` for the direction of the features only.
        backend: how neighbours are found, see `lightning_diffal.neighbors.nearest_neighbors`.
        max_points: most points that get one, those of the largest weight. `None`: no limit.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> rule = PseudoLabels(margin=0.8)
        >>> rule.margin, rule.power
        (0.8, 1.0)
    """

    margin: float = 0.1
    label_equivalents: float = 1.0
    power: float = 1.0
    labelled_share: float = 0.2
    min_labels: int | None = None
    n_neighbors: int = 15
    n_steps: int | Literal["auto"] = "auto"
    metric: str = "euclidean"
    backend: str | NeighborBackend = "auto"
    max_points: int | None = None

    def __post_init__(self) -> None:
        _check_number("margin", self.margin, "from 0 to 1", most=1)
        _check_number("label_equivalents", self.label_equivalents, "of at least 0")
        _check_number("power", self.power, "of at least 0")
        _check_number("labelled_share", self.labelled_share, "from 0 to below 1", most=np.nextafter(1, 0))
        is_count = isinstance(self.min_labels, int | np.integer) and not isinstance(self.min_labels, bool)
        if self.min_labels is not None and (not is_count or self.min_labels < 0):
            raise ConfigurationError(
                f"Expected argument `min_labels` to be an integer of at least 0 or None, but got {self.min_labels!r}."
            )
        check_count("n_neighbors", self.n_neighbors)
        if self.n_steps != "auto":
            check_count("n_steps", self.n_steps, "an integer of at least 1 or 'auto'")
        check_choice("metric", self.metric, ("euclidean", "cosine"))
        if not callable(self.backend):
            check_choice("backend", self.backend, BACKENDS)
        if self.max_points is not None:
            check_count("max_points", self.max_points, "an integer of at least 1 or None")

    def begins_at(self, num_classes: int) -> int:
        """Labels from which on a run trains on pseudo-labels.

        Args:
            num_classes: `C`.

        Example:
            >>> PseudoLabels().begins_at(10), PseudoLabels(min_labels=25).begins_at(10)
            (40, 25)
        """
        return _LABELS_PER_CLASS * num_classes if self.min_labels is None else self.min_labels


def as_pseudo_labels(value: Any) -> PseudoLabels | None:
    """The argument `pseudo_labels` as a rule, or `None` for none.

    Raises:
        InvalidTypeError: neither a boolean nor a rule.

    Example:
        >>> as_pseudo_labels(True) == PseudoLabels(), as_pseudo_labels(False)
        (True, None)
    """
    if value is None or value is False:
        return None
    if value is True:
        return PseudoLabels()
    if not isinstance(value, PseudoLabels):
        hint = ": call it, PseudoLabels()" if value is PseudoLabels else ""
        raise InvalidTypeError(
            f"Expected argument `pseudo_labels` to be True, False or a PseudoLabels, but got {value!r}{hint}."
        )
    return value


def choose_pseudo_labels(
    features: Any,
    labelled: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int | None = None,
    rule: PseudoLabels | None = None,
    *,
    candidates: npt.ArrayLike | None = None,
    graph: PointGraph | None = None,
) -> PseudoLabelled:
    r"""Points whose diffused label is firm, with that label and a weight.

    .. math:: \hat y_i = \arg\max_c \chi_{ic}, \qquad w_i = \Big(\frac{\chi_{i(1)} - \chi_{i(2)}}{\sum_c \chi_{ic}}
        \Big)^p

    for every `i` that is not labelled, whose relative margin is at least `rule.margin` and which is reached by
    `rule.label_equivalents`. :math:`\chi` is what `lightning_diffal.diffusion.diffuse_labels` gives. With labels of
    fewer than two classes nobody gets one: nothing could speak against the only class.

    Args:
        features: `(N, D)` of all points.
        labelled: `(L,)` positions of the labelled points.
        labels: `(L,)` their classes.
        num_classes: `C`. Default: as many as `labels` tell of; classes without a label have no mass.
        rule: thresholds and graph. Default: `PseudoLabels()`.
        candidates: `(M,)` positions that may get one. Default: all that are not labelled.
        graph: of these features, where it is known; else it is built as `rule` says.

    Returns:
        Positions, classes and weights.

    Raises:
        InvalidLabelError: multi-label targets, labels out of range or not aligned with `labelled`.
        InvalidIndexError: a position out of range, or a candidate that is labelled.
        FeatureError: features with NaN or infinite values.

    Example:
        >>> features = [[0.0], [1.0], [2.0], [3.0], [10.0], [11.0], [12.0], [13.0]]
        >>> found = choose_pseudo_labels(features, [3, 4], [1, 0], rule=PseudoLabels(n_neighbors=3, n_steps=9))
        >>> found.indices.tolist(), found.labels.tolist(), found.weights.tolist()
        ([0, 1, 2, 5, 6, 7], [1, 1, 1, 0, 0, 0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    """
    rule = PseudoLabels() if rule is None else rule
    data = QueryData(
        features=np.asarray(features) if isinstance(features, list | tuple) else features,
        labelled=np.asarray(labelled, dtype=None if np.size(labelled) else np.int64),
        labels=np.asarray(labels, dtype=None if np.size(labels) else np.int64),
        num_classes=num_classes or 0,
        candidates=None if candidates is None else np.asarray(candidates, dtype=np.int64),  # type: ignore[arg-type]
    )
    if data.is_multilabel:
        raise InvalidLabelError(
            f"Expected argument `labels` of shape (L,), but got {data.labels.shape}: pseudo-labels are classes, and "
            "multi-label targets cannot have them."
        )
    if len(np.unique(data.labels)) < 2 or not len(data.candidates):
        return PseudoLabelled(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    space = _graph_of(check_features(data), rule) if graph is None else graph
    n_steps = diffusion.DEFAULT_N_STEPS if rule.n_steps == "auto" else rule.n_steps
    known = space.inverse[data.labelled]
    summary = diffusion.label_summary(space.transition, known, data.labels, data.num_classes, n_steps)
    share = relative_margin(summary.margin, summary.reach)
    equivalents = diffusion.label_equivalents(summary.reach, space.n_nodes, n_steps)
    # on graphs of a few dozen nodes no reach amounts to three labels
    is_reached = (equivalents >= rule.label_equivalents) | (summary.reach >= 0.5)
    weight: FloatArray = (share**rule.power).astype(np.float32)
    is_firm = (share >= rule.margin) & (share > 0) & (weight > 0) & is_reached
    candidate_nodes = space.inverse[data.candidates]
    chosen = np.sort(data.candidates[is_firm[candidate_nodes]])
    if rule.max_points is not None and len(chosen) > rule.max_points:
        nodes = space.inverse[chosen]
        # equal weights: in the order of the nodes, which favours no position
        chosen = np.sort(chosen[np.lexsort((nodes, -weight[nodes]))[: rule.max_points]])
    nodes = space.inverse[chosen]
    return PseudoLabelled(chosen, summary.predicted[nodes].astype(np.int64), weight[nodes])


def relative_margin(margin: npt.ArrayLike, reach: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""How much of the mass that arrives speaks for the first class and against the second, :math:`m_i / r_i`.

    Args:
        margin: `(N,)` of `lightning_diffal.diffusion.label_margin`.
        reach: `(N,)` of `lightning_diffal.diffusion.label_reach`.

    Returns:
        `(N,)` float64 from 0 to 1; 0 where no label arrives.

    Example:
        >>> relative_margin([0.1, 0.0, 0.2], [0.4, 0.0, 0.2])
        array([0.25, 0.  , 1.  ])
    """
    top, total = np.asarray(margin, np.float32).astype(np.float64), np.asarray(reach, np.float32).astype(np.float64)
    share = np.divide(top, total, out=np.zeros(np.shape(total)), where=total > 0)
    return np.minimum(share, 1)


def _graph_of(features: FloatArray, rule: PseudoLabels) -> PointGraph:
    def lists(nodes: FloatArray, rows: IntArray | None) -> Neighbors:
        return neighbor_lists(nodes, rule.n_neighbors, metric=rule.metric, backend=rule.backend, rows=rows)

    return build_point_graph(features, lists)


def _check_number(name: str, value: Any, wanted: str, *, most: float = np.inf) -> None:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= most or not np.isfinite(value):
        raise ConfigurationError(f"Expected argument `{name}` to be a finite number {wanted}, but got {value!r}.")
