import numpy as np
import pytest
from scipy import stats

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.statistics import (
    Interval,
    early_half,
    max_t_quantile,
    mean_interval,
    mean_intervals,
    simultaneous_lower_band,
)


def test_the_t_interval_is_that_of_a_calculation_by_hand():
    mean, low, high = mean_intervals([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    half = 4.30265273 / np.sqrt(3)  # t at .975 with 2 degrees of freedom; the deviation is 1
    np.testing.assert_allclose((mean[0], low[0], high[0]), (2, 2 - half, 2 + half), rtol=1e-8)
    assert (mean[1], low[1], high[1]) == (5, 5, 5)


def test_paired_differences_have_the_interval_of_the_paired_t_test():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(7), generator.random(7)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.9)
    found = mean_interval(ours - theirs, 0.9)
    np.testing.assert_allclose((found.low, found.high), (expected.low, expected.high), rtol=1e-10)
    assert found.margin == pytest.approx((expected.high - expected.low) / 2)


def test_one_seed_has_no_interval():
    found = mean_interval([0.5])
    assert found.mean == 0.5
    assert np.isnan([found.low, found.high]).all()
    assert not found.excludes_zero
    assert np.isnan(simultaneous_lower_band([[0.5, 0.6]])).all()
    assert [Interval(0.1, low, 0.2).excludes_zero for low in (0.05, -0.05)] == [True, False]


def test_the_quantile_of_the_maximum_knows_its_limits():
    one = stats.t.ppf(0.95, 9)
    assert max_t_quantile(np.ones((1, 6)), 9) == pytest.approx(one, rel=0.02)  # six times the same variable
    independent = stats.norm.ppf(0.95 ** (1 / 6))
    assert max_t_quantile(np.eye(6), 1_000_000) == pytest.approx(independent, rel=0.02)
    assert one < max_t_quantile(np.eye(6), 9) < stats.t.ppf(1 - 0.05 / 6, 9) * 1.02  # Bonferroni
    assert max_t_quantile(np.eye(3), 4) == max_t_quantile(np.eye(3), 4)


def test_the_band_lies_below_the_one_sided_bound_of_each_count():
    differences = np.random.default_rng(1).normal(0.1, 0.05, (10, 8))
    differences[:, 0] = 0.0
    differences[:, 1] = 0.3  # whose mean and deviation round
    band = simultaneous_lower_band(differences)
    assert band[0] == 0
    assert band[1] == pytest.approx(0.3)
    error = differences[:, 2:].std(axis=0, ddof=1) / np.sqrt(10)
    ratios = (differences[:, 2:].mean(axis=0) - band[2:]) / error
    np.testing.assert_allclose(ratios, ratios[0])  # one critical value for all counts
    assert stats.t.ppf(0.95, 9) < ratios[0] < stats.t.ppf(1 - 0.05 / 6, 9) * 1.02


def test_the_band_holds_as_often_as_it_says():
    generator = np.random.default_rng(2)
    held = [(simultaneous_lower_band(generator.standard_normal((12, 5)), 0.8) <= 0).all() for _ in range(40)]
    assert 0.62 < np.mean(held) < 0.95


def test_halves_meet_at_the_middle_of_the_labels():
    assert early_half(np.arange(10, 180, 10)).sum() == 9  # 10 to 90
    assert early_half([10]).tolist() == [True]
    assert early_half([100, 200, 1000]).tolist() == [True, True, False]


@pytest.mark.parametrize("values", [[], [[0.1], [np.nan]], [np.inf], np.zeros((2, 2, 2))])
def test_values_that_are_none_are_refused(values):
    with pytest.raises(ConfigurationError, match="finite numbers, one row per seed"):
        mean_intervals(values)


def test_a_confidence_is_a_probability():
    with pytest.raises(ConfigurationError, match="argument `confidence`"):
        simultaneous_lower_band([[0.1], [0.2]], 95)
