"""Windows of the length curve: the same bases at every length, and the very quantity that scoring uses."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dnagrinder.errors import InputError
from dnagrinder.evaluation.length import SPACING, Locus, draw_loci, length_curve, length_losses, windows_of
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import Checkpoint
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.snv import Site, site_log_probs
from tests.evaluation.conftest import LENGTH, TRAINED


@pytest.mark.parametrize("seed", range(20))
def test_every_base_is_asked_once_and_far_from_the_edges(seed: int) -> None:
    rng = random.Random(seed)
    longest = rng.choice([2000, 12_000, 120_000])
    first = 5000 + 2 * longest // 5
    locus = Locus("1", 5000, 5000 + longest, tuple(range(first, first + longest // 5, SPACING)))
    for length in (64, 300, 512, 1000, longest // 3, longest):
        windows = windows_of(locus, length)
        assert [base for _, _, asked in windows for base in asked] == list(locus.masked)
        for start, end, asked in windows:
            assert end - start == length
            assert locus.start <= start
            assert end <= locus.end
            assert min(min(base - start, end - 1 - base) for base in asked) >= 3 * length // 8 - 2
        if length < 4 * SPACING:
            assert all(len(asked) == 1 for _, _, asked in windows)


def test_loci_lie_within_the_intervals_and_mask_known_bases(reference: ReferenceGenome, sequence: str) -> None:
    places = [("1", 70_000, LENGTH)]
    for locus in draw_loci(reference, places, 4000, 5, np.random.default_rng(1)):
        assert 70_000 <= locus.start < locus.end <= LENGTH
        assert locus.end - locus.start == 4000
        assert len(locus.masked) == 8
        assert all(sequence[base] != "N" for base in locus.masked)
        middle = (locus.masked[0] + locus.masked[-1]) / 2
        assert abs(middle - (locus.start + locus.end) / 2) <= SPACING
    with pytest.raises(InputError, match="no window of 1,000 known bases"):
        draw_loci(reference, [("1", 74_900, 75_950)], 1000, 1, np.random.default_rng(1))


def test_one_masked_base_has_the_loss_of_the_scoring_marginal(
    engine: Engine, checkpoint: Checkpoint, reference: ReferenceGenome, sequence: str
) -> None:
    at, tokenizer = TRAINED + 2000, checkpoint.tokenizer
    locus = Locus("1", TRAINED, TRAINED + 4000, (at,))
    for length in (64, 512, 2000):
        (found,) = length_losses(engine, tokenizer, reference, [locus], length)
        forward = site_log_probs(engine, tokenizer, reference, [Site("1", at)], ScoringParameters(window=length))[0][0]
        assert found == pytest.approx(-forward["ACGT".index(sequence[at])], abs=1e-6)


def test_neighbours_stay_masked_at_every_length(engine: Engine, checkpoint: Checkpoint, reference: ReferenceGenome) -> None:
    at = TRAINED + 2000
    alone = Locus("1", TRAINED, TRAINED + 4000, (at,))
    among = Locus("1", TRAINED, TRAINED + 4000, (at - SPACING, at, at + SPACING))
    losses = [length_losses(engine, checkpoint.tokenizer, reference, [locus], 390) for locus in (alone, among)]
    assert abs(losses[0][0] - losses[1][1]) > 1e-6, "masks at ±100 change the context"
    short = [length_losses(engine, checkpoint.tokenizer, reference, [locus], 150) for locus in (alone, among)]
    assert short[0][0] == short[1][1], "±75 holds no other mask"


def test_the_curve_compares_the_same_bases() -> None:
    loci = [Locus("1", 0, 100_000, (10, 20_000)), Locus("2", 0, 100_000, (5, 50_000))]
    values = np.array([1.0, 2.0, 3.0, 4.0])
    curve = length_curve({64: values + 0.5, 128: values}, loci, 128, 1)
    assert curve["bases"] == 4
    assert [point["nats"]["value"] for point in curve["points"]] == [3.0, 2.5]
    short = curve["points"][0]["difference"]
    assert (short["value"], short["low"], short["high"]) == (0.5, 0.5, 0.5), "paired: no spread although the bases differ"
