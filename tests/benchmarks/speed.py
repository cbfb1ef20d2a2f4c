"""A whole selection beside the search that it rests on, as ratios within one run; writes a table for the documentation.

    python tests/benchmarks/speed.py --points 60000 200000 1000000 --write docs/reference/speed.md

Every row runs in a process of its own, so that a first call is a first call and the peak of memory is its own. The bare
search is faiss's inverted lists with as many lists and probes as `find_neighbors` chose on the same data, over the same
points in the order they come. Times are wall-clock; the seconds of processors stand beside them, since a shared machine
stretches the former.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

KINDS = ("clusters", "noise", "embeddings", "rectified")


def features_of(kind: str, n_points: int, n_dimensions: int) -> np.ndarray:
    """Four kinds of data: hard clusters, normal noise, embeddings with a falling spectrum, rectified activations."""
    rng = np.random.default_rng(0)
    result = np.empty((n_points, n_dimensions), np.float32)
    centres = rng.standard_normal((1000, n_dimensions), np.float32)
    spectrum = np.arange(1, n_dimensions + 1, dtype=np.float32) ** -0.75
    mixing = rng.standard_normal((16, n_dimensions)).astype(np.float32)
    for start in range(0, n_points, 2**16):
        size = min(2**16, n_points - start)
        noise = rng.standard_normal((size, n_dimensions), np.float32)
        if kind == "clusters":
            noise = centres[rng.integers(1000, size=size)] + noise * np.float32(0.7)
        elif kind == "embeddings":
            noise *= spectrum
        elif kind == "rectified":
            hidden = rng.standard_normal((size, 16), np.float32) @ mixing
            noise = np.maximum(hidden + np.float32(0.5) * noise, 0)
        result[start : start + size] = noise
    return result


def spent() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    now = spent()
    return {"wall": now[0] - start[0], "processors": now[1] - start[1]}


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_selection(features: np.ndarray, picks: int) -> dict:
    from lightning_diffal import DiffusionSampler, QueryData
    from lightning_diffal.neighbors import lists

    probed = []
    usual = lists._Lists.search

    def noted(self, rows, n_probed, k, width, keys):
        probed.append((self.size, n_probed, width + 2, self._axes.n_axes))
        return usual(self, rows, n_probed, k, width, keys)

    lists._Lists.search = noted
    before = peak()
    data = QueryData(features=features)
    start = spent()
    query = DiffusionSampler(backend="faiss").select(data, picks, np.random.default_rng(0))
    return {
        **since(start),
        "recall": query.summary["neighbor_recall"],
        "lists": probed[0],
        "peak": peak() / features.nbytes,
        "before": before / features.nbytes,
    }


def run_bare(features: np.ndarray, n_lists: int, probed: int, width: int) -> dict:
    import faiss

    start = spent()
    quantizer = faiss.IndexFlatL2(features.shape[1])
    index = faiss.IndexIVFFlat(quantizer, features.shape[1], n_lists)
    index.train(features)
    index.add(features)
    index.nprobe = probed
    index.search(features, width)
    return since(start)


def row_of(kind: str, n_points: int, n_dimensions: int, picks: int) -> dict:
    def child(*arguments: object) -> dict:
        command = [sys.executable, __file__, "--child", kind, str(n_points), str(n_dimensions), *map(str, arguments)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    chosen = child("select", picks)
    n_lists, probed, width, _ = chosen["lists"]
    bare = child("bare", n_lists, probed, width)
    return {"kind": kind, "points": n_points, "dimensions": n_dimensions, "select": chosen, "bare": bare}


def table(rows: list[dict]) -> str:
    import faiss
    import scipy

    lines = [
        "---",
        "orphan: true",
        "---",
        "",
        "# Speed of a selection",
        "",
        f"Written by `make benchmark` on {platform.processor() or platform.machine()}, "
        f"{len(__import__('os').sched_getaffinity(0))} cores; Python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, faiss {faiss.__version__}.",
        "",
        'Each row: `DiffusionSampler(backend="faiss").select`, 1,000 picks, the first call in a new process, beside',
        "faiss's own inverted-list search (training, adding, searching) with the same lists and probes. Ratios count;",
        "the seconds are of a machine that others may have used at the same time. Memory is the peak of the process,",
        "libraries included, over the size of the feature array.",
        "",
        "| data | points | lists, probed | recall | select, s | bare search, s | ratio | of processor time | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        chosen, bare = row["select"], row["bare"]
        n_lists, probed = chosen["lists"][:2]
        lines.append(
            f"| {row['kind']} | {row['points']:,} x {row['dimensions']} | {n_lists:,}, {probed} "
            f"| {chosen['recall']:.3f} "
            f"| {chosen['wall']:.1f} | {bare['wall']:.1f} | {chosen['wall'] / bare['wall']:.2f} "
            f"| {chosen['processors'] / bare['processors']:.2f} | {chosen['peak']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    if "--child" in sys.argv:
        kind, n_points, n_dimensions, what, *numbers = sys.argv[2:]
        features = features_of(kind, int(n_points), int(n_dimensions))
        function = {"select": run_selection, "bare": run_bare}[what]
        print(json.dumps(function(features, *map(int, numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[60_000, 200_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = []
    for n_points in options.points:
        for kind in options.kinds:
            rows.append(row_of(kind, n_points, options.dimensions, options.picks))
            print(json.dumps(rows[-1]), flush=True)
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
