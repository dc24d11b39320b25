"""What the page says in short of the input's annotations."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dnagrinder.reports.brief import called_pathogenic, in_short
from dnagrinder.scoring.tables import write_parquet


@pytest.mark.parametrize(
    ("significance", "expected"),
    [
        ("Pathogenic", True), ("Likely_pathogenic", True), ("Pathogenic/Likely_pathogenic|_risk_factor", True),
        ("benign&likely_pathogenic", True), ("Pathogenic|Likely_benign", True), ("Benign", False),
        ("Conflicting_classifications_of_pathogenicity", False),
        ("5", True), ("4", True), ("5,255,2", True), ("2|5", True), ("3/4", True),
        ("0,0", False), ("1", False), ("2", False), ("3", False), ("6", False), ("7", False), ("255", False), ("2|3", False),
    ],
)  # fmt: skip
def test_words_and_old_codes_of_clinvar_are_told_apart(significance: str, expected: bool) -> None:
    assert called_pathogenic(significance) is expected


def test_alleles_that_the_input_calls_pathogenic_are_counted(tmp_path: Path) -> None:
    stated = ["Pathogenic", "5|2", "4", "255", "3", None]
    columns = {name: pa.nulls(len(stated), pa.string()) for name in ("gene", "consequence", "af")}
    write_parquet(pa.table({**columns, "clinical_significance": stated}), tmp_path / "scores.parquet")
    summary = {"scored": 6, "from_store": 0, "alleles_in": 6, "rejected": 0}
    said = dict(in_short(summary, tmp_path / "scores.parquet", [], []))["Annotations in the input"]
    assert "a clinical significance for 5" in said
    assert "The input calls 3 of them pathogenic or likely pathogenic" in said
