"""Samplers compared on features that do not change: logistic regression, or a small network, trained anew per round.

Without a Trainer, so that ten seeds of ten samplers take minutes and not hours; `diffal compare` runs a real one.

    python -m tests.benchmarks.frozen_features cifar_lite0.npz --seeds 20-29 --out runs/frozen/cifar.jsonl

An `.npz` file holds `x` (N, D) and `y` (N,), and, where the test set is fixed, `test`, (N,) true or false; `digits` are
the pixels of scikit-learn's. Rows are made unit vectors, of more than 384 columns the 256 first principal components.
Runs that the output file holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from lightning_diffal import QueryData, QuerySampler, datasets
from lightning_diffal.comparison import Comparison
from lightning_diffal.comparison.specs import parse_samplers, parse_seeds
from lightning_diffal.comparison.tasks.conditions import apply_condition

SAMPLERS = "diffusion,diffusion:criterion=paper,random,margin,badge,typiclust,coreset,maxherding,uherding,dropquery"
CONDITIONS = ("plain", "imbalanced", "wrong", "duplicated")


class Split(NamedTuple):
    """What one seed is run on: rows and classes to choose from, and to test on."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


def unit(rows: Any) -> Any:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def read(path: str) -> tuple[Any, Any, Any]:
    """Unit vectors, classes, and which rows are there to test on."""
    if path == "digits":
        parts = [tuple(t.numpy() for t in part.tensors) for part in datasets.digits()]
        x = np.concatenate([images.reshape(len(images), -1) for images, _ in parts])
        test = np.repeat([False, True], [len(parts[0][1]), len(parts[1][1])])
        return x.astype(np.float32), np.concatenate([labels for _, labels in parts]), test
    held = np.load(path)
    x, y = unit(held["x"].astype(np.float64)), held["y"].astype(np.int64)
    if x.shape[1] > 384:
        centred = (x - x.mean(axis=0)).astype(np.float64)
        x = unit(centred @ np.linalg.eigh(centred.T @ centred)[1][:, -256:])
    if "test" in held:
        return x, y, held["test"].astype(bool)
    test = np.zeros(len(y), bool)
    test[np.random.default_rng(0).permutation(len(y))[: len(y) // 4]] = True
    return x, y, test


def split_of(source: tuple[Any, Any, Any], options: argparse.Namespace, seed: int) -> Split:
    """The pool of one seed, made as hard as the condition says."""
    x, y, test = source
    pool = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(~test))[: options.n]
    x_pool, y_pool, classes = x[pool], y[pool], int(y.max()) + 1
    if options.condition == "wrong":
        draw = np.random.default_rng([seed, 2])
        wrong = draw.choice(len(y_pool), round(0.1 * len(y_pool)), replace=False)
        y_pool[wrong] = (y_pool[wrong] + draw.integers(1, classes, len(wrong))) % classes
    else:
        taken, y_pool = apply_condition(options.condition, y_pool, seed, classes)
        x_pool = x_pool[taken]
    return Split(x_pool, y_pool, x[test], y[test])


class Linear:
    """Logistic regression."""

    def __init__(self, x: Any, y: Any, classes: int, seed: int) -> None:
        self.classes, self.seen = classes, np.unique(y)
        self.model = LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(x, y) if len(self.seen) > 1 else None

    def read(self, x: Any) -> tuple[Any, Any]:
        """Hidden layer (there is none: the rows themselves) and probabilities."""
        found = np.zeros((len(x), self.classes), np.float32)
        found[:, self.seen] = 1.0 if self.model is None else self.model.predict_proba(x)
        return x, found


class Mlp:
    """One hidden layer of 128, as that of `diffal compare`, for 250 steps."""

    def __init__(self, x: Any, y: Any, classes: int, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.hidden = nn.Sequential(nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Dropout(0.25))
            self.head = nn.Linear(128, classes)
            rows, labels = torch.as_tensor(x), torch.as_tensor(y)
            parameters = [*self.hidden.parameters(), *self.head.parameters()]
            optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=250)
            batches: list[Any] = []
            for _ in range(250):
                batches = batches or list(torch.randperm(len(labels)).split(32))
                batch = batches.pop()
                optimizer.zero_grad()
                nn.functional.cross_entropy(self.head(self.hidden(rows[batch])), labels[batch]).backward()
                optimizer.step()
                schedule.step()
        self.hidden.eval()

    @torch.no_grad()
    def read(self, x: Any) -> tuple[Any, Any]:
        """Hidden layer and probabilities."""
        hidden = self.hidden(torch.as_tensor(x))
        return hidden.numpy(), self.head(hidden).softmax(dim=1).numpy()


def run(name: str, sampler: QuerySampler, split: Split, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One sampler on one seed, as `Comparison.from_results` reads it."""
    classes = int(max(split.y.max(), split.y_test.max())) + 1
    labelled = np.random.default_rng([seed, 3]).choice(len(split.x), options.initial, replace=False)
    first, generator = sorted(labelled.tolist()), np.random.default_rng([seed, 4])
    made = Mlp if options.model == "mlp" else Linear
    counts: list[int] = []
    seconds: list[float] = []
    scores: dict[str, list[float]] = {"test_acc": [], "test_balanced_acc": []}
    for number in range(options.rounds + 1):
        model = made(split.x[labelled], split.y[labelled], classes, 1000 * seed + number)
        correct = model.read(split.x_test)[1].argmax(axis=1) == split.y_test
        counts.append(len(labelled))
        scores["test_acc"].append(float(correct.mean()))
        recalls = [correct[split.y_test == c].mean() for c in np.unique(split.y_test)]
        scores["test_balanced_acc"].append(float(np.mean(recalls)))
        if number == options.rounds:
            break
        hidden, probabilities = model.read(split.x)
        both = np.hstack([unit(split.x), unit(hidden)]) if options.model == "mlp" else hidden
        parts = {"embeddings": split.x, "hidden": hidden, "both": both}  # both: as `ActiveLearning` of itself
        data = QueryData(
            features=parts["hidden" if sampler.penultimate_alone else options.features],
            probabilities=probabilities,
            labelled=labelled,
            labels=split.y[labelled],
            num_classes=classes,
        )
        began = time.perf_counter()
        labelled = np.concatenate([labelled, sampler.select(data, options.query_size, generator).indices])
        seconds.append(time.perf_counter() - began)
    return {
        "name": name,
        "sampler": repr(sampler),
        "seed": seed,
        "start": {"labels": first},
        "n_labelled": counts,
        "metrics": scores,
        "seconds": {"select": [*seconds, None]},
    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="digits, or an .npz file")
    parser.add_argument("--model", choices=("linear", "mlp"), default="linear")
    parser.add_argument("--features", choices=("embeddings", "hidden", "both"), default="both", help="of an mlp")
    parser.add_argument("--condition", choices=CONDITIONS, default="plain", help="wrong: a tenth of the labels")
    parser.add_argument("--samplers", default=SAMPLERS)
    parser.add_argument("--seeds", default="20-29")
    parser.add_argument("--n", type=int, default=4000, help="points to choose from, drawn anew for each seed")
    parser.add_argument("--initial", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--query-size", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON per run; resumed")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    settings = {k: v for k, v in vars(options).items() if k not in ("out", "samplers", "seeds", "report_only")}
    if any(result["settings"] != settings for result in found):
        raise SystemExit(f"{options.out} holds runs of other settings: name another file.")
    source = read(options.data)
    for seed in () if options.report_only else parse_seeds(options.seeds):
        split = split_of(source, options, seed)
        for name, sampler in parse_samplers(options.samplers).items():
            if not any((result["name"], result["seed"]) == (name, seed) for result in found):
                found.append({**run(name, sampler, split, options, seed), "settings": settings})
                with options.out.open("a") as file:
                    file.write(json.dumps(found[-1]) + "\n")
    order = list(parse_samplers(options.samplers))
    found = [result for name in order for result in found if result["name"] == name]
    metric = "test_balanced_acc" if options.condition == "imbalanced" else "test_acc"
    print(Comparison.from_results(found, metric=metric).table(reach=(0.8, 0.9), against=order[0], markdown=True))


if __name__ == "__main__":
    main(sys.argv[1:])
