"""Arguments checked: counts, choices, paths, spans of time."""

from __future__ import annotations

import datetime
from numbers import Integral, Real
from os import PathLike
from typing import Any

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError

__all__ = [
    "as_seconds",
    "check_choice",
    "check_integers",
    "check_reset",
    "check_run_dir",
    "check_waiting",
]


def check_integers(least: int, **arguments: Any) -> None:
    """Counts of at least `least`; `None` where there is no limit."""
    for name, value in arguments.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
            raise ConfigurationError(
                f"Expected argument `{name}` to be an integer of at least {least}, but got {value!r}."
            )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """One of a few words."""
    if value not in choices:
        raise ConfigurationError(f"Expected argument `{name}` to be one of {choices}, but got {value!r}.")


def check_reset(reset: Any) -> None:
    """How the weights of a round begin."""
    is_share = isinstance(reset, Real) and not isinstance(reset, bool) and 0.0 < float(reset) < 1.0
    if not is_share and reset not in ("initial", "warm"):
        raise ConfigurationError(
            f"Expected argument `reset` to be 'initial', 'warm' or a float between 0 and 1, but got {reset!r}."
        )


def check_run_dir(run_dir: Any) -> None:
    """A folder, `None` for one of its own, or `False` for none."""
    if run_dir is not None and run_dir is not False and not isinstance(run_dir, str | PathLike):
        raise InvalidTypeError(f"Expected argument `run_dir` to be a path, None or False, but got {run_dir!r}.")


def check_waiting(timeout: Any, poll_seconds: Any) -> None:
    """How long an oracle is waited for, `None` for ever, and how long between two looks."""
    for name, value, least in (("timeout", timeout, 0.0), ("poll_seconds", poll_seconds, 0.01)):
        unlimited = name == "timeout" and value is None
        if not unlimited and (isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= least):
            raise ConfigurationError(
                f"Expected argument `{name}` to be a number of seconds of at least {least:g}, but got {value!r}."
            )


def as_seconds(max_time: Any) -> float | None:
    """A span of time as Lightning's Trainer takes it.

    Example:
        >>> as_seconds("00:01:30:00"), as_seconds({"minutes": 2})
        (5400.0, 120.0)
    """
    if max_time is None:
        return None
    try:
        if isinstance(max_time, str):
            days, hours, minutes, seconds = map(int, max_time.split(":"))
            max_time = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        span = max_time if isinstance(max_time, datetime.timedelta) else datetime.timedelta(**max_time)
    except (TypeError, ValueError):
        raise ConfigurationError(
            "Expected argument `max_time` to be a timedelta, its arguments as a dict, or 'DD:HH:MM:SS', "
            f"but got {max_time!r}."
        ) from None
    return span.total_seconds()
