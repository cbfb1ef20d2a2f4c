"""Points change their state in one place, all or nothing, and find their way back from a checkpoint."""

import io

import numpy as np
import pytest
import torch

from lightning_diffal.exceptions import InvalidIndexError, InvalidLabelError, ResumeError
from lightning_diffal.labels.ids import as_indices
from lightning_diffal.labels.pool import LabelledPool


def pool_of_ten(ids=None):
    pool = LabelledPool(10, ids)
    pool.label([7, 3], [1, 0], round_=0)
    pool.ask([9, 0, 5])
    pool.label([5], [2], round_=1)
    pool.skip([1])
    return pool


def states(pool):
    return [x.tolist() for x in (pool.labelled_indices, pool.pool_indices, pool.pending_indices, pool.skipped_indices)]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class TestStates:
    """Pool, pending, labelled, skipped."""

    def test_every_point_is_in_one(self):
        pool = pool_of_ten()
        assert states(pool) == [[3, 5, 7], [2, 4, 6, 8], [0, 9], [1]]
        assert sorted(i for state in states(pool) for i in state) == list(range(10))
        assert all(x.dtype == np.int64 for x in (pool.labelled_indices, pool.pool_indices, pool.labels))

    def test_labels_follow_their_points(self):
        pool = pool_of_ten()
        assert pool.labels.tolist() == [0, 2, 1]  # of 3, 5, 7
        assert pool.labels_of(np.array([7, 2, 5])) == {7: 1, 5: 2}
        assert pool.rounds_of(np.array([3, 5, 0])).tolist() == [0, 1, -1]
        assert pool.n_bought == 1
        assert repr(pool) == "LabelledPool(10 points: 4 in the pool, 2 pending, 3 labelled, 1 skipped)"

    def test_two_rounds(self):
        pool = pool_of_ten()
        pool.label([0, 9], [1, 1], round_=2)
        pool.ask([8])
        pool.label([8, 1], [2, 0], round_=3)  # somebody could tell after all
        assert states(pool) == [[0, 1, 3, 5, 7, 8, 9], [2, 4, 6], [], []]
        assert pool.labels.tolist() == [1, 0, 0, 2, 1, 2, 1] and pool.n_bought == 5

    def test_labels_that_the_data_set_knows(self):
        pool = LabelledPool(6)
        pool.label([4, 1], None, round_=0)
        assert pool.unread_indices.tolist() == [1, 4]
        pool.store_labels([4], [2])
        assert pool.unread_indices.tolist() == [1]
        pool.store_labels([1], [0])
        assert pool.labels.tolist() == [0, 2]

    def test_multi_label(self):
        pool = LabelledPool(5)
        assert pool.placeholder == 0
        pool.label([4, 1], [(0, 1), (1, 1)], round_=0)
        assert pool.labels.tolist() == [[1, 1], [0, 1]] and pool.placeholder == (0, 0)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda p: p.ask([2, 3]), InvalidIndexError, "Cannot ask point 3: it is labelled already"),
            (lambda p: p.ask([2, 9]), InvalidIndexError, "point 9: it is pending"),
            (lambda p: p.ask([2, 1]), InvalidIndexError, "point 1: it is skipped"),
            (lambda p: p.ask([2, 10]), InvalidIndexError, "between 0 and 9"),
            (lambda p: p.ask([2, 2]), InvalidIndexError, "twice"),
            (lambda p: p.label([2, 7], [0, 0], 1), InvalidIndexError, "Cannot label point 7"),
            (lambda p: p.label([2, 4], [0], 1), InvalidLabelError, "2 points, but got 1"),
            (
                lambda p: p.label([2, 4], [0, (0, 1)], 1),
                InvalidLabelError,
                "one kind, but point 4 has zeros and ones for 2",
            ),
            (lambda p: p.store_labels([2], [0]), InvalidIndexError, "Cannot store the labels of point 2"),
            (lambda p: p.skip([2, 3]), InvalidIndexError, "Cannot skip point 3"),
        ],
    )
    def test_what_is_refused_changes_nothing(self, change, error, message):
        pool = pool_of_ten()
        before = pool.state_dict()
        with pytest.raises(error, match=message):
            change(pool)
        assert pool.state_dict() == before

    def test_kinds_do_not_mix_over_time(self):
        pool = LabelledPool(5)
        pool.label([1], [(0, 1, 0)], round_=0)
        with pytest.raises(InvalidLabelError, match="has a class and others have zeros and ones for 3 classes"):
            pool.label([2], [1], round_=1)
        with pytest.raises(InvalidLabelError, match="for 2 classes"):
            pool.label([2], [(0, 1)], round_=1)
        assert pool.labelled_indices.tolist() == [1]


