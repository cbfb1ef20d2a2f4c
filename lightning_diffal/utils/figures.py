"""How figures look: of histories, of reports, of comparisons. Needs the extra `report` (matplotlib)."""

from __future__ import annotations

import io
import warnings
from functools import partial
from typing import Any

from lightning_diffal.utils.extras import require

__all__ = ["COLOURS", "GRID", "INK", "MUTED", "new_figure", "plain_axes", "png"]

# Okabe & Ito's palette, told apart by colour-blind readers too; the order keeps neighbours distinct in grey. Beyond it
# colours are darker than those they resemble.
_PALETTE = "#0072B2 #D55E00 #009E73 #CC79A7 #56B4E9 #E69F00 #5D3A9B #7A4A1E #6B6B6B #A50026 #00574B #B3A100"
COLOURS = tuple(_PALETTE.split())
INK, MUTED, GRID = "#222222", "#6B6B6B", "#E4E4E4"


def new_figure(width: float, height: float) -> Any:
    """A figure in inches. No window system, and no pyplot state that a user's own figures share.

    A notebook shows it where it is the value of a cell: without pyplot nobody else tells it how.
    """
    figure = require("matplotlib.figure", extra="report").Figure(figsize=(width, height), dpi=160, facecolor="white")
    require("matplotlib.backends.backend_agg", extra="report").FigureCanvasAgg(figure)
    figure._repr_png_ = partial(_for_notebook, figure)
    return figure


def _for_notebook(figure: Any) -> tuple[bytes, dict[str, int]]:
    """The picture, and how large it is to be: twice as many pixels as that stay sharp on any screen."""
    return png(figure), {"width": round(figure.get_figwidth() * 80)}


def plain_axes(axes: Any, title: str = "", xlabel: str = "") -> None:
    """Little ink beside the data; words are taken as they are, dollar signs too."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#9A9A9A")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, colors=MUTED, pad=4)
    axes.set_title(title, color=INK, fontsize=9.5, loc="left", parse_math=False)
    axes.set_xlabel(xlabel, color=MUTED, fontsize=8.5, parse_math=False)


def png(figure: Any) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
