"""`diffal label`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from lightning_diffal.utils.counts import several

__all__ = ["add_parser"]

_EPILOG = """\
examples
  diffal label runs/flowers                                             the questions of a run, with or without training
  diffal label --images photos --classes rose,tulip --out labels.csv    the first labels of a project
  diffal label query.csv --images photos --classes rose,tulip --out labels.csv
                                                                        what `diffal select` chose

On a machine without a screen add --no-browser, forward the port (ssh -L PORT:127.0.0.1:PORT machine), and open the
address that is printed. Every answer is on disk before the page says so; the same command goes on from there."""


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    parser = commands.add_parser(
        "label",
        help="label in the browser: what a run asks, a folder of images, or a file of questions",
        description="Serve a page on this machine on which people label, by keys, clicks or touch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="RUN_DIR|QUERY",
        help="folder of a run (its run_dir), or a .csv or .jsonl file of questions",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of images or recordings")
    parser.add_argument("--classes", metavar="A,B,C", help="names of the classes, separated by commas")
    parser.add_argument("--out", type=Path, metavar="FILE", help="table of labels to write (.csv)")
    parser.add_argument("--multilabel", action="store_true", help="an item may have several classes, or none")
    parser.add_argument("--hide-suggestions", action="store_true", help="show a suggestion only after the answer")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: this machine only)")
    parser.add_argument("--port", type=int, default=0, help="(default: any free one, and the same after a restart)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.exceptions import ConfigurationError
    from lightning_diffal.oracle.page.server import PageServer, exposure, is_loopback
    from lightning_diffal.utils.extras import require

    for module in ("PIL", "starlette", "uvicorn"):
        require(module, extra="label")
    if not 0 <= options.port <= 65535:
        raise ConfigurationError(f"Expected --port to be from 0 to 65535, but got {options.port}.")
    board = _board(options)
    server = PageServer(board, options.host, options.port)
    if not server.start():
        print(f"This is served already:\n{server.address}", flush=True)
        return 0
    if not is_loopback(options.host):
        print(f"Warning: {exposure(options.host)}", file=sys.stderr)
    print(f"Label here (Ctrl-C ends it):\n{server.address}", flush=True)
    if not options.no_browser:
        server.open_browser()
    try:
        while server.is_alive:
            time.sleep(0.3)
    except KeyboardInterrupt:
        print()
    finally:
        server.stop()
        if hasattr(board, "close"):
            print(f"{several(board.close(), 'label')} in {options.out}")
    return 0


def _board(options: argparse.Namespace) -> Any:
    from lightning_diffal.exceptions import ConfigurationError
    from lightning_diffal.oracle.page.board import RunBoard
    from lightning_diffal.oracle.page.files_board import FilesBoard
    from lightning_diffal.oracle.page.oracle import FOLDER

    source: Path | None = options.source
    if source is not None and source.is_dir():
        given = [n for n in ("images", "classes", "out", "multilabel", "hide_suggestions") if getattr(options, n)]
        if given:
            raise ConfigurationError(
                f"A run knows its items and classes, so --{given[0].replace('_', '-')} does not go with {source}. For "
                "a folder of images: diffal label --images DIR --classes A,B --out labels.csv."
            )
        return RunBoard(source / FOLDER)
    if source is not None and not source.exists():
        raise ConfigurationError(f"{source} does not exist: give the folder of a run, or a file of questions.")
    if source is None and options.images is None:
        raise ConfigurationError("Expected the folder of a run, a file of questions, or --images DIR.")
    if not options.classes or options.out is None:
        raise ConfigurationError(
            "Expected --classes A,B,C and --out labels.csv: what to choose from, and where to write."
        )
    if options.out.suffix.lower() != ".csv":
        raise ConfigurationError(f"Expected --out to be a .csv file, but got {options.out}.")
    if source is not None and options.out.resolve() == source.resolve():
        raise ConfigurationError("Expected --out to be another file than the questions.")
    return FilesBoard(
        options.out,
        [name for name in options.classes.split(",") if name.strip()],
        images=options.images,
        query=source,
        multilabel=options.multilabel,
        suggest=not options.hide_suggestions,
    )
