"""A selection shared by several processes picks, bit for bit, what one process picks."""

import importlib
import importlib.util
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_diffal import DiffusionSampler, QueryData
from lightning_diffal.processes.shards import Shards, current_shards
from tests.processes.test_distributed import lines, script

graphs_module = importlib.import_module("lightning_diffal.samplers.graphs")


@dataclass
class Case:
    features: np.ndarray
    labels: np.ndarray
    labelled: np.ndarray
    sampler: DiffusionSampler
    size: int = 7
    pending: tuple[int, ...] = ()


def clouds(n, d=4, n_clouds=3, spread=8.0):
    generator = np.random.default_rng(n)
    labels = generator.integers(n_clouds, size=n)
    centres = spread * generator.normal(size=(n_clouds, d))
    return (centres[labels] + generator.normal(size=(n, d))).astype(np.float32), labels


def cases():
    some = np.array([200, 3, 121, 77])
    features, labels = clouds(301)
    copies = features[np.random.default_rng(0).integers(60, size=301)]
    zeros = features * (np.arange(301) % 20 > 1)[:, None]
    islands = clouds(302, n_clouds=12, spread=1e4)
    many = clouds(2503, d=16, n_clouds=100)
    lattice = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 3).astype(np.float32)
    bits = (features[:, :3] > 0).astype(np.int64)
    return {
        "pending": Case(features, labels, some, DiffusionSampler(), pending=(5, 300, 42)),
        "no label": Case(features, labels, some[:0], DiffusionSampler()),
        "duplicates": Case(copies, labels, some, DiffusionSampler(5), size=40),
        "cosine": Case(zeros, labels, some, DiffusionSampler(metric="cosine", backend="exact")),
        "islands": Case(*islands, some, DiffusionSampler(), size=20),
        "many classes": Case(*many, np.arange(1900, 2300)[::-1], DiffusionSampler(), size=900),
        "ties": Case(lattice, np.arange(343) % 3, some, DiffusionSampler(6), size=30),
        **faiss_cases(),
        "labels": Case(features, bits, some, DiffusionSampler(), pending=(5, 300)),
        "weakest label": Case(features, bits, some, DiffusionSampler(multilabel="max")),
        "two nodes": Case(np.array([[0.0], [1.0], [1.0]], np.float32), np.arange(3), some[:0], DiffusionSampler()),
        "one node": Case(np.ones((5, 2), np.float32), np.arange(5), np.array([3]), DiffusionSampler(), size=2),
    }


def faiss_cases():
    """By inverted lists, from 5,000 points on: tight clusters, noise without lists, copies, long vectors."""
    if importlib.util.find_spec("faiss") is None:
        return {}
    some, generator = np.array([5200, 3, 1210, 77]), np.random.default_rng(1)
    clusters, labels = clouds(5501, d=24, n_clouds=40)
    noise = generator.normal(size=(5501, 24)).astype(np.float32)
    copies = clusters[generator.integers(5300, size=7001)]
    lattice = np.stack(np.meshgrid(*[np.arange(18.0)] * 3), axis=-1).reshape(-1, 3).astype(np.float32)
    falling = generator.normal(size=(5501, 120)) / np.arange(1, 121) ** 0.75
    zeros = clusters * (np.arange(5501) % 20 > 0)[:, None]
    return {
        "lists": Case(clusters, labels, some, DiffusionSampler(backend="faiss"), size=40, pending=(5, 300, 42)),
        "lists of noise": Case(noise, labels, some[:0], DiffusionSampler(backend="faiss"), size=300),
        "lists of copies": Case(copies, np.arange(7001) % 7, some, DiffusionSampler(5, backend="faiss"), size=40),
        "lists with ties": Case(lattice, np.arange(5832) % 3, some, DiffusionSampler(6, backend="faiss"), size=30),
        "lists along axes": Case(falling.astype(np.float32), labels, some, DiffusionSampler(backend="faiss")),
        "lists of directions": Case(zeros, labels, some, DiffusionSampler(metric="cosine", backend="faiss"), size=30),
        "lists, the paper's rule": Case(
            clusters, labels, some, DiffusionSampler(backend="faiss", criterion="paper"), size=90
        ),
    }


def two_rounds(case):
    """The second goes on with the graph of the first; every array of both queries."""
    labelled, found = case.labelled, []
    for seed in (0, 1):
        data = QueryData(
            features=case.features,
            labelled=labelled,
            labels=case.labels[labelled],
            pending=np.array(case.pending, np.int64),
            num_classes=case.labels.shape[1] if case.labels.ndim == 2 else int(case.labels.max()) + 1,
        )
        query = case.sampler.select(data, case.size, np.random.default_rng(seed))
        found.append({"indices": query.indices, "scores": query.scores, **query.details, **query.summary})
        labelled = np.concatenate([labelled, query.indices])
    return found


