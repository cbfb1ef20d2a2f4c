"""`diffal doctor`."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["add_parser"]

_PACKAGES = (
    *("lightning-diffal", "pytorch-lightning", "lightning", "torch", "torchmetrics", "numpy", "scipy"),
    *("faiss-cpu", "faiss-gpu", "pynndescent", "numba", "scikit-learn", "matplotlib", "jsonargparse", "pandas"),
    *("rich", "starlette", "uvicorn", "openpyxl", "label-studio-sdk", "scikit-activeml"),
)
"""Whose versions explain what people see."""


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    parser = commands.add_parser(
        "doctor",
        help="versions, back ends, devices, and the state of a run folder",
        description="Print what a report of a problem should hold: versions, back ends, devices and, with RUN, the "
        "state of a run folder. Nothing private: no ids, no labels, no paths, no names of people or machines.",
    )
    parser.add_argument("run_dir", metavar="RUN", type=Path, nargs="?", help="folder of a run (its run_dir)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal.exceptions import ConfigurationError

    if options.run_dir is not None and not options.run_dir.is_dir():
        raise ConfigurationError(f"Expected RUN to be the folder of a run, but {options.run_dir} is not a folder.")
    for title, lines in (("Versions", _versions()), ("Machine", _machine())):
        _show(title, lines)
    return 0 if options.run_dir is None else _show_run(options.run_dir)


def _show(title: str, lines: Iterator[tuple[str, Any]]) -> None:
    print(title)
    for name, value in lines:
        print(f"  {name:<20} {value}")


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _machine() -> Iterator[tuple[str, Any]]:
    import torch

    from lightning_diffal.neighbors.nearest import auto_backend

    yield "system", f"{platform.system()} {platform.machine()}"
    yield "processors", os.cpu_count()
    yield "threads of torch", torch.get_num_threads()
    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield "CUDA devices", ", ".join(cuda) or "none"
    yield "MPS", "yes" if torch.backends.mps.is_available() else "no"
    yield "neighbours, 10,000", auto_backend(10_000, 64)
    yield "neighbours, 1,000,000", auto_backend(1_000_000, 64)


def _show_run(folder: Path) -> int:
    """The state of a run folder; 1 where something of it cannot be read."""
    from lightning_diffal.exceptions import DiffalError
    from lightning_diffal.history.folder import STATE
    from lightning_diffal.history.journal import FILENAME
    from lightning_diffal.history.lines import read_journal

    print("Run")
    healthy = True
    try:
        found = read_journal(folder / FILENAME)
        kinds = [event["kind"] for event in found.events[1:]]
        print(f"  {'journal':<20} {len(found.events)} lines, all of them whole and unchanged")
        for kind in sorted(set(kinds)):
            print(f"  {kind:<20} {kinds.count(kind)}")
        if found.torn:
            print(f"  {'torn line':<20} yes: left by a process that died; the next one removes it")
        if found.events:
            header = found.events[0]
            print(f"  {'written by':<20} {header.get('version', 'a version before 0.2.0')}")
            print(f"  {'points, classes':<20} {header['n_points']}, {header['num_classes']}")
    except DiffalError as error:
        healthy = False
        print(f"  {'journal':<20} damaged: {_without(str(error), folder)}")
    state = folder / STATE
    if not state.exists():
        print(f"  {'state':<20} none yet: the first round has not ended")
        return 0 if healthy else 1
    try:
        saved = _state(folder)
        print(f"  {'state':<20} round {saved['round']}, phase {saved['phase']!r}, {len(saved['history'])} records")
    except (DiffalError, OSError, RuntimeError, KeyError) as error:
        healthy = False
        print(f"  {'state':<20} damaged: {_without(str(error), folder).splitlines()[0]}")
    return 0 if healthy else 1


def _without(message: str, folder: Path) -> str:
    """The message without the folder's name, which may be a person's; not where its letters stand within a word."""
    return re.sub(rf"(?<![\w./-]){re.escape(str(folder))}(?![\w.-])", "RUN", message)


def _state(folder: Path) -> dict[str, Any]:
    from lightning_diffal.history.folder import RunFolder
    from lightning_diffal.history.journal import FILENAME, Journal
    from lightning_diffal.run.resuming.checkpoint import KEY

    contents = RunFolder(folder, Journal.open(folder / FILENAME)).load()
    assert contents is not None, "it exists"
    saved: dict[str, Any] = contents[KEY]
    return saved
