"""Strengths of computational evidence (PP3, BP4) and what each demands of a score.

Bayesian form of the ACMG/AMP rules: very strong evidence multiplies the odds of pathogenicity by ``c``, a strength of p
points by c^(p/8) (Tavtigian et al. 2018, 2020). With a prior of 0.0441, c is 1124 (Pejaver et al. 2022); the often quoted
350, and its 2.08, 4.33, 18.7, belong to a prior of 0.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PRIOR = 0.0441  # share of pathogenic among the variants that PP3 and BP4 are asked about
ODDS = 1124.0  # odds of pathogenicity of very strong evidence, with this prior
VERY_STRONG_POINTS = 8
STRENGTHS = {"Supporting": 1, "Moderate": 2, "Strong": 4, "VeryStrong": VERY_STRONG_POINTS}
INDETERMINATE = "indeterminate"


class Criterion(StrEnum):
    """The two criteria of computational evidence: PP3 speaks for pathogenic, BP4 for benign."""

    PP3 = "PP3"
    BP4 = "BP4"


@dataclass(frozen=True)
class Level:
    """One strength of one criterion."""

    criterion: Criterion
    strength: str

    @property
    def code(self) -> str:
        """As ClinGen writes it: ``PP3_Strong``."""
        return f"{self.criterion}_{self.strength}"

    @property
    def points(self) -> int:
        """1, 2, 4, 8 for PP3; negative for BP4 (Tavtigian et al. 2020)."""
        return STRENGTHS[self.strength] * (1 if self.criterion is Criterion.PP3 else -1)

    def likelihood_ratio(self, odds: float = ODDS) -> float:
        """Pathogenic to benign: at least this for PP3, at most this for BP4."""
        return float(odds ** (self.points / VERY_STRONG_POINTS))

    def posterior(self, prior: float = PRIOR, odds: float = ODDS) -> float:
        """Least posterior probability of what the criterion speaks for: pathogenic for PP3, benign for BP4."""
        before = prior if self.criterion is Criterion.PP3 else 1 - prior
        ratio = odds ** (abs(self.points) / VERY_STRONG_POINTS)
        return float(ratio * before / ((ratio - 1) * before + 1))


#: Weakest first.
LEVELS = tuple(Level(criterion, strength) for criterion in Criterion for strength in STRENGTHS)
BY_CODE = {level.code: level for level in LEVELS}


@dataclass(frozen=True)
class Evidence:
    """What a score says of an allele: a level's code and points, ``indeterminate`` with 0, or why there is no calibration.

    ``points`` is None where no calibration applies; the code then is ``no_calibration:`` and the reason.
    """

    code: str
    points: int | None


def no_calibration(reason: str) -> Evidence:
    """The evidence of an allele that the calibration does not speak of."""
    return Evidence(f"no_calibration:{reason}", None)
