"""What samplers are compared on: a task makes a fresh model and fresh data from a seed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from lightning_diffal import datasets
from lightning_diffal._lightning import pl
from lightning_diffal.comparison.tasks.conditions import CONDITIONS, apply_condition
from lightning_diffal.comparison.tasks.networks import MODELS, Classifier, is_small
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import ConfigurationError

__all__ = ["NamedTask", "Task", "title_of"]

Task = Callable[[int], tuple[pl.LightningModule, ActiveDataModule]]
"""Makes a fresh model and fresh data with initial labels and a test set; both depend on the seed only.

Called with the global generators seeded. For several processes it has to be picklable: a function of a module, or an
instance of a class of one.
"""

_N_STEPS = 250  # of a training on small items
_CODES = 10_000  # no model has an output for each number below a code of a class
_EVALUATION_BATCH = 250  # larger ones fall out of the processor's cache


@dataclasses.dataclass(frozen=True)
class NamedTask:
    """A task from data and a model chosen by name.

    Args:
        data: `"digits"` (scikit-learn's, 8 x 8), or an `.npz` file as `lightning_diffal.datasets.npz` reads it.
        model: `"conv"`, `"mlp"`, `"linear"`, or `"auto"`: `"conv"` for images and `"mlp"` for vectors.
        n: how many of the training points to take, drawn anew for each seed. `None`: all.
        initial: labels to begin with, drawn at random.
        condition: `"plain"`, or what is done to the training set: `"imbalanced"`, `"noisy"`, `"duplicated"`; see
            `lightning_diffal.comparison.tasks.conditions`.
        test_fraction: share that is set aside to test on where a file has no test set.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> model, data = NamedTask("digits", n=200, condition="imbalanced")(seed=3)
        >>> len(data.labelled_indices), len(data.pool) < 200
        (10, True)
    """

    data: str = "digits"
    model: str = "auto"
    n: int | None = None
    initial: int = 10
    condition: str = "plain"
    test_fraction: float = 0.25

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("model", self.model, ("auto", *MODELS)),
            ("condition", self.condition, tuple(CONDITIONS)),
        ):
            if value not in choices:
                raise ConfigurationError(f"Expected argument `{name}` to be one of {choices}, but got {value!r}.")

    def __call__(self, seed: int) -> tuple[pl.LightningModule, ActiveDataModule]:
        """The model and the data of one seed."""
        train, test = self._load()
        generator = np.random.default_rng(seed)
        train, test, num_classes = _counted(train, test)
        items, labels = train.tensors[0], train.tensors[1].numpy()
        if self.n is not None:
            if not 1 <= self.n <= len(labels):
                raise ConfigurationError(
                    f"Expected argument `n` to be between 1 and the {len(labels)} training points of {self.data}, "
                    f"but got {self.n}."
                )
            chosen = generator.choice(len(labels), self.n, replace=False)
            items, labels = items[chosen], labels[chosen]
        taken, labels = apply_condition(self.condition, labels, seed, num_classes)
        if self.initial > len(taken):
            raise ConfigurationError(
                f"Expected argument `initial` to be at most the {len(taken)} training points, but got {self.initial}."
            )
        data = InMemoryData(
            TensorDataset(items[taken], torch.from_numpy(labels)),
            test_dataset=test,
            initial_labels=generator.choice(len(taken), self.initial, replace=False),
            targets=labels,
            num_classes=num_classes,
            batch_size=32,
            pool_batch_size=_EVALUATION_BATCH,
        )
        shape = tuple(items.shape[1:])
        kind = self.model if self.model != "auto" else "conv" if len(shape) == 3 else "mlp"
        return Classifier(kind, shape, num_classes, n_steps=_N_STEPS if is_small(shape) else None), data

    @property
    def trainer_kwargs(self) -> dict[str, Any]:
        """How a Trainer has to train the model: a processor is enough, and the model says how long."""
        return {"accelerator": "cpu", "max_epochs": 1000}

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments, the file by its name and its content: it may lie elsewhere on another day."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.data != "digits":
            found |= {"data": Path(self.data).name, "digest": _file_digest(Path(self.data))}
        return found

    @property
    def title(self) -> str:
        """The data and what was done to them, for people."""
        return title_of(vars(self))

    def _load(self) -> tuple[TensorDataset, TensorDataset]:
        if self.data == "digits":
            return datasets.digits()
        path = Path(self.data)
        if not path.is_file():
            raise ConfigurationError(
                "Expected argument `data` to be 'digits' or an .npz file, but "
                + (f"{self.data} is a folder." if Path(self.data).is_dir() else f"there is no file {self.data}.")
            )
        return _read_npz(path.resolve(), path.stat().st_mtime_ns, self.test_fraction)


@functools.lru_cache(maxsize=1)
def _read_npz(path: Path, changed: int, test_fraction: float) -> tuple[TensorDataset, TensorDataset]:
    """The file as it was last changed; the runs of one process read it once."""
    return datasets.npz(path, test_fraction=test_fraction)


def _counted(train: TensorDataset, test: TensorDataset) -> tuple[TensorDataset, TensorDataset, int]:
    """The data with classes that a model can have outputs for, and their number: codes are numbered from 0."""
    top = int(max(train.tensors[1].max(), test.tensors[1].max()))
    if top < _CODES:
        return train, test, top + 1
    codes = torch.from_numpy(np.unique(torch.cat([train.tensors[1], test.tensors[1]]).numpy()))
    train, test = (TensorDataset(part.tensors[0], torch.searchsorted(codes, part.tensors[1])) for part in (train, test))
    return train, test, len(codes)


def title_of(settings: Any) -> str:
    """The data and what was done to them, for people; empty where the settings are not those of a `NamedTask`.

    Example:
        >>> title_of({"data": "mnist.npz", "condition": "noisy"}), title_of("module.task")
        ('mnist, noisy', '')
    """
    if not isinstance(settings, Mapping) or not {"data", "condition"} <= set(settings):
        return ""
    name = Path(settings["data"]).stem
    return name if settings["condition"] == "plain" else f"{name}, {settings['condition']}"


def _file_digest(path: Path) -> str | None:
    digest = hashlib.sha256()
    if not path.is_file():
        return None
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]


class InMemoryData(ActiveDataModule):
    """Data sets of tensors, of which a test batch is indexed at once."""

    def test_dataloader(self) -> Any:
        """Batches of `test_dataset`."""
        assert isinstance(self.test_dataset, TensorDataset)
        batches = BatchSampler(SequentialSampler(self.test_dataset), batch_size=_EVALUATION_BATCH, drop_last=False)
        return DataLoader(self.test_dataset, batch_size=None, sampler=batches)
