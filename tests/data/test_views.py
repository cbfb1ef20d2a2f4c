"""What is trained on, what the feature pass reads, and which points a loader covers."""

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lightning_diffal.data.views import LabelledDataset, NoLabelsYet, PoolDataset, covered_indices
from lightning_diffal.exceptions import InvalidLabelError
from tests.helpers_data import Listed, points


def view_of(items, labels, **kwargs):
    return LabelledDataset(Listed(items), np.array(sorted(labels)), labels, **kwargs)


class TestLabelledDataset:
    """Given labels replace own ones."""

    @pytest.mark.parametrize(
        "item",
        [
            ("x", 2),
            ("x", torch.tensor(2)),
            ("x", np.uint8(2)),
            {"x": "x", "label": 2},
            ["x", torch.tensor([2])],
        ],
    )
    def test_item_whose_own_label_agrees_is_the_same_object(self, item):
        view = view_of(["other", item], {1: 2})
        assert view[0] is item and view.__getitems__([0])[0] is item

    def test_agrees_by_name(self):
        item = ("x", "cat")
        view = view_of([item, ("y", "dog")], {0: 1, 1: 1}, class_names=["dog", "cat"])
        assert view[0] is item and view[1] == ("y", "cat")

    def test_agrees_multi_label(self):
        item = ("x", torch.tensor([0.0, 1.0]))
        view = view_of([item, ("y", torch.tensor([1.0, 1.0]))], {0: (0, 1), 1: (0, 1)})
        assert view[0] is item and torch.equal(view[1][1], torch.tensor([0.0, 1.0]))

    @pytest.mark.parametrize("mark", [-1, None, float("nan"), np.float32("nan"), torch.tensor(-1), "unknown"])
    def test_marks_for_unlabelled_are_replaced(self, mark):
        assert int(view_of([("x", mark)], {0: 2})[0][1]) == 2

    def test_points_without_a_known_label_pass(self):
        view = LabelledDataset(["a", ("b", 1)], np.array([0, 1]), {})
        assert [view[0], view[1]] == ["a", ("b", 1)]

    def test_one_by_one_and_at_once_are_the_same(self):
        view = view_of([("a", 0), ("b", 1), ("c", -1), ("d", 3)], {1: 1, 2: 4, 3: 0})
        assert len(view) == 3
        assert [view[i] for i in (2, 0, 1)] == view.__getitems__([2, 0, 1]) == [("d", 0), ("b", 1), ("c", 4)]

    def test_a_batch_is_fetched_at_once_where_the_data_set_can(self):
        class AtOnce(Listed):
            batches = 0

            def __getitems__(self, indices):
                self.batches += 1
                return [self.items[i] for i in indices]

        inner = AtOnce([(i, 0) for i in range(10)])
        loader = DataLoader(LabelledDataset(inner, np.array([1, 4, 9]), {4: 5}), batch_size=3)
        x, y = next(iter(loader))
        assert x.tolist() == [1, 4, 9] and y.tolist() == [0, 5, 0] and inner.batches == 1 and inner.reads == []

    def test_labels_are_those_of_its_making(self):
        labels = {0: 1}
        view = view_of([("a", 0)], labels)
        labels[0] = 2
        assert view[0] == ("a", 1)

    def test_workers(self):
        view = view_of([("a", 0), ("b", 1), ("c", -1), ("d", 3)], {1: 1, 2: 4, 3: 0})
        (_, y), (_, z) = DataLoader(view, batch_size=2, num_workers=1)
        assert y.tolist() + z.tolist() == [1, 4, 0]


class TestPoolDataset:
    """Placeholders where there is no label."""

    @pytest.mark.parametrize(
        ("item", "shown"),
        [
            ("x", ("x", 0)),
            (("x",), ("x", 0)),
            (("x", None), ("x", 0)),
            (("x", -1), ("x", 0)),
            (("x", 3), ("x", 0)),
            ({"x": 1}, {"x": 1, "label": 0}),
            ({"x": 1, "y": None}, {"x": 1, "y": 0}),
        ],
    )
    def test_items(self, item, shown):
        assert PoolDataset(["first", item], np.array([1]))[0] == shown

    def test_multi_label_placeholder(self):
        x, y = PoolDataset(["x"], np.array([0]), "auto", (0, 0, 0))[0]
        assert x == "x" and torch.equal(y, torch.zeros(3))


def test_no_labels_yet_says_what_to_do():
    loader = DataLoader(NoLabelsYet(10), batch_size=4)
    assert len(loader) == 3
    with pytest.raises(InvalidLabelError, match="give `initial_labels`, or add an `ActiveLearning`"):
        next(iter(loader))


class Wrapper(Dataset):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]


DATA = points(20)
LABELLED = LabelledDataset(DATA, np.array([2, 5, 11, 17]), {})


class TestCoveredIndices:
    """Which points of the full data set a loader goes over."""

    @pytest.mark.parametrize(
        ("dataset", "covered"),
        [
            (LABELLED, [2, 5, 11, 17]),
            (Subset(DATA, [7, 3]), [3, 7]),
            (Subset(Subset(DATA, [9, 7, 3, 1]), [3, 0]), [1, 9]),
            (Subset(LABELLED, [3, 1]), [5, 17]),
            (Subset(LABELLED, [3, 1, 3]), [5, 17]),
            (Subset(LABELLED, torch.tensor([3, 1])), [5, 17]),
            (Subset(DATA, []), []),
            (DATA, list(range(20))),
        ],
    )
    def test_views_and_subsets(self, dataset, covered):
        assert covered_indices(DataLoader(dataset, batch_size=3), DATA).tolist() == covered

    @pytest.mark.parametrize("dataset", [DATA, Subset(DATA, list(range(20)))])
    def test_subset_random_sampler(self, dataset):
        sampler = SubsetRandomSampler([8, 2, 13])
        assert covered_indices(DataLoader(dataset, sampler=sampler), DATA).tolist() == [2, 8, 13]
        batches = BatchSampler(sampler, 2, drop_last=False)
        assert covered_indices(DataLoader(dataset, batch_sampler=batches), DATA).tolist() == [2, 8, 13]

    def test_sampler_over_a_view(self):
        loader = DataLoader(LABELLED, sampler=SubsetRandomSampler([3, 0]))
        assert covered_indices(loader, DATA).tolist() == [2, 17]

    def test_weights_cover_everything(self):
        loader = DataLoader(LABELLED, sampler=WeightedRandomSampler([1.0, 5.0, 1.0, 1.0], 8))
        assert covered_indices(loader, DATA).tolist() == [2, 5, 11, 17]

    def test_data_set_that_is_a_subset_itself(self):
        train = Subset(DATA, [19, 3, 8, 4])
        view = LabelledDataset(train, np.array([0, 2]), {})
        assert covered_indices(DataLoader(view), train).tolist() == [0, 2]
        assert covered_indices(DataLoader(train), train).tolist() == [0, 1, 2, 3]

    def test_anything_else_is_counted(self):
        assert covered_indices(DataLoader(Wrapper(LABELLED)), DATA) == 4
        assert covered_indices(DataLoader(ConcatDataset([LABELLED, DATA])), DATA) == 24
        assert covered_indices(DataLoader(Subset(points(9), [1, 2])), DATA) == 2

    def test_nothing_can_be_told(self):
        assert covered_indices([DataLoader(DATA)], DATA) is None
        assert covered_indices({"a": DataLoader(DATA)}, DATA) is None
