"""Data sets without any label: what an oracle says has to reach `training_step` in the place the model expects."""

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal._lightning import pl
from lightning_diffal.oracle import CallableOracle, FileOracle
from tests.helpers import quiet_trainer
from tests.helpers_data import C, D, Item, Listed, PlainModule, inputs, points

X = inputs()
TOKENS = torch.arange(40 * 5).reshape(40, 5)  # five of its own for each point


class Encoding(UserDict):
    """As a tokenizer's output: a mapping with attributes, and no dict."""


class Net(pl.LightningModule):
    """Keeps the label that each point was trained with; `read` says where a batch holds inputs and labels."""

    def __init__(self, read):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, C))
        self.read = read
        self.seen = {}

    def forward(self, x):
        return self.body(x)

    def training_step(self, batch, batch_idx):
        x, y = self.read(batch)
        assert y.shape == x.shape[:1] and y.dtype == torch.int64
        self.seen |= {int((row == X).all(1).nonzero()): int(label) for row, label in zip(x, y, strict=True)}
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Dicts(Net):
    """Called with the whole dict, less its label."""

    def forward(self, batch):
        return self.body(batch["x"])

    def training_step(self, batch, batch_idx):
        x, y = self.read(batch)
        self.seen |= {int((row == X).all(1).nonzero()): int(label) for row, label in zip(x, y, strict=True)}
        return nn.functional.cross_entropy(self({"x": x}), y)


class Transformer(pl.LightningModule):
    """As those of Hugging Face: keyword arguments, `labels` among them, and a loss where they are given."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.EmbeddingBag(200, 8), nn.Linear(8, C)
        self.seen = {}

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        assert input_ids.shape == attention_mask.shape
        logits = self.head(self.embed(input_ids))
        output = {"logits": logits}
        if labels is not None:
            output = {"loss": nn.functional.cross_entropy(logits, labels), **output}
        return output

    def training_step(self, batch, batch_idx):
        self.seen |= {int(i[0]) // 5: int(y) for i, y in zip(batch["input_ids"], batch["labels"], strict=True)}
        return self(**batch)["loss"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def encoded(kind=dict, **more):
    return [kind(input_ids=t, attention_mask=torch.ones_like(t), **more) for t in TOKENS]


def stacked(batch):
    """A collate function of somebody's own."""
    return {"inputs": torch.stack([x for x, _ in batch]), "y": torch.tensor([y for _, y in batch])}


def padded(batch):
    """What Hugging Face's own collate functions do: everything a tensor, `label` renamed to `labels`."""
    joint = {key: torch.stack([item[key] for item in batch]) for key in ("input_ids", "attention_mask")}
    name = "label" if "label" in batch[0] else "labels"
    return {**joint, "labels": torch.tensor([item[name] for item in batch])}


class Named(Net):
    """For `stacked`: forward takes the inputs by name."""

    def forward(self, inputs):
        return self.body(inputs)


def thirds(indices, items):
    return [index % C for index in indices]


def dataset(items):
    return Listed(items) if isinstance(items, list) else items


def pair(batch):
    return batch[0], batch[1]


SHAPES = {
    "x": (list(X), {}, lambda: Net(pair)),
    "(x,)": (TensorDataset(X), {}, lambda: Net(pair)),
    "[x]": ([[x] for x in X], {}, lambda: Net(pair)),
    "numpy": (list(X.numpy()), {}, lambda: Net(pair)),
    "(x, None)": ([(x, None) for x in X], {}, lambda: Net(pair)),
    "(x, -1)": ([(x, -1) for x in X], {}, lambda: Net(pair)),
    "(x, tensor)": ([(x, torch.tensor(-100)) for x in X], {}, lambda: Net(pair)),
    "named tuple": ([Item(x, -1) for x in X], {}, lambda: Net(pair)),
    "(y, x)": ([(-1, x) for x in X], {"target": 0}, lambda: Net(lambda batch: (batch[1], batch[0]))),
    "dict": ([{"x": x} for x in X], {}, lambda: Dicts(lambda batch: (batch["x"], batch["label"]))),
    "dict with a key": (
        [{"x": x} for x in X],
        {"target": "class"},
        lambda: Dicts(lambda batch: (batch["x"], batch["class"])),
    ),
    "dict with None": (
        [{"x": x, "y": None} for x in X],
        {},
        lambda: Dicts(lambda batch: (batch["x"], batch["y"])),
    ),
    "own collate": (list(X), {"collate_fn": stacked}, lambda: Named(lambda batch: (batch["inputs"], batch["y"]))),
    "tokens": (encoded(), {}, Transformer),
    "tokens, key given": (encoded(), {"target": "labels"}, Transformer),
    "tokens, own collate": (encoded(), {"collate_fn": padded}, Transformer),
    "tokens, own collate, label": (encoded(), {"collate_fn": padded, "target": "label"}, Transformer),
    "tokenizer's output": (encoded(Encoding), {"collate_fn": padded}, Transformer),
    "tokens with a mark": (encoded(labels=-100), {}, Transformer),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", [{}, {31: 1, 4: 0}], ids=["cold", "warm"])
def test_labels_reach_training(shape, start):
    items, settings, model = SHAPES[shape]
    data = ActiveDataModule(
        dataset(items),
        initial_labels=start or 0,
        batch_size=4,
        num_classes=C,
        **settings,
    )
    asked = {}

    def person(indices, items):
        asked.update({i: (7 * i) % C for i in indices})
        return [asked[i] for i in indices]

    net = model()
    active = ActiveLearning(query_size=4, max_rounds=2, seed=0, oracle=CallableOracle(person), run_dir=False)
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    assert len(asked) == 8 and net.seen == start | asked
    assert dict(zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True)) == net.seen


