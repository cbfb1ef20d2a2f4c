"""`diffal report`."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    parser = commands.add_parser(
        "report",
        help="a run as a page: what was learned, what was asked and why",
        description="Write a run as one HTML file that loads nothing and can be sent: learning curve, what to do next, "
        "map of the points with a slider over the rounds, what was asked and why, labels worth a second look, balance "
        "of classes, time, settings. The run may be going on meanwhile.",
    )
    parser.add_argument(
        "source", metavar="RUN", type=Path, help="folder of a run (its run_dir), or a JSON file of a history"
    )
    parser.add_argument("--out", type=Path, help="page to write (default: report.html in the folder)")
    parser.add_argument(
        "--features", type=Path, help="a .npy or .npz file with one row of features per point, for the map of the pool"
    )
    parser.add_argument("--key", help="name of the array in an .npz that holds several, or of a Parquet file's column")
    parser.add_argument("--title", help="title of the page (default: the run's name)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.exceptions import ConfigurationError
    from lightning_diffal.report import html_report  # torch takes seconds
    from lightning_diffal.selection.embeddings import load_features

    source: Path = options.source
    out = options.out or (source / "report.html" if source.is_dir() else source.with_suffix(".html"))
    if out.is_dir():
        raise ConfigurationError(f"Expected --out to be a page to write, but {out} is a folder: {out / 'report.html'}?")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"The report is an HTML page, but --out is {out}: give it a name that ends in .html.")
    if out.is_file() and not out.read_bytes()[:200].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ConfigurationError(f"{out} is not an HTML report; not overwritten: give another name with --out.")
    if options.key is not None and options.features is None:
        raise ConfigurationError("--key names an array of --features, but no --features were given.")
    features = None if options.features is None else load_features(options.features, key=options.key)
    try:
        page = html_report(source, out, features=features, title=options.title)[0]
    except OSError as error:
        raise ConfigurationError(f"{error.filename or out}: {error.strerror}.") from error
    print(f"Page      {page}")
    if options.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
