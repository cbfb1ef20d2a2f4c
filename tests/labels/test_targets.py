"""What is a label and what is not, and how it gets into an item in the item's own type."""

from collections import OrderedDict, UserDict, namedtuple
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from lightning_diffal.exceptions import InvalidLabelError
from lightning_diffal.labels.targets import MISSING, parse_label, read_target, with_target, without_target
from tests.helpers_data import Item

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class TestParseLabel:
    """The table of what a label may be."""

    @pytest.mark.parametrize(
        ("value", "label"),
        [
            (0, 0),
            (7, 7),
            (True, 1),
            (np.bool_(False), 0),
            (np.bool_(True), 1),
            (np.uint8(3), 3),
            (np.int64(3), 3),
            (np.array(3), 3),
            (np.array([3]), 3),
            ([3], 3),
            ((0,), 0),
            (1.0, 1),
            (np.float64(1.0), 1),
            (np.float32(0.0), 0),
            (torch.tensor(True), 1),
            (torch.tensor([2]), 2),
            (torch.tensor([1.0]), 1),
            (torch.tensor(1.0, requires_grad=True), 1),
            ([0, 1, 0], (0, 1, 0)),
            ((1, 1), (1, 1)),
            (np.array([True, False]), (1, 0)),
            (torch.tensor([0.0, 1.0]), (0, 1)),
            (2**62, 2**62),
        ],
    )
    def test_accepts(self, value, label):
        parsed = parse_label(value)
        assert parsed == label and type(parsed) is type(label)

    @pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, torch.bool])
    def test_accepts_tensors_of_all_types(self, dtype):
        assert parse_label(torch.tensor(1, dtype=dtype)) == 1
        assert parse_label(torch.tensor([0, 1, 1], dtype=dtype)) == (0, 1, 1)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (0.5, "0.5. Regression targets"),
            (2.5, "Regression"),
            (float("nan"), "nan. Regression"),
            (torch.tensor(0.5), "Regression"),
            (torch.tensor([2.5]), "Regression"),
            (np.float32("inf"), "Regression"),
            (-1, "at least 0, but got -1"),
            (torch.tensor(-1), "but got -1"),
            (2**63, "at least 0, but got 9223372036854775808"),
            (2**70, "of type int"),
            (None, "None of type NoneType"),
            ("cat", "'cat', and no `class_names`"),
            ([], r"\[\] of type list"),
            ([[0, 1]], "vector of zeros and ones"),
            ([[1], [0, 1]], "vector of zeros and ones"),
            ([0, 2], r"zeros and ones, but got \[0, 2\]"),
            ([0.3, 0.7], "zeros and ones, but got"),
            (["a", "b"], "of type list"),
            ({"label": 1}, "of type dict"),
            (1j, "of type complex"),
            (object(), "of type object"),
        ],
    )
    def test_refuses(self, value, message):
        with pytest.raises(InvalidLabelError, match=message):
            parse_label(value)

    def test_does_not_print_a_whole_image(self):
        with pytest.raises(InvalidLabelError) as caught:
            parse_label([[0] * 1000] * 1000)
        assert len(str(caught.value)) < 500

    def test_fits_the_number_of_classes(self):
        assert parse_label(2, 3) == 2 and parse_label([0, 1, 0], 3) == (0, 1, 0)
        with pytest.raises(InvalidLabelError, match="at most 2, but got 3"):
            parse_label(np.uint8(3), 3)
        with pytest.raises(InvalidLabelError, match="hold 3 zeros and ones, but got 2"):
            parse_label([0, 1], 3)

    def test_names(self):
        assert parse_label("cat", class_names=["dog", "cat"]) == 1
        assert parse_label(np.str_("dog"), class_names=("dog", "cat")) == 0
        with pytest.raises(InvalidLabelError, match=r"'cow', and the classes are \['dog', 'cat'\]"):
            parse_label("cow", class_names=["dog", "cat"])


X = torch.zeros(2)


class TestReadTarget:
    """Where a label sits."""

    @pytest.mark.parametrize(
        ("item", "target", "label"),
        [
            ((X, 3), "auto", 3),
            ([X, 3], "auto", 3),
            ((X, X, 3), "auto", 3),
            ((X, 3, "meta"), 1, 3),
            ((X, 3, "meta"), -2, 3),
            (Item(X, 3), "auto", 3),
            ({"x": X, "label": 3}, "auto", 3),
            ({"x": X, "labels": 3}, "auto", 3),
            ({"x": X, "y": 3}, "auto", 3),
            ({"x": X, "species": 3}, "species", 3),
            (UserDict(x=X, target=3), "auto", 3),
            ((X, None), "auto", None),
        ],
    )
    def test_finds(self, item, target, label):
        assert read_target(item, target) == label

    @pytest.mark.parametrize(
        ("item", "target"),
        [(X, "auto"), ((X,), "auto"), ("text", "auto"), ({"x": X}, "auto"), ((X, 3), 2), ((X, 3), "y")],
    )
    def test_misses(self, item, target):
        assert read_target(item, target) is MISSING


