import functools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lightning_diffal import DiffusionSampler, datasets
from lightning_diffal.comparison import NamedTask, compare_samplers
from lightning_diffal.comparison.folder import description
from lightning_diffal.comparison.tasks.networks import network
from lightning_diffal.datasets import npz
from lightning_diffal.exceptions import ConfigurationError


@pytest.fixture
def embeddings(tmp_path):
    generator = np.random.default_rng(0)
    labels = np.arange(120) % 3
    x = generator.normal(size=(120, 5)).astype(np.float32) + labels[:, None]
    np.savez(tmp_path / "emb.npz", x=x, y=labels)
    return str(tmp_path / "emb.npz")


def test_embeddings_get_a_small_head_and_both_accuracies(embeddings):
    task = NamedTask(embeddings, initial=6, condition="imbalanced", n=80)
    model, data = task(1)
    assert [type(part).__name__ for part in model.net] == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert len(data.test_dataset) == 30
    result = compare_samplers(task, ["margin"], seeds=[1], query_size=3, rounds=1, progress=False)
    metrics = result.results[0]["metrics"]
    assert set(metrics) == {"test_acc", "test_balanced_acc"}
    assert metrics["test_acc"][-1] == pytest.approx(metrics["test_balanced_acc"][-1])  # the test set is balanced
    assert result.title == "emb, imbalanced"


def test_seeds_change_the_subset_and_the_first_labels_but_not_the_test_set(embeddings):
    task = NamedTask(embeddings, n=50)
    (_, first), (_, again), (_, other) = task(0), task(0), task(1)
    assert torch.equal(first.train_dataset.tensors[0], again.train_dataset.tensors[0])
    assert first.labelled_indices.tolist() == again.labelled_indices.tolist()
    assert not torch.equal(first.train_dataset.tensors[0], other.train_dataset.tensors[0])
    assert torch.equal(first.test_dataset.tensors[0], other.test_dataset.tensors[0])


def test_wrong_labels_are_what_the_oracle_gives(embeddings):
    (_, clean), (_, noisy) = NamedTask(embeddings)(2), NamedTask(embeddings, condition="noisy")(2)
    differing = (clean.train_dataset.tensors[1] != noisy.train_dataset.tensors[1]).numpy()
    assert differing.sum() == round(0.05 * 90)
    index = int(np.flatnonzero(differing & ~np.isin(np.arange(90), noisy.labelled_indices))[0])
    noisy.label([index])
    assert noisy.labels[noisy.labelled_indices.tolist().index(index)] == noisy.train_dataset.tensors[1][index]
    assert torch.equal(clean.test_dataset.tensors[1], noisy.test_dataset.tensors[1])


def test_a_file_is_read_once_until_it_changes(embeddings, monkeypatch):
    reads = []
    monkeypatch.setattr(datasets, "npz", lambda path, **kwargs: reads.append(path) or npz(path, **kwargs))
    (_, first), (_, second) = NamedTask(embeddings)(0), NamedTask(embeddings, n=50)(0)
    assert len(reads) == 1 and len(first.pool) == 90 and len(second.pool) == 50
    arrays = dict(np.load(embeddings))
    np.savez(embeddings, x=arrays["x"][:60], y=arrays["y"][:60])
    os.utime(embeddings, ns=(0, 1))  # clocks of file systems are coarse
    assert len(NamedTask(embeddings)(0)[1].pool) == 45 and len(reads) == 2


@pytest.mark.parametrize("features", ["inputs", "inputs+auto"])
def test_inputs_can_be_the_features(embeddings, features):
    seen = []

    class Looking(DiffusionSampler):
        def select(self, data, query_size, generator):
            seen.append(data.features)
            return super().select(data, query_size, generator)

        def __deepcopy__(self, memo):
            return self

    task = NamedTask(embeddings, initial=6)
    callback = {"features": features}
    compare_samplers(
        task, {"x": Looking()}, seeds=[1], query_size=3, rounds=2, callback_kwargs=callback, progress=False
    )
    _, data = task(1)
    items = data.train_dataset.tensors[0]
    if features == "inputs":
        assert len(seen) == 2 and all(np.array_equal(rows, items) for rows in seen)
        return
    for rows in seen:
        assert rows.shape == (90, 5 + 128)
        np.testing.assert_allclose(rows[:, :5], nn.functional.normalize(items), atol=1e-6)
        np.testing.assert_allclose((rows[:, 5:] ** 2).sum(axis=1), 1, atol=1e-5)
    assert not np.allclose(seen[0][:, 5:], seen[1][:, 5:], atol=1e-3)  # another training


@pytest.mark.parametrize(("shape", "kind"), [((1, 8, 8), "conv"), ((3, 32, 32), "conv"), ((1, 28, 28), "mlp")])
def test_networks_take_items_of_their_shape(shape, kind):
    net = network(kind, shape, 7)
    assert net(torch.zeros(2, *shape)).shape == (2, 7)
    assert isinstance(net[-1], nn.Linear)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model": "resnet"}, "argument `model`"),
        ({"condition": "odd"}, "argument `condition`"),
        ({"data": "no.npz"}, "no file no.npz"),
        ({"n": 10_000}, "argument `n`"),
        ({"initial": 2000}, "argument `initial`"),
    ],
)
def test_tasks_that_cannot_be_made_are_refused(kwargs, message):
    with pytest.raises(ConfigurationError, match=message):
        NamedTask(**kwargs)(0)


def test_vectors_are_no_images(embeddings):
    with pytest.raises(ConfigurationError, match="take 'mlp'"):
        NamedTask(embeddings, model="conv")(0)


def test_a_task_is_known_by_its_content(embeddings, tmp_path):
    before = description(NamedTask(embeddings))
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / "emb.npz"
    moved.write_bytes(Path(embeddings).read_bytes())
    assert description(NamedTask(str(moved))) == before
    moved.write_bytes(moved.read_bytes() + b"x")
    assert description(NamedTask(str(moved))) != before


def test_descriptions_are_the_same_in_every_process():
    class Thing:
        pass

    assert description([functools.partial(max, default=3), Thing()])[0] == {"function": "builtins.max", "default": 3}
    assert " at 0x" not in description(Thing())
