"""The sampler this package exists for: ask where the diffused labels are weak."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from lightning_diffal import diffusion
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.graph.kept import graph_of
from lightning_diffal.graph.point_graph import PointGraph, build_point_graph, neighbor_lists
from lightning_diffal.neighbors.nearest import NeighborBackend, Neighbors, auto_backend, check_search, nearest_rows
from lightning_diffal.processes.shards import current_shards
from lightning_diffal.samplers.base import Query, QueryData, ScoreSampler
from lightning_diffal.samplers.baselines.uncertainty import checked_probabilities
from lightning_diffal.samplers.batch import EXPLORED, coverage, guidance, mean_coverage, pick_batch, weakness
from lightning_diffal.samplers.points import check_choice, check_count, check_features
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.phases import announce
from lightning_diffal.utils.rows import digest_of

__all__ = ["DiffusionSampler"]


_SHARED_FROM = 20_000  # points from which on several processes share the work; below, it takes a second or two


class DiffusionSampler(ScoreSampler):
    r"""Asks the points whose diffused label is weakest, the more central ones first, spread over the graph.

    Labels diffuse over the nearest-neighbour graph of the features; points that no label reaches and points where two
    labels meet are both weak, so the sampler explores first and refines borders later, without a switch. The score is

    .. math:: (1 - \min(1, m_i p_i + q_i)) + \lambda \, (s c_i + (1 - s) \min(1, 10 c_i)), \quad
        c_i = \operatorname{rank}(d_i) / N, \quad s = \min(1, 3 / \bar e)

    with the margin :math:`m_i` of the diffused label, the network's own margin :math:`p_i` (its largest less its second
    largest probability; 1 where it does not count, see `network_margin`), the mass :math:`q_i` of points asked already,
    the rank of the weighted degree and the mean reach :math:`\bar e` of the pool in label equivalents. What both the
    graph and the network are sure of is left alone. Centrality guides the exploration; as the pool is explored,
    :math:`s` falls, and it only holds back the least central tenth, outliers. The batch is picked in passes: within
    one, no two picks are neighbours; after each, the new picks absorb. Kushnir and Venturi, "Diffusion-based deep
    active learning", 2020, with absorption, centrality and the network's margin added. Without any label the same rule
    covers the graph, most central points first.

    Points with exactly equal features are one node of the graph. Further copies of a labelled, pending or picked point
    are asked only when nothing else is left.

    `Query.details` holds for every pick: `margin` of the diffused label, `network_margin` where it counts, `reach`
    (probability that a walk meets a label), `label_equivalents` (reach, asked points included, in labels), `phase`
    (`"exploration"` below 3 label equivalents and a reach of one half, else `"refinement"`), `predicted` (class, -1
    where no label arrives; `(b, C)` for multi-label targets) and `nearest_labelled` (index of the nearest labelled
    point in feature space, -1 if none). `Query.summary` holds `exploration_share` of the query and
    `mean_label_equivalents` of the candidates before it, and `neighbor_recall`, the share of the true neighbours that
    the graph was made of, measured on a sample where the search is not exact.

    The graph of the last features is kept and used again where they did not change (a frozen backbone), by other
    samplers of the same settings too, and in a run after a resume.

    Args:
        n_neighbors: neighbours of each point in the graph. With 30, and 20 steps, more points of rare classes were
            found, most of all with `ActiveLearning(features="inputs+auto")`; on balanced classes 15 and 10 were better.
        n_steps: steps of diffusion, or `"auto"`: `lightning_diffal.diffusion.DEFAULT_N_STEPS`, 10.
        metric: `"euclidean"`, or `"cosine"` for the direction of the features only.
        backend: how neighbours are found, see `lightning_diffal.neighbors.nearest_neighbors`.
        centrality: :math:`\lambda`, at least 0.
        n_passes: passes in which a batch is picked; never more than it has points.
        network_margin: whether the network's margin counts beside that of the diffused label. `"auto"`: in batches
            larger than `n_passes`, where probabilities are given. There many points are taken at one look at the graph,
            and the network's doubts choose better among them; small batches are spread by their own picks, and stay a
            function of features and labels alone. Multi-label targets have no such margin.
        multilabel: for multi-label targets, `"mean"` of the weakness over labels or `"max"`, the weakest label.
        distributed: `"auto"`: in a run over several processes each searches the neighbours of its share of the points
            and holds their rows of the graph, from 20,000 points on and where the search is exact; the picks are those
            of one process. `False`: the first process does all of it.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> features = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        >>> data = QueryData(features=features, labelled=[0], labels=[0], num_classes=2)
        >>> query = DiffusionSampler(n_neighbors=2).select(data, 1, np.random.default_rng(0))
        >>> query.indices.tolist(), query.details["phase"].tolist(), query.details["predicted"].tolist()
        ([4], ['exploration'], [-1])
    """

    requires: frozenset[str] = frozenset({"features"})

    def __init__(
        self,
        n_neighbors: int = 15,
        n_steps: int | Literal["auto"] = "auto",
        *,
        metric: str = "euclidean",
        backend: str | NeighborBackend = "auto",
        centrality: float = 0.1,
        n_passes: int = 32,
        network_margin: bool | Literal["auto"] = "auto",
        multilabel: Literal["mean", "max"] = "mean",
        distributed: Literal["auto", False] = "auto",
    ) -> None:
        check_count("n_neighbors", n_neighbors)
        if n_steps != "auto":
            check_count("n_steps", n_steps, "an integer of at least 1 or 'auto'")
        check_count("n_passes", n_passes)
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
        self.n_neighbors = n_neighbors
        self.n_steps = n_steps
        self.metric = metric
        self.backend = backend
        self.centrality = centrality
        self.n_passes = n_passes
        self.network_margin = network_margin
        if network_margin is True:
            self.requires = self.requires | {"probabilities"}
        self.multilabel: Literal["mean", "max"] = multilabel
        self.distributed: Literal["auto", False] = distributed
        self._kept: tuple[tuple[Any, ...], PointGraph] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def wants(self, query_size: int) -> frozenset[str]:
        """Features, and probabilities where the network's margin counts.

        Args:
            query_size: points asked at a time.

        Example:
            >>> sorted(DiffusionSampler().wants(10)), sorted(DiffusionSampler().wants(100))
            (['features'], ['features', 'probabilities'])
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
        keys = generator.random(data.num_points)
        space = self._graph(features)
        announce(f"choosing {min(query_size, len(data.candidates))}")
        n_steps = self._steps()
        summary = self._summary(space, data, n_steps)
        size = min(query_size, len(data.candidates))
        network = self._network_margin(space, data) if self._asks_network(size) else None
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
        nodes = space.inverse[batch.indices]
        reach = summary.reach[nodes]
        # on graphs of a few dozen nodes no reach amounts to three labels
        exploration = (batch.label_equivalents < EXPLORED) & (reach < 0.5)
        by_key = data.labelled[np.argsort(keys[data.labelled], kind="stable")]
        return Query(
            batch.indices,
            batch.scores,
            details={
                "margin": summary.margin[nodes],
                **({} if network is None else {"network_margin": network[nodes]}),
                "reach": reach,
                "label_equivalents": batch.label_equivalents,
                "phase": np.where(exploration, "exploration", "refinement"),
                "predicted": summary.predicted[nodes],
                "nearest_labelled": nearest_rows(features, batch.indices, by_key, metric=self.metric),
            },
            summary={
                "exploration_share": float(exploration.mean()) if len(batch.indices) else 0.0,
                "mean_label_equivalents": batch.pool_label_equivalents,
                **({} if space.recall is None else {"neighbor_recall": space.recall}),
            },
        )

    def scores(self, data: QueryData) -> FloatArray:
        """The score of every point before the first pick of a batch; `select` picks in passes, and picks repel.

        Args:
            data: needs `features`, `(N, D)`.

        Returns:
            `(N,)`.

        Raises:
            ConfigurationError: no features.
        """
        space = self._graph(check_features(data))
        n_steps = self._steps()
        known, asked = space.inverse[data.labelled], np.unique(space.inverse[data.pending])
        mass = diffusion.diffuse_asked(space.transition, known, asked, n_steps)
        network = self._network_margin(space, data) if self.network_margin is True else None
        summary = _judged(self._summary(space, data, n_steps), network)
        explored = mean_coverage(space, coverage(space, summary, mass, n_steps), data.candidates)
        bonus = np.float32(self.centrality) * guidance(space.centrality, explored)
        return (weakness(summary, mass) + bonus)[space.inverse]

    def _shares_selection(self, n_points: int, n_dimensions: int) -> bool:
        if self.distributed is False or n_points < _SHARED_FROM or type(self).select is not DiffusionSampler.select:
            return False
        # one dimension more: rows of zeros get one under the cosine
        return self.backend == "exact" or (
            self.backend == "auto" and auto_backend(n_points, n_dimensions + 1) == "exact"
        )

    def _steps(self) -> int:
        return diffusion.DEFAULT_N_STEPS if self.n_steps == "auto" else self.n_steps

    def _graph(self, features: FloatArray) -> PointGraph:
        """The graph of these features: the kept one if they did not change."""
        shards = current_shards()
        source = self._source(features, shards)
        stale = self._kept is None or self._kept[0] != source
        if stale if shards is None else shards.any(stale):  # all build it, or none
            self._kept = None  # free it first
            announce("searching neighbours")
            own, ours = type(self), DiffusionSampler
            named = isinstance(self.backend, str) and own._lists is ours._lists and own._build is ours._build
            if shards is None and named:
                self._kept = (source, graph_of(repr(source), lambda: self._build(features)))
            else:
                self._kept = (source, self._build(features))
        assert self._kept is not None
        return self._kept[1]

    def kept_graph(
        self, features: FloatArray, n_neighbors: int, metric: str, backend: str | NeighborBackend
    ) -> PointGraph | None:
        """The graph of the last query, where it is the one of these features and settings and lies here as a whole.

        Args:
            features: `(N, D)`.
            n_neighbors: neighbours of each point.
            metric: as the argument of the class.
            backend: as the argument of the class.
        """
        settings = (self.n_neighbors, self.metric, self.backend) == (n_neighbors, metric, backend)
        own, ours = type(self), DiffusionSampler
        is_usual = own._lists is ours._lists and own._build is ours._build  # a subclass may build another graph
        if not settings or self._kept is None or not is_usual:
            return None
        return self._kept[1] if self._kept[0] == self._source(features, None) else None

    def _source(self, features: FloatArray, shards: Any) -> tuple[Any, ...]:
        """What a graph was made of."""
        return (digest_of(features), self.n_neighbors, self.metric, self.backend, shards)

    def _build(self, features: FloatArray) -> PointGraph:
        return build_point_graph(features, self._lists)

    def _lists(self, nodes: FloatArray, rows: IntArray | None = None) -> Neighbors:
        return neighbor_lists(nodes, self.n_neighbors, metric=self.metric, backend=self.backend, rows=rows)

    def _asks_network(self, size: int) -> bool:
        return self.network_margin is True or (self.network_margin == "auto" and size > self.n_passes)

    def _network_margin(self, space: PointGraph, data: QueryData) -> FloatArray | None:
        """How sure the network is of each node; of copies, the least. None of several labels, or where nobody knows."""
        if data.is_multilabel or (data.probabilities is None and self.network_margin == "auto"):
            return None
        probabilities = checked_probabilities(data)
        largest = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float32)
        margins = np.ones(space.n_nodes, np.float32)
        np.minimum.at(margins, space.inverse, largest[:, 1] - largest[:, 0])
        return margins

    def _summary(self, space: PointGraph, data: QueryData, n_steps: int) -> diffusion.LabelSummary:
        known = space.inverse[data.labelled]
        if data.is_multilabel:
            return diffusion.multilabel_summary(
                space.transition, known, data.labels, n_steps, reduction=self.multilabel
            )
        return diffusion.label_summary(space.transition, known, data.labels, data.num_classes, n_steps)


def _judged(summary: diffusion.LabelSummary, network: FloatArray | None) -> diffusion.LabelSummary:
    """What graph and network are sure of together."""
    return summary if network is None else summary._replace(margin=summary.margin * network)
