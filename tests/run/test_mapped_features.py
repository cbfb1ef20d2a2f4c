"""Features that are too large to hold lie in a file; the picks are those of features in memory."""

import errno
import os

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.exceptions import StorageError
from lightning_diffal.samplers import EntropySampler, TypiClustSampler
from lightning_diffal.utils.storage import mapped
from tests.helpers import TRAIN, Net, quiet_trainer


class Seen(DiffusionSampler):
    """Notes whether the features that it is shown lie in a file."""

    in_file: tuple[bool, ...] = ()

    def select(self, data, query_size, generator):
        self.in_file = (*self.in_file, mapped.lies_in_file(data.features))
        return super().select(data, query_size, generator)


def picks(sampler, folder):
    torch.manual_seed(0)
    active = ActiveLearning(sampler, query_size=4, max_rounds=2, seed=0, run_dir=folder)
    data = ActiveDataModule(TRAIN, initial_labels=[3, 50, 7, 90], batch_size=4, num_classes=3)
    quiet_trainer([active], max_epochs=2).fit(Net(), datamodule=data)
    return [record.query.indices.tolist() for record in active.history if record.query is not None]


@pytest.fixture
def every_size_is_large(monkeypatch):
    monkeypatch.setattr(mapped, "MAPPED_FROM", 1)


def test_two_rounds_pick_the_same_from_a_file(tmp_path, monkeypatch):
    in_memory = Seen(n_neighbors=5)
    expected = picks(in_memory, tmp_path / "memory")
    monkeypatch.setattr(mapped, "MAPPED_FROM", 1)
    from_file = Seen(n_neighbors=5)
    assert picks(from_file, tmp_path / "file") == expected
    assert in_memory.in_file == (False, False) and from_file.in_file == (True, True)
    assert not list((tmp_path / "file").rglob("*.tmp"))  # nothing of it is left


@pytest.mark.parametrize("sampler", [TypiClustSampler(), EntropySampler()])
def test_samplers_that_want_an_array_get_one(sampler, tmp_path, every_size_is_large):
    assert [len(query) for query in picks(sampler, tmp_path)] == [4, 4]


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, every_size_is_large, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StorageError, match=r"Features of 6 points in 2 dimensions need a file of .* No space left"):
        mapped.room_for((6, 2), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_read(tmp_path, every_size_is_large):
    first, second = mapped.room_for((5, 3), tmp_path), mapped.room_for((5, 3), tmp_path)
    first[:], second[:] = 1, 2
    assert (np.asarray(first) == 1).all() and (second == 2).all()
    assert mapped.lies_in_file(first[1:]) and not mapped.lies_in_file(np.zeros(3))
