"""How a point looks in a report: a small picture, or the beginning of its text."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import DiffalError
from lightning_diffal.utils.seeding import isolated_random_state
from lightning_diffal.view import show_point
from lightning_diffal.view.images import fitted

__all__ = ["ItemThumb", "thumb_of"]

_SIDE = 64  # pixels
_LONGEST = 240  # characters
_PHOTO = 2500  # bytes of a PNG above which a JPEG is smaller and looks the same at this size


class ItemThumb(NamedTuple):
    """A point as people see it.

    Args:
        image: a `data:` address of a picture; `None` where it is none.
        text: the beginning of its text or of its table; `None` without.
        alt: a short description; never the label.
    """

    image: str | None
    text: str | None
    alt: str


def thumb_of(data: ActiveDataModule, index: int) -> ItemThumb:
    """Read an item without its label and without augmentation, and make it small.

    Args:
        data: knows the items, and by its `view` how they are shown.
        index: which one.

    Example:
        >>> thumb_of(ActiveDataModule([("good", 1), ("bad", 0)]), 1).text
        'bad'
    """
    try:
        with isolated_random_state(0):
            shown = show_point(data, index)
            image = None if shown.load_image is None else _address(fitted(shown.image(), _SIDE))
    except DiffalError as error:  # one item that cannot be shown is not a reason to have no report
        return ItemThumb(None, None, str(error)[:_LONGEST])
    text = shown.text or " · ".join(f"{name} {value}" for name, value in shown.rows) or None
    return ItemThumb(image, text if text is None or len(text) <= _LONGEST else f"{text[:_LONGEST]}…", shown.alt)


def _address(image: Any) -> str:
    content, kind = io.BytesIO(), "png"
    image.save(content, format="PNG", optimize=True)
    if content.tell() > _PHOTO and image.mode in ("RGB", "L"):
        content, kind = io.BytesIO(), "jpeg"
        image.save(content, format="JPEG", quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
