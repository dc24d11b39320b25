"""Estimates against their plainest definition."""

from __future__ import annotations

import numpy as np
import pytest

from dnagrinder.evaluation.statistics import (
    BLOCK,
    auroc,
    block_ids,
    calibration_error,
    mean,
    paired_auroc,
    ratio,
    reliability,
)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positives = generator.integers(0, 6, 23) / 2.0  # ties within and between
    negatives = generator.integers(-1, 5, 17) / 2.0
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    assert auroc(positives, negatives) == pytest.approx(np.mean(pairs))


def test_interval_of_an_auroc_holds_it_and_narrows_with_more_pairs() -> None:
    generator = np.random.default_rng(1)
    positives, negatives = generator.normal(0.5, 1, 2000), generator.normal(0, 1, 2000)
    few, many = (paired_auroc(positives[:n], negatives[:n], 3) for n in (100, 2000))
    for estimate in (few, many):
        assert estimate.low < estimate.value < estimate.high
    assert (few.high - few.low) == pytest.approx(np.sqrt(20) * (many.high - many.low), rel=0.3)
    assert many.low < 0.638 < many.high, "Φ(0.5/√2)"


def test_mean_of_independent_bases_has_the_textbook_interval() -> None:
    values = np.random.default_rng(2).normal(1, 2, 4000)
    estimate = mean(values, np.arange(4000), 1)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * 2 / np.sqrt(4000), rel=0.1)


def test_bases_that_repeat_their_block_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(1, 2, 100)
    once, again = mean(values, np.arange(100), 1), mean(np.repeat(values, 50), np.repeat(np.arange(100), 50), 1)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    assert ratio(np.array([1.0, 9.0]), np.array([1.0, 3.0]), np.array([0, 0]), 1).value == 10 / 4


def test_blocks_are_stretches_of_one_contig() -> None:
    starts = np.array([0, BLOCK - 1, BLOCK, 0], dtype=np.int64)
    blocks = block_ids(["1", "1", "1", "2"], starts)
    assert blocks[0] == blocks[1]
    assert len(set(blocks.tolist())) == 3


def test_reliability_of_a_model_that_knows_its_uncertainty() -> None:
    generator = np.random.default_rng(4)
    probabilities = generator.dirichlet(np.ones(4), 40_000)
    truth = (generator.random((40_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    bins = reliability(probabilities, truth)
    assert sum(one.predictions for one in bins) == 160_000
    assert calibration_error(bins) < 0.01
    sure = reliability(np.tile([1.0, 0, 0, 0], (10, 1)), np.array([0, 1] * 5))
    assert [(one.predicted, one.observed) for one in sure] == [(0, pytest.approx(1 / 6)), (1, 0.5)]
    assert calibration_error(sure) == pytest.approx((30 / 6 + 10 / 2) / 40)
