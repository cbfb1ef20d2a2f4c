"""The status line, made to fit: shortened by leaving out what matters least, never cut off in a word."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lightning_diffal.utils.counts import several

__all__ = ["fit_line", "status_line"]

_LEAST_BAR = 10
_MOST_BAR = 30


def status_line(
    words: str,
    *,
    round_: int | None = None,
    max_rounds: int | None = None,
    n_labelled: int | None = None,
    done: int | None = None,
    total: int | None = None,
    width: int | None = None,
) -> str:
    """What is being done, and where in the run.

    Args:
        words: what is being done.
        round_: the present round; `None` before the first.
        max_rounds: how many queries the run makes; `None`: no limit.
        n_labelled: labels known.
        done: how many units are done.
        total: of how many.
        width: columns that are free; `None`: any number, and no bar.

    Example:
        >>> status_line("reading features", round_=3, max_rounds=10, n_labelled=50, done=640, total=1297)
        'Round 3 of 10 · 50 labels · reading features 640/1,297'
        >>> status_line("choosing 10", round_=3, max_rounds=10, n_labelled=50, width=30)
        'Round 3/10 · choosing 10'
    """
    if total is not None and done is not None:
        words = f"{words} {done:,}/{total:,}"
    counts = [] if n_labelled is None else [several(n_labelled, "label")]
    long = [] if round_ is None else [f"Round {round_}" + ("" if max_rounds is None else f" of {max_rounds}")]
    short = [] if round_ is None else [f"Round {round_}" + ("" if max_rounds is None else f"/{max_rounds}")]
    line = fit_line([[*long, *counts, words], [*short, *counts, words], [*short, words], [words]], width)
    if width is None or total is None or done is None or total <= 0:
        return line
    room = min(width - len(line) - 1, _MOST_BAR)
    return line if room < _LEAST_BAR else f"{line} {_bar(done / total, room)}"


def fit_line(variants: Sequence[Sequence[str]], width: int | None) -> str:
    """The first of several wordings that fits; of the last one, if need be, whole words from its beginning.

    Args:
        variants: parts of each wording, the longest wording first.
        width: columns that are free; `None`: any number.

    Example:
        >>> fit_line([["Round 3 of 10", "choosing 10"], ["choosing 10"]], 12)
        'choosing 10'
    """
    lines = [" · ".join(parts) for parts in variants]
    fitting = [line for line in lines if width is None or len(line) <= width]
    return fitting[0] if fitting else textwrap.shorten(lines[-1], max(width or 1, 1), placeholder="…")


def _bar(share: float, width: int) -> str:
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "┄" * (width - full)
