"""The first labels."""

import numpy as np
import pytest
import torch

from lightning_diffal.exceptions import ConfigurationError, InvalidIndexError, InvalidLabelError
from lightning_diffal.labels.initial import check_targets, draw_initial, initial_points


class TestDraw:
    """A number of points."""

    def test_same_seed_same_points(self):
        first = draw_initial(10, 100, seed=4)
        assert first.tolist() == draw_initial(10, 100, seed=4).tolist() != draw_initial(10, 100, seed=5).tolist()
        assert len(set(first.tolist())) == 10 and (np.diff(first) > 0).all() and first.tolist() != list(range(10))

    def test_global_state_is_left_alone(self):
        np.random.seed(0)
        expected = np.random.rand()
        np.random.seed(0)
        draw_initial(10, 100, seed=4)
        assert np.random.rand() == expected

    @pytest.mark.parametrize("size", [0, 1, 3, 7, 12, 20])
    def test_stratified_is_as_even_as_the_classes_allow(self, size):
        targets = np.array([0] * 12 + [1] * 5 + [7] * 3)[np.random.default_rng(0).permutation(20)]
        chosen = draw_initial(size, 20, 3, targets)
        counts = [int((targets[chosen] == c).sum()) for c in (0, 1, 7)]
        assert len(set(chosen.tolist())) == size == sum(counts)
        for count, available in zip(counts, (12, 5, 3), strict=True):
            assert count == available or count >= max(counts) - 1

    def test_stratified_takes_turns_at_random(self):
        targets = np.arange(30) % 3
        assert len({tuple(targets[draw_initial(1, 30, seed, targets)]) for seed in range(20)}) == 3

    def test_stratified_multi_label(self):
        targets = np.array([[0, 1]] * 30 + [[1, 0]] * 2 + [[1, 1]])
        chosen = targets[draw_initial(3, 33, 0, targets)]
        assert len(np.unique(chosen, axis=0)) == 3


class TestInitialPoints:
    """A number, indices, or labels by index."""

    def test_kinds(self):
        assert len(initial_points(3, 9, seed=0)[0]) == 3
        indices, labels = initial_points([7, 2], 9, seed=0)
        assert indices.tolist() == [7, 2] and labels is None
        indices, labels = initial_points({7: "b", 2: np.int64(0)}, 9, seed=0, class_names=["a", "b"])
        assert indices.tolist() == [7, 2] and labels == [1, 0]
        assert initial_points({3, 5}, 9, seed=0)[0].tolist() == [3, 5]
        assert initial_points(torch.tensor([4]), 9, seed=0)[0].tolist() == [4]

    def test_labels_known_as_an_array_are_used(self):
        targets = np.array([0, 1, 2, 0, 1])
        assert initial_points([4, 2], 5, seed=0, targets=targets)[1] == [1, 2]
        indices, labels = initial_points(2, 5, seed=0, targets=targets)
        assert labels == targets[indices].tolist()
        assert initial_points({4: 0}, 5, seed=0, targets=targets)[1] == [0]  # a person knows better

    @pytest.mark.parametrize("wrong", [True, 0.5, "10", None, -1, 10])
    def test_refuses(self, wrong):
        with pytest.raises(ConfigurationError, match="initial_labels"):
            initial_points(wrong, 9, seed=0)

    def test_refuses_points_and_labels(self):
        with pytest.raises(InvalidIndexError, match="initial_labels"):
            initial_points({9: 0}, 9, seed=0)
        with pytest.raises(InvalidLabelError, match="at most 1"):
            initial_points({3: 2}, 9, seed=0, num_classes=2)
        with pytest.raises(ConfigurationError, match="needs `targets`"):
            initial_points(3, 9, seed=0, stratified=True)


class TestTargets:
    """Labels of all points as an array."""

    @pytest.mark.parametrize(
        "targets",
        [
            [0, 1, 2],
            (0, 1, 2),
            np.array([0, 1, 2], dtype=np.uint8),
            torch.tensor([0, 1, 2]),
            torch.tensor([[0], [1], [2]]),
        ],
    )
    def test_classes(self, targets):
        found = check_targets(targets, 3)
        assert found.tolist() == [0, 1, 2] and found.dtype == np.int64

    def test_binary_as_floats_or_booleans(self):
        assert check_targets([0.0, 1.0], 2).tolist() == check_targets([False, True], 2).tolist() == [0, 1]

    def test_names(self):
        assert check_targets(["b", "a"], 2, class_names=["a", "b"]).tolist() == [1, 0]
        with pytest.raises(InvalidLabelError, match="'c'"):
            check_targets(["b", "c"], 2, class_names=["a", "b"])

    def test_multi_label(self):
        assert check_targets(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), 2, 2).tolist() == [[0, 1], [1, 1]]

    @pytest.mark.parametrize(
        ("targets", "classes", "message"),
        [
            (5, None, r"shape \(\)"),
            ([0, 1], None, "3 points"),
            (np.zeros((3, 2, 2)), None, "3 points"),
            ([0.5, 1, 0], None, "integer classes"),
            ([0, -1, 1], None, r"initial_labels=\{index: label\}"),
            ([0, 3, 1], 3, "at most 2"),
            ([[0, 2], [0, 1], [1, 1]], None, "zeros and ones for each of 2 classes"),
            ([[0, 1], [0, 1], [1, 1]], 3, "each of 3 classes"),
            (["a", "b", "c"], None, "no `class_names`"),
        ],
    )
    def test_refuses(self, targets, classes, message):
        with pytest.raises(InvalidLabelError, match=message):
            check_targets(targets, 3, classes)
