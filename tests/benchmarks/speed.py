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
import os
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


def known_of(features: np.ndarray, given: str) -> dict:
    """500 labels and a network's probabilities for ten classes, or nothing."""
    if given == "nothing":
        return {}
    rng = np.random.default_rng(1)
    logits = features @ rng.standard_normal((features.shape[1], 10), np.float32) / 4
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    labelled = rng.choice(len(features), 500, replace=False)
    labels = logits[labelled].argmax(axis=1)
    return {"probabilities": logits, "labelled": labelled, "labels": labels, "num_classes": 10}


def run_selection(features: np.ndarray, picks: int, given: str) -> dict:
    from lightning_diffal import DiffusionSampler, QueryData
    from lightning_diffal.graph import point_graph
    from lightning_diffal.neighbors import lists

    probed, searched = [], {}
    usual, find = lists._Lists.search, point_graph.find_neighbors

    def noted(self, rows, n_probed, k, width, keys):
        probed.append((self.size, n_probed, width + 2, self._axes.n_axes))
        return usual(self, rows, n_probed, k, width, keys)

    def timed(*arguments, **keywords):
        start = spent()
        found = find(*arguments, **keywords)
        searched.update(since(start))
        return found

    lists._Lists.search, point_graph.find_neighbors = noted, timed
    data = QueryData(features=features, **known_of(features, given))
    start = spent()
    query = DiffusionSampler(backend="faiss").select(data, picks, np.random.default_rng(0))
    return {
        **since(start),
        "search": searched,
        "recall": query.summary["neighbor_recall"],
        "lists": probed[0],
        "peak": peak() / features.nbytes,
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


def row_of(kind: str, n_points: int, n_dimensions: int, picks: int, given: list[str]) -> dict:
    def child(*arguments: object) -> dict:
        command = [sys.executable, __file__, "--child", kind, str(n_points), str(n_dimensions), *map(str, arguments)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    chosen = {words: child("select", picks, words) for words in given}
    n_lists, probed, width, _ = chosen[given[0]]["lists"]
    bare = child("bare", n_lists, probed, width)
    return {"kind": kind, "points": n_points, "dimensions": n_dimensions, "select": chosen, "bare": bare}


def table(rows: list[dict]) -> str:
    lines = [
        "| data | points | lists, probed | recall | known | select, s | bare search, s | select / bare "
        "| of processor time | select / own search | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        bare = row["bare"]
        for known, chosen in row["select"].items():
            n_lists, probed = chosen["lists"][:2]
            lines.append(
                f"| {row['kind']} | {row['points']:,} x {row['dimensions']} | {n_lists:,}, {probed} "
                f"| {chosen['recall']:.3f} | {known} | {chosen['wall']:.1f} | {bare['wall']:.1f} "
                f"| {chosen['wall'] / bare['wall']:.2f} | {chosen['processors'] / bare['processors']:.2f} "
                f"| {chosen['processors'] / chosen['search']['processors']:.2f} | {chosen['peak']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def versions() -> str:
    import faiss
    import scipy

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.0f} at the end; Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, faiss {faiss.__version__}"
    )


def write(page: Path, rows: list[dict]) -> None:
    """Put the table between the marks of the page; what people wrote around it stays."""
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition("<!-- table: written by tests/benchmarks/speed.py -->\n")
    _, end, after = rest.partition("<!-- end of table -->")
    page.write_text(f"{before}{mark}\nOn {versions()}.\n\n{table(rows)}\n{end}{after}", encoding="utf-8")


def main() -> None:
    if "--child" in sys.argv:
        kind, n_points, n_dimensions, what, *numbers = sys.argv[2:]
        features = features_of(kind, int(n_points), int(n_dimensions))
        function = {"select": run_selection, "bare": run_bare}[what]
        print(json.dumps(function(features, *(int(word) if word.isdecimal() else word for word in numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="*", default=[60_000, 200_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--given", nargs="+", default=["nothing", "probabilities"])
    parser.add_argument(
        "--rows", type=Path, help="JSON lines: rows measured are added, and those there go into the table"
    )
    parser.add_argument("--write", type=Path, help="the page of the documentation")
    options = parser.parse_args()
    rows = []
    if options.rows and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    for n_points in options.points:
        for kind in options.kinds:
            rows.append(row_of(kind, n_points, options.dimensions, options.picks, options.given))
            print(json.dumps(rows[-1]), flush=True)
            if options.rows:
                with options.rows.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    if options.write:
        write(options.write, rows)


if __name__ == "__main__":
    main()
