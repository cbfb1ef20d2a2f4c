"""The search of many points, on few: coordinates in half precision, shortlists read in common."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.neighbors import lists
from lightning_diffal.neighbors.nearest import find_neighbors, nearest_neighbors
from lightning_diffal.neighbors.refine import nearest_in_common, nearest_of
from lightning_diffal.utils.storage.stages import Stages
from tests.neighbors.test_faiss import assert_some_rows_are_searched_as_all_of_them, data_of, true_recall

faiss = pytest.importorskip("faiss")


@pytest.fixture(autouse=True)
def many(monkeypatch):
    monkeypatch.setattr(lists, "_MANY", 5000)


@pytest.fixture
def made(monkeypatch):
    """The indexes that were searched."""
    found = []
    usual = lists._Lists.search
    monkeypatch.setattr(lists._Lists, "search", lambda self, *a: found.append(self) or usual(self, *a))
    return found


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", ["noise", "clusters", "embeddings", "wide noise", "rectified"])
def test_recall_is_kept_on_every_kind_of_data(kind, metric):
    features = data_of(kind)
    found = find_neighbors(features, 10, metric=metric, backend="faiss")
    assert found.recall >= lists.TARGET_RECALL
    assert true_recall(features, found.distances, 10, metric) > 0.97
    rows = np.arange(len(features))
    assert not (found.indices == rows[:, None]).any() and (np.diff(found.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 10 for row in found.indices.tolist())


def test_many_dimensions_are_held_in_half_precision_and_distances_are_not(made):
    features = data_of("embeddings")
    found = find_neighbors(features, 5, backend="faiss")
    assert made[0]._stored.dtype == np.float16 and made[0]._stored.shape == (6000, 128)
    direct = np.linalg.norm(features[:, None].astype("f8") - features[found.indices], axis=2)
    np.testing.assert_allclose(found.distances, direct, rtol=1e-6)


def test_half_precision_that_loses_neighbours_is_given_up(made):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((6000, 200)).astype("f4") * 1e-3
    features[::2] += 1000  # two clusters, each tiny beside the distance between them
    found = find_neighbors(features, 5, backend="faiss")
    assert found.recall >= lists.TARGET_RECALL and made[-1]._stored is None


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_magnitudes(scale):
    features = data_of("embeddings")
    plain, scaled = (find_neighbors(x, 5, backend="faiss") for x in (features, features * np.float32(scale)))
    np.testing.assert_allclose(scaled.distances, plain.distances * scale, rtol=1e-4)


def test_a_few_outliers_beyond_half_precision():
    features = data_of("embeddings")
    features[[5, 6, 7]] *= 1e7
    found = find_neighbors(features, 5, backend="faiss")
    assert np.isfinite(found.distances).all() and found.recall >= lists.TARGET_RECALL


@pytest.mark.parametrize("kind", ["clusters", "embeddings"])
def test_some_rows_are_searched_as_all_of_them(kind):
    assert_some_rows_are_searched_as_all_of_them(data_of(kind))


def test_copies_beyond_any_shortlist():
    features = np.concatenate([data_of("noise", 5000), np.ones((300, 16), np.float32)])
    found = find_neighbors(features, 5, backend="faiss")
    assert (found.distances[5000:] == 0).all() and not (found.indices == np.arange(5300)[:, None]).any()


def test_groups_that_hold_too_few_are_not_the_end(monkeypatch, made):
    monkeypatch.setattr(lists, "_SHORT_AT_ONCE", 7)
    monkeypatch.setattr(lists._Lists, "tuned", lambda self, sample, width: (1, 1.0))
    features = data_of("clusters", 5000)
    found = find_neighbors(features, 60, backend="faiss")
    assert (np.bincount(made[0]._group) < 60).any()
    assert np.isfinite(found.distances).all() and all(len(set(row)) == 60 for row in found.indices.tolist())


@pytest.mark.parametrize("kind", ["embeddings", "clusters"])
@pytest.mark.parametrize("stop_after", ["projected", "trained", "grouped", "tuned", "searched"])
def test_a_killed_search_goes_on_from_its_last_stage(tmp_path, monkeypatch, stop_after, kind):
    class KilledError(Exception):
        pass

    monkeypatch.setattr(lists, "_QUERIES", 500)
    monkeypatch.setattr(lists, "_KEPT_EVERY", 2)
    features = data_of(kind)
    expected = find_neighbors(features, 5, backend="faiss")
    usual = Stages.finish

    def kill(self, stage, **facts):
        usual(self, stage, **facts)
        if stage == stop_after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "finish", kill)
        with pytest.raises(KilledError):
            find_neighbors(features, 5, backend="faiss", stages=Stages(tmp_path, source="x"))
    for _ in range(2):  # the second finds all of it done
        found = find_neighbors(features, 5, backend="faiss", stages=Stages(tmp_path, source="x"))
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
        assert found.recall == expected.recall


def test_shortlists_read_in_common_give_the_same_neighbours(monkeypatch):
    monkeypatch.setattr("lightning_diffal.neighbors.refine._COMMON", 100)
    monkeypatch.setattr("lightning_diffal.neighbors.refine._READ", 64)
    rng = np.random.default_rng(0)
    points = rng.integers(-3, 4, (500, 6)).astype(np.float32)  # ties
    points[40:60] = points[20:40]  # copies
    points[7] = points[8] + np.float32(1e-22)
    points[8, 0] = points[7, 0] = 0
    points[7, 0] = 1e-22  # a square that float32 cannot hold
    rows = rng.permutation(500)[:333]
    found = np.stack([rng.permutation(500)[:30] for _ in rows])
    found[:, 0], found[::5, 3], found[3, 2:] = rows, -1, -1
    found[rows == 7, :2], found[rows == 8, :2] = (8, 9), (7, 9)
    keys = rng.permutation(500).astype(np.int32)
    places = np.empty(500, np.int32)
    ours = nearest_in_common(faiss, points, rows, found, 5, keys=keys, places=places)
    theirs = nearest_of(points, rows, found, 5, keys=keys)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)
    known = np.isfinite(theirs[1])
    np.testing.assert_array_equal(ours[0][known], theirs[0][known])
    assert not known[3].all()


def test_the_same_search_by_two_threads(monkeypatch):
    features = data_of("embeddings")
    first = nearest_neighbors(features, 7, backend="faiss")
    before = faiss.omp_get_max_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    faiss.omp_set_num_threads(2)
    try:
        second = nearest_neighbors(features, 7, backend="faiss")
    finally:
        faiss.omp_set_num_threads(before)
    assert (first[0] == second[0]).mean() > 0.99  # a centroid may move by a rounding error
