"""`Shown`: one item in the form in which people look at it."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.view.images import encode_png, fitted

__all__ = ["Kind", "Shown", "data_uri"]

Kind = Literal["image", "text", "audio", "table"]

_EMBEDDED = 512  # pixels of an image that travels inside a task


@dataclass(frozen=True, eq=False)
class Shown:
    """One item as a browser, a spreadsheet, a Label Studio task or a report shows it.

    Nothing is read or decoded before it is needed: of an image file only its path is known until a thumbnail is asked
    for.

    Args:
        kind: what people look at.
        alt: a short description, for screen readers and captions; never the label.
        text: of a text in full; of a table its rows in one line; of an image or a recording what stands beside it.
        rows: name and value, of a table, or of what comes along with a text.
        path: of the file that the item came from, where it did.
        url: where a browser finds the item, where it is a web address.
        load_image: gives the image as PIL has it; of an image.
        load_audio: gives a recording as `(bytes, media type)`.
        version: changes when the content of the file does.

    Example:
        >>> shown = Shown("text", alt="a fine film", text="a <fine> film")
        >>> shown.html(), shown.to_task_data()
        ('<p class="shown-text">a &lt;fine&gt; film</p>', {'text': 'a <fine> film'})
    """

    kind: Kind
    alt: str
    text: str | None = None
    rows: tuple[tuple[str, str], ...] = ()
    path: str | None = None
    url: str | None = None
    load_image: Callable[[], Any] | None = field(default=None, repr=False)
    load_audio: Callable[[], tuple[bytes, str]] | None = field(default=None, repr=False)
    version: str = ""

    def image(self) -> Any:
        """The image as PIL has it, in full size.

        Raises:
            ConfigurationError: the item is not an image on this machine, or its file cannot be read.
        """
        if self.load_image is None:
            raise ConfigurationError(f"Expected an image on this machine, but got {self.alt!r} ({self.kind}).")
        return self.load_image()

    def audio(self) -> tuple[bytes, str]:
        """The recording and its media type.

        Raises:
            ConfigurationError: the item is not a recording on this machine, or its file cannot be read.
        """
        if self.load_audio is None:
            raise ConfigurationError(f"Expected a recording on this machine, but got {self.alt!r} ({self.kind}).")
        return self.load_audio()

    def thumbnail(self, size: int = 256) -> bytes | None:
        """The image as a PNG that fits into a square; `None` where the item is not an image on this machine.

        Images of a few pixels, such as digits of 8 x 8, are enlarged by whole factors, so that they stay sharp.

        Args:
            size: of the square's side, in pixels.

        Raises:
            ConfigurationError: the file cannot be read as an image.
        """
        return None if self.load_image is None else encode_png(fitted(self.load_image(), size))

    def html(self, size: int = 256) -> str:
        """A piece of HTML that needs nothing else: images inside it, text escaped, no script and no style.

        Args:
            size: of an image, in pixels.
        """
        caption = "" if self.text is None else f"<figcaption>{html.escape(self.text)}</figcaption>"
        if self.kind == "image":
            picture = self.thumbnail(size)
            source = self.url if picture is None else data_uri(picture, "image/png")
            image = f'<img src="{html.escape(source or "")}" alt="{html.escape(self.alt)}">'
            return f'<figure class="shown-image">{image}{caption}</figure>'
        if self.kind == "audio":
            source = self.url if self.load_audio is None else data_uri(*self.load_audio())
            audio = f'<audio controls src="{html.escape(source or "")}" title="{html.escape(self.alt)}"></audio>'
            return f'<figure class="shown-audio">{audio}{caption}</figure>'
        cells = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
            for name, value in self.rows
        )
        table = f'<table class="shown-table">{cells}</table>' if cells else ""
        return table if self.kind == "table" else f'<p class="shown-text">{html.escape(self.text or "")}</p>{table}'

    def to_task_data(self) -> dict[str, Any]:
        """The item as the data of a Label Studio task, under a key named after its kind.

        An image or a recording is named by its web address or path; without either it travels inside the task, an
        image reduced to 512 pixels.
        """
        if self.kind == "image":
            address = self.url or self.path
            picture = self.thumbnail(_EMBEDDED) if address is None else None
            found = {"image": address if picture is None else data_uri(picture, "image/png")}
            return found if self.text is None else {**found, "caption": self.text}
        if self.kind == "audio":
            address = self.url or self.path
            found = {"audio": address if address is not None else data_uri(*self.audio())}
            return found if self.text is None else {**found, "caption": self.text}
        if self.kind == "table":
            return {"table": dict(self.rows)}
        return {"text": self.text or ""} if not self.rows else {"text": self.text or "", "table": dict(self.rows)}


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
