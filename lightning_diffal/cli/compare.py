"""`diffal compare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lightning_diffal.cli.arguments import add_seeds, count, fractions, older_spelling
from lightning_diffal.exceptions import ConfigurationError

__all__ = ["add_parser"]

_DESCRIPTION = """\
Compare samplers by simulation: each buys labels that the data set already holds, and a small model is trained from
scratch after every purchase. On one seed all samplers start with the same labels and the same weights."""

_EPILOG = """\
examples
  diffal compare --seeds 2 --rounds 5                        digits, in a few minutes
  diffal compare --data mnist.npz --points 10000 --seeds 5-14
                                                             MNIST, on ten seeds
  diffal compare --data embeddings.npz --model mlp           feature vectors x (N, D) with classes y (N,)
  diffal compare --samplers diffusion,diffusion:n_steps=20,centrality=0,random --against random
                                                             variants of one sampler, side by side

A sampler may have arguments after a colon, as in Python; `name=value` after a comma belongs to the sampler before it.
Finished runs are kept in --out: the same command goes on where it was stopped, and with more samplers or seeds it
runs only what is missing. There it also writes summary.csv, differences.csv, curves.csv, comparison.json,
learning_curves.png and differences.png."""

_DEFAULT_SAMPLERS = "diffusion,margin,badge,random"


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    parser = commands.add_parser(
        "compare",
        help="compare samplers: learning curves, paired differences, labels needed",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is learnt")
    what.add_argument(
        "--data",
        default="digits",
        help="digits, or an .npz file with x_train, y_train, x_test, y_test or with x, y (default: digits)",
    )
    what.add_argument(
        "--points", dest="n", type=count, help="training points to take, drawn anew for each seed (default: all)"
    )
    older_spelling(what, "--n", dest="n", type=count)
    what.add_argument(
        "--test-fraction", type=float, default=0.25, help="part to test on where the file has none (default: 0.25)"
    )
    what.add_argument(
        "--condition",
        choices=("plain", "imbalanced", "noisy", "duplicated"),
        default="plain",
        help="make the training set harder: 90 %% of three classes dropped, 5 %% of labels wrong, or a quarter of the "
        "points copies of others (default: plain)",
    )
    what.add_argument(
        "--model",
        choices=("auto", "conv", "mlp", "linear"),
        default="auto",
        help="what is trained (default: auto, conv for images and mlp for vectors)",
    )
    how = parser.add_argument_group("how labels are bought")
    how.add_argument(
        "--samplers",
        metavar="NAMES",
        help=f"separated by commas, or all (default: {_DEFAULT_SAMPLERS}); an unknown name lists those there are",
    )
    add_seeds(how)
    how.add_argument("--initial", type=count, default=10, help="random labels to begin with (default: 10)")
    how.add_argument("--rounds", type=count, default=16, help="purchases a run (default: 16)")
    how.add_argument("-n", "--query-size", type=count, default=10, help="labels bought in each (default: 10)")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="callback",
        help="an argument of ActiveLearning for all runs, such as reset=warm; may stand several times",
    )
    shown = parser.add_argument_group("what is told")
    shown.add_argument(
        "--metric", help="test_acc or test_balanced_acc (default: test_acc; of imbalanced data test_balanced_acc)"
    )
    shown.add_argument("--against", metavar="NAME", help="sampler to subtract from the others (default: the first)")
    shown.add_argument(
        "--reach",
        type=fractions,
        default=(0.8, 0.9, 0.95),
        metavar="SCORES",
        help="scores to tell the labels needed for (default: 0.8,0.9,0.95)",
    )
    shown.add_argument("--markdown", action="store_true", help="tables as Markdown has them")
    shown.add_argument(
        "--report-only", action="store_true", help="run nothing; tell what the finished runs in --out say"
    )
    parser.add_argument("--workers", type=count, help="runs at a time, a process each (default: one per core)")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder (default: runs/compare)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.utils.extras import require  # all that follows takes seconds

    require("matplotlib", extra="report")  # before hours of training, not after
    result = _report(options) if options.report_only else _compare(options)
    print(result.table(reach=options.reach, against=options.against, markdown=options.markdown))
    pictures = result.save(options.out, reach=options.reach, against=options.against)
    print(f"\nPictures   {', '.join(map(str, pictures))}\nTables     {options.out / '*.csv'} and comparison.json")
    return 0


def _report(options: argparse.Namespace) -> Any:
    """What is there; the settings of the folder count."""
    from lightning_diffal.comparison import Comparison, ComparisonFolder
    from lightning_diffal.comparison.specs import parse_samplers, parse_seeds

    task = (ComparisonFolder(options.out).settings() or {}).get("task")
    condition = task.get("condition") if isinstance(task, dict) else None
    return Comparison.from_folder(
        options.out,
        metric=_metric(options.metric, condition),
        samplers=None if options.samplers in (None, "all") else list(parse_samplers(options.samplers)),
        seeds=None if options.seeds is None else parse_seeds(options.seeds),
    )


def _compare(options: argparse.Namespace) -> Any:
    from lightning_diffal.comparison import NamedTask, compare_samplers
    from lightning_diffal.comparison.specs import parse_samplers, parse_seeds, parse_value
    from lightning_diffal.processes.parallel import default_workers

    samplers = parse_samplers(_DEFAULT_SAMPLERS if options.samplers is None else options.samplers)
    if options.samplers == "all" and options.model == "linear":
        del samplers["bald"]  # there is no dropout in a linear model
    if options.against is not None and options.against not in samplers:
        raise ConfigurationError(f"Expected --against to be one of {', '.join(samplers)}, but got {options.against!r}.")
    pairs = [text.partition("=") for text in options.callback]
    if not all(equals for _, equals, _ in pairs):
        raise ConfigurationError(f"Expected --set as NAME=VALUE, but got {' '.join(options.callback)}.")
    task = NamedTask(
        options.data,
        model=options.model,
        n=options.n,
        initial=options.initial,
        condition=options.condition,
        test_fraction=options.test_fraction,
    )
    try:
        return compare_samplers(
            task,
            samplers,
            seeds=parse_seeds("5" if options.seeds is None else options.seeds),
            query_size=options.query_size,
            rounds=options.rounds,
            metric=_metric(options.metric, options.condition),
            callback_kwargs={name: parse_value(value) for name, _, value in pairs},
            workers=options.workers or default_workers(),
            out=options.out,
        )
    except KeyboardInterrupt:
        print(f"\nFinished runs are kept in {options.out}; the same command goes on from there.", file=sys.stderr)
        raise


def _metric(metric: str | None, condition: str | None) -> str:
    return metric or ("test_balanced_acc" if condition == "imbalanced" else "test_acc")
