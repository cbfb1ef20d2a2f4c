"""`diffal next`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_diffal.cli.arguments import count

__all__ = ["add_parser"]

_EXAMPLE = """\
MODEL and DATA are given as for `diffal fit`; what is labelled is known from the checkpoint of a run, from the data
module, or from files:

  diffal next --ckpt best.ckpt --model my.Model --data my.Data -n 100
  diffal next --ckpt best.ckpt --model my.Model --data my.Data --labels query.csv -n 100 --out query-2.csv
"""


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    words = "what to label next, from a model that is trained already"
    parser = commands.add_parser(
        "next",
        help=words,
        description=f"Say {words}; nothing trains. Further arguments are those of `diffal fit` (--model.ARG, "
        "--data.ARG, --labelled.ARG, --active.sampler, --active.features, --trainer.accelerator ...).",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint of Lightning with the model's weights")
    parser.add_argument("-n", "--query-size", type=count, default=10, help="how many points to choose (default: 10)")
    parser.add_argument("--labels", type=Path, nargs="+", default=[], metavar="FILE", help="query files, filled in")
    parser.add_argument("--out", type=Path, default=Path("query.csv"), help="CSV or .jsonl (default: query.csv)")
    parser.set_defaults(run=_run, takes_rest=True)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.utils.extras import require

    for module in ("jsonargparse", "docstring_parser", "yaml"):
        require(module, extra="cli")  # before torch and Lightning, which take seconds
    from lightning_diffal.cli.lightning_cli import run_next

    print(run_next(options.rest, options.ckpt, options.query_size, options.labels, options.out))
    return 0
