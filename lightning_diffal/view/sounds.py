"""Waveforms as recordings that a browser plays."""

from __future__ import annotations

import io
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError

__all__ = ["AUDIO_TYPES", "encode_wav", "is_waveform_shape", "read_audio"]

AUDIO_TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}
"""Kinds of audio files that browsers play, by suffix."""

_LEAST = 1000  # samples: a shorter row of numbers is more likely a feature vector
_LARGEST = 64 * 2**20  # bytes of a file


def is_waveform_shape(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape looks like a waveform: samples, or one or two channels of them.

    Example:
        >>> [is_waveform_shape(shape) for shape in ((16000,), (1, 16000), (2, 8000), (28, 28), (64,))]
        [True, True, True, False, False]
    """
    if len(shape) == 2 and shape[0] in (1, 2):
        return shape[1] >= _LEAST
    return len(shape) == 1 and shape[0] >= _LEAST


def encode_wav(waveform: npt.NDArray[Any], sample_rate: int) -> bytes:
    """A waveform as a WAV file of 16 bits.

    Args:
        waveform: `(T,)` or `(C, T)`; floats between -1 and 1, louder ones are scaled down; or integers of 16 bits.
        sample_rate: samples per second.

    Example:
        >>> encode_wav(np.zeros(8000), 8000)[:4]
        b'RIFF'
    """
    samples = np.atleast_2d(waveform)
    if samples.dtype.kind in "iu":
        data = np.clip(samples, -(2**15), 2**15 - 1).astype("<i2")
    else:
        values = np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        peak = float(np.abs(values).max(initial=0.0))
        data = np.rint(values / max(peak, 1.0) * (2**15 - 1)).astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(len(data))
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(data.T).tobytes())
    return content.getvalue()


def read_audio(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """The content of an audio file, and its media type.

    Raises:
        ConfigurationError: the file is missing or too large to send.
    """
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise ConfigurationError(f"{os.fspath(path)} is too large to play ({_LARGEST // 2**20} MB at most).")
        return Path(path).read_bytes(), AUDIO_TYPES[Path(path).suffix.lower()]
    except OSError as error:
        raise ConfigurationError(f"{os.fspath(path)} cannot be played: {error.strerror}.") from None
