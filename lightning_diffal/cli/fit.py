"""`diffal fit`."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    # no option begins with this prefix: everything, `--help` too, goes on to Lightning's own parser
    parser = commands.add_parser(
        "fit", help="active learning with your own model and data", add_help=False, prefix_chars="\0"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.utils.extras import require

    for module in ("jsonargparse", "docstring_parser", "yaml"):
        require(module, extra="cli")  # before torch and Lightning, which take seconds
    from lightning_diffal.cli.lightning_cli import SHORT_HELP, run_fit

    if options.arguments in (["--help"], ["-h"], []):
        print(SHORT_HELP)
        return 0
    run_fit(["--help" if argument == "--help-all" else argument for argument in options.arguments])
    return 0
