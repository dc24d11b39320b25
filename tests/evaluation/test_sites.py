"""Held-out bases lie where they should, are described as they stand, and never in training sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.evaluation.sites import (
    FLANK,
    SURROUNDINGS,
    RepeatMask,
    TrainingStretch,
    describe,
    draw_places,
    draw_sites,
    joined,
    refuse_training_bases,
)
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.scoring.snv import Site
from dnagrinder.training.evaluation_plan import Track
from tests.evaluation.conftest import LENGTH, REPEAT, TRAINED

HELD_OUT = [("1", TRAINED, 63_000), ("1", 73_000, LENGTH)]


def test_sites_are_different_known_and_inside(reference: ReferenceGenome) -> None:
    sites = draw_sites(reference, HELD_OUT, 500, np.random.default_rng(1))
    assert len(set(sites)) == 500
    assert sites == sorted(sites, key=lambda site: site.start)
    for site in sites:
        first, last = site.start - SURROUNDINGS, site.start + SURROUNDINGS + 1
        assert any(start <= first and last <= end for _, start, end in HELD_OUT)
        assert "N" not in reference.fetch("1", first, last)
    assert sites == draw_sites(reference, HELD_OUT, 500, np.random.default_rng(1))
    assert sites != draw_sites(reference, HELD_OUT, 500, np.random.default_rng(2))


def test_windows_fill_their_interval_to_its_ends(reference: ReferenceGenome) -> None:
    drawn = draw_places(reference, [("1", TRAINED, TRAINED + 102)], 100, np.random.default_rng(1))
    starts = {next(drawn)[1] for _ in range(50)}
    assert starts == {TRAINED, TRAINED + 1, TRAINED + 2}


def test_no_known_window_is_an_error_that_ends(reference: ReferenceGenome) -> None:
    with pytest.raises(InputError, match="no window of 100 known bases"):
        next(draw_places(reference, [("1", 75_050, 75_180)], 100, np.random.default_rng(1)))
    with pytest.raises(InputError, match="no window of 500 known bases"):
        next(draw_places(reference, [("1", 61_000, 61_100)], 500, np.random.default_rng(1)))
    with pytest.raises(InputError, match="fewer than 50 bases"):
        draw_sites(reference, [("1", 61_000, 61_000 + 2 * SURROUNDINGS + 20)], 50, np.random.default_rng(1))


def test_bases_are_described_as_they_stand(reference: ReferenceGenome, sequence: str) -> None:
    bases = describe(reference, [Site("1", 61_000), Site("1", 62_000)])
    for row, start in enumerate((61_000, 62_000)):
        assert ["ACGT"[code] for code in bases.windows[row]] == list(sequence[start - FLANK : start + FLANK + 1])
        around = sequence[start - SURROUNDINGS : start + SURROUNDINGS + 1]
        assert bases.gc[row] == pytest.approx((around.count("G") + around.count("C")) / len(around))
        assert "ACGT"[bases.truth[row]] == sequence[start]
    assert bases.repeat.tolist() == [-1, -1]
    both = joined([bases, bases])
    assert len(both.sites) == len(both.windows) == len(both.gc) == len(both.repeat) == 4


def test_repeats_from_soft_mask_and_bed_agree(reference: ReferenceGenome, fasta: Path, tmp_path: Path) -> None:
    bed = tmp_path / "repeats.bed"
    bed.write_text(f"1\t{REPEAT[0]}\t66500\n1\t66500\t{REPEAT[1]}\n1\t0\t10\n")
    sites = [Site("1", start) for start in (REPEAT[0] - 1, REPEAT[0], REPEAT[1] - 1, REPEAT[1])]
    for repeats in (fasta, bed):
        mask = RepeatMask.of_track(Track("x", fasta, (f"1:{TRAINED}-{LENGTH}",), repeats), reference)
        assert mask is not None
        assert describe(reference, sites, mask).repeat.tolist() == [0, 1, 1, 0]
        assert mask.inside("1", TRAINED, LENGTH).sum() == REPEAT[1] - REPEAT[0]
        with pytest.raises(ValueError, match="lies in none"):
            mask.inside("1", 0, 10)
    assert RepeatMask.of_track(Track("x", fasta, (f"1:{TRAINED}-{LENGTH}",)), reference) is None
    with pytest.raises(InputError, match="no lower-case base"):
        RepeatMask.of_track(Track("x", fasta, (f"1:72000-{LENGTH}",), fasta), reference)


@pytest.mark.parametrize(
    ("start", "size", "refused"),
    [(50_000, 10_000, False), (50_000, 10_001, True), (62_999, 10, True), (63_000, 10_000, False), (61_000, 5, True)],
)
def test_training_bases_are_never_evaluated(start: int, size: int, refused: bool) -> None:
    training = [
        TrainingStretch("1", start, np.zeros(size, dtype=np.uint8)),
        TrainingStretch("2", 0, np.zeros(10**5, np.uint8)),
    ]
    if refused:
        with pytest.raises(ConfigError, match=rf"bases that the corpus trains on.*1:{max(start, TRAINED)}-"):
            refuse_training_bases(HELD_OUT, training)
    else:
        refuse_training_bases(HELD_OUT, training)
