"""Scores of a lattice have no embedding distance: every output says so and none breaks."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dnagrinder.reports.cohort import write_cohort_report
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.reports.tables import build_sample_tables
from dnagrinder.reports.vcf import annotate_vcf
from dnagrinder.scoring.tables import read_parquet, write_parquet
from tests.reports.conftest import PROVENANCE, SAMPLES, Cohort
from tests.reports.test_sample import Reader


@pytest.fixture(scope="module")
def scores(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The cohort's score tables as a lattice would have made them."""
    paths = []
    for path in cohort.callset.scores:
        table = read_parquet(path)
        is_snv = pc.equal(table["method"], "snv_marginal")
        for name in ("cosine_distance", "l2_distance"):
            values = pc.if_else(is_snv, pa.scalar(None, pa.float64()), table[name])
            table = table.set_column(table.schema.get_field_index(name), name, values)
        methods = pc.if_else(is_snv, "snv_lattice", table["method"])
        paths.append(tmp_path_factory.mktemp("scores") / path.name)
        write_parquet(table.set_column(table.schema.get_field_index("method"), "method", methods), paths[-1], PROVENANCE)
    return paths


def test_the_vcf_has_a_dot(cohort: Cohort, scores: list[Path], tmp_path: Path) -> None:
    callset = cohort.callset
    annotate_vcf(
        callset.vcf,
        tmp_path / "out.vcf.gz",
        alleles=callset.alleles,
        ledger=callset.ledger,
        scores=scores,
        provenance=PROVENANCE,
        tool_version="0",
    )
    seen = set()
    for line in gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()).decode().splitlines():
        if not line.startswith("#"):
            ref, alt, info = (line.split("\t")[column] for column in (3, 4, 7))
            fields = dict(field.partition("=")[::2] for field in info.strip().split(";"))
            if fields["DG_SCORE"] != "." and "," not in alt:
                is_snv = len(ref) == len(alt) == 1
                assert (fields["DG_COS"] == ".") == (fields["DG_L2"] == ".") == is_snv
                seen.add(is_snv)
    assert seen == {True, False}


def test_tables_have_nothing_and_pages_a_dash(
    cohort: Cohort, scores: list[Path], tmp_path: Path, card: dict[str, Any]
) -> None:
    callset = cohort.callset
    build_sample_tables(
        dict.fromkeys(SAMPLES),
        callset="trio",
        alleles=callset.alleles,
        ledger=callset.ledger,
        genotypes=callset.genotypes,
        summary=callset.summary,
        scores=scores,
        out_dir=tmp_path,
    )
    folders = [tmp_path / sample for sample in SAMPLES]
    head, *rows = [line.split("\t") for line in (folders[0] / "scores.tsv").read_text().splitlines()]
    kind, cosine = head.index("kind"), head.index("cosine_distance")
    assert all((row[cosine] == "") == (row[kind] == "snv") for row in rows)
    write_sample_report(folders[0], folders[0] / "report.html", card=card)
    table = Reader((folders[0] / "report.html").read_text()).rows["snvs"]
    column = table[0].index("Cosine dist.")
    assert {row[column] for row in table[1:]} == {"–"}
    write_cohort_report(folders, tmp_path / "cohort.html", scores=tmp_path / "cohort.parquet", card=card)
    unknown = read_parquet(tmp_path / "cohort.parquet", filters=[("kind", "==", "snv")])["cosine_distance"]
    assert unknown.null_count == len(unknown) > 0
