"""`compare_samplers`: every sampler on every seed, from the same start."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lightning_diffal.comparison.folder import ComparisonFolder, description
from lightning_diffal.comparison.progress import display
from lightning_diffal.comparison.records import check_metric, check_starts
from lightning_diffal.comparison.result import Comparison
from lightning_diffal.comparison.runs import FORMAT, RunPlan, callback_of, execute, prepared
from lightning_diffal.comparison.specs import parse_sampler
from lightning_diffal.comparison.tasks.task import Task, title_of
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.processes.parallel import run_parallel
from lightning_diffal.run.settings import checked_sampler
from lightning_diffal.samplers import QuerySampler
from lightning_diffal.utils.arguments import check_integers
from lightning_diffal.utils.seeding import isolated_environment_seed, isolated_random_state

__all__ = ["compare_samplers"]


Kept = tuple[ComparisonFolder, dict[str, Any]] | None
"""Where results are kept, and the settings that they have in common."""


def compare_samplers(
    task: Task,
    samplers: Mapping[str, QuerySampler] | Iterable[str],
    *,
    seeds: Iterable[int] = range(5),
    query_size: int = 10,
    rounds: int = 16,
    metric: str = "test_acc",
    trainer_kwargs: Mapping[str, Any] | None = None,
    callback_kwargs: Mapping[str, Any] | None = None,
    workers: int = 1,
    threads: int = 1,
    out: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Comparison:
    """Train, ask and label with each sampler on each seed, through real Trainers, and compare the learning curves.

    On one seed all samplers begin with the same labels and the same weights, and each round is seeded alike. That is
    checked: a task that gives a sampler another start than the one before is an error.

    Args:
        task: called as `task(seed)` with all global generators seeded; returns a fresh LightningModule and a fresh
            `ActiveDataModule` with initial labels and a test set. With several workers it must be picklable.
        samplers: by name, or names as on the command line (`"diffusion"`, `"coreset:metric=cosine"`). Each run gets a
            copy of its own.
        seeds: of the task; five are few for a claim, ten are good.
        query_size: labels bought per round.
        rounds: queries; a run trains once more than that.
        metric: name of what the model logs, higher is better; everything that it logs is kept.
        trainer_kwargs: for every Trainer, after those that the task has itself (its attribute `trainer_kwargs`).
        callback_kwargs: for every `ActiveLearning`, the same for all samplers.
        workers: runs at a time, each in a process of its own; 1: one after the other in this process.
        threads: of torch in a run; with more than one, results depend on their number.
        out: folder that keeps each finished run, so that none is run again. `None`: nothing is kept.
        progress: tell on stderr how it is getting on.

    Returns:
        The comparison; print its `table()`.

    Raises:
        ConfigurationError: an argument out of range, a folder of another comparison, more labels wanted than there
            are points, different starts, or a metric that nobody logged.
        InvalidTypeError: an argument of the wrong kind.
        DiffalError: a process was killed from outside.

    Example:
        >>> from lightning_diffal.comparison import NamedTask
        >>> task = NamedTask("digits", model="linear", n=100)
        >>> result = compare_samplers(task, ["margin", "random"], seeds=[0, 1], query_size=5, rounds=2, progress=False)
        >>> result.counts.tolist(), result.names
        ([10, 15, 20], ['margin', 'random'])
    """
    check_integers(1, query_size=query_size, rounds=rounds, workers=workers, threads=threads)
    chosen = _checked_samplers(samplers)
    wanted = _checked_seeds(seeds)
    trainer_settings, callback_settings = dict(trainer_kwargs or {}), dict(callback_kwargs or {})
    settings = {
        "format": FORMAT,
        "task": description(task),
        "query_size": query_size,
        "rounds": rounds,
        "trainer_kwargs": description(trainer_settings),
        "callback_kwargs": description(callback_settings),
    }
    folder = None if out is None else ComparisonFolder(Path(out))
    plans = [
        RunPlan(name, sampler, seed, task, query_size, rounds, trainer_settings, callback_settings, threads)
        for seed in wanted
        for name, sampler in chosen.items()
    ]
    results = _finished(plans, folder, settings)
    missing = [plan for plan in plans if (plan.name, plan.seed) not in results]
    if missing:
        _check(missing, workers)  # before the folder is made
        if folder is not None:
            folder.claim(settings)
        kept = None if folder is None else (folder, settings)
        results |= _run(missing, workers, kept, list(results.values()), metric, progress)
    return Comparison.from_results(
        [results[plan.name, plan.seed] for plan in plans],
        metric=metric,
        settings=settings,
        title=title_of(settings["task"]),
    )


def _checked_samplers(samplers: Any) -> dict[str, QuerySampler]:
    if isinstance(samplers, str) or not isinstance(samplers, Iterable):
        raise InvalidTypeError(
            f"Expected argument `samplers` to be samplers by name or a list of names, but got {samplers!r}."
        )
    pairs: list[tuple[Any, Any]] = (
        list(samplers.items()) if isinstance(samplers, Mapping) else [(name, parse_sampler(name)) for name in samplers]
    )
    if not pairs or len(dict(pairs)) < len(pairs):
        raise ConfigurationError(f"Expected argument `samplers` to hold at least one, each once, but got {samplers!r}.")
    files: dict[str, str] = {}
    for name, sampler in pairs:
        checked_sampler(sampler)
        file = ComparisonFolder("").file(str(name), 0).name
        if file in files:
            raise ConfigurationError(
                f"The samplers {files[file]!r} and {name!r} would have files of one name: name one of them otherwise."
            )
        files[file] = name
    return dict(pairs)


def _checked_seeds(seeds: Any) -> list[int]:
    found = list(seeds)
    check_integers(0, **{f"seeds[{place}]": seed for place, seed in enumerate(found)})
    if not found or len(set(found)) < len(found):
        raise ConfigurationError(f"Expected argument `seeds` to hold at least one, each once, but got {found}.")
    return [int(seed) for seed in found]


def _finished(
    plans: Sequence[RunPlan], folder: ComparisonFolder | None, settings: Mapping[str, Any]
) -> dict[tuple[str, int], dict[str, Any]]:
    """Results that are there already."""
    if folder is None or folder.settings() is None:
        return {}
    folder.claim(settings)
    found = {(plan.name, plan.seed): folder.read(plan.name, plan.seed, repr(plan.sampler)) for plan in plans}
    return {key: result for key, result in found.items() if result is not None}


def _check(plans: Sequence[RunPlan], workers: int) -> None:
    """Refuse before anything trains: what cannot be sent to a process, and a task that does not work."""
    if workers > 1:
        try:
            pickle.dumps(plans)
        except Exception as error:  # pickle raises errors of any kind
            raise ConfigurationError(
                "With workers > 1 the task, the samplers and all arguments have to be picklable: give a function or a "
                f"class of a module, or workers=1. ({error})"
            ) from None
    callback_of(plans[0])
    with isolated_random_state(), isolated_environment_seed():
        prepared(plans[0])


def _run(
    plans: Sequence[RunPlan],
    workers: int,
    kept: Kept,
    known: Sequence[Mapping[str, Any]],
    metric: str,
    progress: bool,
) -> dict[tuple[str, int], dict[str, Any]]:
    starts = [{"name": r["name"], "seed": r["seed"], "start": r["start"]} for r in known]
    with display(len(plans), plans[0].rounds + 1, wanted=progress) as show:

        def report(message: dict[str, Any]) -> None:
            # both are checked now, and not after hours
            if "start" in message:
                starts.append(message)
                check_starts(starts)
            else:
                check_metric(metric, message.get("metrics"))
                show(message)

        jobs = [(plan, kept) for plan in plans]
        if workers == 1:
            results = [_execute(*job, report) for job in jobs]
        else:
            results = run_parallel(_execute, jobs, workers, report, threads=plans[0].threads)
    return {(result["name"], result["seed"]): result for result in results}


def _execute(plan: RunPlan, kept: Kept, tell: Callable[[Any], object]) -> dict[str, Any]:
    result = execute(plan, tell)
    if kept is not None:
        folder, settings = kept
        folder.write(result, settings)
    tell({"name": plan.name, "seed": plan.seed, "finished": result["total_seconds"]})
    return result
