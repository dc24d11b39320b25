"""Stretches of a genome cut into the overlapping segments that training visits (model-spec §1.3)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dnagrinder.training.corpus.sources import Stretch

SEGMENT = 12_200  # bases; the paper's
OVERLAP = 200  # bases shared with the next segment; a visit begins at a random offset in them
SHORTEST = 1_000  # bases; what is left over at the end of a stretch is a segment of its own from this length on


def segment_bounds(length: int, segment: int = SEGMENT) -> list[tuple[int, int]]:
    """[start, end) of the segments of a stretch; all but the last are ``segment`` long, none is shorter than SHORTEST."""
    bounds = []
    for start in range(0, max(1, length - OVERLAP), segment - OVERLAP):
        end = min(start + segment, length)
        if end - start >= SHORTEST:
            bounds.append((start, end))
    return bounds


def segments(stretch: Stretch, segment: int = SEGMENT) -> Iterator[Stretch]:
    """The segments of a stretch."""
    for start, end in segment_bounds(stretch.bases.size, segment):
        yield Stretch(stretch.contig, stretch.start + start, stretch.bases[start:end])


def without_repeats(stretch: Stretch) -> Stretch:
    """The stretch without its lower-case bases; one N stands for every run taken out, so that no token spans the gap.

    ``start`` stays that of the stretch; the coordinates of later bases are lost.
    """
    repeat = is_repeat(stretch.bases)
    first_of_run = repeat & ~np.concatenate([[False], repeat[:-1]])
    bases = stretch.bases.copy()
    bases[first_of_run] = ord("N")
    return Stretch(stretch.contig, stretch.start, bases[~repeat | first_of_run])


def is_repeat(bases: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(length,) bool: lower case."""
    result: NDArray[np.bool_] = bases >= ord("a")
    return result
