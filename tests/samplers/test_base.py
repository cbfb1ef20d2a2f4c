"""What a sampler sees: every wrong input is refused and named; what it returns; ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_diffal.exceptions import ConfigurationError, FeatureError, InvalidIndexError, InvalidLabelError
from lightning_diffal.samplers import Query, QueryData, QuerySampler, best_candidates


def test_candidates_default_to_all_that_is_neither_labelled_nor_pending():
    data = QueryData(num_points=6, labelled=[4, 1], labels=[0, 1], pending=[3])
    assert data.candidates.tolist() == [0, 2, 5]
    assert data.num_classes == 2
    assert data.num_points == 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_tensors_become_numpy(dtype):
    features = torch.arange(6).reshape(3, 2).to(dtype)
    if features.is_floating_point():
        features.requires_grad_()
    data = QueryData(features=features, labelled=torch.tensor([2]), labels=torch.tensor([1]))
    assert data.features.dtype == np.float32
    assert data.labelled.dtype == data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.features, [[0, 1], [2, 3], [4, 5]])


def test_arrays_are_read_only():
    data = QueryData(features=np.eye(3), labelled=[0], labels=[0])
    for name in ("features", "labelled", "labels", "candidates", "pending"):
        assert not getattr(data, name).flags.writeable, name


def test_the_caller_keeps_a_writeable_array():
    features = np.eye(3, dtype=np.float32)
    QueryData(features=features)
    features[0, 0] = 2


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, ConfigurationError, "one of `features`, `probabilities` or `num_points`, but got none"),
        ({"features": np.eye(3), "num_points": 4}, ConfigurationError, "one row per point .* but got"),
        ({"features": np.ones(3)}, ConfigurationError, r"`features` to have two dimensions, but got shape \(3,\)"),
        ({"features": [[np.nan], [1.0]]}, FeatureError, r"1 of 2 rows hold NaN or infinity.*\[0\]"),
        ({"features": [[1e300], [1.0]]}, FeatureError, r"1 of 2 rows hold NaN or infinity.*\[0\]"),
        ({"num_points": 3, "labelled": [3], "labels": [0]}, InvalidIndexError, r"data set of 3 points, but got \[3\]"),
        ({"num_points": 3, "labelled": [-1], "labels": [0]}, InvalidIndexError, r"but got \[-1\]"),
        ({"num_points": 3, "labelled": [0.0], "labels": [0]}, InvalidIndexError, "integer indices, but got float64"),
        ({"num_points": 3, "labelled": [0, 0], "labels": [0, 0]}, InvalidIndexError, "each index once"),
        (
            {"num_points": 3, "labelled": [0], "labels": [0], "pending": [0]},
            InvalidIndexError,
            r"`pending` to hold no labelled point, but got \[0\]",
        ),
        (
            {"num_points": 3, "labelled": [0], "labels": [0], "candidates": [0, 1]},
            InvalidIndexError,
            r"`candidates` to hold neither labelled nor pending points, but got \[0\]",
        ),
        ({"num_points": 3, "labelled": [0], "labels": [0, 1]}, InvalidLabelError, r"labelled point \(1\), but got 2"),
        ({"num_points": 3, "labelled": [0], "labels": [0.5]}, InvalidLabelError, "Regression targets are not"),
        (
            {"num_points": 3, "labelled": [0], "labels": [5], "num_classes": 3},
            InvalidLabelError,
            r"between 0 and 2, but got \[5\]",
        ),
        ({"num_points": 3, "labelled": [0], "labels": [[0, 2]]}, InvalidLabelError, r"\(L, 2\) zeros and ones"),
    ],
)
def test_wrong_input(fields, error, message):
    with pytest.raises(error, match=message):
        QueryData(**fields)


def test_multilabel_targets():
    data = QueryData(num_points=3, labelled=[1], labels=[[0, 1, 1]])
    assert data.is_multilabel
    assert data.num_classes == 3


def test_query_refuses_arrays_of_different_lengths():
    with pytest.raises(ConfigurationError, match=r"arrays of one length in a Query, but got .*'phase': 1"):
        Query([1, 2], [0.0, 0.0], details={"phase": ["a"]})


def test_query_carries_details_and_summary():
    query = Query([1, 2], [0.5, 0.0], details={"margin": [0.1, 0.2]}, summary={"exploration_share": 0.5})
    assert query.indices.dtype == np.int64
    assert query.scores.dtype == np.float32
    assert query.details["margin"].tolist() == [0.1, 0.2]
    assert query.summary == {"exploration_share": 0.5}


def test_sampler_is_abstract():
    with pytest.raises(TypeError, match="select"):
        QuerySampler()


class TestBestCandidates:
    """`best_candidates`."""

    def test_best_first_and_only_candidates(self):
        scores = np.array([5, 4, 3, 2, 1], np.float32)
        chosen = best_candidates(scores, np.array([4, 1, 3]), 2, np.random.default_rng(0))
        assert chosen.tolist() == [1, 3]

    def test_takes_all_where_fewer_are_left(self):
        assert len(best_candidates(np.zeros(5, np.float32), np.array([1, 3]), 9, np.random.default_rng(0))) == 2

    def test_ties_do_not_follow_the_index(self):
        first = [
            best_candidates(np.ones(50, np.float32), np.arange(50), 1, np.random.default_rng(s))[0] for s in range(40)
        ]
        assert len(set(first)) > 20

    def test_small_differences_are_no_ties(self):
        scores = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
        for seed in range(10):
            assert best_candidates(scores, np.array([0, 1]), 1, np.random.default_rng(seed)).tolist() == [1]
