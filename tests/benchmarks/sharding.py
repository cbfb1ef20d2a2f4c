"""A shared selection on 1 and 2 processes, one thread each: seconds, and megabytes of the graph on each process.

OMP_NUM_THREADS=1 python tests/benchmarks/sharding.py --points 20000 --backend exact

Seconds of the processor stand beside those of the clock: other work on the machine stretches only the latter.
"""

import argparse
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_diffal import DiffusionSampler, QueryData
from lightning_diffal.processes.shards import Shards


class Timed(DiffusionSampler):
    """Notes how long the search of neighbours took."""

    seconds = (0.0, 0.0)

    def _lists(self, nodes, rows=None):
        started = spent()
        lists = super()._lists(nodes, rows)
        self.seconds = since(started)
        return lists


def spent():
    return time.perf_counter(), time.process_time()


def since(started):
    return tuple(now - then for now, then in zip(spent(), started, strict=True))


def n_bytes(matrix):
    return matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes


def process(rank, size, folder, n_points, n_dimensions, backend):
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    classes = generator.integers(10, size=n_points)
    centres = 3 * generator.normal(size=(10, n_dimensions))
    features = (centres[classes] + generator.normal(size=(n_points, n_dimensions))).astype(np.float32)
    labelled = generator.permutation(n_points)[:200]
    data = QueryData(features=features, labelled=labelled, labels=classes[labelled], num_classes=10)
    sampler = Timed(backend=backend)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    shards = Shards(rank, size)

    def select():
        return sampler.select(data, 100, np.random.default_rng(0))

    for kind in ("first query", "graph kept"):
        dist.barrier()
        started = spent()
        query = select() if size == 1 else shards.together(select)
        total = since(started)
        transition = sampler._kept[1].transition
        held = n_bytes(transition if size == 1 else transition.rows) / 2**20
        print(
            f"{size} processes, rank {rank}, {kind}: search {sampler.seconds[0]:.2f} s "
            f"(processor {sampler.seconds[1]:.2f}), selection {total[0]:.2f} s ({total[1]:.2f}), "
            f"graph {held:.2f} MiB, picks {zlib.crc32(query.indices.tobytes()):08x}",
            flush=True,
        )
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--backend", default="exact", choices=["exact", "faiss"])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for size in options.processes:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(process, (size, folder, options.points, options.dimensions, options.backend), nprocs=size)
