"""Weights of a model that is split over processes, in the run's folder: each process writes and reads its own parts."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from lightning_diffal.exceptions import ResumeError, StorageError
from lightning_diffal.history.folder import INSTEAD, PARTS
from lightning_diffal.processes.ranks import Ranks
from lightning_diffal.utils.modules import weights_of

__all__ = ["read_parts", "write_parts"]


def write_parts(ranks: Ranks, folder: Path | None, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Write weights beside the state of a run. All processes have to call this.

    Args:
        ranks: the processes.
        folder: of the run, on the first process.
        weights: of a module that is split.

    Returns:
        What a state has to hold, to find and to check them again.

    Raises:
        StorageError: they cannot be written.
    """
    path = Path(ranks.decide(lambda: str((folder or Path()) / f"weights-{secrets.token_hex(4)}{PARTS}")))
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    try:
        ranks.save_parts(tensors, path)
    except CheckpointException as error:  # of any process
        raise StorageError(f"{path} could not be written: {_first(error)}. Make room, and run again.") from error
    rest = {name: value for name, value in weights.items() if name not in tensors}
    return {"name": path.name, "sums": _checksums(ranks, path), "rest": rest}


def read_parts(ranks: Ranks, folder: Path | None, parts: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """What `write_parts` wrote, split as the module is now. All processes have to call this.

    Args:
        ranks: the processes, perhaps more or fewer than those that wrote.
        folder: of the run, on the first process.
        parts: what `write_parts` returned.
        module: the model.

    Raises:
        ResumeError: files are missing or damaged, or of another model.
    """
    path = Path(ranks.decide(lambda: str((folder or Path()) / parts["name"])))
    found = _checksums(ranks, path)
    wrong = sorted(name for name, checksum in parts["sums"].items() if found.get(name) != checksum)
    if wrong:  # before anything of it is read
        raise ResumeError(f"{path / wrong[0]} is {'damaged' if wrong[0] in found else 'gone'}. {INSTEAD}")
    weights = {name: value for name, value in weights_of(module).items() if isinstance(value, Tensor)}
    try:
        ranks.load_parts(weights, path)
    except (CheckpointException, RuntimeError, ValueError) as error:
        raise ResumeError(f"{path} does not fit this model: {_first(error)}. {INSTEAD}") from error
    return {**weights, **parts["rest"]}


_BLOCK = 2**24


def _checksums(ranks: Ranks, path: Path) -> dict[str, int]:
    """Of all files in a folder, each read by one of the processes."""

    def own() -> dict[str, int]:
        files = sorted(path.iterdir()) if path.is_dir() else []
        return {file.name: _checksum(file) for file in files[ranks.rank :: ranks.size]}

    return {name: checksum for found in ranks.everyone(ranks.together(own)) for name, checksum in found.items()}


def _checksum(file: Path) -> int:
    found = 0
    with file.open("rb") as contents:
        while block := contents.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found


def _first(error: BaseException) -> str:
    """The first words of an error, of which torch has a trace for each process."""
    failures = getattr(error, "failures", None)
    first = next(iter(failures.values()))[0] if failures else error
    return str(first).strip().partition("\n")[0][:300]
