"""Evidence of a calibration in the annotated VCF."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pysam
import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.reports.tables import build_sample_tables, read_summary
from dnagrinder.reports.vcf import annotate_vcf
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.calibrate import calibrate
from dnagrinder.scoring.calibration.file import Calibration, write_calibration
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.observations import LabelRules, read_scored
from dnagrinder.scoring.calibration.origin import ScoreOrigin
from dnagrinder.scoring.tables import read_parquet, table_alleles
from tests.reports.conftest import PROVENANCE, Cohort
from tests.scoring.calibration_inputs import separated, write_scored

ORIGIN = ScoreOrigin.of_provenance(PROVENANCE)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """A calibration of scores that another checkpoint made."""
    vcf = write_scored(tmp_path_factory.mktemp("calibration") / "in.vcf", separated(300))
    return calibrate(read_scored(vcf, LabelRules()), LabelRules(), Method(draws=100))


@pytest.fixture(scope="module")
def fitting(foreign: Calibration) -> Calibration:
    """One whose scope holds the cohort's missense variants."""
    contigs = tuple(sorted({*foreign.classes[0].contigs, "20"}))
    return replace(foreign, origin=ORIGIN, classes=(replace(foreign.classes[0], contigs=contigs),))


def test_annotated_vcfs_carry_evidence(tmp_path: Path, cohort: Cohort, fitting: Calibration, foreign: Calibration) -> None:
    """Every ALT gets a code; alleles outside the scope say why; another checkpoint's scores get none at all."""
    callset = cohort.callset
    seen = {}
    for name, one in (("fitting", fitting), ("foreign", foreign)):
        out = tmp_path / f"{name}.vcf.gz"
        annotate_vcf(
            callset.vcf,
            out,
            alleles=callset.alleles,
            ledger=callset.ledger,
            scores=callset.scores,
            provenance=PROVENANCE,
            tool_version="0.1.0",
            judge=Judge(one, ORIGIN),
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


def sample_folder(cohort: Cohort, out: Path, calibration: Calibration) -> Path:
    """The child's tables, judged."""
    callset = cohort.callset
    build_sample_tables(
        {"child": None},
        callset="trio",
        alleles=callset.alleles,
        ledger=callset.ledger,
        genotypes=callset.genotypes,
        summary=callset.summary,
        scores=callset.scores,
        out_dir=out,
        judge=Judge(calibration, ORIGIN),
    )
    return out / "child"


def test_tables_and_page_state_evidence(tmp_path: Path, cohort: Cohort, card: dict[str, Any], fitting: Calibration) -> None:
    """Each row as the rule says; the page counts what the table holds and shows evidence beside the top variants."""
    folder = sample_folder(cohort, tmp_path, fitting)
    table = read_parquet(folder / "scores.parquet")
    judge = Judge(fitting, ORIGIN)
    rows = zip(table_alleles(table), table["consequence"].to_pylist(), table["score"].to_pylist(), strict=True)
    given = [judge.evidence(*row) for row in rows]
    assert table["evidence"].to_pylist() == [one.code for one in given]
    assert table["points"].to_pylist() == [one.points for one in given]
    counts = Counter(one.code for one in given)
    summary = read_summary(folder)
    assert summary["alleles_by_evidence"] == dict(sorted(counts.items()))
    assert summary["calibration"] == {"sha256": fitting.digest, "mismatch": None}
    levels = {code for code in counts if code.startswith(("PP3", "BP4"))}
    assert levels
    write_sample_report(folder, tmp_path / "report.html", card=card)
    page = (tmp_path / "report.html").read_text()
    assert f"<code>{fitting.digest[:12]}</code>" in page
    for code, times in counts.items():
        assert re.search(rf'<code>{code}</code></th><td class="n">{times}</td>', page), code
    assert any(f'<code class="nowrap">{code}</code>' in page for code in counts)


def test_a_foreign_calibration_is_said_to_say_nothing(
    tmp_path: Path, cohort: Cohort, card: dict[str, Any], foreign: Calibration
) -> None:
    folder = sample_folder(cohort, tmp_path, foreign)
    assert set(read_parquet(folder / "scores.parquet")["evidence"].to_pylist()) == {"no_calibration:checkpoint"}
    write_sample_report(folder, tmp_path / "report.html", card=card)
    assert "made for another checkpoint: it says nothing of these scores" in (tmp_path / "report.html").read_text()


def test_without_a_calibration_nothing_is_stated(tmp_path: Path, cohort: Cohort, card: dict[str, Any]) -> None:
    folder = cohort.root / "samples" / "child"
    assert "evidence" not in read_parquet(folder / "scores.parquet").column_names
    write_sample_report(folder, tmp_path / "report.html", card=card)
    assert "Evidence by calibration" not in (tmp_path / "report.html").read_text()


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