def out_of_memory(features, rows=None):
    raise MemoryError("no room for the lists")


def process(rank, size, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    shards, found, rows = Shards(rank, size), {}, {}
    for name, case in cases().items():
        found[name] = shards.together(lambda case=case: two_rounds(case))
        rows[name] = case.sampler._kept[1].transition.rows.nnz
    broken = cases()["pending"]
    if rank == size - 1:
        broken.sampler._lists = out_of_memory
    try:
        shards.together(lambda: two_rounds(broken))
    except (MemoryError, RuntimeError) as error:
        found["error"] = repr(error)
    found["left"] = current_shards()
    found["rows"] = rows
    # what one process has kept, another need not have
    again = cases()["pending"]
    if rank == 0:
        two_rounds(again)  # alone
    found["again"] = shards.together(lambda: two_rounds(again))
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(process, (request.param, str(folder)), nprocs=request.param)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone():
    return {name: (two_rounds(case), case.sampler._kept[1].transition.nnz) for name, case in cases().items()}


def assert_same(first, second):
    assert len(first) == len(second) == 2
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("name", list(cases()))
def test_picks_and_reasons_are_those_of_one_process(name, found, alone):
    for rank in found:
        assert_same(rank[name], alone[name][0])


@pytest.mark.parametrize("name", list(cases()))
def test_no_process_holds_the_whole_graph(name, found, alone):
    held = [rank["rows"][name] for rank in found]
    assert sum(held) == alone[name][1]
    assert max(held) < 0.7 * sum(held) or sum(held) < 3


def test_an_error_on_one_process_reaches_all(found):
    assert found[-1]["error"] == "MemoryError('no room for the lists')"
    for rank in found[:-1]:
        assert f"Rank {len(found) - 1} failed, and with it this process: MemoryError: no room" in rank["error"]
    assert [rank["left"] for rank in found] == [None] * len(found)


def test_a_graph_kept_by_one_process_is_built_by_all(found, alone):
    for rank in found:
        assert_same(rank["again"], alone["pending"][0])


# ------------------------------------------------------------------------------------------------------ under a Trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainer")
    script(folder, "shared")
    return {case.pop("name"): case for case in lines(folder / "cases.jsonl")}


def test_runs_share_the_selection(trained):
    assert trained["together"] == {**trained["alone"], "asked_by": [0, 1]} and trained["alone"]["asked_by"] == [0]
    assert len(trained["alone"]["picks"]) == 2


def test_samplers_that_differ_are_not_shared(trained):
    assert trained["different"]["asked_by"] == [0]


@pytest.mark.parametrize(
    ("name", "error"),
    [("raises", "MemoryError: no room for the lists"), ("killed", "signal SIGKILL|Connection (closed|reset) by peer")],
)
def test_trouble_on_one_process_ends_the_run(name, error, trained):
    assert re.search(error, trained[name]["error"]) and trained[name]["seconds"] < 15


# ------------------------------------------------------------------------------------------------------------- choices


@pytest.mark.parametrize(
    ("sampler", "n_points", "expected"),
    [
        (DiffusionSampler(), 20_000, True),
        (DiffusionSampler(), 19_999, False),
        (DiffusionSampler(), 1_000_000, True),
        (DiffusionSampler(backend="faiss"), 1_000_000, True),
        (DiffusionSampler(backend="exact"), 1_000_000, True),
        (DiffusionSampler(backend="pynndescent"), 50_000, False),
        (DiffusionSampler(backend=lambda features, k: None), 50_000, False),
        (DiffusionSampler(distributed=False), 50_000, False),
    ],
)
def test_what_is_shared(monkeypatch, sampler, n_points, expected):
    monkeypatch.setattr("lightning_diffal.neighbors.backends.has_faiss", lambda: True)
    assert sampler._shares_selection(n_points, 64) is expected


def test_pynndescent_is_not_shared(monkeypatch):
    monkeypatch.setattr("lightning_diffal.neighbors.backends.has_faiss", lambda: False)
    assert not DiffusionSampler()._shares_selection(1_000_000, 64)


def test_a_choice_of_your_own_is_not_shared():
    class Own(DiffusionSampler):
        def select(self, data, query_size, generator):
            return super().select(data, query_size, generator)

    assert not Own()._shares_selection(50_000, 64)


def test_shares_cover_every_point_once():
    for n_rows in range(12):
        bounds = Shards(0, 5).bounds(n_rows)
        assert bounds[0] == 0 and bounds[-1] == n_rows and (np.diff(bounds) >= 0).all() and np.ptp(np.diff(bounds)) <= 1


def test_small_data_is_left_to_one_process():
    assert graphs_module.SHARED_FROM == 20_000
