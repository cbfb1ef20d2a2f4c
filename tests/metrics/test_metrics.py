import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.metrics import (
    AreaUnderLearningCurve,
    ExplorationShare,
    LabelEfficiency,
    LabelsSaved,
    QueryClassBalance,
    area_under_learning_curve,
    class_balance,
    exploration_share,
    labels_saved,
    labels_to_reach,
)

curves = st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=2, max_size=20, unique_by=lambda p: p[0])


@given(curves)
def test_area_is_the_mean_height_of_the_straight_lines(points):
    counts, scores = np.array(sorted(points)).T
    grid = np.linspace(counts[0], counts[-1], 20_001)
    middles = (grid[1:] + grid[:-1]) / 2
    assert area_under_learning_curve(counts, scores) == pytest.approx(
        np.interp(middles, counts, scores).mean(), abs=2e-3
    )


@given(curves)
def test_area_lies_between_lowest_and_highest_score_and_ignores_the_unit_of_labels(points):
    counts, scores = np.array(sorted(points)).T
    area = area_under_learning_curve(counts, scores)
    assert scores.min() - 1e-9 <= area <= scores.max() + 1e-9
    assert area_under_learning_curve(counts * 7 + 3, scores) == pytest.approx(area)


def test_area_by_rounds_is_the_plain_mean():
    counts, scores = np.arange(10, 180, 10), np.linspace(0.3, 0.9, 17) ** 2
    assert area_under_learning_curve(counts, scores, rule="mean") == pytest.approx(scores.mean())
    assert area_under_learning_curve(counts, scores) != pytest.approx(scores.mean())


def test_area_of_little_or_nothing():
    assert math.isnan(area_under_learning_curve([], []))
    assert area_under_learning_curve([10], [0.4]) == 0.4
    assert area_under_learning_curve([10, 10], [0.4, 0.6]) == 0.5


@pytest.mark.parametrize(
    ("counts", "scores", "message"),
    [
        ([1, 2], [0.5], "of one shape"),
        ([[1, 2]], [[0.5, 0.6]], "of one shape"),
        ([2, 1], [0.5, 0.6], "not to decrease"),
        ([1, 2], [0.5, float("nan")], "to be finite"),
    ],
)
@pytest.mark.parametrize("measure", [area_under_learning_curve, lambda n, s: labels_to_reach(n, s, 0.5)])
def test_curves_that_make_no_sense_are_refused(measure, counts, scores, message):
    with pytest.raises(ConfigurationError, match=message):
        measure(counts, scores)


def test_area_refuses_an_unknown_rule():
    with pytest.raises(ConfigurationError, match="argument `rule`"):
        area_under_learning_curve([1], [1], rule="simpson")
    with pytest.raises(ConfigurationError, match="argument `rule`"):
        AreaUnderLearningCurve(rule="simpson")


@given(curves, st.floats(0, 1))
def test_labels_to_reach_transcribed(points, target):
    counts, scores = np.array(sorted(points)).T
    naive = next((count for count, score in sorted(points) if score >= target), None)
    assert labels_to_reach(counts, scores, target) == naive
    between = labels_to_reach(counts, scores, target, interpolate=True)
    if naive is None:
        assert between is None
    else:
        assert between <= naive
        assert np.interp(between, counts, scores) == pytest.approx(max(target, scores[0]), abs=1e-6)


def test_labels_saved_compares_at_the_best_score_both_reach():
    random = ([10, 20, 30, 40], [0.3, 0.5, 0.6, 0.7])
    ours = ([10, 20, 30, 40], [0.3, 0.72, 0.7, 0.9])
    saved = labels_saved(ours, random)
    assert saved == LabelsSaved(target=0.7, ours=20.0, baseline=40.0, ours_last=40.0, baseline_last=40.0)
    assert saved.saved == 20
    assert saved.sentence() == "random needs 40 labels for what diffusion reaches with 20: 70.0% accuracy"
    turned = labels_saved(random, ours)
    assert turned.saved == -20
    assert turned.sentence() == "diffusion needs 40 labels for what random reaches with 20: 70.0% accuracy"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (0.3, "random and diffusion both need 10 labels for 30.0% accuracy"),
        (0.8, "diffusion reaches 80.0% accuracy with 20 labels; random does not with 30"),
        (0.95, "neither diffusion (20 labels) nor random (30) reaches 95.0% accuracy"),
    ],
)
def test_labels_saved_at_a_given_score(target, words):
    saved = labels_saved(([10, 20], [0.3, 0.9]), ([10, 30], [0.3, 0.5]), target=target)
    assert saved.sentence() == words
    if target > 0.5:
        assert saved.saved is None


