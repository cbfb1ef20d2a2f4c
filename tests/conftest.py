"""Every test starts with one thread, quiet logs, an environment without a seed and an empty working directory."""

import logging

import pytest
import torch

torch.set_num_threads(1)
for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def _own_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # runs write their journals below the working directory
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)
