"""Counting and smoothing against naive code, and toys whose best predictor is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dnagrinder.errors import ConfigError
from dnagrinder.evaluation import baselines as module
from dnagrinder.evaluation.baselines import (
    DISCOUNTS,
    STRENGTHS,
    Smoothing,
    baselines,
    best_smoothing,
    chain,
    count_contexts,
    count_words,
    set_apart,
    word_codes,
)
from dnagrinder.evaluation.sites import FLANK


def draw(seed: int, n: int) -> np.ndarray:
    """Random base codes of uneven composition."""
    return np.random.default_rng(seed).choice(4, n, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)


def strands(runs: list[np.ndarray]) -> list[list[int]]:
    """Every run and its other strand as lists."""
    return [s.tolist() for run in runs for s in (run, 3 - run[::-1])]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7, 16])
def test_word_codes_are_base_four_numbers(k: int) -> None:
    bases = draw(1, 40)
    expected = [sum(int(b) * 4 ** (k - 1 - i) for i, b in enumerate(bases[s : s + k])) for s in range(40 - k + 1)]
    assert word_codes(bases, k).tolist() == expected


@pytest.mark.parametrize("at_once", [7, 1000])
def test_words_are_counted_on_both_strands_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    runs = [draw(2, 50), draw(3, 2), draw(4, 31)]
    naive = Counter(tuple(s[i : i + 3]) for s in strands(runs) for i in range(len(s) - 2))
    table = count_words(runs, 3)
    for code in range(64):
        assert table[code] == naive[code // 16, code // 4 % 4, code % 4]


@pytest.mark.parametrize(("order", "flank"), [(5, 1), (3, 2), (9, 2), (4, 2)])
@pytest.mark.parametrize("at_once", [11, 10_000])
def test_contexts_are_those_of_a_naive_count(monkeypatch: pytest.MonkeyPatch, order: int, flank: int, at_once: int) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    runs = [draw(5, 400), draw(6, 5), draw(7, 90)]
    windows = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(draw(5, 60), 2 * FLANK + 1), [draw(8, 2 * FLANK + 1)]]
    )
    left, both = count_contexts(runs, windows, order=order, flank=flank)
    assert left.shape == (order + 1, len(windows), 4)
    assert both.shape == (flank + 1, len(windows), 4)
    word = 2 * flank + 1
    for row, window in enumerate(windows.tolist()):
        for k in range(order + 1):
            size = word if k < word else order + 1
            expected = [0] * 4
            for s in strands(runs):
                for end in range(size - 1, len(s)):
                    if s[end - k : end] == window[FLANK - k : FLANK]:
                        expected[s[end]] += 1
            assert left[k, row].tolist() == expected, f"order {k}"
        for j in range(flank + 1):
            expected = [0] * 4
            for s in strands(runs):
                for at in range(flank, len(s) - flank):
                    here = s[at - j : at], s[at + 1 : at + 1 + j]
                    if here == (window[FLANK - j : FLANK], window[FLANK + 1 : FLANK + 1 + j]):
                        expected[s[at]] += 1
            assert both[j, row].tolist() == expected, f"flank {j}"


def test_a_chain_interpolates_as_the_formula_says() -> None:
    counts = np.array([[[3, 1, 0, 0]], [[2, 0, 0, 0]]])
    first, second = chain(counts, [Smoothing(4.0, 0.0), Smoothing(1.0, 0.5)])
    assert first[0].tolist() == [(3 + 1) / 8, (1 + 1) / 8, 1 / 8, 1 / 8]
    reserved = 1.0 + 0.5 * 1
    np.testing.assert_allclose(second[0], (np.array([1.5, 0, 0, 0]) + reserved * first[0]) / 3)
    assert second[0].sum() == pytest.approx(1)


def test_every_step_is_a_distribution_and_the_best_of_the_grid() -> None:
    generator = np.random.default_rng(9)
    counts, truth = generator.integers(0, 5, (2, 200, 4)), generator.integers(0, 4, 200)
    steps = best_smoothing(counts, truth)
    for probabilities in chain(counts, steps):
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)

    def loss(step: Smoothing) -> float:
        return -np.log(chain(counts, [steps[0], step])[1][np.arange(200), truth]).mean()

    assert loss(steps[1]) == min(loss(Smoothing(s, d)) for s in STRENGTHS for d in DISCOUNTS)


def test_what_is_set_apart_is_not_counted() -> None:
    stretches = [np.random.default_rng(n).integers(0, 4, 120_000).astype(np.uint8) for n in range(2)]
    runs, windows = set_apart(stretches, np.random.default_rng(1))
    assert windows.shape[1] == 2 * FLANK + 1
    counted = b"|".join(run.tobytes() for run in runs)
    assert not any(window.tobytes() in counted for window in windows)
    apart = 240_000 - sum(run.size for run in runs)
    assert 0 < apart <= module.PIECES * module.SHORTEST_PIECE


def test_unknown_bases_end_a_run() -> None:
    stretch = draw(3, 30_000)
    stretch[::1000] = 4
    runs, windows = set_apart([stretch], np.random.default_rng(1))
    assert all((run < 4).all() for run in runs)
    assert windows.size
    assert (windows < 4).all()


def test_too_little_training_sequence_is_said() -> None:
    with pytest.raises(ConfigError, match="no stretch of training sequence is 500 bases long"):
        set_apart([draw(1, 300)], np.random.default_rng(1))


def middle_of_its_neighbours(pairs: int, seed: int) -> np.ndarray:
    """Random bases between which each other base is the sum of its two neighbours modulo 4: known from both sides only."""
    even = np.random.default_rng(seed).integers(0, 4, pairs + 1)
    bases = np.empty(2 * pairs + 1, dtype=np.uint8)
    bases[0::2] = even
    bases[1::2] = (even[:-1] + even[1:]) % 4
    return bases


def test_two_sides_win_where_only_both_together_know() -> None:
    training = np.frombuffer(b"ACGT", dtype=np.uint8)[middle_of_its_neighbours(300_000, 1)]
    test = middle_of_its_neighbours(2_000, 2)
    odd = np.lib.stride_tricks.sliding_window_view(test, 2 * FLANK + 1)[1 - FLANK % 2 :: 2]
    found = baselines([training], odd, 1)
    truth = odd[:, FLANK]
    nats = {name: -values[np.arange(truth.size), truth].mean() for name, values in found.log_probs.items()}
    assert nats["two_sided"] < 0.1
    assert nats["order11"] > 1.3
    assert nats["uniform"] == pytest.approx(np.log(4))


def test_long_contexts_win_where_sequence_recurs() -> None:
    motif = np.random.default_rng(3).integers(0, 4, 3000)
    generator = np.random.default_rng(4)
    noisy = [np.where(generator.random(3000) < 0.02, generator.integers(0, 4, 3000), motif) for _ in range(40)]
    test = np.lib.stride_tricks.sliding_window_view(noisy[0].astype(np.uint8), 2 * FLANK + 1)
    training = np.frombuffer(b"ACGT", dtype=np.uint8)[np.concatenate(noisy[1:])]
    found = baselines([training], test, 1)
    nats = {name: -v[np.arange(len(test)), test[:, FLANK]].mean() for name, v in found.log_probs.items()}
    assert nats["order16"] < nats["order5"] < nats["order0"]
    assert nats["order16"] < 0.6