class TestGrowing:
    """New points join the pool; none leaves."""

    def test_appended(self):
        pool = pool_of_ten()
        pool.grow(12)
        assert states(pool) == [[3, 5, 7], [2, 4, 6, 8, 10, 11], [0, 9], [1]] and len(pool) == 12
        pool.label([11], [0], round_=1)
        assert pool.labels.tolist() == [0, 2, 1, 0]

    def test_shrunk(self):
        with pytest.raises(ResumeError, match="has 9 points, but labels were kept for 10"):
            pool_of_ten().grow(9)

    def test_ids_of_known_points_stay(self):
        pool = pool_of_ten(list("abcdefghij"))
        with pytest.raises(ResumeError, match="ids of known points changed"):
            pool.grow(11, list("xabcdefghij"))
        with pytest.raises(ResumeError, match="ids of known points changed"):
            pool.grow(11)
        pool.grow(11, list("abcdefghijk"))
        assert pool.id_of(10) == "k"


class TestKeeping:
    """`state_dict` and back."""

    @pytest.mark.parametrize("ids", [None, list("abcdefghij")])
    def test_round_trip(self, ids):
        pool, other = pool_of_ten(ids), LabelledPool(10, ids)
        state = through_a_file(pool.state_dict())
        other.load_state_dict(state)
        assert other.state_dict() == pool.state_dict() == state
        assert other.labels.tolist() == [0, 2, 1] and states(other) == states(pool)

    def test_multi_label_and_unread_ones(self):
        pool, other = LabelledPool(6), LabelledPool(6)
        pool.label([5, 2], [(0, 1), (1, 0)], round_=0)
        pool.label([3], None, round_=1)
        other.load_state_dict(through_a_file(pool.state_dict()))
        assert other.unread_indices.tolist() == [3]
        other.store_labels([3], [(1, 1)])
        assert other.labels.tolist() == [[1, 0], [1, 1], [0, 1]]

    def test_structure_is_pinned(self):
        assert pool_of_ten(list("abcdefghij")).state_dict() == {
            "version": 1,
            "n_points": 10,
            "labelled": [3, 5, 7],
            "labels": [0, 2, 1],
            "rounds": [0, 1, 0],
            "pending": [0, 9],
            "skipped": [1],
            "ids": {"3": "d", "5": "f", "7": "h", "0": "a", "9": "j", "1": "b"},
        }

    def test_points_are_found_by_id_in_another_order(self):
        state = pool_of_ten(list("abcdefghij")).state_dict()
        other = LabelledPool(12, list("lkjihgfedcba"))
        other.load_state_dict(through_a_file(state))
        by_id = dict(zip(map(other.id_of, other.labelled_indices), other.labels.tolist(), strict=True))
        assert by_id == {"d": 0, "f": 2, "h": 1}
        assert sorted(map(other.id_of, other.pending_indices)) == ["a", "j"]
        assert [other.id_of(i) for i in other.skipped_indices] == ["b"]

    def test_loading_forgets_what_was_there(self):
        other = LabelledPool(10)
        other.label([2, 4], [9, 9], round_=0)
        other.load_state_dict(pool_of_ten().state_dict())
        assert states(other) == states(pool_of_ten()) and other.labels_of(np.array([2, 4])) == {}

    @pytest.mark.parametrize(
        ("other", "change", "message"),
        [
            (LabelledPool(9), {}, "data set of 10 points, but this one has 9"),
            (LabelledPool(10), {"version": 2}, "format 2"),
            (
                LabelledPool(10, list("0123456789")),
                {"ids": {"3": "x", "5": "1", "7": "2", "0": "3", "9": "4", "1": "5"}},
                "'x'",
            ),
            (LabelledPool(10), {"ids": {"3": "a"}}, "this data set has none: give `ids`"),
        ],
    )
    def test_of_another_data_set(self, other, change, message):
        with pytest.raises(ResumeError, match=message):
            other.load_state_dict({**pool_of_ten().state_dict(), **change})
        assert len(other.labelled_indices) == 0


