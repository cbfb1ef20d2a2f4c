"""Files that cannot be opened for a moment: a program saves them, another reads them, a server is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lightning_diffal.exceptions import AnswerFileError

__all__ = ["patiently"]

Read = TypeVar("Read")

_LOOKS, _MOMENT = 4, 0.25  # times, and seconds between them, before a file that cannot be opened is worth an error


def patiently(read: Callable[[], Read], folder: Path) -> Read:
    """Read again where a file cannot be opened, a few times within a second.

    Args:
        read: opens files; it may be called several times.
        folder: where they are, for the message.

    Raises:
        AnswerFileError: it lasts; the file is named. A run that waits for answers looks again after a while.

    Example:
        >>> patiently(lambda: 3, Path("queries"))
        3
    """
    for left in reversed(range(_LOOKS)):
        try:
            return read()
        except OSError as error:  # noqa: PERF203  # a program that saves moves or locks it
            if not left:
                raise AnswerFileError(
                    f"{error.filename or folder} could not be read ({error.strerror or error}). Nothing was applied: "
                    "close the program that holds it, or see to the folder, and rerun."
                ) from error
            time.sleep(_MOMENT)
    raise AssertionError("the last look returns or raises")
