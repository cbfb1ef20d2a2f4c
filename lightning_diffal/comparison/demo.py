"""`diffal demo`: diffusion beside random choice on handwritten digits, from the first labels to the picture."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_diffal import datasets
from lightning_diffal._lightning import pl
from lightning_diffal.callback import ActiveLearning
from lightning_diffal.comparison.runs import quiet, threads
from lightning_diffal.comparison.tasks.networks import Classifier
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History
from lightning_diffal.metrics import area_under_learning_curve, labels_saved
from lightning_diffal.processes.parallel import run_parallel
from lightning_diffal.report import learning_curves
from lightning_diffal.samplers import DiffusionSampler, QuerySampler, RandomSampler
from lightning_diffal.utils.extras import require

__all__ = ["DemoSettings", "run_demo"]

_SAMPLERS: dict[str, type[QuerySampler]] = {"diffusion": DiffusionSampler, "random": RandomSampler}
_METRIC = "test_acc"
_N_TRAIN = 1297

Report = Callable[[tuple[str, int, int, float]], object]
"""Told of each finished round: sampler, seed, labels held, test accuracy."""


@dataclass(frozen=True)
class DemoSettings:
    """What `diffal demo` runs.

    Args:
        seeds: how many seeds; both samplers start from the same labels and weights on each.
        rounds: queries a run.
        query_size: labels bought in each.
        initial: labels to begin with, drawn at random.
        steps: optimizer steps of each training.
        workers: runs at a time, each in a process and on a thread of its own; 1: one after the other in this process.
        out: folder for the picture and the histories.

    Raises:
        ConfigurationError: more labels than there are images.

    Example:
        >>> DemoSettings(rounds=5).n_labels
        60
    """

    seeds: int = 5
    rounds: int = 15
    query_size: int = 10
    initial: int = 10
    steps: int = 250
    workers: int = 1
    out: Path = Path("runs/demo")

    def __post_init__(self) -> None:
        if self.n_labels > _N_TRAIN:
            raise ConfigurationError(
                f"Expected initial + rounds * query_size to be at most the {_N_TRAIN} training images, "
                f"but got {self.n_labels}."
            )

    @property
    def n_labels(self) -> int:
        """Labels held at the end of a run."""
        return self.initial + self.rounds * self.query_size


class _RoundReporter(pl.Callback):
    """Tells of each round as soon as it is over."""

    def __init__(self, name: str, seed: int, report: Report) -> None:
        self.name, self.seed, self.report = name, seed, report

    def on_round_end(self, trainer: pl.Trainer) -> None:
        record = ActiveLearning.from_trainer(trainer).history[-1]
        self.report((self.name, self.seed, record.n_labelled, record.metrics[_METRIC]))


def run_demo(settings: DemoSettings) -> dict[str, list[History]]:
    """Run it all, print the table and the labels saved, and write the picture and the histories.

    Args:
        settings: what to run.

    Returns:
        By sampler, one history a seed.

    Raises:
        MissingExtraError: scikit-learn, matplotlib or tqdm is not installed.
    """
    for module, extra in (("sklearn", "cli"), ("tqdm", "cli"), ("matplotlib", "report")):
        require(module, extra=extra)  # before minutes of training, not after
    settings.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    print(
        f"Handwritten digits, {_N_TRAIN:,} images to choose from, 500 to test on. {settings.initial} random labels, "
        f"then {settings.rounds} times {settings.query_size} more;\na small network is trained from scratch on each. "
        f"{settings.seeds} seed{'s' if settings.seeds > 1 else ''}, chosen by diffusion and at random.\n",
        flush=True,
    )
    histories = _run_all(settings)
    curves = {name: [history.curve(_METRIC) for history in runs] for name, runs in histories.items()}
    means = {name: (runs[0][0], np.mean([scores for _, scores in runs], axis=0)) for name, runs in curves.items()}
    saved = labels_saved(means["diffusion"], means["random"])
    print(_table(means, settings.seeds))
    print(f"\n{_capitalised(saved.sentence(score='test accuracy'))}.")
    picture = settings.out / "learning_curves.png"
    title = "Digits: test accuracy against labels bought"
    learning_curves(curves, picture, ylabel="test accuracy", title=title, saved=saved)
    for name, runs in histories.items():
        for seed, history in enumerate(runs):
            history.to_csv(settings.out / f"{name}-seed{seed}.csv")
            history.to_json(settings.out / f"{name}-seed{seed}.json")
    print(f"\nPicture    {picture}\nHistories  {settings.out / '*.csv'} and *.json")
    print(f"Took {time.perf_counter() - started:.0f} seconds.")
    return histories


def _run_all(settings: DemoSettings) -> dict[str, list[History]]:
    """Every sampler on every seed, with one bar over all rounds."""
    jobs = [(name, seed) for seed in range(settings.seeds) for name in _SAMPLERS]
    total = len(jobs) * (settings.rounds + 1)
    with require("tqdm", extra="cli").tqdm(total=total, desc="rounds", unit="", file=sys.stderr) as bar:

        def report(message: tuple[str, int, int, float]) -> None:
            name, seed, n_labelled, score = message
            bar.set_postfix_str(f"{name}, seed {seed}, {n_labelled} labels: {score:.1%}", refresh=False)
            bar.update()

        arguments = [(name, seed, settings) for name, seed in jobs]
        if settings.workers == 1:
            states = [_run_one(*job, report) for job in arguments]
        else:
            states = run_parallel(_run_one, arguments, settings.workers, report)
    return {
        name: [History.from_state(state) for (of, _), state in zip(jobs, states, strict=True) if of == name]
        for name in _SAMPLERS
    }


def _run_one(name: str, seed: int, settings: DemoSettings, report: Report) -> list[dict[str, Any]]:
    """One sampler on one seed; the state of its history, which any process can read."""
    with quiet(), threads(1):
        train, test = datasets.digits()
        data = ActiveDataModule(
            train,
            test_dataset=test,
            initial_labels=settings.initial,
            targets=train.tensors[1].numpy(),
            batch_size=32,
            pool_batch_size=500,
            seed=seed,
        )
        active = ActiveLearning(
            _SAMPLERS[name](),
            query_size=settings.query_size,
            max_rounds=settings.rounds,
            test_each_round=True,
            run_dir=False,  # these labels cost nothing
            seed=1000 * seed,
        )
        torch.manual_seed(seed)  # the same initial weights for every sampler
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1000,  # the model says when to end, in steps
            callbacks=[active, _RoundReporter(name, seed, report)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Classifier("conv", (1, 8, 8), 10, n_steps=settings.steps), datamodule=data)
    return active.history.state_dict()


def _table(means: Mapping[str, tuple[Any, Any]], seeds: int) -> str:
    names = list(means)
    title = "Test accuracy" + (f", mean of {seeds} seeds" if seeds > 1 else "") + "; gain in percentage points"
    lines = [title, "", "  labels  " + "  ".join(f"{name:>9}" for name in names) + "   gain"]
    for position, count in enumerate(means[names[0]][0]):
        ours, theirs = (means[name][1][position] for name in names)
        lines.append(f"  {count:6d}  {ours:9.1%}  {theirs:9.1%}  {100 * (ours - theirs):+5.1f}")
    areas = [area_under_learning_curve(*means[name], rule="mean") for name in names]
    lines.append(f"  {'mean':>6}  {areas[0]:9.1%}  {areas[1]:9.1%}  {100 * (areas[0] - areas[1]):+5.1f}")
    return "\n".join(lines)


def _capitalised(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
