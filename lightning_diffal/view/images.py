"""Arrays as images, and images as PNG."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.utils.extras import require

__all__ = ["array_image", "encode_png", "fitted", "is_image_shape", "open_image", "pixels"]

_EXTRA = "label"
_CHANNELS = (1, 3, 4)
_LARGEST = 100_000_000  # pixels of a file: more is a mistake, or an attack on memory


def is_image_shape(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is an image: height and width, with 1, 3 or 4 channels first, last or absent.

    Example:
        >>> [is_image_shape(shape) for shape in ((28, 28), (3, 32, 32), (32, 32, 3), (1, 16000), (512,))]
        [True, True, True, False, False]
    """
    if len(shape) == 2:
        return min(shape) >= 4
    return len(shape) == 3 and min(shape) >= 1 and (shape[0] in _CHANNELS or shape[-1] in _CHANNELS)


def pixels(
    array: npt.NDArray[Any], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> npt.NDArray[np.uint8]:
    """An array as pixels `(H, W)` or `(H, W, 3 or 4)`.

    Args:
        array: `(H, W)`, `(C, H, W)` or `(H, W, C)`.
        mean: that was subtracted, one value or one per channel.
        std: that was divided by. With both the pixels are exactly what they were before that; without, bytes stay as
            they are, numbers between 0 and 1 are shares of 255, and anything else is stretched from its least to its
            largest value.

    Example:
        >>> pixels(np.array([[[-1.0, 1.0]]]).repeat(4, 1), mean=[0.5], std=[0.5])[0]
        array([  0, 255], dtype=uint8)
    """
    if (
        array.ndim == 3
        and array.shape[0] in _CHANNELS
        and (
            array.shape[-1] not in (3, 4) or array.shape[1] > array.shape[-1]  # (3, H, 3) is a narrow image
        )
    ):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if mean is not None or std is not None:
        values = values * _per_channel(std, 1.0, values, "std") + _per_channel(mean, 0.0, values, "mean")
    elif values.size and (values.min() < 0 or values.max() > 1):
        low, high = values.min(), values.max()
        values = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


def _per_channel(values: Sequence[float] | None, default: float, image: npt.NDArray[Any], name: str) -> Any:
    if values is None:
        return default
    given = np.atleast_1d(np.asarray(values, dtype=np.float64))
    channels = image.shape[-1] if image.ndim == 3 else 1
    if given.shape not in ((1,), (channels,)):
        raise ConfigurationError(
            f"Expected `{name}` of ItemView to hold one value or one for each of {channels} channels, but got "
            f"{given.tolist()}."
        )
    return given[0] if len(given) == 1 else given


def array_image(
    array: npt.NDArray[Any], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Any:
    """An array as an image of PIL.

    Args:
        array: as `pixels` takes it.
        mean: that was subtracted.
        std: that was divided by.
    """
    return _pil().fromarray(pixels(array, mean, std))


def open_image(path: str | os.PathLike[str]) -> Any:
    """The image in a file, turned upright as its EXIF data say.

    Raises:
        ConfigurationError: the file is missing, or is not an image that Pillow reads.
    """
    pil = _pil()
    try:
        with pil.open(path) as image:
            if image.width * image.height > _LARGEST:
                raise ConfigurationError(
                    f"{os.fspath(path)} is an image of {image.width} x {image.height} pixels, too large to show."
                )
            image.load()
            return require("PIL.ImageOps", extra=_EXTRA).exif_transpose(image)
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{os.fspath(path)} cannot be shown as an image: {error}.") from None


def fitted(image: Any, size: int) -> Any:
    """The image at the size at which it fits a square, in colours that PNG has.

    Args:
        image: of PIL.
        size: of the square's side.
    """
    pil = _pil()
    if image.mode not in ("L", "RGB", "RGBA"):
        transparent = image.mode in ("LA", "PA") or "transparency" in image.info
        deep = image.mode.startswith(("I", "F"))
        image = array_image(np.asarray(image)) if deep else image.convert("RGBA" if transparent else "RGB")
    width, height = image.size
    if max(width, height) > size:
        scale = size / max(width, height)
        return image.resize(
            (max(1, round(width * scale)), max(1, round(height * scale))), pil.Resampling.LANCZOS, reducing_gap=3.0
        )
    factor = size // max(width, height, 1)
    return image if factor < 2 else image.resize((width * factor, height * factor), pil.Resampling.NEAREST)


def encode_png(image: Any) -> bytes:
    """The image as a PNG file."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def _pil() -> Any:
    return require("PIL.Image", extra=_EXTRA)
