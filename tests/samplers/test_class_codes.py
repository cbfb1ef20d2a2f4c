"""Classes that are codes cost nothing: they are chosen with as if they were numbered from 0."""

import numpy as np
import pytest
import torch

from lightning_diffal import QueryData
from lightning_diffal.comparison.tasks.task import NamedTask
from lightning_diffal.samplers import CandidateSampler, CoreSetSampler, DiffusionSampler, TypiClustSampler

CODES = np.array([4_006_381_333_931, 4_006_381_333_948, 4_006_381_333_999])


def data(labels):
    features = np.random.default_rng(0).random((60, 3), dtype=np.float32)
    return QueryData(features=features, labelled=[0, 1, 2, 3], labels=labels, candidates=np.arange(4, 60))


@pytest.mark.parametrize(
    "sampler",
    [
        DiffusionSampler(),
        DiffusionSampler(criterion="paper"),
        CandidateSampler(base=CoreSetSampler(), n_candidates=20),
        TypiClustSampler(),
    ],
)
def test_codes_choose_as_numbers_do(sampler):
    numbered = sampler.select(data([0, 1, 2, 1]), 6, np.random.default_rng(3))
    coded = sampler.select(data(CODES[[0, 1, 2, 1]]), 6, np.random.default_rng(3))
    assert np.array_equal(numbered.indices, coded.indices) and np.array_equal(numbered.scores, coded.scores)
    if "predicted" in numbered.details:
        assert np.array_equal(CODES[numbered.details["predicted"]], coded.details["predicted"])


def test_one_code_alone():
    query = DiffusionSampler().select(data(CODES[[0, 0, 0, 0]]), 4, np.random.default_rng(3))
    assert len(query.indices) == 4 and set(query.details["predicted"].tolist()) <= {int(CODES[0]), -1}


def test_a_task_of_codes(tmp_path):
    rng = np.random.default_rng(0)
    labels = CODES[rng.integers(0, 3, 80)]
    both = {"x_train": rng.random((80, 4)), "y_train": labels, "x_test": rng.random((9, 4)), "y_test": labels[:9]}
    np.savez(tmp_path / "t.npz", **both)
    model, module = NamedTask(str(tmp_path / "t.npz"), initial=6)(0)
    assert module.num_classes == 3 and set(module.labels.tolist()) <= {0, 1, 2}
    assert set(module.test_dataset.tensors[1].tolist()) <= {0, 1, 2}
    assert sum(p.numel() for p in model.parameters()) < 10**6 and isinstance(module.targets, np.ndarray)
    assert torch.equal(torch.as_tensor(module.targets), module.train_dataset.tensors[1])
