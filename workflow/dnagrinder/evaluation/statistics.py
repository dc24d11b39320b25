"""Estimates with intervals, AUROC and reliability: the arithmetic that every part of an evaluation shares.

Neighbouring bases share repeats and composition, so bases are resampled in blocks: a 95 % interval is the 2.5 and 97.5 %
quantile over bootstrap samples of whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLES = 1000  # bootstrap samples
BLOCK = 10_000  # bases of a block
TAILS = (0.025, 0.975)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def block_ids(names: list[str], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for every (name, start // BLOCK), (n,), from 0."""
    labels = np.array([f"{name}:{start // BLOCK}" for name, start in zip(names, starts.tolist(), strict=True)], dtype=str)
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def ratio(numerators: Values, denominators: Values, blocks: NDArray[np.int64], seed: int) -> Estimate:
    """Sum of ``numerators`` over sum of ``denominators``, (n,) each, resampled by block."""
    blocks = np.unique(blocks, return_inverse=True)[1].reshape(-1)
    sums = np.stack([np.bincount(blocks, weights=column) for column in (numerators, denominators)], axis=1)  # (blocks, 2)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), SAMPLES)  # (samples, blocks)
    above, below = (times @ sums).T
    low, high = np.quantile(above[below > 0] / below[below > 0], TAILS)
    return Estimate(float(numerators.sum() / denominators.sum()), float(low), float(high))


def mean(values: Values, blocks: NDArray[np.int64], seed: int) -> Estimate:
    """Mean of ``values``, resampled by block."""
    return ratio(values, np.ones_like(values), blocks, seed)


def auroc(positives: Values, negatives: Values) -> float:
    """Probability that a positive exceeds a negative, ties counting half (Mann and Whitney 1947)."""
    ranked = np.sort(negatives)
    below = np.searchsorted(ranked, positives, "left")
    not_above = np.searchsorted(ranked, positives, "right")
    return float((below + not_above).mean() / (2 * ranked.size))


def paired_auroc(positives: Values, negatives: Values, seed: int) -> Estimate:
    """AUROC of pairs (positives[i], negatives[i]); the bootstrap draws whole pairs."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, positives.size, (SAMPLES, positives.size))
    low, high = np.quantile([auroc(positives[draw], negatives[draw]) for draw in draws], TAILS)
    return Estimate(auroc(positives, negatives), float(low), float(high))


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar probability: their mean, how often they came true, and how many they are."""

    predicted: float
    observed: float
    predictions: int


def reliability(probabilities: Values, truth: NDArray[np.int64], bins: int = 10) -> list[ReliabilityBin]:
    """Predicted against observed frequency of all four bases, (n, 4) and (n,), in equally wide bins; empty ones left out."""
    came_true = np.zeros_like(probabilities, dtype=bool)
    came_true[np.arange(truth.size), truth] = True
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        chosen = place == number
        if chosen.any():
            found.append(
                ReliabilityBin(float(probabilities[chosen].mean()), float(came_true[chosen].mean()), int(chosen.sum()))
            )
    return found


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Mean distance between predicted and observed frequency, weighted by the number of predictions."""
    total = sum(one.predictions for one in bins)
    return sum(one.predictions * abs(one.predicted - one.observed) for one in bins) / total
