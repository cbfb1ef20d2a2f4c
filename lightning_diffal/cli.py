"""The command `diffal`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_diffal.exceptions import DiffalError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: what follows `diffal` on the command line. Default: the real command line.

    Returns:
        The exit status: 0 when all went well, 1 for an error that was explained in a line, 130 after Ctrl-C.

    Example:
        >>> main(["demo", "--rounds", "1000"])
        1
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return _demo(options)
    except DiffalError as error:
        print(f"diffal {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndiffal {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffal", description="Active learning for PyTorch Lightning by diffusion.")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")
    words = "diffusion beside random choice on handwritten digits"
    demo = commands.add_parser("demo", help=words, description=f"See {words}: table, labels saved, picture.")
    demo.add_argument("--quick", action="store_true", help="one seed and 6 rounds, in half a minute")
    demo.add_argument("--seeds", type=_count, help="how many seeds (default: 5)")
    demo.add_argument("--rounds", type=_count, help="queries a run (default: 15)")
    demo.add_argument("--query-size", type=_count, default=10, help="labels bought in each (default: 10)")
    demo.add_argument("--initial", type=_count, default=10, help="labels to begin with (default: 10)")
    demo.add_argument("--workers", type=_count, help="runs at a time (default: one a core)")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for results (default: runs/demo)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, but got {text!r}")
    return int(text)


def _demo(options: argparse.Namespace) -> int:
    from lightning_diffal.demo import DemoSettings, default_workers, run_demo  # torch and Lightning take seconds

    run_demo(
        DemoSettings(
            seeds=options.seeds or (1 if options.quick else 5),
            rounds=options.rounds or (6 if options.quick else 15),
            query_size=options.query_size,
            initial=options.initial,
            workers=options.workers or default_workers(),
            out=options.out,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
