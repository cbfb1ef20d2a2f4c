import numpy as np
import pytest

from lightning_diffal.comparison.tasks.conditions import CONDITIONS, apply_condition

LABELS = np.random.default_rng(5).permutation(np.arange(2000) % 10)


@pytest.mark.parametrize("condition", list(CONDITIONS))
def test_a_condition_depends_on_the_seed_only(condition):
    before = LABELS.copy()
    first, again = (apply_condition(condition, LABELS, 3, 10) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(LABELS, before)
    other = apply_condition(condition, LABELS, 4, 10)
    same = all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert same == (condition == "plain")


def test_three_classes_become_rare():
    taken, labels = apply_condition("imbalanced", LABELS, 0, 10)
    assert sorted(np.bincount(labels).tolist()) == [20] * 3 + [200] * 7
    np.testing.assert_array_equal(labels, LABELS[taken])
    _, labels = apply_condition("imbalanced", LABELS % 2, 0, 2)
    assert sorted(np.bincount(labels).tolist()) == [100, 1000]


def test_one_label_in_twenty_is_wrong():
    taken, labels = apply_condition("noisy", LABELS, 0, 10)
    np.testing.assert_array_equal(taken, np.arange(2000))
    assert (labels != LABELS).sum() == 100
    assert set(labels.tolist()) <= set(range(10))


def test_a_quarter_are_copies_of_points_that_stay():
    taken, labels = apply_condition("duplicated", LABELS, 0, 10)
    assert len(taken) == 2000
    np.testing.assert_array_equal(labels, LABELS[taken])
    moved = taken != np.arange(2000)
    assert moved.sum() == 500
    assert not moved[taken[moved]].any()  # none is a copy of a point that is gone
