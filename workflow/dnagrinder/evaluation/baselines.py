"""The yardsticks of a DNA model: left-context Markov models and a two-sided k-mer model, smoothed as well as we can.

Each is a chain of contexts that grow by one step: the k bases to the left (k = 0, 1, ...), or j bases on both sides
(j = 0, 1, ...). With c the counts of the four bases in a context, n their sum and u how many of them were seen at all,

    p_k(b) = (max(c_b - d_k, 0) + (s_k + d_k u) p_(k-1)(b)) / (n + s_k),       p_(-1) = 1/4

which is the interpolation of the hierarchical Pitman-Yor process (Teh 2006); d = 0 gives the usual pseudo-counts. Strength
s_k and discount d_k of every step are those with the least cross-entropy on pieces of the *training* sequence that were set
apart and not counted; the evaluated bases decide nothing. Counts are of both strands.

Words of up to ``2 flank + 1`` bases are counted in one table. Longer contexts are too many for a table; only those that
are asked for are counted, in a second pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError
from dnagrinder.evaluation.sites import CODE, FLANK

ORDERS = (0, 5, 11, 16)
TWO_SIDED = 6  # bases on each side; the table of words takes 4^13 entries, 270 MB
PIECES, BASES_A_SITE = 40, 100  # set apart for the smoothing: pieces so long that a local repeat is not counted elsewhere
SHORTEST_PIECE, LONGEST_PIECE, APART_SHARE = 500, 50_000, 0.02  # bases, bases, share of the training sequence
AT_ONCE = 16_000_000  # bases counted at a time
STRENGTHS = (0.25, 1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
DISCOUNTS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95)

Codes = NDArray[np.uint8]
Counts = NDArray[np.int64]  # (levels, n, 4)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Smoothing:
    """Parameters of one step of a chain."""

    strength: float
    discount: float


@dataclass(frozen=True)
class Baselines:
    """Predictions of bases by models that were trained on the same sequence.

    Attributes:
        log_probs: for every model (n, 4) natural logs; ``uniform``, ``order0`` ... ``order16``, ``two_sided``.
        smoothing: the chosen parameters, for ``left`` and ``two_sided``, one a context length.
        counted_bases: training bases that were counted, each on both strands.
    """

    log_probs: dict[str, Values]
    smoothing: dict[str, tuple[Smoothing, ...]]
    counted_bases: int


def baselines(stretches: Sequence[NDArray[np.uint8]], windows: Codes, seed: int) -> Baselines:
    """Train on ``stretches`` (uint8 ASCII) and predict the middle base of every row of ``windows``.

    Args:
        windows: (n, 2 FLANK + 1) uint8 base codes 0-3.
        seed: decides which pieces are set apart.

    Raises:
        ConfigError: no stretch is long enough to set a piece apart.
    """
    runs, tuning = set_apart([CODE[stretch] for stretch in stretches], np.random.default_rng(seed))
    left, both = count_contexts(runs, np.concatenate([windows, tuning]), order=max(ORDERS), flank=TWO_SIDED)
    truth = tuning[:, FLANK].astype(np.int64)
    n = len(windows)
    left_steps, both_steps = best_smoothing(left[:, n:], truth), best_smoothing(both[:, n:], truth)
    by_order, by_flank = chain(left[:, :n], left_steps), chain(both[:, :n], both_steps)
    probabilities = {f"order{order}": by_order[order] for order in ORDERS}
    probabilities = {"uniform": np.full((n, 4), 0.25), **probabilities, "two_sided": by_flank[TWO_SIDED]}
    return Baselines(
        {name: np.log(values) for name, values in probabilities.items()},
        {"left": tuple(left_steps), "two_sided": tuple(both_steps)},
        sum(run.size for run in runs),
    )


def set_apart(stretches: Sequence[Codes], generator: np.random.Generator) -> tuple[list[Codes], Codes]:
    """(runs of known bases to count, windows of random bases of the pieces between them that were set apart)."""
    total = sum(stretch.size for stretch in stretches)
    length = int(min(max(total * APART_SHARE / PIECES, SHORTEST_PIECE), LONGEST_PIECE))
    room = np.array([max(0, stretch.size - length + 1) for stretch in stretches], dtype=float)
    if not room.any():
        raise ConfigError(
            f"evaluation: no stretch of training sequence is {length:,} bases long; baselines cannot be trained"
        )
    free = [stretch < 4 for stretch in stretches]
    windows = []
    for index in generator.choice(len(stretches), PIECES, p=room / room.sum()).tolist():
        start = int(generator.integers(0, room[index]))
        free[index][start : start + length] = False
        centres = start + generator.integers(FLANK, length - FLANK, length // BASES_A_SITE)
        windows.append(stretches[index][centres[:, np.newaxis] + np.arange(-FLANK, FLANK + 1)])
    drawn = np.concatenate(windows)
    runs = [run for stretch, usable in zip(stretches, free, strict=True) for run in _runs(stretch, usable)]
    return runs, drawn[(drawn < 4).all(axis=1)]


def count_contexts(runs: Sequence[Codes], windows: Codes, *, order: int, flank: int) -> tuple[Counts, Counts]:
    """How often each base stood in the contexts of the windows' middle bases, in ``runs`` and on their other strand.

    Args:
        runs: base codes 0-3. Contexts of up to ``2 flank`` bases are counted over words of ``2 flank + 1`` bases, longer
            ones over words of ``order + 1``, so the first bases of a run count as context only.
        windows: (n, odd width) base codes 0-3.

    Returns:
        Counts in the context of k bases to the left, (order + 1, n, 4), and of j bases on both sides, (flank + 1, n, 4).
    """
    middle = windows.shape[1] // 2
    word = 2 * flank + 1
    left = np.zeros((order + 1, len(windows), 4), dtype=np.int64)
    both = np.zeros((flank + 1, len(windows), 4), dtype=np.int64)
    before = [_code(windows[:, middle - k : middle]) for k in range(order + 1)]
    table = count_words(runs, word)
    shorter = table
    for k in range(word - 1, -1, -1):  # drop the first base again and again
        if k <= order:
            left[k] = shorter.reshape(4**k, 4)[before[k]]
        shorter = shorter.reshape(4, -1).sum(axis=0)
    for j in range(flank, -1, -1):  # drop the first and the last base
        after = _code(windows[:, middle + 1 : middle + 1 + j])
        both[j] = table.reshape(4**j, 4, 4**j)[before[j], :, after]
        if j:
            table = table.reshape(4, -1, 4).sum(axis=(0, 2))
    if order >= word:
        left[word:] = _count_asked(runs, before[word:], order, before[word - 1])
    return left, both


def count_words(runs: Sequence[Codes], k: int) -> NDArray[np.int32]:
    """(4^k,) int32 counts of all words of k bases on both strands; the first base is the most significant digit."""
    table = np.zeros(4**k, dtype=np.int32)
    waiting: list[NDArray[np.uint32]] = []
    for piece in _pieces(runs, k):
        waiting.append(word_codes(piece, k))
        if sum(codes.size for codes in waiting) >= AT_ONCE:
            table += _histogram(waiting, 4**k)
            waiting = []
    table += _histogram(waiting, 4**k)
    digits = table.reshape((4,) * k)  # complement: 3 - digit; reverse: digits in the other order
    return table + np.flip(digits.transpose(range(k - 1, -1, -1))).reshape(-1)


def word_codes(bases: Codes, k: int) -> NDArray[np.uint32]:
    """(n - k + 1,) codes of all words of k <= 16 bases, made of words of 1, 2, 4, ... bases."""
    n = bases.size - k + 1
    result = np.zeros(n, dtype=np.uint32)
    part, width, done = bases.astype(np.uint32), 1, 0
    while width <= k:
        if k & width:
            result = (result << np.uint32(2 * width)) | part[done : done + n]
            done += width
        part = (part[:-width] << np.uint32(2 * width)) | part[width:]
        width *= 2
    return result


def best_smoothing(counts: Counts, truth: NDArray[np.int64]) -> list[Smoothing]:
    """For every step of a chain the parameters with the least cross-entropy on (levels, n, 4) counts, shortest first."""
    rows = np.arange(truth.size)
    lower = np.full(counts.shape[1:], 0.25)
    steps = []
    for level in counts:
        candidates = [Smoothing(strength, discount) for strength in STRENGTHS for discount in DISCOUNTS]
        losses = [-np.log(_step(level, lower, one)[rows, truth]).mean() for one in candidates]
        steps.append(candidates[int(np.argmin(losses))])
        lower = _step(level, lower, steps[-1])
    return steps


def chain(counts: Counts, steps: Sequence[Smoothing]) -> list[Values]:
    """P(base) after each step, (n, 4) each."""
    result = []
    lower = np.full(counts.shape[1:], 0.25)
    for level, step in zip(counts, steps, strict=True):
        lower = _step(level, lower, step)
        result.append(lower)
    return result


def _step(counts: NDArray[np.int64], lower: Values, step: Smoothing) -> Values:
    seen = (counts > 0).sum(axis=1, keepdims=True)
    reserved = step.strength + step.discount * seen
    total = counts.sum(axis=1, keepdims=True) + step.strength
    result: Values = (np.maximum(counts - step.discount, 0) + reserved * lower) / total
    return result


def _count_asked(
    runs: Sequence[Codes], asked: Sequence[NDArray[np.uint32]], order: int, nearest: NDArray[np.uint32]
) -> Counts:
    """Counts of the bases after the ``asked`` contexts, (levels, n, 4); the last level has ``order`` bases.

    ``nearest`` are the last bases of the same contexts: a position whose last bases are none of these is passed over.
    """
    lengths = range(order + 1 - len(asked), order + 1)
    distinct = [np.unique(codes, return_inverse=True) for codes in asked]
    found = [np.zeros(4 * values.size, dtype=np.int64) for values, _ in distinct]
    wanted = np.zeros(4 ** (lengths[0] - 1), dtype=bool)
    wanted[nearest] = True
    for piece in _pieces(runs, order + 1):
        for strand in (piece, 3 - piece[::-1]):
            contexts = word_codes(strand[:-1], order)
            near = np.flatnonzero(wanted[contexts & np.uint32(wanted.size - 1)])
            codes, following = contexts[near], strand[order:][near]
            for length, (values, _), counts in zip(lengths, distinct, found, strict=True):
                ending = codes & np.uint32(4**length - 1)
                place = np.minimum(np.searchsorted(values, ending), values.size - 1)
                hit = values[place] == ending
                counts += np.bincount(4 * place[hit] + following[hit], minlength=counts.size)
    rows = [counts.reshape(-1, 4)[inverse.reshape(-1)] for counts, (_, inverse) in zip(found, distinct, strict=True)]
    return np.stack(rows)


def _histogram(codes: Sequence[NDArray[np.uint32]], size: int) -> NDArray[np.int32]:
    joined = np.concatenate([np.empty(0, dtype=np.uint32), *codes])
    return np.bincount(joined, minlength=size).astype(np.int32)


def _code(words: Codes) -> NDArray[np.uint32]:
    """(n,) codes of the rows of ``words``, (n, k)."""
    codes = np.zeros(len(words), dtype=np.uint32)
    for column in words.T:
        codes = codes * np.uint32(4) + column
    return codes


def _runs(bases: Codes, usable: NDArray[np.bool_]) -> Iterator[Codes]:
    edges = np.flatnonzero(np.diff(usable.astype(np.int8), prepend=0, append=0))
    for start, end in zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True):
        yield bases[start:end]


def _pieces(runs: Sequence[Codes], word: int) -> Iterator[Codes]:
    """The runs in pieces that overlap so that every word lies in exactly one of them."""
    for run in runs:
        for first in range(0, run.size - word + 1, AT_ONCE):
            yield run[first : first + AT_ONCE + word - 1]
