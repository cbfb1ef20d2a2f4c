"""How a comparison is getting on, told on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning_diffal.utils.counts import several
from lightning_diffal.utils.extras import MissingExtraError, require

__all__ = ["display"]


@contextmanager
def display(n_runs: int, n_rounds: int, *, wanted: bool = True) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar over all rounds where somebody watches, else a line for each finished run.

    Args:
        n_runs: how many runs there are.
        n_rounds: trainings of each.
        wanted: else nothing is told.

    Yields:
        Takes the messages of runs: `name` and `seed`, with `n_labelled` after a round and `finished`, the seconds it
        took, at the end.
    """
    bar = _bar(n_runs * n_rounds) if wanted and sys.stderr.isatty() else None
    n_done = 0
    n_labelled: dict[tuple[str, int], int] = {}

    def show(message: Mapping[str, Any]) -> None:
        nonlocal n_done
        run = message["name"], message["seed"]
        if "finished" not in message:
            n_labelled[run] = message["n_labelled"]
            if bar is not None:
                bar.set_postfix_str(f"{run[0]}, seed {run[1]}, {several(n_labelled[run], 'label')}", refresh=False)
                bar.update()
            return
        n_done += 1
        if wanted and bar is None:
            words = f"{run[0]}, seed {run[1]}: {several(n_labelled[run], 'label')} in {message['finished']:.0f} seconds"
            sys.stderr.write(f"{n_done}/{n_runs}  {words}\n")
            sys.stderr.flush()

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def _bar(total: int) -> Any:
    try:
        return require("tqdm", extra="cli").tqdm(total=total, desc="rounds", unit="", file=sys.stderr)
    except MissingExtraError:  # a line per run does as well
        return None
