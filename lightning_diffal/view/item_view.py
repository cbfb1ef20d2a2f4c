"""`ItemView`: from an item of a data set to what people look at."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Subset

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.labels.targets import Target, without_target
from lightning_diffal.view.images import array_image, is_image_shape, open_image
from lightning_diffal.view.shown import Shown
from lightning_diffal.view.sounds import AUDIO_TYPES, encode_wav, is_waveform_shape, read_audio

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["ItemView", "path_of", "show_point"]

_IMAGE = re.compile(r"\.(png|jpe?g|gif|bmp|webp|tiff?)$", re.IGNORECASE)
_WEB = re.compile(r"https?://\S+$", re.IGNORECASE)
_TEXT_KEYS = ("text", "sentence", "content", "document", "question")
_IMAGE_KEYS = ("image", "img", "pixel_values", "picture")
_AUDIO_KEYS = ("audio", "waveform", "speech", "input_values")
_TOKEN_KEYS = ("input_ids",)
_SKIPPED = ("attention_mask", "token_type_ids", "special_tokens_mask", "position_ids")
_ALT = 80  # characters
_ROWS = 24
_CELL = 200  # characters of one value


class ItemView:
    """Shows items of any usual kind: images, text, tokens, recordings, and rows of numbers.

    The label is taken out first. Paths that the data set knows (`samples`, as torchvision's folders have them) go
    before the item, since the file looks better than what a transform made of it. Of a tuple the first part that can
    be shown counts, of a dict the keys `image`, `audio`, `text` and their like; what is neither becomes a small table.

    Args:
        mean: what `Normalize` subtracted from images, so that they are shown as they were before: one value, or one
            per channel.
        std: what it divided by. Without both, images are shown as they are where their values lie between 0 and 1 or
            are bytes, and stretched to their range otherwise.
        tokenizer: turns token ids into text by its method `decode`, as those of transformers and tokenizers do.
        sample_rate: of waveforms that come without theirs.
        custom: `custom(index, item, id)` gives what is to be shown instead of the item: anything that would be shown
            itself, or a `Shown`.

    Raises:
        InvalidTypeError: a tokenizer without `decode`, or a `custom` that cannot be called.

    Example:
        >>> view = ItemView()
        >>> view.show(0, ("a fine film", 1)).text, view.show(1, np.zeros((3, 8, 8))).kind
        ('a fine film', 'image')
        >>> view.show(2, {"height": 1.5, "width": 2, "label": 0}).rows
        (('height', '1.5'), ('width', '2'))
    """

    def __init__(
        self,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        tokenizer: Any = None,
        custom: Callable[[int, Any, str], Any] | None = None,
        *,
        sample_rate: int = 16_000,
    ) -> None:
        if tokenizer is not None and not callable(getattr(tokenizer, "decode", None)):
            raise InvalidTypeError(
                f"Expected argument `tokenizer` to have a method `decode`, but got {type(tokenizer).__name__}."
            )
        if custom is not None and not callable(custom):
            raise InvalidTypeError(f"Expected argument `custom` to be a function, but got {custom!r}.")
        self.mean = _numbers("mean", mean)
        self.std = _numbers("std", std)
        self.tokenizer = tokenizer
        self.custom = custom
        self.sample_rate = sample_rate

    @classmethod
    def of(cls, view: Any) -> ItemView:
        """A view from what a user gave: an `ItemView`, a function `(index, item, id)`, or `None`.

        Raises:
            InvalidTypeError: anything else.
        """
        if view is None:
            return cls()
        if isinstance(view, cls):
            return view
        if callable(view) and not isinstance(view, type):
            return cls(custom=view)
        raise InvalidTypeError(
            "Expected argument `view` to be an ItemView, a function (index, item, id) -> what to show, or None, "
            f"but got {view!r}."
        )

    def show(
        self,
        index: int,
        item: Any,
        id: str | None = None,  # noqa: A002  # as everywhere
        *,
        target: Target = "auto",
        path: str | None = None,
    ) -> Shown:
        """One item as people look at it.

        Args:
            index: position in the training data set.
            item: as the data set gives it.
            id: stable id of the point. Default: its position.
            target: where the item holds its label, which is never shown.
            path: of the file behind the item, where the data set knows it.

        Raises:
            ConfigurationError: nothing in the item can be shown; it says what to give.
        """
        name = str(index) if id is None else id
        if self.custom is not None:
            given = self.custom(index, item, name)
            shown = given if isinstance(given, Shown) else self._shown(given, name)
            if shown is None:
                raise ConfigurationError(
                    f"The function given as `view` returned {_kind(given)} for item {index}, which cannot be shown: "
                    "return an image, a path, text, a dict of plain values, or a `Shown`."
                )
            return shown
        found = None if path is None else self._file(path, name)
        if found is None:
            found = self._shown(without_target(item, target), name)
        if found is None:
            raise ConfigurationError(
                f"Item {index} ({_kind(item)}) cannot be shown to people: give "
                "`ActiveDataModule(view=lambda index, item, id: ...)` that returns an image, a path, text or a dict."
            )
        return found

    # ---------------------------------------------------------------------------------------------------- kinds

    def _shown(self, value: Any, name: str) -> Shown | None:
        if isinstance(value, Shown):
            return value
        if isinstance(value, str):
            return self._string(value, name)
        if isinstance(value, os.PathLike):
            path = os.fspath(value)
            return self._file(path, name) or Shown("text", alt=_short(path), text=path)
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._mapping({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, name)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._mapping(dict(zip(value._fields, value, strict=True)), name)
        if isinstance(value, tuple | list):
            return self._sequence(value, name)
        if _is_pil(value):
            return Shown("image", alt=f"image {name}", load_image=lambda: value)
        array = _as_array(value)
        return None if array is None else self._array(array, name)

    def _string(self, value: str, name: str) -> Shown:
        if _WEB.match(value):
            suffix = Path(value.split("?")[0].split("#")[0]).suffix.lower()
            if _IMAGE.search(suffix) or suffix == ".svg":
                return Shown("image", alt=f"image {name}", url=value)
            if suffix in AUDIO_TYPES:
                return Shown("audio", alt=f"recording {name}", url=value)
        return self._file(value, name) or Shown("text", alt=_short(value), text=value)

    def _file(self, path: str, name: str) -> Shown | None:
        """A file of a kind that people can look at or listen to; text that only looks like a path is text."""
        suffix = Path(path).suffix.lower() if len(path) < 4096 and "\n" not in path and "\0" not in path else ""
        is_image = bool(_IMAGE.search(suffix))
        if not is_image and suffix not in AUDIO_TYPES:
            return None
        try:
            about = Path(path).stat()
        except OSError:
            return None
        version = f"{about.st_mtime_ns}-{about.st_size}"
        if is_image:
            return Shown("image", alt=f"image {name}", path=path, load_image=lambda: open_image(path), version=version)
        return Shown("audio", alt=f"recording {name}", path=path, load_audio=lambda: read_audio(path), version=version)

    def _mapping(self, value: Mapping[Any, Any], name: str) -> Shown | None:
        fields = {str(key): part for key, part in value.items() if str(key) not in _SKIPPED}
        if "array" in fields and "sampling_rate" in fields:  # a recording of Hugging Face's data sets
            return self._waveform(_as_array(fields["array"]), int(fields["sampling_rate"]), name)
        for key in (*_IMAGE_KEYS, *_AUDIO_KEYS):
            if key not in fields:
                continue
            shown = self._part(key, fields, name)
            if shown is not None and shown.kind in ("image", "audio"):
                beside = next((fields[k] for k in _TEXT_KEYS if isinstance(fields.get(k), str)), None)
                return dataclasses.replace(shown, text=beside) if beside is not None else shown
        rest = {key: part for key, part in fields.items() if key not in _TOKEN_KEYS}
        texts = [key for key in _TEXT_KEYS if isinstance(rest.get(key), str)]
        strings = [key for key, part in rest.items() if isinstance(part, str)]
        main = texts[0] if texts else strings[0] if len(strings) == 1 else None
        if main is not None:
            others = _rows({key: part for key, part in rest.items() if key != main})
            shown = self._string(rest[main], name)
            return dataclasses.replace(shown, rows=others) if shown.kind == "text" else shown
        for key in _TOKEN_KEYS:
            decoded = self._decoded(fields.get(key))
            if decoded is not None:
                return Shown("text", alt=_short(decoded), text=decoded)
        return _table(fields, name)

    def _part(self, key: str, fields: Mapping[str, Any], name: str) -> Shown | None:
        part = fields[key]
        rate = fields.get("sampling_rate", fields.get("sample_rate"))
        array = None if isinstance(part, str | Mapping) or _is_pil(part) else _as_array(part)
        if key in _AUDIO_KEYS and array is not None and is_waveform_shape(array.shape):
            return self._waveform(array, self.sample_rate if rate is None else int(rate), name)
        return self._shown(part, name)

    def _sequence(self, parts: Sequence[Any], name: str) -> Shown | None:
        if len(parts) == 1:
            return self._shown(parts[0], name)
        if len(parts) >= 2 and isinstance(parts[1], int) and not isinstance(parts[1], bool):  # as torchaudio has them
            array = None if isinstance(parts[0], str | Mapping) else _as_array(parts[0])
            if array is not None and is_waveform_shape(array.shape) and parts[1] >= 1000:
                return self._waveform(array, parts[1], name)
        if parts and all(isinstance(part, int | float | np.number) for part in parts):
            return self._array(np.asarray(parts), name)
        if parts and all(isinstance(part, str) for part in parts):
            return self._string(str(parts[0]), name) if len(parts) == 1 else _table(dict(_numbered(parts)), name)
        shown = [self._shown(part, name) for part in parts]
        for kind in ("image", "audio", "text", "table"):
            for part in shown:
                if part is not None and part.kind == kind:
                    return part
        return None

    def _array(self, array: npt.NDArray[Any], name: str) -> Shown | None:
        if array.dtype.kind not in "biuf":
            return None
        if array.ndim == 1 and array.dtype.kind in "iu":
            decoded = self._decoded(array)
            if decoded is not None:
                return Shown("text", alt=_short(decoded), text=decoded)
        if is_waveform_shape(array.shape) and array.dtype.kind in "if":
            return self._waveform(array, self.sample_rate, name)
        if array.ndim == 4 and array.shape[0] == 1:
            array = array[0]
        if is_image_shape(array.shape):
            return Shown("image", alt=f"image {name}", load_image=lambda: array_image(array, self.mean, self.std))
        if array.ndim <= 1:
            return _table(dict(_numbered(array.reshape(-1).tolist())), name)
        return _table({"value": array}, name)

    def _waveform(self, array: npt.NDArray[Any] | None, rate: int, name: str) -> Shown | None:
        if array is None or array.ndim not in (1, 2) or array.dtype.kind not in "if":
            return None
        seconds = array.shape[-1] / rate
        return Shown("audio", alt=f"recording {name}, {seconds:.1f} s", load_audio=lambda: _wav(array, rate))

    def _decoded(self, tokens: Any) -> str | None:
        if self.tokenizer is None or tokens is None:
            return None
        ids = _as_array(tokens)
        if ids is None or ids.dtype.kind not in "iu" or ids.ndim > 2 or not ids.size:
            return None
        values = ids.reshape(-1).tolist()
        try:
            return str(self.tokenizer.decode(values, skip_special_tokens=True))
        except TypeError:
            return str(self.tokenizer.decode(values))


def show_point(data: ActiveDataModule, index: int) -> Shown:
    """A point of a run's data set as people look at it, through its `view`.

    Args:
        data: whose `view` is used.
        index: position in the training data set.

    Raises:
        ConfigurationError: nothing in the item can be shown; it says what to give.

    Example:
        >>> from lightning_diffal import ActiveDataModule
        >>> show_point(ActiveDataModule([("good", 1), ("bad", 0)]), 1).text
        'bad'
    """
    view, id_ = ItemView.of(data.view), data.pool.id_of(index)
    path = path_of(data.pool_dataset or data.train_dataset, index)
    return view.show(index, data.pool_item(index), id_, target=data.target, path=path)


def path_of(dataset: Any, index: int) -> str | None:
    """The path of a point's file, where the data set keeps `samples`, as torchvision's folders do.

    Args:
        dataset: a data set, or subsets of one.
        index: position in it.
    """
    while isinstance(dataset, Subset):
        dataset, index = dataset.dataset, int(dataset.indices[index])
    samples = getattr(dataset, "samples", None)
    sample = samples[index] if isinstance(samples, list) and index < len(samples) else None
    path = sample[0] if isinstance(sample, tuple) and sample else None
    return os.fspath(path) if isinstance(path, str | os.PathLike) else None


def _wav(array: npt.NDArray[Any], rate: int) -> tuple[bytes, str]:
    return encode_wav(array, rate), "audio/wav"


def _table(fields: Mapping[str, Any], name: str) -> Shown | None:
    rows = _rows(fields)
    if not rows:
        return None
    return Shown("table", alt=f"item {name}", text="; ".join(f"{key}: {value}" for key, value in rows), rows=rows)


def _rows(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names and values as text; of what is long its beginning, of what has no value its kind left out."""
    rows = []
    for key, part in fields.items():
        text = _cell(part)
        if text is not None:
            rows.append((key, text))
    more = len(rows) - _ROWS
    return tuple(rows) if more <= 1 else (*rows[:_ROWS], ("...", f"and {more} more"))


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, bool | int | str):
        text = str(value)
    elif isinstance(value, float | np.floating):
        text = f"{float(value):.6g}"
    else:
        array = None if isinstance(value, Mapping) or _is_pil(value) else _as_array(value)
        if array is None or array.dtype.kind not in "biufU":
            return None
        if array.size == 1:
            return _cell(array.reshape(-1)[0].item())
        if array.ndim == 1 and array.size <= 12:
            text = ", ".join(str(_cell(part)) for part in array.tolist())
        else:
            shape = " x ".join(map(str, array.shape))
            finite = array.astype(np.float64) if array.dtype.kind in "biuf" else None
            spread = "" if finite is None or not array.size else f", {finite.min():.4g} to {finite.max():.4g}"
            text = f"{shape} values{spread}"
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _numbered(parts: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(str(place), part) for place, part in enumerate(parts)]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _ALT else f"{line[: _ALT - 1]}…"


def _is_pil(value: Any) -> bool:
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(value).__mro__)


def _as_array(value: Any) -> npt.NDArray[Any] | None:
    """Tensors, arrays and numbers as an array; `None` for anything else."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if not hasattr(value, "is_floating_point"):
            return None
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, np.ndarray | np.generic | int | float):
        return np.asarray(value)
    if isinstance(value, list) and value and isinstance(value[0], int | float | list):
        try:
            return np.asarray(value)
        except ValueError:
            return None
    return None


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}{f' of shape {tuple(shape)}' if isinstance(shape, tuple) else ''}"


def _numbers(name: str, values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    try:
        array = np.atleast_1d(np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=float))
    except (TypeError, ValueError):
        array = np.empty((0, 0))
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise InvalidTypeError(f"Expected argument `{name}` to be a number or one per channel, but got {values!r}.")
    return tuple(array.tolist())
