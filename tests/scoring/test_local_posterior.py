"""Thresholds of evidence: the published constants, the published windows, and known likelihood ratios found again."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from dnagrinder.errors import ConfigError
from dnagrinder.scoring.calibration.evidence import LEVELS
from dnagrinder.scoring.calibration.local_posterior import (
    Fit,
    Method,
    discounted,
    fit,
    level_thresholds,
    local_posteriors,
)

#: Level, likelihood ratio and posterior with prior 0.0441 and odds 1,124 (Pejaver et al. 2022).
PUBLISHED = [
    ("PP3_Supporting", 2.406, 0.0999),
    ("PP3_Moderate", 5.790, 0.2108),
    ("PP3_Strong", 33.53, 0.6073),
    ("PP3_VeryStrong", 1124, 0.9811),
    ("BP4_Supporting", 1 / 2.406, 0.98119),
    ("BP4_Moderate", 1 / 5.790, 0.99210),
    ("BP4_Strong", 1 / 33.53, 0.99863),
    ("BP4_VeryStrong", 1 / 1124, 0.99996),
]


def test_levels_are_the_published_ones() -> None:
    assert [level.code for level in LEVELS] == [code for code, _, _ in PUBLISHED]
    for level, (_, ratio, posterior) in zip(LEVELS, PUBLISHED, strict=True):
        assert level.likelihood_ratio() == pytest.approx(ratio, rel=2e-4)
        assert level.posterior() == pytest.approx(posterior, abs=5e-5)
    assert [level.points for level in LEVELS] == [1, 2, 4, 8, -1, -2, -4, -8]


def test_a_prior_of_a_tenth_has_the_ratios_often_quoted() -> None:
    assert [round(level.likelihood_ratio(350), 2) for level in LEVELS[:4]] == [2.08, 4.33, 18.71, 350]


def as_published(x, y, g, t, low, high, weight, points, share, increment):
    """The posterior at one score, as the published program finds it: the window grows by one increment at a time."""
    half = 0
    while True:
        lo, hi = t - half, t + half
        inside = (x >= lo) & (x <= hi)
        positive, negative = np.sum(inside & (y == 1)), np.sum(inside & (y == 0))
        part = (high - lo) / (hi - lo) if hi > high else (hi - low) / (hi - lo) if lo < low else 1
        near = np.sum((g >= lo) & (g <= hi))
        if positive + negative >= part * points and near >= share * part * g.size:
            return positive / (positive + weight * negative)
        half += increment


@pytest.mark.parametrize(("points", "share", "ties"), [(7, 0.0, 1), (12, 0.05, 1), (5, 0.2, 5), (40, 0.03, 3), (60, 0.9, 2)])
def test_windows_are_the_published_ones(points: int, share: float, ties: int) -> None:
    """Whole scores as cells, so that the oracle's comparisons are exact too; ``ties`` spreads scores to multiples."""
    generator = np.random.default_rng(points)
    x = generator.integers(0, 60, 60) // ties * ties
    y = (generator.random(60) < 0.3).astype(int)
    g = generator.integers(5, 55, 90) // ties * ties
    low, high = int(min(x.min(), g.min())), int(max(x.max(), g.max()))
    thresholds = np.unique(np.concatenate([x, g, [low, high]]))
    method = Method(points=points, share=share, increment=1)
    counts = np.stack([np.bincount(v - low, minlength=high - low + 1) for v in (x[y == 1], x[y == 0], g)])
    found = local_posteriors(counts[:, np.newaxis], thresholds - low, 3.5, method)[0]
    expected = [as_published(x, y, g, t, low, high, 3.5, points, share, 1) for t in thresholds]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_window_beyond_the_end_needs_fewer_variants() -> None:
    """Ten variants at each of 0 ... 4. At 2, k = 1 holds 30 >= 25. At 4, half of the window lies outside: k = 1 holds 20 of
    the 12.5 needed there; inside the range k = 0 would hold 10 of 25."""
    counts = np.full((3, 1, 5), 10)
    counts[1] = [[20, 20, 20, 0, 0]]
    counts[0] = [[0, 0, 0, 10, 10]]
    method = Method(points=25, share=0.0)
    assert local_posteriors(counts, np.array([2, 4]), 1.0, method)[0].tolist() == [10 / 50, 1.0]


def test_a_threshold_is_the_last_score_before_the_first_that_falls_short() -> None:
    cells = np.array([0, 3, 5, 9, 12])
    rows = np.array(
        [
            [0.00, 0.03, 0.30, 0.05, 0.70],  # PP3 from above: 0.70, then 0.05 falls short, whatever comes below it
            [0.00, 0.01, 0.12, 0.25, 0.20],  # the most extreme score is below Moderate although the next is not
            [0.50, 0.01, 0.00, 0.00, 0.05],  # the lowest score is not benign
        ]
    )
    found = level_thresholds(rows, cells, Method())
    expected = [
        [12, 12, 12, np.nan, 0, 0, 0, 0],
        [5, np.nan, np.nan, np.nan, 3, 0, 0, 0],
        [np.nan] * 8,
    ]
    np.testing.assert_array_equal(found, expected)


