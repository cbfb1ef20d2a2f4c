"""Neighbours shortlisted along principal axes, beside the exact ones."""

from functools import partial

import numpy as np
import pytest

from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.neighbors.projection import projected_search
from lightning_diffal.selection import select as selection


def recall(features, k=10, metric="euclidean"):
    backend = partial(projected_search, metric=metric)
    found, lengths = nearest_neighbors(features, k, metric=metric, backend=backend)
    exact, true = nearest_neighbors(features, k, metric=metric, backend="exact")
    assert (np.diff(lengths) >= 0).all() and (lengths >= true - 1e-6).all()
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(found, exact, strict=True)])


def embeddings(n, d, intrinsic=12, noise=0.05):
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((8, intrinsic))[np.arange(n) % 8] * 2 + rng.standard_normal((n, intrinsic))
    curved = np.maximum(hidden @ rng.standard_normal((intrinsic, 60)), 0) @ rng.standard_normal((60, d)) / 10
    return (curved + noise * rng.standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_few_dimensions_lose_nothing(metric, scale):
    assert recall(embeddings(700, 40) * np.float32(scale), metric=metric) > 0.999


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_many_dimensions_lose_little(metric):
    assert recall(embeddings(1500, 200), metric=metric) > 0.97


@pytest.mark.parametrize("n", [2, 3, 31, 32, 33, 65, 300])
def test_every_size(n):
    found, none = projected_search(embeddings(n, 70), 5)
    assert none is None and found.shape == (n, min(15, n - 1))
    assert all(len(set(row)) == len(row) and i not in row for i, row in enumerate(found.tolist()))
    assert found.min() >= 0 and found.max() < n


def test_selections_of_many_points_use_it(tmp_path, monkeypatch):
    np.save(tmp_path / "emb.npy", embeddings(400, 80))
    picks, used = {}, []

    def watched(features, k, metric):
        used.append(metric)
        return projected_search(features, k, metric=metric)

    monkeypatch.setattr(selection, "projected_search", watched)
    monkeypatch.setattr(selection, "has_faiss", lambda: False)
    for large in (399, 400):
        monkeypatch.setattr(selection, "_LARGE", large)
        picks[large] = selection.select_from_files(tmp_path / "emb.npy", 40).query.indices.tolist()
    assert used == ["euclidean"] and len(set(picks[399]) & set(picks[400])) > 30
