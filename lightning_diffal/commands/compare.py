"""`diffal compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_diffal.commands._arguments import count

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    words = "compare samplers on your data: same first labels and weights a seed, through real Trainers"
    parser = commands.add_parser("compare", help=words, description=f"{words[0].upper()}{words[1:]}.")
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--samplers", default="diffusion,margin,badge,random")
    parser.add_argument("--seeds", default="5")
    parser.add_argument("--rounds", type=count, default=16)
    parser.add_argument("--query-size", type=count, default=10)
    parser.add_argument("--initial", type=count, default=10)
    parser.add_argument("--n", type=count)
    parser.add_argument("--model", default="auto", choices=("auto", "conv", "mlp", "linear"))
    parser.add_argument("--condition", default="plain", choices=("plain", "imbalanced", "noisy", "duplicated"))
    parser.add_argument("--test-fraction", type=float, default=0.25)
    parser.add_argument("--metric")
    parser.add_argument("--workers", type=count)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.comparison import NamedTask, compare_samplers  # torch and Lightning take seconds
    from lightning_diffal.comparison.specs import parse_samplers, parse_seeds
    from lightning_diffal.demo import default_workers

    task = NamedTask(
        options.data,
        model=options.model,
        n=options.n,
        initial=options.initial,
        condition=options.condition,
        test_fraction=options.test_fraction,
    )
    result = compare_samplers(
        task,
        parse_samplers(options.samplers),
        seeds=parse_seeds(options.seeds),
        query_size=options.query_size,
        rounds=options.rounds,
        metric=options.metric or ("test_balanced_acc" if options.condition == "imbalanced" else "test_acc"),
        workers=options.workers or default_workers(),
        out=options.out,
    )
    print(result.table())
    return 0