def test_the_bound_counts_misses_as_the_most_stringent() -> None:
    draws = np.arange(100, dtype=float)
    assert discounted(draws, True, 0.05) == 94  # floor(5) - 0 + 1 = the 6th from above
    assert discounted(draws, False, 0.05) == 5
    missing = draws.copy()
    missing[[10, 20, 30]] = np.nan
    assert discounted(missing, True, 0.05) == 97  # the 3rd
    missing[[40, 50]] = np.nan
    assert discounted(missing, True, 0.05) == 99  # k = 5 is still allowed
    missing[60] = np.nan
    assert discounted(missing, True, 0.05) is None


def normals(distance: float, labelled: int, crowd: int, seed: int, method: Method) -> Fit:
    """Benign scores N(0, 1), pathogenic N(distance, 1): the likelihood ratio is exp(distance * s - distance^2 / 2)."""
    generator = np.random.default_rng(seed)
    pathogenic, benign = generator.normal(distance, 1, labelled), generator.normal(0, 1, labelled)
    mixed = np.where(generator.random(crowd) < method.prior, distance, 0) + generator.normal(0, 1, crowd)
    return fit(pathogenic, benign, mixed, method)


def known(distance: float) -> list[float]:
    """Score at which each level truly begins."""
    return [(math.log(level.likelihood_ratio()) + distance**2 / 2) / distance for level in LEVELS]


def test_known_likelihood_ratios_give_their_thresholds() -> None:
    """Two million variants of each kind and windows of 100,000, so that even 1 : 1,124 can be seen in one."""
    method = Method(points=100_000, share=0.0, draws=300)
    for one, true in zip(normals(3.0, 2_000_000, 1000, 3, method).thresholds, known(3.0), strict=True):
        assert one.low is not None
        assert one.high is not None
        assert one.low - method.increment <= true <= one.high + method.increment, one
        assert one.estimate == pytest.approx(true, abs=0.1 if abs(one.level.points) == 8 else 0.02)
        assert one.missed == 0


def test_bounds_are_not_more_lenient_than_the_truth_with_published_windows() -> None:
    """2,500 variants of each kind, 12 times: levels that windows of 100 can resolve keep their promise."""
    lenient = dict.fromkeys((level.code for level in LEVELS), 0)
    for seed in range(12):
        method = Method(draws=200, seed=seed)
        for one, true in zip(normals(2.0, 2500, 5000, seed, method).thresholds, known(2.0), strict=True):
            beyond = one.bound is not None and (one.bound - true) * np.sign(one.level.points) < 0
            lenient[one.level.code] += bool(beyond)
    method = Method()
    assert [code for code, times in lenient.items() if times > 1] == ["BP4_VeryStrong"]
    assert [level.code for level in LEVELS if not method.resolves(level)] == ["PP3_VeryStrong", "BP4_VeryStrong"]


def test_scores_that_say_nothing_meet_no_level() -> None:
    found = normals(0.0, 1000, 1000, 3, Method(draws=200))
    assert [one.bound for one in found.thresholds] == [None] * 8
    assert min(one.missed for one in found.thresholds) > 0.05


def test_too_few_variants_show_no_level() -> None:
    """However well 60 and 60 separate, one window of 100 holds nearly all of them."""
    found = fit(np.full(60, 9.0), np.zeros(60), np.zeros(50), Method(points=120))
    assert [one.bound for one in found.thresholds] == [None] * 8
    with pytest.raises(ConfigError, match="60 pathogenic, 30 benign"):
        fit(np.full(60, 9.0), np.zeros(30), np.zeros(50), Method())


def test_perfect_scores_with_ties_have_their_thresholds_at_the_ties() -> None:
    found = fit(np.full(300, 4.0), np.full(300, -2.0), np.full(100, -2.0), Method(share=0.0, points=50, draws=100))
    assert [one.bound for one in found.thresholds] == [4.0] * 4 + [-2.0] * 4


def test_same_seed_same_fit() -> None:
    first, again, other = (normals(2.0, 300, 300, 1, Method(draws=100, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_a_thousand_samples_of_ten_thousand_variants_take_seconds() -> None:
    before = time.process_time()
    normals(2.0, 5000, 10_000, 1, Method())
    assert time.process_time() - before < 30


def test_an_increment_too_fine_is_refused() -> None:
    with pytest.raises(ConfigError, match="take a larger one"):
        normals(2.0, 300, 300, 1, Method(increment=1e-5, draws=100))


def test_all_faults_of_the_method_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Method(prior=0.9, odds=1, points=0, share=1, increment=math.nan, draws=1, discount=0.7, seed=-1)
    assert len(caught.value.problems) == 8


def test_the_curve_rises_from_benign_to_pathogenic() -> None:
    curve = normals(3.0, 5000, 5000, 1, Method(draws=100)).curve
    assert [point.score for point in curve] == sorted(point.score for point in curve)
    assert all(point.low <= point.high for point in curve)
    assert curve[0].posterior < 0.001
    assert curve[-1].posterior > 0.5
