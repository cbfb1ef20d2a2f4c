"""Random state: saved, restored and kept out of the way."""

import io
import os
import random

import numpy as np
import pytest
import torch

from lightning_diffal._lightning import pl
from lightning_diffal.utils.seeding import (
    generator_of,
    isolated_random_state,
    random_state,
    restore_random_state,
    seed_everything,
)


def draw():
    return float(torch.rand(1)), random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_seeds_as_lightning_does(seed, monkeypatch):
    seed_everything(seed)
    ours = draw()
    assert "PL_GLOBAL_SEED" not in os.environ
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    pl.seed_everything(seed, verbose=False)
    assert draw() == ours
    seed_everything(seed + 1)
    assert os.environ["PL_GLOBAL_SEED"] == str(seed + 1)  # a distributed sampler reads it


def test_large_seeds():
    seed_everything(2**33 + 1)
    first = draw()
    seed_everything(2**33 + 1)
    assert draw() == first


def test_state_goes_through_a_checkpoint():
    seed_everything(3)
    draw()
    random.gauss(0, 1), np.random.randn()  # a second value is kept in stock
    file = io.BytesIO()
    torch.save(random_state(), file)
    expected = [draw(), draw()]
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert [draw(), draw()] == expected


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("fails", [False, True])
def test_isolated(seed, fails, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    seed_everything(3)
    before = draw()
    seed_everything(3)
    try:
        with isolated_random_state(seed):
            inside = draw()
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert draw() == before and os.environ["PL_GLOBAL_SEED"] == "3"
    if seed is not None:
        with isolated_random_state(seed):
            assert draw() == inside != before


def test_generators_of_places():
    def first(*place):
        return generator_of(*place).random(3).tolist()

    places = [(0,), (1,), (0, 1), (0, 2), (0, 1, 1), (0, 1, 2)]
    assert [first(*p) for p in places] == [first(*p) for p in places]
    assert len({tuple(first(*p)) for p in places}) == len(places)
    assert first(-1) == first(2**32 - 1)


def test_cuda_state_of_more_devices_than_there_are_is_restored_as_far_as_it_goes(monkeypatch):
    put_back = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor([i]) for i in range(4)])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put_back.update({device: int(state)}))
    restore_random_state(random_state())
    assert put_back == {0: 0, 1: 1}


def test_mps_state_is_kept(monkeypatch):
    put_back = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.tensor([7]))
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: put_back.append(int(state)))
    restore_random_state(random_state())
    assert put_back == [7]
