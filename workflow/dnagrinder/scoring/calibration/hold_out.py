"""Do thresholds hold for genes they were not measured on? Folds of genes, and likelihood ratios seen in those held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dnagrinder.scoring.calibration.evidence import BY_CODE, INDETERMINATE

FOLDS = 5
_NORMAL_95 = 1.959964  # two-sided quantile of the normal distribution


@dataclass(frozen=True)
class HeldOut:
    """Held-out variants that got one code: numbers with each label."""

    code: str
    pathogenic: int
    benign: int


@dataclass(frozen=True)
class HoldOut:
    """Result over all folds.

    Attributes:
        folds: number of groups of genes, each judged by thresholds measured on the others.
        rows: the codes that came up, strongest PP3 first.
        without: labelled variants whose fold left too few others to calibrate on, or that name no gene.
    """

    folds: int
    rows: tuple[HeldOut, ...]
    without: int

    def ratio(self, row: HeldOut) -> tuple[float, float, float]:
        """Likelihood ratio of a code among held-out variants, with its 95 % interval (Simel et al. 1991).

        Half a variant is added to every count, so that empty ones have a ratio too.
        """
        p, b = (row.pathogenic + 0.5, row.benign + 0.5)
        all_p, all_b = (sum(getattr(one, name) for one in self.rows) + 1.0 for name in ("pathogenic", "benign"))
        log_ratio = math.log(p / all_p) - math.log(b / all_b)
        half = _NORMAL_95 * math.sqrt(1 / p - 1 / all_p + 1 / b - 1 / all_b)
        return math.exp(log_ratio), math.exp(log_ratio - half), math.exp(log_ratio + half)


def gene_folds(genes: Sequence[str], folds: int = FOLDS) -> dict[str, int]:
    """A fold for every gene, as even in variants as whole genes allow: the largest first, each to the emptiest fold."""
    filled = [0] * folds
    places = {}
    for gene, size in sorted(Counter(genes).items(), key=lambda item: (-item[1], item[0])):
        places[gene] = min(range(folds), key=lambda fold: (filled[fold], fold))
        filled[places[gene]] += size
    return places


def rows_of(codes: Sequence[str], labels: Sequence[bool]) -> tuple[HeldOut, ...]:
    """Counts of every code that came up, strongest PP3 first, strongest BP4 last."""
    counts = Counter(zip(codes, labels, strict=True))
    points = {INDETERMINATE: 0, **{code: level.points for code, level in BY_CODE.items()}}
    found = sorted({code for code, _ in counts}, key=lambda code: -points[code])
    return tuple(HeldOut(code, counts[code, True], counts[code, False]) for code in found)
