"""The inverted lists of faiss: recall that is kept, the same answer however it is asked."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from lightning_diffal import DiffusionSampler, QueryData
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.neighbors import backends, lists
from lightning_diffal.neighbors.axes import Axes
from lightning_diffal.neighbors.exact import exact_search, full_precision_product
from lightning_diffal.neighbors.nearest import find_neighbors, nearest_neighbors
from lightning_diffal.neighbors.rows import SearchedRows
from lightning_diffal.utils.phases import listening
from lightning_diffal.utils.storage.stages import Stages

faiss = pytest.importorskip("faiss")


def data_of(kind, n=6000, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.standard_normal((n, 16)).astype(np.float32)
    if kind == "clusters":  # far apart, each tight
        return (rng.standard_normal((40, 32))[rng.integers(40, size=n)] * 50 + rng.standard_normal((n, 32))).astype(
            "f4"
        )
    if kind == "embeddings":  # many dimensions, most of the variance in few
        return (rng.standard_normal((n, 200)) * 2.0 ** -np.linspace(0, 12, 200)).astype(np.float32)
    if kind == "wide noise":  # no axis means more than another
        return rng.standard_normal((n, 120)).astype(np.float32)
    return (np.abs(rng.standard_normal((n, 8))) @ np.abs(rng.standard_normal((8, 64)))).astype(np.float32)  # rectified


def true_recall(features, found, k, metric="euclidean"):
    _, furthest = nearest_neighbors(features, k, metric=metric, backend="exact")
    return float((found <= furthest[:, -1:] * (1 + 1e-6) + 1e-7).mean())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", ["noise", "clusters", "embeddings", "wide noise", "rectified"])
def test_recall_is_kept_on_every_kind_of_data(kind, metric):
    features = data_of(kind)
    found = find_neighbors(features, 10, metric=metric, backend="faiss")
    assert found.backend == "faiss" and found.recall >= lists.TARGET_RECALL
    assert true_recall(features, found.distances, 10, metric) > 0.97
    rows = np.arange(len(features))
    assert not (found.indices == rows[:, None]).any() and (np.diff(found.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 10 for row in found.indices.tolist())


def test_distances_are_direct_ones():
    features = data_of("clusters") + 1000
    found = find_neighbors(features, 5, backend="faiss")
    direct = np.linalg.norm(features[:, None].astype("f8") - features[found.indices], axis=2)
    np.testing.assert_allclose(found.distances, direct, rtol=1e-6)


def test_a_search_that_finds_too_little_looks_further(monkeypatch):
    features = data_of("noise")
    monkeypatch.setattr(lists, "_PROBED", (1, 64))
    probed = []
    usual = lists._Lists.search
    monkeypatch.setattr(lists._Lists, "search", lambda self, rows, n, *a: probed.append(n) or usual(self, rows, n, *a))
    find_neighbors(features, 10, backend="faiss")
    assert probed[0] > 1


def test_axes_are_added_where_the_first_ones_lose_neighbours():
    points = SearchedRows(data_of("wide noise"), "euclidean")
    axes = Axes.of(points)
    assert axes.n_axes == 64 and not axes.widest
    while not axes.widest:
        axes = axes.wider()
    assert axes.n_axes == 120 and axes.width(10) == 10


def assert_some_rows_are_searched_as_all_of_them(features):
    rows = np.arange(2000, 4500)
    whole, part = (find_neighbors(features, 7, backend="faiss", rows=r) for r in (None, rows))
    np.testing.assert_array_equal(part.indices, whole.indices[rows])
    np.testing.assert_array_equal(part.distances, whole.distances[rows])


@pytest.mark.parametrize("kind", ["noise", "embeddings"])
def test_some_rows_are_searched_as_all_of_them(kind):
    assert_some_rows_are_searched_as_all_of_them(data_of(kind))


def test_the_same_search_twice():
    first, second = (nearest_neighbors(data_of("rectified"), 7, backend="faiss") for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])


def test_small_sets_are_searched_exactly():
    found = find_neighbors(data_of("noise", 500), 5, backend="faiss")
    assert (found.backend, found.recall) == ("exact", 1.0)


@pytest.mark.parametrize(
    "features",
    [
        data_of("clusters", 1500),
        data_of("noise", 1500) + 1e4,  # a spread tiny beside the distance from 0
        np.repeat(data_of("noise", 60), 20, axis=0),  # more copies than are shortlisted
        np.concatenate([data_of("noise", 800), data_of("noise", 3) * 1e12]),
        np.arange(900.0, dtype=np.float32)[:, None] % 30,
    ],
    ids=["clusters", "offset", "copies", "outliers", "ties"],
)
def test_exact_by_faiss_is_exact_by_torch(features):
    points = features / np.abs(features).max()
    rows = np.arange(0, len(points), 3)
    ours, theirs = (exact_search(points, rows, 9, faiss=module) for module in (None, faiss))
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_magnitudes(scale):
    features = data_of("noise")
    plain, scaled = (find_neighbors(x, 5, backend="faiss") for x in (features, features * np.float32(scale)))
    np.testing.assert_allclose(scaled.distances, plain.distances * scale, rtol=1e-4)


def test_values_that_are_not_finite_are_named():
    features = data_of("noise")
    features[[17, 5999], 3] = np.nan
    with pytest.raises(FeatureError, match=r"rows \[17, 5999\] hold NaN"):
        find_neighbors(features, 5, backend="faiss")


def test_copies_beyond_any_shortlist():
    features = np.concatenate([data_of("noise", 5000), np.ones((300, 16), np.float32)])
    found = find_neighbors(features, 5, backend="faiss")
    assert (found.distances[5000:] == 0).all() and not (found.indices == np.arange(5300)[:, None]).any()


def test_a_memory_map_of_half_floats(tmp_path):
    features = data_of("embeddings").astype(np.float16)
    np.save(tmp_path / "f.npy", features)
    mapped = find_neighbors(np.load(tmp_path / "f.npy", mmap_mode="r"), 5, backend="faiss")
    loaded = find_neighbors(features.astype(np.float32), 5, backend="faiss")
    np.testing.assert_array_equal(mapped.indices, loaded.indices)


@pytest.mark.parametrize("stop_after", ["projected", "trained", "grouped", "tuned", "searched"])
def test_a_killed_search_goes_on_from_its_last_stage(tmp_path, monkeypatch, stop_after):
    class KilledError(Exception):
        pass

    monkeypatch.setattr(lists, "_QUERIES", 500)
    monkeypatch.setattr(lists, "_KEPT_EVERY", 2)
    features = data_of("embeddings")
    expected = find_neighbors(features, 5, backend="faiss", stages=Stages(tmp_path / "whole", source="x"))
    usual = Stages.finish

    def kill(self, stage, **facts):
        usual(self, stage, **facts)
        if stage == stop_after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "finish", kill)
        with pytest.raises(KilledError):
            find_neighbors(features, 5, backend="faiss", stages=Stages(tmp_path / "killed", source="x"))
    told = []
    with listening(lambda *args: told.append(args)):
        found = find_neighbors(features, 5, backend="faiss", stages=Stages(tmp_path / "killed", source="x"))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.recall == expected.recall
    names = [name for name, _, _ in told]
    assert "projecting on principal axes" not in names and ("grouping points" in names) == (
        stop_after in ("projected", "trained")
    )
    assert told[-1] == ("searching neighbours", 6000, 6000)
    if stop_after == "searched":
        assert told[0] == ("searching neighbours", 1000, 6000)


def test_the_log_says_what_was_taken(caplog):
    with caplog.at_level(logging.INFO, "lightning_diffal"):
        find_neighbors(data_of("noise", 12_000)[:, :4], 5, backend="faiss")
        find_neighbors(data_of("noise", 12_000)[:, :4], 5)
    texts = [record.getMessage() for record in caplog.records]
    assert "faiss's inverted lists (backend='faiss')" in texts[0] and "recall" in texts[0]
    assert len(texts) == 2 and "exact search" in texts[1]


def test_the_log_proposes_faiss_where_it_is_not_installed(caplog, monkeypatch):
    monkeypatch.setattr(backends, "has_faiss", lambda: False)
    with caplog.at_level(logging.INFO, "lightning_diffal"):
        backends.log_search((60_000, 64), "exact", "auto", 1.0, 7.0)
    assert 'pip install "lightning-diffal[faiss]"' in caplog.text


def test_recall_stands_in_the_summary():
    features = data_of("noise")
    query = DiffusionSampler(backend="faiss").select(QueryData(features=features), 5, np.random.default_rng(0))
    assert lists.TARGET_RECALL <= query.summary["neighbor_recall"] <= 1


def test_global_precision_is_neither_read_nor_changed():
    """In a process of its own: the new setting makes the old one unreadable."""
    code = """
import numpy as np, torch
torch.backends.cuda.matmul.fp32_precision = "tf32"
from lightning_diffal.neighbors import nearest_neighbors
from lightning_diffal.neighbors.exact import exact_search
features = np.random.default_rng(0).normal(size=(6000, 8)).astype("f4")
nearest_neighbors(features, 5, backend="faiss")
exact_search(features, np.arange(10), 5)
assert torch.backends.cuda.matmul.fp32_precision == "tf32"
"""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("a torch without this setting")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_product_loses_nothing_under_ten_bits(monkeypatch):
    """With factors cut as TF32 cuts them, the error stays that of float32."""
    torch.manual_seed(0)
    left, right = torch.randn(50, 30) + 5, torch.randn(30, 40) + 5

    def cut(tensor):
        return (tensor.view(torch.int32) & ~0x1FFF).view(torch.float32)

    usual = torch.Tensor.__matmul__
    true = usual(left.double(), right.double())
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: usual(cut(a), cut(b)))
    rough = (left @ right - true).abs().max()
    assert (full_precision_product(left, right) - true).abs().max() < rough / 300


def test_torch_stays_out():
    code = (
        "import sys, lightning_diffal.graph.point_graph, lightning_diffal.diffusion, lightning_diffal.neighbors;"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
