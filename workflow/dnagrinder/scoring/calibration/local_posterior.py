"""Local posterior probability of pathogenicity over a score, and the thresholds it gives (Pejaver et al. 2022).

Around every score the smallest window is taken that holds enough labelled variants and enough of the background; the share
of pathogenic ones in it, benign ones weighted so that the whole sample has the prior, is the posterior at that score.

Scores here point upwards: the higher, the more pathogenic. They are whole numbers of the method's increment ("cells"), so
windows, ties and thresholds are exact integer arithmetic, and a bootstrap sample is one multinomial draw over cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError
from dnagrinder.scoring.calibration.evidence import LEVELS, ODDS, PRIOR, Criterion, Level

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

MOST_CELLS = 100_000
CURVE_POINTS = 40
INTERVAL = (0.025, 0.975)
_BATCH = 1 << 18  # values of a batch of bootstrap samples; a few MB an array


@dataclass(frozen=True)
class Method:
    """Parameters of the method; the defaults are the published ones, but for increment and draws.

    Attributes:
        prior, odds: share of pathogenic variants, and odds of very strong evidence that go with it.
        points: labelled variants that a window must hold.
        share: share of the background that a window must hold.
        increment: step of scores, thresholds and half-windows; in nats for DG_SCORE.
        draws: bootstrap samples.
        discount: one-sided risk that a threshold is too lenient.
        seed: of the bootstrap.
    """

    prior: float = PRIOR
    odds: float = ODDS
    points: int = 100
    share: float = 0.03
    increment: float = 0.01
    draws: int = 1000
    discount: float = 0.05
    seed: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.prior < 0.5:
            problems.append(f"prior must lie between 0 and 0.5, found {self.prior}")
        if not self.odds > 1:
            problems.append(f"odds must be above 1, found {self.odds}")
        if self.points < 1:
            problems.append(f"points must be at least 1, found {self.points}")
        if not 0 <= self.share < 1:
            problems.append(f"share must lie in [0, 1), found {self.share}")
        if not 0 < self.increment < float("inf"):
            problems.append(f"increment must be above 0, found {self.increment}")
        if not 100 <= self.draws <= 100_000:
            problems.append(f"draws must lie between 100 and 100,000, found {self.draws}")
        if not 0 < self.discount < 0.5:
            problems.append(f"discount must lie between 0 and 0.5, found {self.discount}")
        if self.seed < 0:
            problems.append(f"seed must be 0 or more, found {self.seed}")
        if problems:
            raise ConfigError("calibration method", problems)

    def cells(self, scores: Values) -> Counts:
        """Scores as whole numbers of the increment, the nearest each."""
        return np.rint(scores / self.increment).astype(np.int64)

    def cell(self, score: float) -> int:
        """One score as a whole number of the increment."""
        return round(score / self.increment)

    def resolves(self, level: Level) -> bool:
        """Whether windows can show the level's likelihood ratio.

        A window of n variants without a single one of the other label shows a ratio of about n and no more: with 100,
        very strong evidence (1,124) looks the same as a ratio of 100.
        """
        ratio = level.likelihood_ratio(self.odds)
        return max(ratio, 1 / ratio) <= self.points

    def value(self, cell: float) -> float:
        """The score of a cell, without the noise of floating point."""
        return float(round(cell * self.increment, 10)) + 0.0


@dataclass(frozen=True)
class Threshold:
    """Where a level begins; scores point upwards.

    Attributes:
        level: strength and criterion.
        estimate: on the data themselves; None where the most extreme score misses the level.
        bound: one-sided bound over bootstrap samples, the one to use; None: the level is not met.
        low, high: 95 % interval over the samples; None where it is open (samples that miss the level).
        missed: share of samples that miss the level.
    """

    level: Level
    estimate: float | None
    bound: float | None
    low: float | None
    high: float | None
    missed: float


@dataclass(frozen=True)
class CurvePoint:
    """Posterior probability of pathogenicity at a score, with its 95 % bootstrap interval."""

    score: float
    posterior: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """Thresholds of all levels, in the order of LEVELS, and the curve they come from, ascending."""

    thresholds: tuple[Threshold, ...]
    curve: tuple[CurvePoint, ...]


def fit(pathogenic: Values, benign: Values, background: Values, method: Method) -> Fit:
    """Measure the thresholds of all levels on scores that point upwards.

    Args:
        pathogenic, benign: scores of labelled variants, (n,) each, finite.
        background: scores of variants as they come, (m,), finite; their density widens windows where few variants lie.

    Raises:
        ConfigError: fewer labelled variants than a window needs, none of one label, no background, or so fine an
            increment that the scores span more than MOST_CELLS of it.
    """
    labelled = pathogenic.size + benign.size
    if labelled < method.points or not pathogenic.size or not benign.size or not background.size:
        raise ConfigError(
            f"calibration: {pathogenic.size} pathogenic, {benign.size} benign and {background.size} background variants; "
            f"both labels, a background and {method.points} labelled variants are needed"
        )
    everything = np.concatenate([pathogenic, benign, background])
    ends = method.cells(np.array([np.floor(everything.min()), np.ceil(everything.max())]))
    first, size = int(ends[0]), int(ends[1] - ends[0]) + 1
    if size > MOST_CELLS:
        raise ConfigError(f"calibration: the scores span {size:,} increments of {method.increment:g}; take a larger one")
    counts = np.stack(
        [np.bincount(method.cells(scores) - first, minlength=size) for scores in (pathogenic, benign, background)]
    )  # (3, cells)
    thresholds = np.union1d(np.flatnonzero(counts.sum(axis=0)), [0, size - 1])  # (T,) ascending
    weight = (1 - method.prior) * pathogenic.size / (benign.size * method.prior)
    observed = local_posteriors(counts[:, np.newaxis], thresholds, weight, method)  # (1, T)
    shown = np.unique(np.searchsorted(thresholds, np.linspace(0, size - 1, CURVE_POINTS)))  # evenly over the scores
    found, curves = [], []
    for samples in bootstrap(counts, method, thresholds.size):
        drawn = local_posteriors(samples, thresholds, weight, method)
        found.append(level_thresholds(drawn, thresholds, method))
        curves.append(drawn[:, shown])
    estimates = level_thresholds(observed, thresholds, method)[0]
    draws = np.concatenate(found)  # (draws, levels)
    low, high = np.quantile(np.concatenate(curves), INTERVAL, axis=0)
    return Fit(
        tuple(
            _summary(level, estimate + first, column + first, method)
            for level, estimate, column in zip(LEVELS, estimates, draws.T, strict=True)
        ),
        tuple(
            CurvePoint(method.value(cell), *map(float, values))
            for cell, *values in zip((thresholds[shown] + first).tolist(), observed[0, shown], low, high, strict=True)
        ),
    )


def local_posteriors(counts: Counts, thresholds: Counts, weight: float, method: Method) -> Values:
    """Posterior probability of pathogenicity at ``thresholds``, (samples, T).

    ``counts`` are variants a cell, (3, samples, cells): pathogenic, benign, background. A benign one counts ``weight``.

    A window reaches k cells to both sides, both ends included. k is the smallest whole number for which the window holds
    f * points labelled variants and f * share of the background, f being the part of the window that lies within the
    cells' range (above its end or, failing that, below its start).
    """
    _, samples, size = counts.shape
    p, b, g = np.concatenate([np.zeros((3, samples, 1), dtype=np.int64), np.cumsum(counts, axis=2)], axis=2)
    labelled, wanted = p + b, method.share * g[:, -1:]  # (samples, cells + 1), (samples, 1)
    above = size - 1 - thresholds  # cells above each threshold; as many as its own number lie below

    def enough(k: Counts) -> NDArray[np.bool_]:
        whole = np.where(k == 0, 1, 2 * k)  # f = part / whole; a window of the score alone has f = 1
        part = np.where(k > above, above + k, np.where(k > thresholds, thresholds + k, whole))
        counted, scattered = (_within(sums, thresholds, k, size) for sums in (labelled, g))
        result: NDArray[np.bool_] = (counted * whole >= method.points * part) & (scattered * whole >= wanted * part)
        return result

    lowest = np.zeros((samples, thresholds.size), dtype=np.int64)
    highest = np.full_like(lowest, size)  # a window over everything is always enough
    while np.any(lowest < highest):
        middle = (lowest + highest) // 2
        good = enough(middle)
        highest = np.where(good, middle, highest)
        lowest = np.where(good, lowest, np.minimum(middle + 1, highest))
    positives, negatives = (_within(sums, thresholds, highest, size) for sums in (p, b))
    return positives / (positives + weight * negatives)


def level_thresholds(posteriors: Values, thresholds: Counts, method: Method) -> Values:
    """The cell at which each of LEVELS begins, (samples, levels), NaN where it is not met.

    From the extreme score inwards the posterior has to reach the level without a break; the last score before it first
    falls short is the threshold. ``posteriors`` are (samples, T) at ascending ``thresholds``.
    """
    columns = []
    for level in LEVELS:
        is_pp3 = level.criterion is Criterion.PP3
        inwards = posteriors[:, ::-1] if is_pp3 else 1 - posteriors
        cells = thresholds[::-1] if is_pp3 else thresholds
        short = inwards < level.posterior(method.prior, method.odds)
        first = np.argmax(short, axis=1)  # 0 also where it never falls short, which no weighted sample can
        columns.append(np.where(first > 0, cells[first - 1], np.nan))
    return np.stack(columns, axis=1)


def discounted(draws: Values, upwards: bool, discount: float) -> float | None:
    """One-sided bound of a level's thresholds over bootstrap samples, (draws,), NaN where a sample misses the level.

    With k misses among B samples: None where k > discount * B, else element floor(discount * B) - k + 1 of the others,
    the most stringent first. ``upwards``: higher is more stringent (PP3).
    """
    met = np.sort(draws[np.isfinite(draws)])
    allowed = int(np.floor(discount * draws.size + 1e-9))
    missed = draws.size - met.size
    if missed > allowed:
        return None
    place = allowed - missed
    return float(met[-1 - place] if upwards else met[place])


def bootstrap(counts: Counts, method: Method, thresholds: int) -> Iterator[Counts]:
    """Batches of bootstrap samples of ``counts``, (3, cells) -> (3, samples, cells), drawn with replacement.

    Labelled variants are drawn with their labels, the background apart; ``thresholds`` sizes the batches.
    """
    generator = np.random.default_rng(method.seed)
    size = counts.shape[1]
    batch = max(1, _BATCH // max(size, thresholds))
    for start in range(0, method.draws, batch):
        samples = min(batch, method.draws - start)
        labelled = _resampled(generator, counts[:2].reshape(-1), samples).reshape(samples, 2, size)
        background = _resampled(generator, counts[2], samples)
        yield np.stack([labelled[:, 0], labelled[:, 1], background])


def _resampled(generator: np.random.Generator, counts: Counts, samples: int) -> Counts:
    filled = np.flatnonzero(counts)
    total = int(counts.sum())
    drawn = np.zeros((samples, counts.size), dtype=np.int64)
    drawn[:, filled] = generator.multinomial(total, counts[filled] / total, samples)
    return drawn


def _within(sums: Counts, thresholds: Counts, k: Counts, size: int) -> Counts:
    """Number in cells [t - k, t + k], (samples, T)."""
    upper = np.take_along_axis(sums, np.minimum(thresholds + k, size - 1) + 1, axis=1)
    lower = np.take_along_axis(sums, np.maximum(thresholds - k, 0), axis=1)
    return upper - lower


def _summary(level: Level, estimate: float, draws: Values, method: Method) -> Threshold:
    upwards = level.criterion is Criterion.PP3
    bound = discounted(draws, upwards, method.discount)
    extreme = np.where(np.isfinite(draws), draws, np.inf if upwards else -np.inf)
    low, high = np.quantile(extreme, INTERVAL, method="inverted_cdf").tolist()

    def value(cell: float | None) -> float | None:
        return method.value(cell) if cell is not None and np.isfinite(cell) else None

    return Threshold(level, value(estimate), value(bound), value(low), value(high), float(np.isnan(draws).mean()))
