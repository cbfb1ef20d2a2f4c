"""The sampler this package exists for: cover what the diffused labels and the network do not know yet."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from lightning_diffal import diffusion
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.graph.point_graph import PointGraph
from lightning_diffal.neighbors.nearest import NeighborBackend, check_search, nearest_rows
from lightning_diffal.samplers.base import Query, QueryData
from lightning_diffal.samplers.batch import EXPLORED, coverage, guidance, mean_coverage, pick_batch, weakness
from lightning_diffal.samplers.class_codes import compact_classes, with_codes
from lightning_diffal.samplers.cover_batch import aims_of, cover_batch
from lightning_diffal.samplers.covering import gains
from lightning_diffal.samplers.graphs import GraphSampler
from lightning_diffal.samplers.network import NetworkView, network_view
from lightning_diffal.samplers.points import check_choice, check_count, check_features
from lightning_diffal.utils.aliases import Array, FloatArray
from lightning_diffal.utils.phases import announce

__all__ = ["DiffusionSampler"]

_CENTRALITY, _N_PASSES = 0.1, 32


class DiffusionSampler(GraphSampler):
    r"""Asks the points that cover most of what is not known yet, on the nearest-neighbour graph of the features.

    Each pick is the candidate `x` of the largest gain

    .. math:: \sum_n u_n \max(0, K_{xn} - \kappa_n)

    where :math:`K`, the kernel of a short walk on the graph, says what a label covers (how much the neighbourhoods of
    two points have in common, see `lightning_diffal.graph.kernel.WalkKernel`), :math:`\kappa_n` how well labels,
    pending points and earlier picks cover `n` already, and :math:`u_n` the doubt about it. A label covers only points
    of which the network says the same: where the two contradict each other, the place counts as unknown. The doubt is
    the network's, one less its largest probability plus the second largest, weighted so that every class of the pool
    counts alike, as far as the network can tell: rare classes are not left for last. Below five labels per class the
    network's word counts only in part, as far as it has seen labels; for the rest every point is doubted alike, and
    labels cover whatever it says. Without probabilities the doubt is the weakness of the diffused label, and what
    labels of two classes cover counts by the difference. With few labels nothing is covered and little is sure, so the
    sampler explores; later what is left uncovered are contested places and doubted ones, so it refines: there is no
    switch. The objective is submodular, and the greedy batch is within :math:`1 - 1/e` of the best one. Uncertainty
    herding (Bae et al., 2025) is a sum of this form with a Gaussian kernel, labels that cover whatever they say and
    points that all count alike; MaxHerding (Bae et al., 2024) is the one without doubt.

    `criterion="paper"` scores each point for itself: the margin of its diffused label (Kushnir and Venturi,
    "Diffusion-based deep active learning", 2020), with absorption by picks, centrality and, in large batches, the
    network's margin added:

    .. math:: (1 - \min(1, m_i p_i + q_i)) + \lambda \, (s c_i + (1 - s) \min(1, 10 c_i)), \quad
        c_i = \operatorname{rank}(d_i) / N, \quad s = \min(1, 3 / \bar e)

    with the margin :math:`m_i`, the network's margin :math:`p_i` (1 where it does not count), the mass :math:`q_i` of
    points asked already, the rank of the weighted degree and the mean reach :math:`\bar e` of the pool in label
    equivalents. The batch is picked in passes: within one, no two picks are neighbours; after each, the picks absorb.

    Points with exactly equal features are one node of the graph. Further copies of a labelled, pending or picked point
    are asked only when nothing else is left.

    `Query.details` holds for every pick: `margin` of the diffused label, `network_margin` where it counts, `reach`
    (probability that a walk meets a label), `label_equivalents` (reach, asked points included, in labels), `covered`
    (how well labels and earlier picks cover it; not with `criterion="paper"`), `phase` (`"exploration"` below 3 label
    equivalents and a reach of one half, else `"refinement"`), `predicted` (class, -1 where no label arrives; `(b, C)`
    for multi-label targets) and `nearest_labelled` (index of the nearest labelled point in feature space, -1 if none).
    `Query.summary` holds `exploration_share` of the query, `mean_label_equivalents` of the candidates before it and, of
    coverage, `mean_covered`; and `neighbor_recall`, the share of the true neighbours that the graph was made of,
    measured on a sample where the search is not exact.

    The graph of the last features is kept and used again where they did not change (a frozen backbone), by other
    samplers of the same settings too, and in a run after a resume.

    Args:
        n_neighbors: neighbours of each point in the graph.
        n_steps: steps of diffusion, or `"auto"`: `lightning_diffal.diffusion.DEFAULT_N_STEPS`, 10.
        criterion: `"auto"`, coverage, or `"paper"`; `docs/explanation/method.md` has the mathematics.
        metric: `"euclidean"`, or `"cosine"` for the direction of the features only.
        backend: how neighbours are found, see `lightning_diffal.neighbors.nearest_neighbors`.
        centrality: :math:`\lambda` of the paper's criterion, at least 0.
        n_passes: passes in which the paper's criterion picks a batch; never more than it has points.
        network_margin: whether the network's doubt counts. `"auto"`: where probabilities are given; with
            `criterion="paper"` only in batches larger than `n_passes` and for targets of one label.
        multilabel: for multi-label targets, `"mean"` of the weakness over labels or `"max"`, the weakest label.
        distributed: `"auto"`: in a run over several processes each searches the neighbours of its share of the points
            and holds their rows of the graph (and the walk that says what labels cover as a whole), from 20,000
            points on and where the search is exact or by faiss; the picks are those of one process with as many
            threads. `False`: the first process does all of it.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> features = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [13.0], [14.0]])
        >>> data = QueryData(features=features, labelled=[0], labels=[0], num_classes=2)
        >>> query = DiffusionSampler(n_neighbors=2).select(data, 1, np.random.default_rng(0))
        >>> query.indices.tolist(), query.details["phase"].tolist(), query.details["predicted"].tolist()
        ([5], ['exploration'], [-1])
    """

    requires: frozenset[str] = frozenset({"features"})

    def __init__(
        self,
        n_neighbors: int = 15,
        n_steps: int | Literal["auto"] = "auto",
        *,
        criterion: Literal["auto", "paper"] = "auto",
        metric: str = "euclidean",
        backend: str | NeighborBackend = "auto",
        centrality: float = _CENTRALITY,
        n_passes: int = _N_PASSES,
        network_margin: bool | Literal["auto"] = "auto",
        multilabel: Literal["mean", "max"] = "mean",
        distributed: Literal["auto", False] = "auto",
    ) -> None:
        check_count("n_neighbors", n_neighbors)
        if n_steps != "auto":
            check_count("n_steps", n_steps, "an integer of at least 1 or 'auto'")
        check_count("n_passes", n_passes)
        check_choice("criterion", criterion, ("auto", "paper"))
        check_search(n_neighbors, metric, backend)
        check_choice("multilabel", multilabel, ("mean", "max"))
        if not isinstance(network_margin, bool) and network_margin != "auto":
            raise ConfigurationError(
                f"Expected argument `network_margin` to be True, False or 'auto', but got {network_margin!r}."
            )
        if distributed is not False and distributed != "auto":
            raise ConfigurationError(f"Expected argument `distributed` to be 'auto' or False, but got {distributed!r}.")
        if isinstance(centrality, bool) or not isinstance(centrality, (int, float)) or not 0 <= centrality < np.inf:
            raise ConfigurationError(
                f"Expected argument `centrality` to be a finite number of at least 0, but got {centrality!r}."
            )
        if criterion == "auto" and (centrality != _CENTRALITY or n_passes != _N_PASSES):
            warnings.warn(
                "`centrality` and `n_passes` belong to the paper's criterion and change nothing here: write "
                "DiffusionSampler(criterion='paper', ...) or leave them out.",
                stacklevel=2,
            )
        self.n_neighbors = n_neighbors
        self.n_steps = n_steps
        self.criterion: Literal["auto", "paper"] = criterion
        self.metric = metric
        self.backend = backend
        self.centrality = centrality
        self.n_passes = n_passes
        self.network_margin = network_margin
        if network_margin is True:
            self.requires = self.requires | {"probabilities"}
        self.multilabel: Literal["mean", "max"] = multilabel
        self.distributed: Literal["auto", False] = distributed

    def wants(self, query_size: int) -> frozenset[str]:
        """Features, and probabilities where the network's doubt counts.

        Args:
            query_size: points asked at a time.

        Example:
            >>> sorted(DiffusionSampler().wants(10)), sorted(DiffusionSampler(criterion="paper").wants(10))
            (['features', 'probabilities'], ['features'])
        """
        return self.requires | ({"probabilities"} if self._asks_network(query_size) else frozenset())

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        The first and only draw from `generator` is one key per point of the data set, which breaks every tie.

        Args:
            data: needs `features`, `(N, D)`; `probabilities`, `(N, C)`, as `network_margin` says.
            query_size: how many points to choose, at least 1.
            generator: breaks ties.

        Returns:
            The chosen points in the order of choice, with the reasons in `details`.

        Raises:
            ConfigurationError: no features, a `query_size` below 1, or no probabilities where `network_margin=True`.
        """
        check_count("query_size", query_size)
        features = check_features(data)
        compact = compact_classes(data)
        if compact is not None:
            return with_codes(self.select(compact[0], query_size, generator), compact[1])
        keys = generator.random(data.num_points)
        space = self._graph(features)
        announce(f"choosing {min(query_size, len(data.candidates))}")
        n_steps = self._steps()
        summary = self._summary(space, data, n_steps)
        size = min(query_size, len(data.candidates))
        network = self._network(space, data) if self._asks_network(size) else None
        more: dict[str, Array] = {}
        figures: dict[str, float] = {}
        if self.criterion == "paper":
            batch = pick_batch(
                space,
                _judged(summary, network),
                data,
                size,
                keys,
                n_steps=n_steps,
                n_passes=self.n_passes,
                centrality=self.centrality,
            )
            indices, scores, pool_mean = batch.indices, batch.scores, batch.pool_label_equivalents
            equivalents = batch.label_equivalents
        else:
            kernel = self._kernel(space)
            aims = aims_of(space, kernel, data, summary, network, self.multilabel)
            cover = cover_batch(space, kernel, aims, data, size, keys)
            indices, scores, more["covered"] = cover.indices, cover.gains, cover.covered
            of_all = coverage(space, summary, self._asked_mass(space, data, n_steps), n_steps)
            equivalents, pool_mean = of_all[space.inverse[indices]], mean_coverage(space, of_all, data.candidates)
            figures["mean_covered"] = mean_coverage(space, aims.known, data.candidates)
        nodes = space.inverse[indices]
        reach = summary.reach[nodes]
        # on graphs of a few dozen nodes no reach amounts to three labels
        exploration = (equivalents < EXPLORED) & (reach < 0.5)
        by_key = data.labelled[np.argsort(keys[data.labelled], kind="stable")]
        return Query(
            indices,
            scores,
            details={
                "margin": summary.margin[nodes],
                **({} if network is None else {"network_margin": network.margin[nodes]}),
                "reach": reach,
                "label_equivalents": equivalents,
                **more,
                "phase": np.where(exploration, "exploration", "refinement"),
                "predicted": summary.predicted[nodes],
                "nearest_labelled": nearest_rows(features, indices, by_key, metric=self.metric),
            },
            summary={
                "exploration_share": float(exploration.mean()) if len(indices) else 0.0,
                "mean_label_equivalents": pool_mean,
                **({} if space.recall is None else {"neighbor_recall": space.recall}),
                **figures,
            },
        )

    def scores(self, data: QueryData) -> FloatArray:
        """The score of every point before the first pick of a batch; in `select` each pick changes those after it.

        Args:
            data: needs `features`, `(N, D)`.

        Returns:
            `(N,)`.

        Raises:
            ConfigurationError: no features.
        """
        space = self._graph(check_features(data))
        n_steps = self._steps()
        summary = self._summary(space, data, n_steps)
        network = self._network(space, data) if self._asks_network(1) else None
        if self.criterion == "auto":
            kernel = self._kernel(space)
            aims = aims_of(space, kernel, data, summary, network, self.multilabel)
            return gains(kernel, aims.weights, aims.known, np.arange(space.n_nodes))[space.inverse]
        mass, summary = self._asked_mass(space, data, n_steps), _judged(summary, network)
        explored = mean_coverage(space, coverage(space, summary, mass, n_steps), data.candidates)
        bonus = np.float32(self.centrality) * guidance(space.centrality, explored)
        return (weakness(summary, mass) + bonus)[space.inverse]

    def _steps(self) -> int:
        return diffusion.DEFAULT_N_STEPS if self.n_steps == "auto" else self.n_steps

    def _asks_network(self, size: int) -> bool:
        if self.network_margin == "auto":
            return self.criterion == "auto" or size > self.n_passes
        return self.network_margin is True

    def _network(self, space: PointGraph, data: QueryData) -> NetworkView | None:
        """What the network says; nothing where nobody knows, or before it has learned from a label."""
        if data.probabilities is None and self.network_margin == "auto":
            return None
        if self.criterion == "paper":
            return None if data.is_multilabel else network_view(space.inverse, data)
        view = network_view(space.inverse, data, self.multilabel)
        return view if len(data.labelled) else None

    def _asked_mass(self, space: PointGraph, data: QueryData, n_steps: int) -> FloatArray:
        known, asked = space.inverse[data.labelled], np.unique(space.inverse[data.pending])
        return diffusion.diffuse_asked(space.transition, known, asked, n_steps)

    def _summary(self, space: PointGraph, data: QueryData, n_steps: int) -> diffusion.LabelSummary:
        known = space.inverse[data.labelled]
        if data.is_multilabel:
            return diffusion.multilabel_summary(
                space.transition, known, data.labels, n_steps, reduction=self.multilabel
            )
        return diffusion.label_summary(space.transition, known, data.labels, data.num_classes, n_steps)

    def _selects_as_usual(self) -> bool:
        return type(self).select is DiffusionSampler.select

    def _builds_as_usual(self) -> bool:
        own, usual = type(self), DiffusionSampler
        return own._lists is usual._lists and own._build is usual._build


def _judged(summary: diffusion.LabelSummary, network: NetworkView | None) -> diffusion.LabelSummary:
    """What graph and network are sure of together."""
    return summary if network is None else summary._replace(margin=summary.margin * network.margin)
