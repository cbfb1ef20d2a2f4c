"""Graphs that are used again: by another sampler, and by another process from a folder."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest

from lightning_diffal import DiffusionSampler, QueryData
from lightning_diffal.graph import kept
from lightning_diffal.graph.kept import keeping_graphs

FEATURES = np.random.default_rng(0).standard_normal((400, 6)).astype(np.float32)


@pytest.fixture
def builds(monkeypatch):
    calls = []
    usual = DiffusionSampler._build
    monkeypatch.setattr(kept, "_KEPT_FROM", 100)
    monkeypatch.setattr(DiffusionSampler, "_build", lambda self, x: calls.append(len(x)) or usual(self, x))
    return calls


def ask(sampler, features=FEATURES):
    return sampler.select(QueryData(features=features), 20, np.random.default_rng(0))


def test_a_second_sampler_of_the_same_settings_uses_the_graph(builds):
    first, second, other = DiffusionSampler(), DiffusionSampler(n_passes=3), DiffusionSampler(7)
    ask(first), ask(second)
    assert len(builds) == 1
    ask(other)
    assert len(builds) == 2


def test_the_graph_outlives_the_process(builds, tmp_path):
    with keeping_graphs(tmp_path / "graph"):
        before = ask(DiffusionSampler())
        gc.collect()  # the sampler is gone, as after a kill
        after = ask(DiffusionSampler())
    assert len(builds) == 1
    np.testing.assert_array_equal(before.indices, after.indices)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert before.summary == after.summary


@pytest.mark.parametrize("what", ["features", "settings"])
def test_another_graph_is_not_taken_for_it(builds, tmp_path, what):
    changed = FEATURES.copy()
    changed[3, 3] = np.nextafter(changed[3, 3], np.float32(9))
    with keeping_graphs(tmp_path):
        ask(DiffusionSampler())
        gc.collect()
        ask(DiffusionSampler(), changed) if what == "features" else ask(DiffusionSampler(7))
    assert len(builds) == 2


@pytest.mark.parametrize("damage", ["table", "cut array", "missing array", "position out of range", "version"])
def test_a_damaged_folder_costs_a_search_and_nothing_else(builds, tmp_path, damage):
    with keeping_graphs(tmp_path):
        before = ask(DiffusionSampler())
        gc.collect()
        if damage == "table":
            (tmp_path / "graph.json").write_text("{")
        elif damage == "cut array":
            (tmp_path / "graph-data.npy").write_bytes((tmp_path / "graph-data.npy").read_bytes()[:-40])
        elif damage == "missing array":
            (tmp_path / "graph-indptr.npy").unlink()
        elif damage == "position out of range":
            indices = np.load(tmp_path / "graph-indices.npy")
            indices[5] = 4000
            np.save(tmp_path / "graph-indices.npy", indices)
        else:
            facts = json.loads((tmp_path / "graph.json").read_text())
            (tmp_path / "graph.json").write_text(json.dumps({**facts, "version": 99}))
        after = ask(DiffusionSampler())
    assert len(builds) == 2
    np.testing.assert_array_equal(before.indices, after.indices)


def test_small_graphs_are_not_kept(tmp_path):
    with keeping_graphs(tmp_path / "graph"):
        ask(DiffusionSampler())
    assert not (tmp_path / "graph").exists()
