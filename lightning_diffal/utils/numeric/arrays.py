"""Numpy arrays in a form that `torch.load(weights_only=True)` accepts, and back without a change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_diffal.exceptions import ConfigurationError

__all__ = ["array_from_state", "array_state"]

_TORCH_DTYPES = {np.dtype(name) for name in ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16")}


def array_state(array: npt.NDArray[Any]) -> Any:
    """A tensor where torch has the type, else a dict of type, shape and values. Nothing is shared with `array`.

    Args:
        array: of numbers, booleans or strings.

    Raises:
        ConfigurationError: an array of anything else.

    Example:
        >>> array_state(np.array([0.5], dtype=np.float32)), array_state(np.array(["ab", "c"]))
        (tensor([0.5000]), {'dtype': '<U2', 'shape': [2], 'values': ['ab', 'c']})
    """
    if array.dtype in _TORCH_DTYPES:
        return torch.from_numpy(np.array(array, order="C"))  # a copy: read-only and strided arrays too
    if array.dtype.kind == "U" or (array.dtype.kind in "uif" and array.dtype.itemsize <= 8):
        return {"dtype": array.dtype.str, "shape": list(array.shape), "values": array.reshape(-1).tolist()}
    raise ConfigurationError(f"Expected an array of numbers, booleans or strings, but got {array.dtype}.")


def array_from_state(state: Any) -> npt.NDArray[Any]:
    """The array whose `array_state` this is.

    Args:
        state: what `array_state` gave.

    Example:
        >>> array_from_state(array_state(np.array(["ab", "c"])))
        array(['ab', 'c'], dtype='<U2')
    """
    if isinstance(state, torch.Tensor):
        return np.array(state.detach().cpu().numpy())
    return np.array(state["values"], dtype=np.dtype(state["dtype"])).reshape(state["shape"])
