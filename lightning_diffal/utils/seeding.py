"""Random state: saved, restored, and kept out of the way."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["generator_of", "isolated_random_state", "random_state", "restore_random_state", "seed_everything"]


def seed_everything(seed: int) -> None:
    """What `lightning.seed_everything(seed)` does to the generators, without its environment and its message.

    Lightning's distributed sampler reads its seed from the environment, so that follows where it is set.

    Example:
        >>> seed_everything(1); a = torch.rand(1)
        >>> seed_everything(1); bool(torch.rand(1) == a)
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # users' transforms draw from numpy's global state
    torch.manual_seed(seed)
    if "PL_GLOBAL_SEED" in os.environ:
        os.environ["PL_GLOBAL_SEED"] = str(seed)


def seed_sharing_sampler(seed: int) -> None:
    """What `lightning.seed_everything(seed)` does to the environment.

    There Lightning's distributed sampler reads its seed; without one all rounds would shuffle alike.
    """
    os.environ["PL_GLOBAL_SEED"] = str(seed)


@contextmanager
def isolated_environment_seed() -> Iterator[None]:
    """Leave the seed in the environment as it was.

    Example:
        >>> seed_sharing_sampler(1)
        >>> with isolated_environment_seed(): seed_sharing_sampler(5)
        >>> os.environ.pop("PL_GLOBAL_SEED")
        '1'
    """
    before = os.environ.get("PL_GLOBAL_SEED")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PL_GLOBAL_SEED", None)
        else:
            os.environ["PL_GLOBAL_SEED"] = before


def generator_of(seed: int, *path: int) -> np.random.Generator:
    """An own generator for one draw of the run: the same for the same seed and place, whatever ran before.

    Args:
        seed: the run's seed.
        path: where in the run: a purpose and a round, say.

    Example:
        >>> bool(generator_of(0, 3).random() == generator_of(0, 3).random())
        True
    """
    return np.random.default_rng([seed % 2**32, *path])


def random_state() -> dict[str, Any]:
    """State of all global generators, of tensors, numbers and tuples only.

    Example:
        >>> sorted(random_state())[:2]
        ['numpy', 'python']
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    state = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `random_state` gave.

    Example:
        >>> before = random_state(); a = torch.rand(1)
        >>> restore_random_state(before); bool(torch.rand(1) == a)
        True
    """
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if "cuda" in state and torch.cuda.is_available():
        # as many devices as there are now; a process computes on one of them
        for device, saved in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(saved.cpu(), device)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())


@contextmanager
def isolated_random_state(seed: int | None = None) -> Iterator[None]:
    """Leave the global generators as they were, whatever happens inside.

    Args:
        seed: seeds them inside, where what happens there has to be repeatable.

    Example:
        >>> seed_everything(0)
        >>> with isolated_random_state(): _ = torch.rand(5)
        >>> a = torch.rand(1); seed_everything(0); bool(torch.rand(1) == a)
        True
    """
    before = random_state()
    variable = os.environ.get("PL_GLOBAL_SEED")
    if seed is not None:
        seed_everything(seed)
    try:
        yield
    finally:
        restore_random_state(before)
        if variable is not None:
            os.environ["PL_GLOBAL_SEED"] = variable
