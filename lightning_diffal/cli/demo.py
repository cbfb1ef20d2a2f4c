"""`diffal demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_diffal.cli.arguments import add_seeds, count

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    words = "diffusion beside random choice on handwritten digits"
    parser = commands.add_parser("demo", help=words, description=f"See {words}: table, labels saved, picture.")
    parser.add_argument("--quick", action="store_true", help="one seed and 6 rounds, in half a minute")
    add_seeds(parser)
    parser.add_argument("--rounds", type=count, help="queries per run (default: 15)")
    parser.add_argument("-n", "--query-size", type=count, default=10, help="labels bought in each (default: 10)")
    parser.add_argument("--initial", type=count, default=10, help="labels to begin with (default: 10)")
    parser.add_argument("--workers", type=count, help="runs at a time (default: one per core)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for results (default: runs/demo)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.comparison.demo import DemoSettings, run_demo  # torch and Lightning take seconds
    from lightning_diffal.comparison.specs import parse_seeds
    from lightning_diffal.processes.parallel import default_workers

    run_demo(
        DemoSettings(
            seeds=parse_seeds(options.seeds or ("1" if options.quick else "5")),
            rounds=options.rounds or (6 if options.quick else 15),
            query_size=options.query_size,
            initial=options.initial,
            workers=options.workers or default_workers(),
            out=options.out,
        )
    )
    return 0
