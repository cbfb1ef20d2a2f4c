"""Batches of every kind through the model."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_diffal.exceptions import FeatureError
from tests.features.test_features import Plain, assert_same_rows, extract
from tests.helpers_data import D, Model, classes, inputs


class TestBatches:
    """How a batch reaches the model."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(2 * D, 16), nn.Linear(16, 3)

        def embed(self, a, b):
            return self.body(torch.cat([a, b], 1)).relu()

        def forward(self, a, b):
            return self.head(self.embed(a, b))

    def module(self, forward):
        module = type("Batched", (Model,), {"forward": forward})(self.Two())
        return module, module.net.embed(inputs(), -inputs())

    def test_several_inputs(self):
        module, expected = self.module(lambda self, a, b: self.net(a, b))
        found = extract(module, TensorDataset(inputs(), -inputs(), classes()))
        assert_same_rows(found["features"], expected)

    def test_inputs_as_one_tuple(self):
        module, expected = self.module(lambda self, both: self.net(*both))
        found = extract(module, TensorDataset(inputs(), -inputs(), classes()))
        assert_same_rows(found["features"], expected)

    @pytest.mark.parametrize(
        "forward",
        [
            lambda self, a, b: self.net(a, b),
            lambda self, a, b=None, labels=None: self.net(a, b),
            lambda self, **inputs: self.net(inputs["a"], inputs["b"]),
            lambda self, given: self.net(given["a"], given["b"]),
            lambda self, batch: self.net(batch["a"], batch["b"]) + 0 * batch["label"].unsqueeze(1),
        ],
    )
    def test_dicts(self, forward):
        module, expected = self.module(forward)
        items = [
            {"a": a, "b": -a, "label": int(y), "name": f"p{i}"}
            for i, (a, y) in enumerate(zip(inputs(), classes(), strict=True))
        ]
        assert_same_rows(extract(module, items)["features"], expected)

    def test_inputs_are_all_that_the_model_is_given(self):
        labels = F.one_hot(torch.as_tensor(classes()), 4).float()
        items = [
            {"name": f"p{i}", "label": y, "b": -a, "a": a.reshape(2, -1)}
            for i, (a, y) in enumerate(zip(inputs(), labels, strict=True))
        ]
        found = extract(self.module(lambda self, a, b: 0)[0], items, features="inputs", num_classes=4)
        assert_same_rows(found["features"], torch.cat([-inputs(), inputs()], 1))

    def test_inputs_without_a_number(self):
        items = [(torch.arange(3) + i, int(y)) for i, y in enumerate(classes())]
        with pytest.raises(FeatureError, match="floating-point numbers for features='inputs'"):
            extract(Plain(), items, features="inputs")

    def test_a_collate_function_that_makes_dicts(self):
        def collate(items):
            a = torch.stack([x for x, _ in items])
            return {"a": a, "b": -a, "labels": torch.tensor([int(y) for _, y in items])}

        module, expected = self.module(lambda self, a, b: self.net(a, b))
        assert_same_rows(extract(module, target=1, collate_fn=collate)["features"], expected)

    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: (x, None)])
    def test_items_without_labels(self, wrap):
        net = Plain()
        found = extract(net, [wrap(x) for x in inputs()], initial_labels={3: 1, 30: 0})
        assert_same_rows(found["features"], net.embed(inputs()))

    def test_forward_that_wants_the_label(self):
        class Wants(Model):
            def forward(self, x, y):
                return F.cross_entropy(self.net(x), y)

        with pytest.raises(FeatureError, match=r"forward` cannot be called .* missing a required argument: 'y'"):
            extract(Wants())

    def test_a_collate_function_that_drops_items(self):
        def collate(items):
            return tuple(map(torch.stack, zip(*items[:1], strict=True)))

        with pytest.raises(FeatureError, match="each of 2 points, but got 1: the collate function"):
            extract(Plain(), collate_fn=collate)

    def test_rows_of_different_lengths(self):
        class Growing(Model):
            def grow(self, x):
                return x[:, : 4 + int(len(x) == 5)]

        with pytest.raises(FeatureError, match="features of the same length for all points, but got 4 and then 5"):
            extract(Growing(), features="grow")  # 40 = 5 * 7 + 5

    def test_some_points_in_the_order_asked(self):
        net, indices = Plain(), np.array([30, 2, 2, 39, 11])
        assert_same_rows(extract(net, indices=indices)["features"], net.embed(inputs()[indices]))

    def test_nothing_wanted_reads_nothing(self):
        class Silent(Plain):
            def forward(self, x):
                raise AssertionError("it ran")

        assert extract(Silent(), wanted=()) == {"outputs": None, "head": None}
