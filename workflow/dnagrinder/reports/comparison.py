"""A sample's scores beside those of the run's other samples and of common alleles: numbers, chart and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.reports import charts
from dnagrinder.reports.distribution import COMMON_AF, KINDS, Binned, Distribution
from dnagrinder.reports.page import number

#: Fewer common alleles of a kind give no rank among them worth reading.
COMMON_NEEDED = 100
#: A chance this near to one half is called none: it is what a shift of some hundredths of a standard deviation gives.
NO_SHIFT = 0.02
TITLES = {"snv": "Single-nucleotide variants", "other": "Insertions, deletions and other changes"}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Row:
    """Scores of one group at QUANTILES; ``below`` is the chance that one of the sample's lies below one of them."""

    label: str
    alleles: int
    quantiles: tuple[float, ...]
    below: float | None


@dataclass(frozen=True)
class Comparison:
    """One kind of alleles of a sample beside the rest.

    Attributes:
        own, others, common: the scores; ``common`` is None where the input states no allele frequency.
        words: what the numbers say.
    """

    kind: str
    own: Binned
    others: Binned
    common: Binned | None
    words: tuple[str, ...]

    @property
    def title(self) -> str:
        """Heading of the kind."""
        return TITLES[self.kind]

    def rows(self) -> list[Row]:
        """The sample, the other samples and the common alleles, those that have scores."""
        groups = [("This sample", self.own), ("Other samples of the run", self.others)]
        groups += [(f"Common alleles (AF ≥ {COMMON_AF:.0%})".replace("%", " %"), self.common)] if self.common else []
        return [
            Row(label, scores.total, _quantiles(scores), self.own.chance_below(scores) if place and self.own.total else None)
            for place, (label, scores) in enumerate(groups)
            if scores.total
        ]

    def outlines(self) -> tuple[charts.Outline, ...]:
        """What the chart draws over the sample's bars."""
        parts = [("other samples", "cohort", self.others), ("common alleles", "common", self.common)]
        return tuple(
            charts.Outline(label, style, one.centres, one.counts) for label, style, one in parts if one and one.total
        )

    def share_of_common(self, score: float) -> float | None:
        """Share of the common alleles that score as low as ``score`` or lower; None where they are too few."""
        if self.common is None or self.common.total < COMMON_NEEDED:
            return None
        return self.common.share_up_to(score)


def compare(sample: str, scores: Mapping[str, NDArray[np.float64]], run: Distribution) -> list[Comparison]:
    """``scores`` (by kind) of ``sample`` beside the rest of ``run``, for each kind that the sample has.

    Raises:
        InvariantError: the run's distribution does not hold the sample's scores.
    """
    compared = []
    for kind in KINDS:
        own = Binned.of(scores[kind])
        others = run.scores[kind].plus(own, -1)
        common = run.common[kind] if run.common else None
        if own.total:
            words = tuple(_words(sample, kind, own, others, common, run))
            compared.append(Comparison(kind, own, others, common, words))
    return compared


def _words(sample: str, kind: str, own: Binned, others: Binned, common: Binned | None, run: Distribution) -> list[str]:
    medians = {name: by_kind[kind] for name, by_kind in run.medians.items() if by_kind[kind] is not None}
    mine, rest = medians[sample], sorted(value for name, value in medians.items() if name != sample if value is not None)
    if not rest or mine is None:
        said = ["The run has no other sample to compare with."]
    else:
        place = 1 + sum(value < mine for value in rest)
        among = f"the others: {number(rest[0])} to {number(rest[-1])}" if len(rest) > 1 else f"the other: {number(rest[0])}"
        said = [
            f"Median {number(mine)}, {_place(place)} of {len(rest) + 1} samples ({among}).",
            f"Against the other samples: {_shift(own.chance_below(others))}.",
        ]
    if common is not None and common.total:
        said.append(f"Against the common alleles: {_shift(own.chance_below(common))}.")
    return said


def _shift(below: float) -> str:
    side = "no shift" if abs(below - 0.5) < NO_SHIFT else f"shifted to {'lower' if below > 0.5 else 'higher'} scores"
    return f"{side} (this sample's allele is the lower in {100 * below:.1f} % of pairs)"


def _quantiles(scores: Binned) -> tuple[float, ...]:
    return tuple(value for share in QUANTILES if (value := scores.quantile(share)) is not None)


def _place(place: int) -> str:
    """``the lowest``, ``2nd lowest``, ``11th lowest``."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th") if place % 100 not in (11, 12, 13) else "th"
    return "the lowest" if place == 1 else f"{place}{ending} lowest"