class TestIndices:
    """`as_indices` and ids."""

    @pytest.mark.parametrize(
        "indices",
        [
            [3, 0],
            (3, 0),
            np.array([3, 0]),
            np.array([3, 0], dtype=np.uint8),
            torch.tensor([3, 0]),
            iter([3, 0]),
            {3: "a", 0: "b"},
        ],
    )
    def test_accepts(self, indices):
        found = as_indices(indices, 4)
        assert found.tolist() == [3, 0] and found.dtype == np.int64

    @pytest.mark.parametrize("empty", [[], (), np.array([]), torch.tensor([]), set(), iter([])])
    def test_none_at_all(self, empty):
        assert as_indices(empty, 4).tolist() == []

    def test_sets_and_ranges(self):
        assert sorted(as_indices({1, 3}, 4)) == [1, 3] and as_indices(range(1, 3), 4).tolist() == [1, 2]

    @pytest.mark.parametrize(
        "indices",
        [
            3,
            None,
            "3",
            [0.0, 1.0],
            [[0], [1]],
            [[0], [1, 2]],
            np.ones(4, dtype=bool),
            [True, False],
            ["a"],
            np.array(3),
            [2**70],
        ],
    )
    def test_refuses_what_is_no_flat_list_of_integers(self, indices):
        with pytest.raises(InvalidIndexError, match="`indices` to be a flat list of integer positions"):
            as_indices(indices, 4)

    @pytest.mark.parametrize(
        ("indices", "message"), [([4], r"between 0 and 3, but got \[4\]"), ([-1, 0], r"\[-1\]"), ([1, 1], "twice")]
    )
    def test_refuses_wrong_positions(self, indices, message):
        with pytest.raises(InvalidIndexError, match=message):
            as_indices(indices, 4)

    def test_ids(self):
        assert LabelledPool(3, [5, "b", 7.5]).ids == ["5", "b", "7.5"]
        assert LabelledPool(3).id_of(2) == "2"
        with pytest.raises(InvalidIndexError, match="'1' stands 2 times"):
            LabelledPool(3, [1, "1", 2])
        with pytest.raises(InvalidIndexError, match="3 points, but got 2"):
            LabelledPool(3, ["a", "b"])


def test_nothing_is_labelled_yet():
    pool = LabelledPool(3)
    assert pool.labels.shape == (0,) and pool.labels.dtype == np.int64 and pool.placeholder == 0


class TestGivenBeforeRestoring:
    """What a script said at the start stays known when a saved state takes the pool's place."""

    def test_initial_labels_that_the_state_lacks_are_missed_and_answers_are_not(self):
        saved = LabelledPool(10)
        saved.label([7], [1], round_=0)
        pool = LabelledPool(10)
        pool.label([7, 3], [1, 0], round_=0)
        pool.label([5], [2], round_=1)  # an answer: its own run keeps it
        pool.load_state_dict(through_a_file(saved.state_dict()))
        assert pool.labelled_indices.tolist() == [7]
        assert pool.missed == {3: 0} and pool.given_before == {7: 1, 3: 0}

    def test_what_is_missed_stays_so_through_a_second_state(self):
        empty, full = LabelledPool(10), LabelledPool(10)
        full.label([3], [0], round_=1)
        pool = LabelledPool(10)
        pool.label([7, 3], [1, 0], round_=0)
        pool.load_state_dict(empty.state_dict())
        assert pool.missed == {7: 1, 3: 0}
        pool.load_state_dict(full.state_dict())
        assert pool.missed == {7: 1} and pool.given_before == {7: 1, 3: 0}
