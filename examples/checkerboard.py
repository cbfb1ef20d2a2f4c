"""Watch diffusion explore a checkerboard and then refine its borders.

    python examples/checkerboard.py --points 1000 --out checkerboard.png

Two classes on a board of four by four fields, one label to begin with. Each panel shows the labels known (squares),
the diffused class of all other points (pale; grey where no label arrives) and the picks of one round, coloured by
phase. No model is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from lightning_diffal.datasets import checkerboard
from lightning_diffal.samplers import DiffusionSampler, Query, QueryData

mpl.use("Agg")
import matplotlib.pyplot as plt

PHASES = {"exploration": "tab:orange", "refinement": "tab:blue"}
CLASSES = ("tab:green", "tab:purple")
PALE = np.array(["#c7e9c0", "#dadaeb", "#e8e8e8"])  # the last one for class -1


def diffused_classes(sampler: DiffusionSampler, data: QueryData) -> np.ndarray:
    """The diffused class of every point, -1 where no label arrives: ask for the whole pool and read the details."""
    everything = sampler.select(data, len(data.candidates), np.random.default_rng(0))
    classes = np.empty(data.num_points, np.int64)
    classes[everything.indices] = everything.details["predicted"]
    classes[data.labelled] = data.labels
    return classes


def play(
    features: np.ndarray, labels: np.ndarray, rounds: int, query_size: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray, Query]]:
    """Rounds of queries with an annotator who knows everything: (labelled, diffused classes, query) a round."""
    sampler = DiffusionSampler()
    labelled = np.random.default_rng(seed).choice(len(features), 1)
    record = []
    for number in range(rounds):
        data = QueryData(features=features, labelled=labelled, labels=labels[labelled], num_classes=2)
        query = sampler.select(data, query_size, np.random.default_rng([seed, number]))
        record.append((labelled, diffused_classes(sampler, data), query))
        labelled = np.concatenate([labelled, query.indices])
    return record


def draw(features: np.ndarray, labels: np.ndarray, record: list, out: Path) -> None:
    """One panel for each of eight rounds, and the share of exploration over all."""
    shown = np.unique(np.linspace(0, len(record) - 1, min(8, len(record))).astype(int))
    figure, axes = plt.subplots(3, 4, figsize=(16, 12.5), constrained_layout=True)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, number in zip(axes.flat, shown, strict=False):
        labelled, classes, query = record[number]
        axis.scatter(*features.T, c=PALE[classes], s=max(4, 9000 / len(features)), linewidths=0)
        for side in (0.25, 0.5, 0.75):
            axis.plot([side, side], [0, 1], [0, 1], [side, side], color="0.6", linewidth=0.6)
        for label, colour in enumerate(CLASSES):
            points = features[labelled[labels[labelled] == label]]
            axis.scatter(*points.T, c=colour, s=14, marker="s", label=f"class {label}")
        for phase, colour in PHASES.items():
            points = features[query.indices[query.details["phase"] == phase]]
            axis.scatter(*points.T, c=colour, s=40, marker="X", edgecolors="k", linewidths=0.5, label=phase)
        axis.set_title(f"round {number}: {len(labelled)} labels, {query.summary['exploration_share']:.0%} exploration")
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.flat[0].legend(loc="upper right", fontsize=8)
    grid = axes[2, 0].get_gridspec()
    wide = figure.add_subplot(grid[2, :])
    counts = [len(labelled) for labelled, _, _ in record]
    wide.plot(counts, [query.summary["exploration_share"] for *_, query in record], "o-", color=PHASES["exploration"])
    wide.set(xlabel="labels", ylabel="share of exploration in the query", ylim=(-0.02, 1.02))
    reach = wide.twinx()
    reach.plot(counts, [query.summary["mean_label_equivalents"] for *_, query in record], "--", color="0.4")
    reach.set_ylabel("mean label equivalents of the pool (dashed)")
    figure.savefig(out, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--query-size", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("checkerboard.png"))
    arguments = parser.parse_args()
    features, labels = checkerboard(arguments.points, seed=arguments.seed)
    record = play(features, labels, arguments.rounds, arguments.query_size, arguments.seed)
    for number, (labelled, _, query) in enumerate(record):
        share, mean = query.summary["exploration_share"], query.summary["mean_label_equivalents"]
        print(f"round {number:2d}  {len(labelled):4d} labels  exploration {share:4.0%}  label equivalents {mean:6.2f}")
    draw(features, labels, record, arguments.out)
    print(f"saved {arguments.out}")


if __name__ == "__main__":
    main()