def test_labels_saved_when_only_the_baseline_gets_there():
    saved = labels_saved(([10, 20], [0.3, 0.4]), ([10, 30], [0.3, 0.5]), target=0.5)
    assert saved.sentence() == "random reaches 50.0% accuracy with 30 labels; diffusion does not with 20"


def test_labels_saved_refuses_an_empty_curve():
    with pytest.raises(ConfigurationError, match="at least one measurement"):
        labels_saved(([], []), ([1], [1]))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50))
def test_class_balance_transcribed(labels):
    entropy = 0.0
    for label in set(labels):
        share = labels.count(label) / len(labels)
        entropy -= share * math.log(share) / math.log(5)
    assert class_balance(labels, 5) == pytest.approx(entropy)
    one_hot = np.eye(5, dtype=np.int64)[labels]
    assert class_balance(one_hot, 5) == pytest.approx(entropy)


def test_class_balance_known_and_degenerate_values():
    assert class_balance(np.arange(20) % 10, 10) == pytest.approx(1)
    assert class_balance([3, 3, 3], 10) == 0
    assert class_balance([0, 0], 1) == 1
    assert math.isnan(class_balance([], 3))


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0.5], 3, "hold classes"),
        ([-1], 3, "hold classes"),
        ([3], 3, "below 3"),
        ([[0, 1]], 3, r"of shape \(B, 3\)"),
        ([0], 0, "`num_classes`"),
    ],
)
def test_class_balance_refuses_what_is_no_class(labels, num_classes, message):
    with pytest.raises(ConfigurationError, match=message):
        class_balance(labels, num_classes)


def test_exploration_share_of_names_and_booleans():
    assert exploration_share(["exploration", "refinement"]) == 0.5
    assert exploration_share(np.array([True, True, False, True])) == 0.75
    assert exploration_share(torch.tensor([False])) == 0
    assert math.isnan(exploration_share([]))
    for wrong in (["exploring"], [0.5], [0, 1]):
        with pytest.raises(ConfigurationError, match="argument `phase`"):
            exploration_share(wrong)


CASES = [
    (lambda: AreaUnderLearningCurve(), [(10, 0.5), (20, 0.7), (40, 0.9)], 11 / 15),
    (lambda: AreaUnderLearningCurve(rule="mean"), [(10, 0.5), (20, 0.7), (40, 0.9)], 0.7),
    (lambda: LabelEfficiency(0.8), [(10, 0.5), (20, 0.7), (40, 0.9)], 40),
    (lambda: LabelEfficiency(0.8, interpolate=True), [(10, 0.5), (20, 0.7), (40, 0.9)], 30),
    (lambda: QueryClassBalance(4), [(torch.tensor([0, 1]),), ([2, 3],)], 1),
    (lambda: ExplorationShare(), [(["exploration"],), (["refinement", "refinement"],)], 1 / 3),
]


@pytest.mark.parametrize(("make", "updates", "expected"), CASES)
def test_metric_classes_accumulate_reset_and_survive_a_checkpoint(make, updates, expected, tmp_path):
    metric = make()
    for update in updates:
        metric(*update)  # forward: the value of this update alone, added to what was there
    assert metric.compute().item() == pytest.approx(expected)

    metric.persistent(True)
    torch.save(metric.state_dict(), tmp_path / "metric.pt")
    restored = make()
    restored.persistent(True)
    restored.load_state_dict(torch.load(tmp_path / "metric.pt", weights_only=True))
    restored._update_count = 1  # torchmetrics warns of compute() before update(); the state came from the file
    assert restored.compute().item() == pytest.approx(expected)

    metric.reset()
    for update in updates:
        metric.update(*update)
    assert metric.compute().item() == pytest.approx(expected)
    assert not make().state_dict()


@pytest.mark.parametrize(("make", "updates", "expected"), CASES)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_metric_classes_without_data_are_nan(make, updates, expected):
    assert make().compute().isnan()


def test_curve_metrics_take_several_measurements_at_once():
    metric = AreaUnderLearningCurve()
    metric.update(torch.tensor([10, 20, 40]), torch.tensor([0.5, 0.7, 0.9]))
    assert metric.compute().item() == pytest.approx(11 / 15)
    metric.update(30, 0.8)
    with pytest.raises(ConfigurationError, match="not to decrease"):
        metric.compute()
