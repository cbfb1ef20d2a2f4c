"""The command `diffal`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import lightning_diffal
from lightning_diffal.cli import compare, demo, doctor, fit, label, next_query, report, select
from lightning_diffal.cli.typed_options import options_of, typed_options, with_options
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
    options, rest = parser.parse_known_args(arguments)
    if rest and not getattr(options, "takes_rest", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    if options.command is None:
        parser.print_help()
        return 0
    try:
        status: int = options.run(options)
        return status
    except DiffalError as error:
        known = options_of(parser, options.command) | typed_options(getattr(options, "arguments", options.rest))
        message = with_options(str(error), known)
        print(f"diffal {options.command}: {message}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder where a file should be, a full disk
        words = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        if isinstance(error, FileExistsError | NotADirectoryError):
            file = next((one for one in (Path(error.filename), *Path(error.filename).parents) if one.is_file()), None)
            words = f"Expected a folder, but {file or error.filename} is a file"
        print(f"diffal {options.command}: {words or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndiffal {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffal", description="Active learning for PyTorch Lightning by diffusion.")
    parser.add_argument("--version", action="version", version=f"diffal {lightning_diffal.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")
    for command in (demo, fit, label, next_query, select, compare, report, doctor):
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
