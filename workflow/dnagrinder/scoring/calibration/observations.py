"""Variants to calibrate on: read from a VCF that ``dnagrinder score-variants`` wrote, with labels in its INFO column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.annotations import Annotator
from dnagrinder.genome.files import file_sha256
from dnagrinder.genome.records import Record, info_fields
from dnagrinder.genome.vcf import VcfFile
from dnagrinder.scoring.calibration.classes import consequence_class
from dnagrinder.scoring.calibration.neutral import NeutralCorrection
from dnagrinder.scoring.calibration.origin import ScoreOrigin

SCORE, ORIGIN = "DG_SCORE", "dnagrinder"  # INFO field and header line of our annotated VCF
SIGNIFICANCE, REVIEW = "CLNSIG", "CLNREVSTAT"
#: Labels in lower case -> pathogenic or not. Numbers are none of them: ClinVar's own old codes mean other things by them.
LABELS = {
    **dict.fromkeys(("pathogenic", "likely_pathogenic", "pathogenic/likely_pathogenic", "p", "lp", "p/lp"), True),
    **dict.fromkeys(("benign", "likely_benign", "benign/likely_benign", "b", "lb", "b/lb"), False),
}
FREQUENCIES = ("AF", "AF_TGP", "AF_EXAC", "AF_ESP")
#: Stars of ClinVar's review status; what is not listed has none.
STARS = {
    "practice_guideline": 4,
    "reviewed_by_expert_panel": 3,
    "criteria_provided,_multiple_submitters,_no_conflicts": 2,
    "criteria_provided,_single_submitter": 1,
    "criteria_provided,_conflicting_classifications": 1,
}


class Fate(StrEnum):
    """What became of a record of the input; FATES says it to people."""

    PATHOGENIC = "pathogenic"
    BENIGN = "benign"
    UNLABELLED = "unlabelled"
    FEW_STARS = "few_stars"
    FREQUENT = "frequent"
    NOT_SNV = "not_snv"
    NOT_SCORED = "not_scored"
    MULTIALLELIC = "multiallelic"
    DUPLICATE = "duplicate"
    NO_CONTEXT = "no_context"


FATES = {
    Fate.PATHOGENIC: "labelled pathogenic or likely pathogenic",
    Fate.BENIGN: "labelled benign or likely benign",
    Fate.UNLABELLED: "uncertain, conflicting or without label: background only",
    Fate.FEW_STARS: "label with too few review stars: background only",
    Fate.FREQUENT: "too frequent in the population: left out",
    Fate.NOT_SNV: "no single-base change, scored by another method: left out",
    Fate.NOT_SCORED: "without a score: left out",
    Fate.MULTIALLELIC: "several ALTs in one record, whose labels cannot be told apart: left out",
    Fate.DUPLICATE: "the same change met before: left out",
    Fate.NO_CONTEXT: "beside a contig's end or an unknown base, so without a neutral mean: left out",
}
KEPT = frozenset({Fate.PATHOGENIC, Fate.BENIGN, Fate.UNLABELLED, Fate.FEW_STARS})


@dataclass(frozen=True)
class LabelRules:
    """Which labels count.

    Attributes:
        tag: INFO field of the labels; CLNSIG is ClinVar's; None for files without labels, whose variants are background.
        min_stars: least number of ClinVar's review stars; only for CLNSIG.
        max_frequency: variants above this frequency (any of AF, AF_TGP, AF_EXAC, AF_ESP) are left out.
    """

    tag: str | None = SIGNIFICANCE
    min_stars: int = 1
    max_frequency: float = 0.01

    def __post_init__(self) -> None:
        problems = []
        if self.tag is not None and (not self.tag or any(mark in self.tag for mark in " ;=,")):
            problems.append(f"labels: {self.tag!r} is no name of an INFO field")
        if not 0 <= self.min_stars <= 4:
            problems.append(f"min-stars must lie between 0 and 4, found {self.min_stars}")
        if not 0 < self.max_frequency <= 1:
            problems.append(f"max-frequency must lie above 0 and at most at 1, found {self.max_frequency}")
        if problems:
            raise ConfigError("labels of the calibration", problems)

    @classmethod
    def of_option(cls, labels: str, min_stars: int, max_frequency: float) -> LabelRules:
        """From ``clinvar`` or ``info:TAG``. Raises ConfigError."""
        kind, _, tag = labels.partition(":")
        if labels != "clinvar" and kind != "info":
            raise ConfigError(f"--labels is clinvar or info:TAG, found {labels!r}")
        return cls(SIGNIFICANCE if labels == "clinvar" else tag, min_stars, max_frequency)

    @property
    def counts_stars(self) -> bool:
        """Whether review stars matter."""
        return self.tag == SIGNIFICANCE and self.min_stars > 0


@dataclass(frozen=True, slots=True)
class Observation:
    """A scored single-base change; ``start`` is 0-based, ``pathogenic`` None where it has no label that counts."""

    contig: str
    start: int
    ref: str
    alt: str
    score: float
    pathogenic: bool | None
    gene: str | None
    group: str  # consequence class


@dataclass(frozen=True)
class ScoredVcf:
    """A scored VCF as read: file, origin of its scores, variants in file order, and the fate of every record."""

    name: str
    sha256: str
    origin: ScoreOrigin
    observations: tuple[Observation, ...]
    fates: Mapping[Fate, int]


def read_scored(path: Path, rules: LabelRules, correction: NeutralCorrection | None = None) -> ScoredVcf:
    """Read a scored VCF; ``correction`` is subtracted from the scores.

    Raises:
        InputError: no VCF, not written by ``dnagrinder score-variants``, or without the labels' INFO field.
        BuildMismatchError: with ``correction``, a REF that differs from its reference.
        ConfigError: stars are asked for and the file states none.
    """
    path = Path(path)
    observations = []
    fates = dict.fromkeys(Fate, 0)
    seen: set[tuple[str, int, str]] = set()
    with VcfFile(path, samples=()) as vcf:
        line = vcf.header_line(ORIGIN)
        if line is None or not vcf.declares(SCORE):
            raise InputError(f"VCF {path} holds no scores of ours; run first: dnagrinder score-variants {path.name} ...")
        if rules.tag and not vcf.declares(rules.tag):
            raise InputError(f"VCF {path} has no INFO/{rules.tag}, which holds the labels (option --labels)")
        if rules.counts_stars and not vcf.declares(REVIEW):
            raise ConfigError(f"VCF {path} has no INFO/{REVIEW}, so review stars are unknown; say --min-stars 0")
        for record in vcf.records():
            info = info_fields(record.info)
            fate = _fate(record, info, rules)
            if fate in KEPT:
                one = _observation(record, info, fate, vcf.annotator)
                key = (one.contig, one.start, one.alt)
                shift = correction.shift(one.contig, one.start, one.ref, one.alt) if correction else 0.0
                if key in seen:
                    fate = Fate.DUPLICATE
                elif shift is None:
                    fate = Fate.NO_CONTEXT
                else:
                    observations.append(replace(one, score=one.score - shift))
                seen.add(key)
            fates[fate] += 1
    return ScoredVcf(path.name, file_sha256(path), ScoreOrigin.of_header(line), tuple(observations), fates)


def _observation(record: Record, info: Mapping[str, str], fate: Fate, annotator: Annotator) -> Observation:
    note = annotator.read(info, record.position, record.ref, record.alts, 0)
    return Observation(
        record.contig,
        record.position - 1,
        record.ref.upper(),
        record.alts[0].upper(),
        float(info[SCORE]),
        {Fate.PATHOGENIC: True, Fate.BENIGN: False}.get(fate),
        note.gene.split(",")[0] if note.gene else None,
        consequence_class(note.consequence),
    )


def _fate(record: Record, info: Mapping[str, str], rules: LabelRules) -> Fate:
    if len(record.alts) > 1:
        return Fate.MULTIALLELIC
    if len(record.ref) != 1 or not record.alts or record.alts[0].upper() not in tuple("ACGT"):
        return Fate.NOT_SNV
    if _number(info.get(SCORE)) is None:
        return Fate.NOT_SCORED
    if any((_number(info.get(tag)) or 0.0) > rules.max_frequency for tag in FREQUENCIES):
        return Fate.FREQUENT
    label = LABELS.get(info.get(rules.tag, "").lower()) if rules.tag else None
    if label is None:
        return Fate.UNLABELLED
    if rules.counts_stars and STARS.get(info.get(REVIEW, ""), 0) < rules.min_stars:
        return Fate.FEW_STARS
    return Fate.PATHOGENIC if label else Fate.BENIGN


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
