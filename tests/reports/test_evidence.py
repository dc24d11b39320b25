"""Evidence of a calibration in the annotated VCF."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pysam
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.reports.vcf import annotate_vcf
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.calibrate import calibrate
from dnagrinder.scoring.calibration.file import write_calibration
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.observations import LabelRules, read_scored
from dnagrinder.scoring.calibration.origin import ScoreOrigin
from tests.reports.conftest import PROVENANCE, Cohort
from tests.scoring.calibration_inputs import separated, write_scored


def test_annotated_vcfs_carry_evidence(tmp_path: Path, cohort: Cohort) -> None:
    """Every ALT gets a code; alleles outside the scope say why; another checkpoint's scores get none at all."""
    scored = read_scored(write_scored(tmp_path / "in.vcf", separated(300)), LabelRules())
    calibration = calibrate(scored, LabelRules(), Method(draws=100))
    contigs = tuple(sorted({*calibration.classes[0].contigs, "20"}))
    origin = ScoreOrigin.of_provenance(PROVENANCE)
    fitting = replace(calibration, origin=origin, classes=(replace(calibration.classes[0], contigs=contigs),))
    callset = cohort.callset
    seen = {}
    for name, one in (("fitting", fitting), ("foreign", calibration)):
        out = tmp_path / f"{name}.vcf.gz"
        annotate_vcf(
            callset.vcf,
            out,
            alleles=callset.alleles,
            ledger=callset.ledger,
            scores=callset.scores,
            provenance=PROVENANCE,
            tool_version="0.1.0",
            judge=Judge(one, origin),
        )
        with pysam.VariantFile(str(out)) as vcf:
            assert f"##dnagrinder_calibration=<Sha256={one.digest}" in str(vcf.header)
            seen[name] = [
                pair
                for record in vcf
                if record.alts
                for pair in zip(record.info["DG_EVIDENCE"], record.info["DG_POINTS"], strict=True)
            ]
    codes = {code for code, _ in seen["fitting"]}
    assert {"no_calibration:class", "no_calibration:not_scored"} <= codes
    assert codes & {"indeterminate", "PP3_Supporting", "PP3_Moderate", "PP3_Strong", "BP4_Supporting", "BP4_Moderate"}
    assert all((points is None) == code.startswith("no_calibration") for code, points in seen["fitting"])
    assert {code for code, _ in seen["foreign"]} == {"no_calibration:checkpoint", "no_calibration:not_scored"}


def test_the_command_takes_a_calibration(tmp_path: Path, cohort: Cohort) -> None:
    """A second run without it takes the evidence of the first away again."""
    scored = read_scored(write_scored(tmp_path / "in.vcf", separated(100)), LabelRules())
    write_calibration(calibrate(scored, LabelRules(), Method(draws=100)), tmp_path / "c.json")
    callset, first, second = cohort.callset, tmp_path / "first.vcf.gz", tmp_path / "second.vcf.gz"
    tables = [*map(str, callset.scores), "--alleles", str(callset.alleles), "--ledger", str(callset.ledger)]
    options = ["--out", str(first), "--calibration", str(tmp_path / "c.json")]
    result = CliRunner().invoke(app, ["annotate", str(callset.vcf), *tables, *options])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, ["annotate", str(first), *tables, "--out", str(second)]).exit_code == 0
    texts = []
    for path in (first, second):
        with pysam.VariantFile(str(path)) as vcf:
            texts.append(str(vcf.header) + "".join(map(str, vcf)))
    assert 'Applied="no: another checkpoint"' in texts[0]
    assert "DG_EVIDENCE=no_calibration:" in texts[0]
    assert "DG_EVIDENCE" not in texts[1]
    assert "dnagrinder_calibration" not in texts[1]