class TestWithTarget:
    """The label goes in, in the type of the one it replaces."""

    @pytest.mark.parametrize(
        "own",
        [
            0,
            -1,
            0.0,
            False,
            np.int64(0),
            np.uint8(0),
            np.float32(np.nan),
            np.array(0),
            np.array([0]),
            np.array([0.0], dtype=np.float32),
            torch.tensor(0),
            torch.tensor(-1, dtype=torch.int32),
            torch.tensor([0]),
            torch.tensor([0.0]),
            torch.tensor(float("nan")),
        ],
    )
    def test_keeps_type_and_shape(self, own):
        changed = with_target((X, own), 1)
        assert changed[0] is X and type(changed[1]) is type(own) and parse_label(changed[1]) == 1
        if hasattr(own, "dtype"):
            assert changed[1].dtype == own.dtype and changed[1].shape == own.shape

    @pytest.mark.parametrize(
        "own",
        [[0, 0, 0], (0, 0, 0), np.zeros(3, dtype=np.float32), torch.zeros(3), torch.zeros(1, 3, dtype=torch.int64)],
    )
    def test_keeps_type_and_shape_of_vectors(self, own):
        changed = with_target({"y": own}, (0, 1, 1))["y"]
        assert type(changed) is type(own) and np.asarray(changed).reshape(-1).tolist() == [0, 1, 1]
        assert getattr(changed, "shape", None) == getattr(own, "shape", None)

    @pytest.mark.parametrize("own", [None, -1])
    def test_vector_in_the_place_of_a_mark(self, own):
        changed = with_target((X, own), (0, 1))[1]
        assert torch.equal(changed, torch.tensor([0.0, 1.0]))  # as binary cross entropy takes it

    def test_names_stay_names(self):
        assert with_target((X, "dog"), 1, class_names=["dog", "cat"]) == (X, "cat")

    def test_items_without_a_label(self):
        assert with_target("text", 2) == ("text", 2)
        assert with_target(("text",), 2) == ("text", 2)
        assert with_target({"text": "a"}, 2) == {"text": "a", "label": 2}
        assert with_target({"text": "a"}, 2, "species") == {"text": "a", "species": 2}

    @pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
    def test_mappings_are_copied_not_changed(self, kind):
        item = kind(x=X, label=0)
        changed = with_target(item, 1)
        assert type(changed) is kind and changed["label"] == 1 and changed["x"] is X and item["label"] == 0

    def test_a_tokenizers_output_keeps_what_is_beside_its_keys(self):
        class Encoding(UserDict):
            def __init__(self, data, encodings):
                super().__init__(data)
                self.encodings = encodings

        changed = with_target(Encoding({"input_ids": [1], "label": 0}, "kept"), 1)
        assert changed.encodings == "kept" and changed["label"] == 1
        assert without_target(changed).encodings == "kept"

    def test_frozen_mapping(self):
        assert with_target(MappingProxyType({"x": 1, "y": 0}), 1) == {"x": 1, "y": 1}

    def test_named_tuples_and_lists(self):
        assert with_target(Item(X, 0), 1) == Item(X, 1)
        assert with_target([X, 0], 1) == [X, 1]
        other = namedtuple("Other", "y x")
        assert with_target(other(0, X), 1, 0) == other(1, X)

    @pytest.mark.parametrize("own", [0, np.int64(0), torch.tensor(0), 0.0, torch.tensor(0.0)])
    def test_given_labels_collate_with_own_ones(self, own):
        batch = default_collate([(X, own), with_target((X, own), 1)])
        assert batch[1].tolist() == [0, 1] and batch[1].dtype == default_collate([(X, own)])[1].dtype


class TestWithoutTarget:
    """What `forward` takes of a batch."""

    def test_places(self):
        assert without_target([X, 1]) == (X,)
        assert without_target((X, "z", 1)) == (X, "z")
        assert without_target((X, 1, "meta"), 1) == (X, "meta")
        assert without_target((X, 1, "meta"), -2) == (X, "meta")
        assert without_target({"x": X, "labels": 1}) == {"x": X}
        assert without_target(X) is X

    def test_a_collate_function_may_change_the_kind(self):
        assert without_target({"x": X, "labels": 1}, 1) == {"x": X}
        assert without_target([X, 1], "species") == (X,)

    def test_the_batch_is_not_changed(self):
        batch = {"x": X, "labels": 1}
        without_target(batch)
        assert "labels" in batch


@pytest.mark.parametrize(
    ("item", "target", "key"),
    [
        ({"x": 1}, "auto", "label"),
        ({"x": 1}, 1, "label"),
        ({"x": 1}, "class", "class"),
        ({"input_ids": [1], "attention_mask": [1]}, "auto", "labels"),
        ({"pixel_values": 1}, "auto", "labels"),
        ({"input_ids": [1]}, "label", "label"),
        ({"input_ids": [1], "label": None}, "auto", "label"),
    ],
)
def test_where_a_dict_without_a_label_gets_one(item, target, key):
    assert with_target(item, 2, target) == {**item, key: 2}
