"""Small data sets for the demo, the documentation and the tests. Nothing is downloaded."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.storage.array_files import check_array_sizes

__all__ = ["blobs", "checkerboard", "digits", "npz"]


_SPLIT_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_WHOLE_ARRAYS = ("x", "y")


def digits(*, n_test: int = 500, seed: int = 0) -> tuple[TensorDataset, TensorDataset]:
    """Scikit-learn's 1,797 handwritten digits, split once into a set to learn from and a set to test on.

    The split is stratified: each class has the same share of both sets, up to rounding.

    Args:
        n_test: how many images the test set holds, 10 to 1,787.
        seed: of the split. The same seed gives the same split everywhere.

    Returns:
        Training and test set. Items are an image `(1, 8, 8)`, float32 between 0 and 1, and a class, int64.

    Raises:
        ConfigurationError: `n_test` out of range.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> train, test = digits()
        >>> len(train), len(test), tuple(train[0][0].shape)
        (1297, 500, (1, 8, 8))
    """
    loaded = require("sklearn.datasets", extra="cli").load_digits()
    images = torch.from_numpy((loaded.images / 16.0).astype(np.float32)).unsqueeze(1)
    labels = torch.from_numpy(loaded.target.astype(np.int64))
    if not 10 <= n_test <= len(labels) - 10:
        raise ConfigurationError(
            f"Expected argument `n_test` to be between 10 and {len(labels) - 10}, but got {n_test}."
        )
    in_test = torch.from_numpy(_stratified_mask(labels.numpy(), n_test, np.random.default_rng(seed)))
    return TensorDataset(images[~in_test], labels[~in_test]), TensorDataset(images[in_test], labels[in_test])


def npz(
    path: str | os.PathLike[str], *, n: int | None = None, seed: int = 0, test_fraction: float = 0.25
) -> tuple[TensorDataset, TensorDataset]:
    """Images or feature vectors from one `.npz` file.

    The file holds `x_train`, `y_train`, `x_test` and `y_test`, as MNIST's usual file does, or only `x` and `y`: then
    a stratified part is set aside to test on, the same whatever `seed` is.

    Images become float32, channels first, standardised by the mean and deviation of each channel over the whole
    of `x_train`, so that subsets of one file share one scale; feature vectors by those of each feature.

    Args:
        path: the file. Images `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`, C being 1, 3 or 4, or rows of
            features `(N, D)`; labels `(N,)` or `(N, 1)`, integers from 0.
        n: how many of the training images to keep, drawn with `seed`. `None`: all.
        seed: of the draw.
        test_fraction: share of a file without a test set that becomes one, between 0 and 1.

    Returns:
        Training and test set of image and class, int64.

    Raises:
        ConfigurationError: no such file, not an npz file or a damaged one, an array missing, of the wrong shape or
            type, or not finite.

    Example:
        >>> import tempfile
        >>> pixels, classes = np.arange(5 * 16, dtype=np.uint8).reshape(5, 4, 4), np.arange(5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "tiny.npz"
        ...     np.savez(file, x_train=pixels, y_train=classes, x_test=pixels, y_test=classes)
        ...     train, test = npz(file, n=3)
        >>> len(train), len(test), tuple(train[0][0].shape)
        (3, 5, (1, 4, 4))
    """
    arrays = _read_npz(Path(path))
    if "x" in arrays:
        arrays = _split(arrays, test_fraction)
    images = {part: _channels_first(f"x_{part}", arrays[f"x_{part}"]) for part in ("train", "test")}
    labels = {part: _class_labels(f"y_{part}", arrays[f"y_{part}"], len(images[part])) for part in ("train", "test")}
    if images["train"].shape[1:] != images["test"].shape[1:]:
        raise ConfigurationError(
            f"Expected `x_train` and `x_test` to hold items of one shape in {path}, "
            f"but got {images['train'].shape[1:]} and {images['test'].shape[1:]}."
        )
    for part, values in images.items():
        rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
        if len(rows):
            raise ConfigurationError(
                f"Expected finite numbers in {path}, but `x_{part}` holds NaN or infinity in {len(rows)} of "
                f"{len(values)} rows, the first at {rows[:5].tolist()}."
            )
    axes = (0, *range(2, images["train"].ndim))
    # in torch, where this takes a tenth of the time
    every = torch.from_numpy(np.ascontiguousarray(images["train"])).double()
    moments = torch.std_mean(every, dim=axes, correction=0, keepdim=True)
    scale, mean = (moment.float().numpy() for moment in moments)
    scale[scale == 0] = 1  # a constant channel carries nothing; it stays at zero
    if n is not None:
        if not 1 <= n <= len(images["train"]):
            raise ConfigurationError(f"Expected argument `n` to be between 1 and {len(images['train'])}, but got {n}.")
        kept = np.random.default_rng(seed).choice(len(images["train"]), n, replace=False)
        images["train"], labels["train"] = images["train"][kept], labels["train"][kept]
    train, test = (
        TensorDataset(_standardised(images[part], mean, scale), torch.from_numpy(labels[part]))
        for part in ("train", "test")
    )
    return train, test


def checkerboard(n_points: int = 1000, n_squares: int = 4, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Points spread evenly over the unit square, in two classes like the fields of a chess board.

    A sampler that only refines the border it knows of never finds the squares it has not seen.

    Args:
        n_points: `N`.
        n_squares: fields along each side.
        seed: of the points.

    Returns:
        Features `(N, 2)` float32 between 0 and 1, and classes `(N,)` int64.

    Example:
        >>> features, labels = checkerboard(200, n_squares=2)
        >>> features.shape, np.unique(labels).tolist()
        ((200, 2), [0, 1])
    """
    _check_at_least("n_points", n_points, 1)
    _check_at_least("n_squares", n_squares, 1)
    features = np.random.default_rng(seed).random((n_points, 2), dtype=np.float32)
    # float32 numbers below 1 may round up to n_squares when multiplied
    fields = np.minimum((features * n_squares).astype(np.int64), n_squares - 1)
    return features, fields.sum(axis=1) % 2


def blobs(
    n_points: int = 1000,
    n_classes: int = 5,
    n_features: int = 2,
    seed: int = 0,
    *,
    spread: float = 1.0,
    extent: float = 10.0,
) -> tuple[FloatArray, IntArray]:
    """One normal cloud of points per class, the classes of equal size up to one point and in random order.

    Args:
        n_points: `N`.
        n_classes: how many clouds.
        n_features: `D`.
        seed: of centres and points.
        spread: standard deviation of a cloud.
        extent: centres lie evenly spread in a cube of this half side.

    Returns:
        Features `(N, D)` float32 and classes `(N,)` int64.

    Example:
        >>> features, labels = blobs(90, n_classes=3, n_features=4)
        >>> features.shape, np.bincount(labels).tolist()
        ((90, 4), [30, 30, 30])
    """
    for name, value in {"n_points": n_points, "n_classes": n_classes, "n_features": n_features}.items():
        _check_at_least(name, value, 1)
    generator = np.random.default_rng(seed)
    centres = generator.uniform(-extent, extent, (n_classes, n_features))
    labels = generator.permutation(np.arange(n_points, dtype=np.int64) % n_classes)
    features = centres[labels] + spread * generator.standard_normal((n_points, n_features))
    return features.astype(np.float32), labels


def _stratified_mask(labels: IntArray, size: int, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask of `size` points in which each class has its share; rounding favours the largest remainders."""
    counts = np.bincount(labels)
    shares = counts * size / len(labels)
    quotas = np.floor(shares).astype(np.int64)
    quotas[np.argsort(quotas - shares, kind="stable")[: size - quotas.sum()]] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for label, quota in enumerate(quotas):
        mask[generator.permutation(np.flatnonzero(labels == label))[:quota]] = True
    return mask


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise ConfigurationError(f"Expected argument `path` to be an .npz file, but there is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ConfigurationError(f"Expected argument `path` to be an .npz file, but {path} is of another kind.")
    check_array_sizes(path)
    with np.load(path, allow_pickle=False) as archive:  # unpickling would run code from the file
        names = next((known for known in (_SPLIT_ARRAYS, _WHOLE_ARRAYS) if set(known) <= set(archive.files)), None)
        if names is None:
            missing = [name for name in _SPLIT_ARRAYS if name not in archive.files]
            raise ConfigurationError(
                f"Expected arrays {', '.join(_SPLIT_ARRAYS)}, or {' and '.join(_WHOLE_ARRAYS)}, in {path}, "
                f"but {', '.join(missing)} is missing; it holds {', '.join(archive.files) or 'nothing'}."
            )
        try:
            return {name: archive[name] for name in names}
        except ValueError as error:
            raise ConfigurationError(f"Expected plain numeric arrays in {path}, but {error}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ConfigurationError(f"{path} is damaged ({error}): copy or write it again.") from None


def _split(arrays: dict[str, npt.NDArray[Any]], test_fraction: float) -> dict[str, npt.NDArray[Any]]:
    """Training and test arrays from `x` and `y`; each class has its share of both."""
    labels = _class_labels("y", arrays["y"], len(arrays["x"]) if arrays["x"].ndim else 0)
    n_test = round(test_fraction * len(labels)) if 0 < test_fraction < 1 else 0
    if not 0 < n_test < len(labels):
        raise ConfigurationError(
            "Expected argument `test_fraction` between 0 and 1, with a point or more on either side, "
            f"but got {test_fraction} of {len(labels)} points."
        )
    in_test = _stratified_mask(labels, n_test, np.random.default_rng(0))
    return {
        f"{name}_{part}": values[mask]
        for part, mask in (("train", ~in_test), ("test", in_test))
        for name, values in (("x", arrays["x"]), ("y", labels))
    }


def _channels_first(name: str, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.dtype.kind not in "buif":
        raise ConfigurationError(f"Expected `{name}` to hold numbers, but got {images.dtype}.")
    if not len(images):
        raise ConfigurationError(f"Expected `{name}` to hold at least one item, but got none.")
    if images.ndim == 2:
        return images
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3, 4):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3, 4):
        return images.transpose(0, 3, 1, 2)
    raise ConfigurationError(
        f"Expected `{name}` of shape (N, D), (N, H, W), (N, H, W, C) or (N, C, H, W), but got {images.shape}."
    )


def _class_labels(name: str, labels: npt.NDArray[Any], n_items: int) -> IntArray:
    if labels.shape not in ((n_items,), (n_items, 1)):
        raise ConfigurationError(f"Expected `{name}` of shape ({n_items},), but got {labels.shape}.")
    if labels.dtype.kind not in "ui" or (labels.size and labels.min() < 0):
        raise ConfigurationError(f"Expected `{name}` to hold classes, integers from 0, but got {labels.dtype}.")
    return labels.reshape(-1).astype(np.int64)


def _standardised(images: npt.NDArray[Any], mean: FloatArray, scale: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray((images.astype(np.float32) - mean) / scale))


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigurationError(f"Expected argument `{name}` to be at least {least}, but got {value}.")
