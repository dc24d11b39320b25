"""A calibration applied to scored alleles, within its scope and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dnagrinder.errors import ConfigError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.scoring.calibration.classes import consequence_class
from dnagrinder.scoring.calibration.evidence import Evidence, no_calibration
from dnagrinder.scoring.calibration.file import Calibration, judge
from dnagrinder.scoring.calibration.neutral import NeutralCorrection
from dnagrinder.scoring.calibration.origin import ScoreOrigin, plain_contig


@dataclass(frozen=True)
class Judge:
    """Gives alleles of scores of one origin their evidence.

    ``origin`` is that of the scores to judge. ``reference`` is needed where the calibration corrects for neutral context.

    Raises:
        ConfigError: the reference is needed and not given.
    """

    calibration: Calibration
    origin: ScoreOrigin
    reference: ReferenceGenome | None = None

    def __post_init__(self) -> None:
        if self.calibration.neutral and self.reference is None:
            raise ConfigError("the calibration corrects for neutral context: the reference is needed, give --reference")

    @property
    def mismatch(self) -> str | None:
        """What makes the calibration unfit for all these scores (another checkpoint, say), or None."""
        return self.origin.difference(self.calibration.origin)

    @property
    def correction(self) -> NeutralCorrection | None:
        """The correction for neutral context that the calibration asks for."""
        if self.calibration.neutral is None or self.reference is None:
            return None
        return NeutralCorrection(self.calibration.neutral, self.reference)

    def evidence(self, allele: Allele, consequence: str | None, score: float | None) -> Evidence:
        """Level and points, indeterminate with 0 points, or ``no_calibration:`` with the first reason that holds.

        Reasons: checkpoint, tokenizer, reference, parameters (the scores have another origin); not_snv; not_scored; class
        (the consequence's class is not calibrated); contig (the class was not calibrated on this contig); context (neutral
        context unknown).
        """
        if self.mismatch:
            return no_calibration(self.mismatch)
        if allele.kind != "snv":
            return no_calibration("not_snv")
        if score is None or not math.isfinite(score):
            return no_calibration("not_scored")
        found = self.calibration.of_class(consequence_class(consequence))
        if found is None:
            return no_calibration("class")
        if plain_contig(allele.contig) not in found.contigs:
            return no_calibration("contig")
        correction = self.correction
        shift = correction.shift(allele.contig, allele.start, allele.ref, allele.alt) if correction else 0.0
        if shift is None:
            return no_calibration("context")
        return judge(found.thresholds, score - shift, self.calibration.method)
