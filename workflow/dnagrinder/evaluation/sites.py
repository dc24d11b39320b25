"""Held-out bases and windows: drawn from known sequence, refused where anything was trained on. 0-based half-open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.evaluation.statistics import block_ids
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.scoring.snv import Site
from dnagrinder.training.evaluation_plan import Track

FLANK = 16  # known bases kept on both sides of a base, for the baselines
SURROUNDINGS = 256  # bases on both sides that must be known and lie inside the interval
DRAWS = 1000  # tries for one window before the interval is said to hold none
CODE = np.full(256, 4, dtype=np.uint8)  # 4 = not a known base
for _index, _base in enumerate(b"ACGT"):
    CODE[_base] = CODE[_base + 32] = _index

Place = tuple[str, int, int]  # contig, start, end


@dataclass(frozen=True)
class TrainingStretch:
    """Sequence that was trained on; ``bases`` is (length,) uint8 ASCII."""

    contig: str
    start: int
    bases: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class Bases:
    """Reference bases to be predicted.

    Attributes:
        sites: where they lie.
        windows: (n, 2 FLANK + 1) uint8, base codes 0-3 around and at each.
        gc: (n,) float64, share of G and C among the surrounding bases.
        repeat: (n,) int8, 1 inside a repeat, 0 outside, -1 where repeats are not known.
    """

    sites: tuple[Site, ...]
    windows: NDArray[np.uint8]
    gc: NDArray[np.float64]
    repeat: NDArray[np.int8]

    @property
    def truth(self) -> NDArray[np.int64]:
        """(n,) code of the reference base."""
        return self.windows[:, FLANK].astype(np.int64)

    @property
    def blocks(self) -> NDArray[np.int64]:
        """(n,) number of the bootstrap block of each base."""
        return block_ids([site.contig for site in self.sites], np.array([site.start for site in self.sites], dtype=np.int64))


class RepeatMask:
    """Which bases of some intervals lie in repeats."""

    def __init__(self, masks: dict[Place, NDArray[np.bool_]]) -> None:
        self._masks = masks

    @classmethod
    def of_track(cls, track: Track, reference: ReferenceGenome) -> RepeatMask | None:
        """The track's mask from its BED or soft-masked FASTA; None where it names neither.

        Raises:
            InputError: a file that cannot be read, or a FASTA without any lower-case base in the intervals.
        """
        if track.repeats is None:
            return None
        if track.repeats.name.removesuffix(".gz").endswith(".bed"):
            return cls(_bed_masks(track.repeats, track.places, reference))
        with ReferenceGenome.open(track.repeats) as masked:
            masks = {place: _lower_case(masked.fetch_masked(*place)) for place in track.places}
        if not any(mask.any() for mask in masks.values()):
            raise InputError(
                f"repeats of track {track.name}: {track.repeats} has no lower-case base in the held-out intervals"
            )
        return cls(masks)

    def inside(self, contig: str, start: int, end: int) -> NDArray[np.bool_]:
        """(end - start,) whether each base of a stretch, which lies within one of the intervals, is in a repeat."""
        for (name, first, last), mask in self._masks.items():
            if name == contig and first <= start and end <= last:
                return mask[start - first : end - first]
        raise ValueError(f"{contig}:{start}-{end} lies in none of the intervals")


def refuse_training_bases(places: Iterable[Place], training: Iterable[TrainingStretch]) -> None:
    """Raise ConfigError where an interval that bases are drawn from overlaps with sequence that was trained on."""
    wanted = list(places)
    problems = []
    for stretch in training:
        end = stretch.start + stretch.bases.size
        problems += [
            f"{contig}:{max(first, stretch.start)}-{min(last, end)}"
            for contig, first, last in wanted
            if contig == stretch.contig and first < end and stretch.start < last
        ]
    if problems:
        raise ConfigError(
            "evaluation: bases that the corpus trains on would be measured; name them as held_out of their source", problems
        )


def draw_places(
    reference: ReferenceGenome, places: Sequence[Place], width: int, generator: np.random.Generator, *, known: float = 1.0
) -> Iterator[Place]:
    """Random windows of ``width`` bases within the intervals, without end, repeats possible.

    Args:
        known: least share of known bases in a window.

    Raises:
        InputError: no interval holds such a window (``DRAWS`` tries).
    """
    room = np.array([max(0, end - start - width + 1) for _, start, end in places], dtype=float)
    while room.any():
        for _ in range(DRAWS):
            contig, start, end = places[generator.choice(len(places), p=room / room.sum())]
            first = int(generator.integers(start, end - width + 1))
            if reference.fetch(contig, first, first + width).count("N") <= (1 - known) * width:
                yield contig, first, first + width
                break
        else:
            break
    raise InputError(f"{reference.path.name}: no window of {width:,} known bases found in the held-out intervals")


def draw_sites(
    reference: ReferenceGenome, places: Sequence[Place], count: int, generator: np.random.Generator
) -> list[Site]:
    """``count`` different random bases with known surroundings, sorted."""
    found: set[tuple[str, int]] = set()
    windows = draw_places(reference, places, 2 * SURROUNDINGS + 1, generator)
    for _, (contig, start, _) in zip(range(count * DRAWS), windows, strict=False):
        found.add((contig, start + SURROUNDINGS))
        if len(found) == count:
            return [Site(contig, start) for contig, start in sorted(found)]
    raise InputError(
        f"{reference.path.name}: the held-out intervals have fewer than {count:,} bases with known surroundings"
    )


def describe(reference: ReferenceGenome, sites: Sequence[Site], mask: RepeatMask | None = None) -> Bases:
    """The sites with what stands around them."""
    windows = np.empty((len(sites), 2 * FLANK + 1), dtype=np.uint8)
    gc = np.empty(len(sites))
    repeat = np.full(len(sites), -1, dtype=np.int8)
    for row, site in enumerate(sites):
        text = reference.fetch(site.contig, site.start - SURROUNDINGS, site.start + SURROUNDINGS + 1)
        codes = CODE[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]
        windows[row] = codes[SURROUNDINGS - FLANK : SURROUNDINGS + FLANK + 1]
        gc[row] = np.isin(codes, (1, 2)).mean()
        if mask is not None:
            repeat[row] = mask.inside(site.contig, site.start, site.start + 1)[0]
    return Bases(tuple(sites), windows, gc, repeat)


def joined(parts: Sequence[Bases]) -> Bases:
    """Several sets one after another."""
    return Bases(
        tuple(site for part in parts for site in part.sites),
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.gc for part in parts]),
        np.concatenate([part.repeat for part in parts]),
    )


def _lower_case(text: str) -> NDArray[np.bool_]:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8) >= ord("a")


def _bed_masks(bed: Path, places: Sequence[Place], reference: ReferenceGenome) -> dict[Place, NDArray[np.bool_]]:
    regions = read_bed(bed, reference).accepted
    masks = {}
    for contig, first, last in places:
        mask = np.zeros(last - first, dtype=bool)
        rows = regions[(regions["contig"] == contig) & (regions["start"] < last) & (regions["end"] > first)]
        for start, end in zip(rows["start"].tolist(), rows["end"].tolist(), strict=True):
            mask[max(0, start - first) : end - first] = True
        masks[contig, first, last] = mask
    return masks
