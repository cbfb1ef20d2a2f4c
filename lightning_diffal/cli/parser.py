"""The command `diffal`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lightning_diffal.cli import compare, demo, fit, label, report, select
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
        status: int = options.run(options)
        return status
    except DiffalError as error:
        print(f"diffal {options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder where a file should be, a full disk
        words = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        print(f"diffal {options.command}: {words or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndiffal {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffal", description="Active learning for PyTorch Lightning by diffusion.")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")
    for command in (demo, fit, label, select, compare, report):
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
