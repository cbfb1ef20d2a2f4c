"""Reading embeddings: files of numpy, folders of them, columns of Parquet; mapped where they are too large to hold."""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.numeric.matrices import float32_rows
from lightning_diffal.utils.numeric.rows import FileRows
from lightning_diffal.utils.storage.array_files import check_array_sizes
from lightning_diffal.utils.storage.mapped import MAPPED_FROM

__all__ = ["load_features"]

PathLike = str | os.PathLike[str]

_SUFFIXES = (".npy", ".npz", ".parquet")


def load_features(paths: PathLike | Sequence[PathLike], key: str | None = None) -> Any:
    """Embeddings out of one file or several, as one array.

    Args:
        paths: `.npy`, `.npz` or `.parquet`; a folder with such files, which are read in the order of the numbers in
            their names; or a list of files, one after the other.
        key: of the array in an `.npz` that holds several, or of the column of vectors in a Parquet file.

    Returns:
        `(N, D)` float32. Where `.npy` files would take more than 2 GiB so, they are mapped instead and read when
        needed, and what is not finite in them is refused by the search.

    Raises:
        ConfigurationError: no such file, no array of numbers `(N, D)`, other dimensions than in the first file, or
            Python objects in it.
        FeatureError: values that are not finite.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    files = _files_of(paths)
    arrays = [_read(file, key) for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.shape[1] != arrays[0].shape[1]:
            raise ConfigurationError(
                f"Expected vectors of one length, but those in {files[0]} have {arrays[0].shape[1]} dimensions and "
                f"those in {file} have {array.shape[1]}."
            )
    rows = FileRows(arrays)
    if 4 * rows.shape[0] * rows.shape[1] >= MAPPED_FROM:  # in float32
        return rows
    matrices = []
    for file, array in zip(files, arrays, strict=True):
        matrix, wrong = float32_rows(np.array(array) if isinstance(array, np.memmap) else array)
        if len(wrong):
            raise FeatureError(
                f"{file} holds NaN or infinity in {len(wrong)} of {len(matrix)} rows, the first at "
                f"{wrong[:5].tolist()}."
            )
        matrices.append(matrix)
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices)


def _files_of(paths: PathLike | Sequence[PathLike]) -> list[Path]:
    given = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    if not given:
        raise ConfigurationError("Expected argument `features` to name a file, but got an empty list.")
    files = []
    for path in given:
        if not path.is_dir():
            files.append(path)
            continue
        inside = [file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")]
        if not inside:
            raise ConfigurationError(
                f"Expected the folder {path} to hold {', '.join(_SUFFIXES)} files, but it does not."
            )
        files += sorted(inside, key=_by_number)
    return files


def _by_number(path: Path) -> list[tuple[int, int | str]]:
    """So that part-2 comes before part-10."""
    words = re.split(r"(\d+)", path.name)
    return [(0, int(word)) if word.isdecimal() else (1, word) for word in words if word]


def _read(path: Path, key: str | None) -> npt.NDArray[Any]:
    try:
        if path.suffix.lower() == ".parquet":
            return _of_parquet(path, key)
        array = _of_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _of_numpy(path, key)
    except ConfigurationError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ConfigurationError(f"{path} is damaged ({error}): copy or write it again.") from None
    except (ValueError, EOFError):  # numpy's own words propose to unpickle it
        raise ConfigurationError(f"{path} is not a .npy, .npz, .csv or .parquet file of numbers.") from None
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiub":
        raise ConfigurationError(
            f"Expected {path} to hold numbers of shape (N, D), one row per point, but got {array.dtype} of shape "
            f"{array.shape}."
        )
    return array


def _of_numpy(path: Path, key: str | None) -> npt.NDArray[Any]:
    check_array_sizes(path)
    with path.open("rb") as file:
        is_npy = file.read(6) == b"\x93NUMPY"
    loaded = np.load(path, mmap_mode="r" if is_npy else None, allow_pickle=False)
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        if key is not None:
            raise ConfigurationError(f"`key` names an array of an .npz file, but {path} holds one array: leave it out.")
        array: npt.NDArray[Any] = loaded
        return array
    with loaded:
        return np.asarray(loaded[_key_of(path, loaded.files, key, "arrays")])


def _of_csv(path: Path) -> npt.NDArray[Any]:
    """Numbers separated by commas, semicolons or tabs, with or without a line of names above them."""
    text = path.read_text(encoding="utf-8-sig")
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    try:
        [float(cell) for cell in first.split(delimiter)]
        names = 0
    except ValueError:
        names = 1
    try:
        array: npt.NDArray[Any] = np.loadtxt(
            io.StringIO(text), dtype=np.float32, delimiter=delimiter, skiprows=names, ndmin=2, comments=None
        )
    except ValueError as error:
        raise ConfigurationError(f"Expected {path} to hold numbers only, one row per point: {error}.") from None
    return array


def _of_parquet(path: Path, key: str | None) -> npt.NDArray[Any]:
    parquet, arrow = require("pyarrow.parquet", extra="parquet"), require("pyarrow", extra="parquet")
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        vectors = [
            field.name
            for field in schema
            if arrow.types.is_list(field.type)
            or arrow.types.is_large_list(field.type)
            or arrow.types.is_fixed_size_list(field.type)
        ]
        name = _key_of(path, vectors, key, "columns of vectors")
        blocks: list[npt.NDArray[Any]] = []
        for batch in file.iter_batches(columns=[name]):
            column = batch.column(0)
            if column.null_count or column.flatten().null_count:
                raise ConfigurationError(f"Column {name!r} of {path} holds empty cells: every point needs a vector.")
            lengths = np.unique(arrow.compute.list_value_length(column).to_numpy(zero_copy_only=False))
            if len(lengths) > 1 or (blocks and blocks[0].shape[1] != lengths[0]):
                raise ConfigurationError(f"Column {name!r} of {path} holds vectors of different lengths.")
            blocks.append(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1))
    except arrow.ArrowException as error:
        raise ConfigurationError(f"{path} cannot be read as Parquet: {error}") from None
    matrix = np.concatenate(blocks) if blocks else np.empty((0, 0))
    if not matrix.size or matrix.dtype.kind not in "fiub":
        raise ConfigurationError(f"Expected column {name!r} of {path} to hold vectors of numbers, got {matrix.dtype}.")
    return matrix


def _key_of(path: Path, keys: list[str], key: str | None, what: str) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None or key not in keys:
        got = "" if key is None else f", but got {key!r}"
        raise ConfigurationError(f"{path} holds the {what} {', '.join(keys) or '(none)'}: say which with `key`{got}.")
    return key