@pytest.mark.parametrize("shape", ["x", "(x,)", "dict", "tokens", "own collate"])
def test_labels_from_files(shape, tmp_path):
    items, settings, model = SHAPES[shape]
    net = model()
    for _ in range(3):
        data = ActiveDataModule(dataset(items), num_classes=C, batch_size=4, **settings)
        active = ActiveLearning(query_size=4, max_rounds=2, seed=0, oracle=FileOracle(), run_dir=tmp_path)
        quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
        for path in (tmp_path / "queries").glob("*.csv"):
            rows = [line.split(",") for line in path.read_text("utf-8-sig").splitlines()]
            place = rows[0].index("label")
            for row in rows[1:]:
                row[place] = str(7 * int(row[1]) % C)
            path.write_text("\n".join(map(",".join, rows)))
    assert active.history[-1].stop_reason == "max_rounds=2 reached"
    assert net.seen == {i: 7 * i % C for i in data.labelled_indices.tolist()} and len(net.seen) == 8


def test_two_inputs_and_no_label():
    """The last of two is taken for a label, unless `target` says that labels come behind."""
    items = [(x, x + 1) for x in X]

    class Two(Net):
        def forward(self, a, b):
            assert torch.equal(b, a + 1)
            return self.body(a)

        def training_step(self, batch, batch_idx):
            a, b, y = batch
            self.seen |= {int((row == X).all(1).nonzero()): int(label) for row, label in zip(a, y, strict=True)}
            return nn.functional.cross_entropy(self(a, b), y)

    net = Two(None)
    data = ActiveDataModule(Listed(items), target=2, num_classes=C, batch_size=4)
    active = ActiveLearning(
        query_size=4, max_rounds=2, seed=0, oracle=lambda i, items: [k % C for k in i], run_dir=False
    )
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    assert net.seen == {i: i % C for i in data.labelled_indices.tolist()} and len(net.seen) == 8


def test_multi_label():
    class Several(Net):
        def training_step(self, batch, batch_idx):
            x, y = batch
            assert y.shape == (len(x), C) and y.dtype == torch.float32
            self.seen |= {int((r == X).all(1).nonzero()): tuple(v.int().tolist()) for r, v in zip(x, y, strict=True)}
            return nn.functional.binary_cross_entropy_with_logits(self(x), y)

    net = Several(None)
    data = ActiveDataModule(TensorDataset(X), num_classes=C, batch_size=4)
    vector = lambda i: (i % 2, 1, int(i > 20))  # noqa: E731
    active = ActiveLearning(
        query_size=4, max_rounds=2, seed=0, oracle=lambda i, items: [vector(k) for k in i], run_dir=False
    )
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    assert net.seen == {i: vector(i) for i in data.labelled_indices.tolist()} and len(net.seen) == 8


def test_a_data_module_without_labels():
    class Unlabelled(PlainModule):
        def setup(self, stage):
            self.train = TensorDataset(X)
            self.val = points()

    net = Net(pair)
    data = ActiveDataModule.from_datamodule(Unlabelled(), num_classes=C)
    active = ActiveLearning(
        query_size=4, max_rounds=2, seed=0, oracle=lambda i, items: [k % C for k in i], run_dir=False
    )
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    assert net.seen == {i: i % C for i in data.labelled_indices.tolist()} and len(net.seen) == 8


def test_part_of_the_labels_validates():
    net = Net(pair)
    held = {}

    def validation_step(batch, batch_idx):
        for row, label in zip(*batch, strict=True):
            held[int((row == X).all(1).nonzero())] = int(label)

    net.validation_step = validation_step
    data = ActiveDataModule(TensorDataset(X), num_classes=C, batch_size=4, val_fraction=0.3)
    active = ActiveLearning(
        query_size=8, max_rounds=2, seed=0, oracle=lambda i, items: [k % C for k in i], run_dir=False
    )
    quiet_trainer([active], max_epochs=1).fit(net, datamodule=data)
    assert held and not held.keys() & net.seen.keys() and len(held) + len(net.seen) == 16
    assert {**held, **net.seen} == {i: i % C for i in data.labelled_indices.tolist()}
    assert np.array_equal(sorted(net.seen), data.train_indices)
