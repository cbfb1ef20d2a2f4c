"""`diffal demo`: diffusion beside random choice on handwritten digits, from the first labels to the picture."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_diffal import datasets
from lightning_diffal._lightning import pl
from lightning_diffal.callback import ActiveLearning
from lightning_diffal.comparison.compare import compare_samplers
from lightning_diffal.comparison.result import Comparison
from lightning_diffal.comparison.runs import quiet, threads
from lightning_diffal.comparison.tasks.networks import Classifier
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History
from lightning_diffal.history.record import RoundRecord
from lightning_diffal.metrics import area_under_learning_curve, labels_saved
from lightning_diffal.report import html_report, learning_curves
from lightning_diffal.samplers import DiffusionSampler, RandomSampler
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.extras import require

__all__ = ["DemoSettings", "DemoTask", "run_demo"]

_N_TRAIN = 1297


@dataclass(frozen=True)
class DemoSettings:
    """What `diffal demo` runs.

    Args:
        seeds: the seeds, or how many; both samplers start from the same labels and weights on each.
        rounds: queries per run.
        query_size: labels bought in each.
        initial: labels to begin with, drawn at random.
        steps: optimizer steps of each training.
        workers: runs at a time, each in a process and on a thread of its own; 1: one after the other in this process.
        out: folder for the picture and the tables.

    Raises:
        ConfigurationError: more labels than there are images.

    Example:
        >>> DemoSettings(rounds=5).n_labels
        60
    """

    seeds: int | Sequence[int] = 5
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
    def all_seeds(self) -> list[int]:
        """The seeds themselves."""
        return list(range(self.seeds) if isinstance(self.seeds, int) else self.seeds)

    @property
    def n_labels(self) -> int:
        """Labels held at the end of a run."""
        return self.initial + self.rounds * self.query_size


@dataclass(frozen=True)
class DemoTask:
    """Handwritten digits and a small convolutional network.

    Args:
        initial: labels to begin with.
        steps: optimizer steps of each training.

    Example:
        >>> model, data = DemoTask(initial=12)(seed=0)
        >>> len(data.labelled_indices)
        12
    """

    initial: int = 10
    steps: int = 250

    def __call__(self, seed: int) -> tuple[pl.LightningModule, ActiveDataModule]:
        """The model and the data of one seed."""
        train, test = datasets.digits()
        data = ActiveDataModule(
            train,
            test_dataset=test,
            initial_labels=self.initial,
            targets=train.tensors[1].numpy(),
            batch_size=32,
            pool_batch_size=500,
            seed=seed,
        )
        torch.manual_seed(seed)  # the same initial weights for every sampler
        return Classifier("conv", (1, 8, 8), 10, n_steps=self.steps), data

    @property
    def trainer_kwargs(self) -> dict[str, Any]:
        """How a Trainer has to train the model: a processor is enough, and the model says when to end, in steps."""
        return {"accelerator": "cpu", "max_epochs": 1000}


def run_demo(settings: DemoSettings) -> Comparison:
    """Compare both samplers, print the table and the labels saved, and write the picture and the tables.

    Args:
        settings: what to run.

    Returns:
        The comparison.

    Raises:
        MissingExtraError: scikit-learn, matplotlib or tqdm is not installed.
    """
    for module, extra in (("sklearn", "cli"), ("tqdm", "cli"), ("matplotlib", "report")):
        require(module, extra=extra)  # before minutes of training, not after
    settings.out.mkdir(parents=True, exist_ok=True)
    started, seeds = time.perf_counter(), settings.all_seeds
    print(
        f"Handwritten digits, {_N_TRAIN:,} images to choose from, 500 to test on. {settings.initial} random labels, "
        f"then {settings.rounds} times {settings.query_size} more;\na small network is trained from scratch on each. "
        f"{several(len(seeds), 'seed')}, chosen by diffusion and at random.\n",
        flush=True,
    )
    result = compare_samplers(
        DemoTask(settings.initial, settings.steps),
        {"diffusion": DiffusionSampler(), "random": RandomSampler()},
        seeds=seeds,
        query_size=settings.query_size,
        rounds=settings.rounds,
        workers=settings.workers,
    )
    means = {summary.name: (result.counts, summary.mean) for summary in result.summaries()}
    saved = labels_saved(means["diffusion"], means["random"])
    print(_table(means, len(seeds)))
    print(f"\n{_capitalised(saved.sentence(score='test accuracy'))}.")
    picture = settings.out / "learning_curves.png"
    title = "Digits: test accuracy against labels bought"
    learning_curves(result.curves, picture, ylabel="test accuracy", title=title, saved=saved)
    result.to_csv(settings.out)
    result.to_json(settings.out / "comparison.json")
    page = _report(settings, result)
    print(f"\nReport     {page}\nPicture    {picture}\nTables     {settings.out / '*.csv'} and comparison.json")
    print(f"Took {time.perf_counter() - started:.0f} seconds.")
    return result


def _report(settings: DemoSettings, result: Comparison) -> Path:
    """One more run by diffusion, as the page that a user would get of it, beside the curves of all seeds."""
    task, seed = DemoTask(settings.initial, settings.steps), settings.all_seeds[0]
    active = ActiveLearning(
        DiffusionSampler(),
        query_size=settings.query_size,
        max_rounds=settings.rounds,
        test_each_round=True,
        run_dir=False,
        seed=seed,
    )
    with quiet(), threads(1):
        torch.manual_seed(seed)
        model, data = task(seed)
        trainer = pl.Trainer(
            callbacks=[active],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **task.trainer_kwargs,
        )
        trainer.fit(model, datamodule=data)
    metric = next(name for name in active.history[-1].metrics if name.startswith("test"))
    others = {name: [_history(curve, metric) for curve in curves] for name, curves in result.curves.items()}
    inputs = datasets.digits()[0].tensors[0].flatten(1).numpy()
    return html_report(
        active.history,
        settings.out / "report.html",
        data=data,
        features=inputs,
        title="Digits: diffusion beside random",
        others=others,
    )[0]


def _history(curve: tuple[Any, Any], metric: str) -> History:
    """A curve as a history; which points were labelled is not known of it."""
    rounds = enumerate(zip(*curve, strict=True))
    return History(RoundRecord(r, None, np.arange(int(count)), {metric: float(score)}) for r, (count, score) in rounds)


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
