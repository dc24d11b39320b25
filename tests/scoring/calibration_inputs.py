"""Scored, labelled VCFs made up for the tests of the calibration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

HEADER = """\
##fileformat=VCFv4.2
##contig=<ID=chr1>
##contig=<ID=chr2>
##INFO=<ID=CLNSIG,Number=.,Type=String,Description="Clinical significance">
##INFO=<ID=CLNREVSTAT,Number=.,Type=String,Description="Review status">
##INFO=<ID=GENEINFO,Number=1,Type=String,Description="Genes">
##INFO=<ID=MC,Number=.,Type=String,Description="Consequence">
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">
##INFO=<ID=TRUTH,Number=1,Type=String,Description="Label">
##INFO=<ID=DG_SCORE,Number=A,Type=Float,Description="Score">
##dnagrinder=<Version=0.1.0,Checkpoint={checkpoint},CheckpointSha256={weights},TokenizerSha256=t0,\
ReferenceSha256=r0,ParametersSha256=p0>
#CHROM	POS	ID	REF	ALT	QUAL	FILTER	INFO
"""
EXPERT = "CLNREVSTAT=reviewed_by_expert_panel"


def write_scored(path: Path, rows: Iterable[str], checkpoint: str = "mini", weights: str = "w0") -> Path:
    """A scored VCF; each row is ``CONTIG POS REF ALT INFO``."""
    lines = ["\t".join((c, p, ".", r, a, ".", ".", i)) for c, p, r, a, i in (row.split() for row in rows)]
    path.write_text(HEADER.format(checkpoint=checkpoint, weights=weights) + "".join(f"{line}\n" for line in lines))
    return path


def separated(
    variants: int, genes: int = 8, distance: float = 3.0, seed: int = 1, term: str = "missense_variant", first: int = 1
) -> list[str]:
    """Rows of ``variants`` pathogenic changes with scores N(-distance, 1) and as many benign ones with N(0, 1), from POS
    ``first`` on."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(2 * variants):
        pathogenic = number % 2
        score = generator.normal(-distance * pathogenic, 1)
        info = f"CLNSIG={'Pathogenic' if pathogenic else 'Likely_benign'};{EXPERT};DG_SCORE={score:.6g}"
        info += f";GENEINFO=GENE{number // 2 % genes}:1|OTHER:2;MC=SO:1|{term}"
        rows.append(f"chr{1 + number % 2} {first + number} A C {info}")
    return rows
