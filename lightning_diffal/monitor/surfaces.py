"""Where the status appears: in the console of Lightning's Rich bar, on a line beside its TQDM bar, or as lines."""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Any, Protocol

from lightning_diffal._lightning import NAMESPACE, pl, pl_callbacks, rank_zero_info

__all__ = ["PlainSurface", "RichSurface", "Surface", "TqdmSurface", "surface_for"]


class Surface(Protocol):
    """Shows one line that changes, and lines that stay."""

    changes: bool
    """Whether what is shown is replaced by what is shown next, so that showing it often does no harm."""

    @property
    def width(self) -> int | None:
        """Columns of a line; `None`: any number."""

    def show(self, line: str) -> None:
        """Replace the changing line."""

    def say(self, text: str) -> None:
        """Put down a line that stays."""

    def head(self, line: str) -> None:
        """Leave the screen to a training, under this heading."""

    def clear(self) -> None:
        """Take the changing line away."""

    def open(self) -> None:
        """A fit begins."""

    def close(self) -> None:
        """It is over: leave everything as it was."""


class PlainSurface:
    """Lines of Lightning's log, where there is no bar or no terminal."""

    changes = False
    width = None

    def show(self, line: str) -> None:
        """Put down a line."""
        rank_zero_info(line)

    def say(self, text: str) -> None:
        """Put down a line."""
        rank_zero_info(text)

    def head(self, line: str) -> None:
        """Put down a line."""
        rank_zero_info(line)

    def clear(self) -> None:
        """Lines stay."""

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class TqdmSurface:
    """A line of its own in the place of Lightning's TQDM bars, which are closed while it is shown."""

    changes = True

    def __init__(self) -> None:
        self._tqdm: Any = importlib.import_module("tqdm.auto").tqdm  # as Lightning's, also in a notebook
        self._bar: Any = None
        self._log = _LogDiversion(lambda text: self._tqdm.write(text, file=sys.stderr, end=""))

    @property
    def width(self) -> int | None:
        """Columns of the terminal, less the last one, which some terminals wrap at."""
        return shutil.get_terminal_size().columns - 1

    def show(self, line: str) -> None:
        """Replace the line."""
        if self._bar is None:
            self._bar = self._tqdm(
                total=0, bar_format="{desc}", leave=False, dynamic_ncols=True, file=sys.stdout, position=0
            )
        self._bar.set_description_str(line, refresh=True)

    def say(self, text: str) -> None:
        """Put down a line above the bars."""
        lines = textwrap.wrap(
            text, self.width or 80, break_long_words=False, break_on_hyphens=False
        )  # paths in one piece
        self._tqdm.write("\n".join(lines), file=sys.stdout)

    def head(self, line: str) -> None:
        """Put down a line: Lightning's bars appear below it."""
        self.clear()
        self.say(line)

    def clear(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def open(self) -> None:
        """Let Lightning's log put its lines above the bars."""
        self._log.begin()

    def close(self) -> None:
        """Put the log back, and take the line away."""
        self._log.end()
        self.clear()


class RichSurface:
    """The live display of Lightning's Rich bar: our line above its rows while something trains, alone in between.

    What else prints to the terminal while that display is live is overwritten by it.

    Args:
        bar: Lightning's.
    """

    changes = True

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._own: Any = None  # a live display where the bar has none
        self._log = _LogDiversion(lambda text: sys.stderr.write(text))  # the display puts itself there while it lives
        self._line = ""
        self._is_head = False

    @property
    def width(self) -> int | None:
        """Columns of the console."""
        return int(self._console.width)

    def show(self, line: str) -> None:
        """Replace the line; rows of what has ended go."""
        self._line, self._is_head = line, False
        self._draw()

    def say(self, text: str) -> None:
        """Put down a line above the display."""
        self._console.print(self._text(text))

    def head(self, line: str) -> None:
        """Show the line above the bar's rows."""
        self._line, self._is_head = line, True
        self._close_own()  # the bar opens a display in a moment
        display = self._display
        for task in () if display is None else display.tasks:
            if task.finished:  # of the round before; the bar shows its rows again when it uses them again
                display.update(task.id, visible=False)
        self._draw()

    def clear(self) -> None:
        """Take the line away."""
        self._line = ""
        self._close_own()
        self._draw()

    def open(self) -> None:
        """Let Lightning's log go through the live display, which else leaves torn rows of itself above each line."""
        self._log.begin()

    def close(self) -> None:
        """Put the log back, and take the line away."""
        self._log.end()
        self.clear()

    @property
    def _console(self) -> Any:
        progress = self._bar.progress
        return importlib.import_module("rich").get_console() if progress is None else progress.console

    @property
    def _display(self) -> Any:
        """The bar's live display, with our line in it; `None` while it has none."""
        progress = self._bar.progress
        if progress is None or not progress.live.is_started:
            return None
        if "get_renderables" not in vars(progress):
            theirs = progress.get_renderables

            def renderables() -> Any:
                if self._line:
                    yield self._text(self._line)
                if self._is_head or not self._line:
                    yield from theirs()

            progress.get_renderables = renderables
        return progress

    def _draw(self) -> None:
        display = self._display
        if display is not None:
            self._close_own()
            display.refresh()
        elif self._line and not self._is_head:
            if self._own is None:
                live: Any = importlib.import_module("rich.live").Live
                self._own = live(console=self._console, auto_refresh=False, transient=True)
                self._own.start()
            self._own.update(self._text(self._line), refresh=True)

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.stop()
            self._own = None

    def _text(self, line: str) -> Any:
        return importlib.import_module("rich.text").Text(line)  # markup in names of points is shown as it is


class _LogDiversion:
    """Takes what Lightning logs to the terminal, while bars are there that a line printed over them would tear.

    Args:
        write: where it goes instead.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self.write = write
        self._handlers: list[Any] = []

    def flush(self) -> None:
        """As a stream has it."""

    def begin(self) -> None:
        """Take it from now on."""
        for handler in logging.getLogger(NAMESPACE).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__:
                self._handlers.append(handler)
                handler.setStream(self)

    def end(self) -> None:
        """Leave it again."""
        for handler in self._handlers:
            handler.setStream(sys.__stderr__)
        self._handlers = []


def surface_for(trainer: pl.Trainer) -> Surface:
    """Where this Trainer's status goes.

    Args:
        trainer: its progress bar is looked at.
    """
    bar: Any = trainer.progress_bar_callback
    if bar is None or getattr(bar, "is_disabled", False):
        return PlainSurface()
    if isinstance(bar, pl_callbacks.RichProgressBar):
        console = importlib.import_module("rich").get_console()
        return RichSurface(bar) if console.is_terminal or console.is_jupyter else PlainSurface()
    if isinstance(bar, pl_callbacks.TQDMProgressBar) and (sys.stdout.isatty() or _in_notebook()):
        return TqdmSurface()
    return PlainSurface()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
