"""How long the parts take, each beside something named.

`pytest tests/benchmarks --benchmark-group-by=group`; not part of the default run. Absolute times hang on the machine,
the ratios within a group are what to watch.
"""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal import diffusion, graph
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers import DiffusionSampler, MarginSampler, QueryData

N, D, C, K, T = 10_000, 64, 10, 15, 10


@pytest.fixture(scope="module")
def features():
    generator = np.random.default_rng(0)
    centres = 2 * generator.normal(size=(20, D))
    return (centres[generator.integers(20, size=N)] + generator.normal(size=(N, D))).astype(np.float32)


@pytest.fixture(scope="module")
def transition(features):
    return graph.transition_matrix(graph.self_tuning_weights(*nearest_neighbors(features, K)))


@pytest.fixture(scope="module")
def data(features):
    generator = np.random.default_rng(1)
    return QueryData(
        features=features,
        probabilities=generator.dirichlet(np.ones(C), size=N),
        labelled=generator.choice(N, 100, replace=False),
        labels=generator.integers(C, size=100),
        num_classes=C,
    )


@pytest.mark.benchmark(group="neighbours")
def test_exact_search(benchmark, features):
    benchmark(nearest_neighbors, features, K, backend="exact")


@pytest.mark.benchmark(group="neighbours")
def test_reference_scikit_learn_brute_force(benchmark, features):
    neighbors = pytest.importorskip("sklearn.neighbors")
    index = neighbors.NearestNeighbors(n_neighbors=K, algorithm="brute").fit(features)
    benchmark(index.kneighbors)


@pytest.mark.benchmark(group="graph")
def test_collapse_duplicates(benchmark, features):
    benchmark(graph.collapse_duplicates, features)


@pytest.mark.benchmark(group="graph")
def test_reference_numpy_unique_rows(benchmark, features):
    benchmark(np.unique, features, axis=0)


@pytest.mark.benchmark(group="graph")
def test_weights_and_transition(benchmark, features):
    indices, distances = nearest_neighbors(features, K)
    benchmark(lambda: graph.transition_matrix(graph.self_tuning_weights(indices, distances)))


@pytest.mark.benchmark(group="diffusion")
def test_label_summary(benchmark, transition, data):
    benchmark(diffusion.label_summary, transition, data.labelled, data.labels, C, T)


@pytest.mark.benchmark(group="diffusion")
def test_reference_bare_products(benchmark, transition):
    """The sparse products alone: what no implementation on this matrix can undercut."""
    chi = np.random.default_rng(0).random((N, C), dtype=np.float32)

    def products():
        values = chi
        for _ in range(T):
            values = transition @ values
        return values

    benchmark(products)


@pytest.mark.benchmark(group="diffusion")
def test_diffuse_asked(benchmark, transition, data):
    benchmark(diffusion.diffuse_asked, transition, data.labelled, np.arange(50), T)


@pytest.mark.benchmark(group="select")
def test_select(benchmark, data):
    """A round with new features: graph and all."""
    benchmark(lambda: DiffusionSampler().select(data, 100, np.random.default_rng(0)))


@pytest.mark.benchmark(group="select")
def test_select_with_kept_graph(benchmark, data):
    sampler = DiffusionSampler()
    sampler.select(data, 100, np.random.default_rng(0))
    benchmark(lambda: sampler.select(data, 100, np.random.default_rng(0)))


@pytest.mark.benchmark(group="select")
def test_reference_neighbours_alone(benchmark, features):
    """Choosing should cost little more than this."""
    benchmark(nearest_neighbors, features, K)


@pytest.mark.benchmark(group="select")
def test_reference_margin_sampler(benchmark, data):
    benchmark(lambda: MarginSampler().select(data, 100, np.random.default_rng(0)))
