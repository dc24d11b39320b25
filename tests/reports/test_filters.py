"""Panel and frequency limits: which alleles lists hold, and that a page says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.errors import ConfigError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.findings import frequency_warnings
from dnagrinder.reports.joining import least_expected
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_parquet
from tests.reports.conftest import Cohort
from tests.reports.test_sample import Reader

ALLELES = st.lists(
    st.tuples(st.sampled_from(["1", "2"]), st.integers(0, 30), st.integers(1, 5), st.none() | st.floats(0, 1)), max_size=30
)
REGIONS = st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 30), st.integers(1, 8)), max_size=8)


def panel(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    """Regions of (contig, start, length), named by their number."""
    columns = ["contig", "start", "end", "name"]
    return pd.DataFrame([(c, start, start + long, f"G{n}") for n, (c, start, long) in enumerate(rows)], columns=columns)


@given(ALLELES, REGIONS, st.none() | st.floats(0, 1))
def test_rows_that_pass_are_those_of_the_definition(
    alleles: list[tuple], regions: list[tuple[str, int, int]], limit: float | None
) -> None:
    rows = [{"contig": c, "start": start, "ref": "A" * long, "af": af} for c, start, long, af in alleles]
    schema = pa.schema([("contig", pa.string()), ("start", pa.int64()), ("ref", pa.string()), ("af", pa.float64())])
    found = Filters(panel(regions), "p", limit).passing(pa.Table.from_pylist(rows, schema=schema))
    wanted = [
        place
        for place, (c, start, long, af) in enumerate(alleles)
        if any(c == contig and start < first + size and first < start + long for contig, first, size in regions)
        and (limit is None or af is None or af <= limit)
    ]
    assert found.tolist() == wanted


def test_genes_are_those_touched() -> None:
    limits = Filters(panel([("1", 5, 5), ("1", 8, 5), ("2", 5, 5)]), "p")
    assert limits.genes({"contig": "1", "start": 9, "ref": "A"}) == "G0,G1"
    assert limits.genes({"contig": "1", "start": 4, "ref": "AC"}) == "G0"
    assert limits.genes({"contig": "1", "start": 4, "ref": "A"}) is None
    assert Filters().genes({"contig": "1", "start": 4, "ref": "A"}) is None


def test_no_filter_lists_what_is_listed_without_one(cohort: Cohort) -> None:
    table = read_parquet(cohort.folders[0] / "scores.parquet", [*ALLELE_COLUMNS, "kind", "score", "af"])
    for mine, theirs in zip(Filters().least_expected(table, 20), least_expected(table, 20), strict=True):
        assert np.array_equal(mine, theirs)
    assert Filters().words(1, 2) is None


def test_page_lists_what_passes_and_says_so(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    limits = Filters(panel([("20", 8000, 8000)]), "<panel>.bed", 0.1)
    write_sample_report(cohort.folders[0], tmp_path / "r.html", card=card, filters=limits)
    page = Reader((tmp_path / "r.html").read_text())
    rows = read_parquet(cohort.folders[0] / "scores.parquet").to_pylist()
    passing = [row for row in rows if row["start"] < 16_000 and row["start"] + len(row["ref"]) > 8000 and row["af"] <= 0.1]
    what = "in the panel <panel>.bed and with an AF of at most 0.10 or none stated"
    said = f"Only alleles {what}: {len(passing)} of {len(rows)}."
    assert page.text.count(said) == 2
    shown = [row[0] for name in ("snvs", "others") for row in page.rows[name][1:]]
    assert len(shown) == len({(row["start"], row["ref"], row["alt"]) for row in passing})
    assert {int(text.split()[0].split(":")[1]) for text in shown} == {row["start"] + 1 for row in passing}
    write_sample_report(cohort.folders[0], tmp_path / "none.html", card=card, filters=Filters(panel([("1", 0, 5)]), "p"))
    assert "No allele passes." in Reader((tmp_path / "none.html").read_text()).text


FEW = np.tile([1 / 6, 1 / 3, 0.5, 2 / 3, 5 / 6, 1.0, np.nan], 50)


def test_a_limit_on_frequencies_of_few_people_is_told() -> None:
    (finding,) = frequency_warnings(FEW, 0.01)
    assert finding.title == "The limit on AF removes every allele that states one"
    assert "The lowest INFO/AF of 300 alleles is 0.17, and there are only 6 different values" in finding.text


@pytest.mark.parametrize(
    ("af", "max_af"),
    [
        (FEW, None),
        (FEW, 0.2),
        (FEW[:99], 0.01),
        (np.full(999, np.nan), 0.01),
        (np.append(FEW, 0.002), 0.001),
        (np.random.default_rng(0).uniform(0.05, 1, 300).round(2), 0.01),
    ],
)
def test_frequencies_of_a_population_raise_no_alarm(af: np.ndarray, max_af: float | None) -> None:
    assert frequency_warnings(af, max_af) == []


def test_page_tells_that_the_limit_removes_all(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    folder = tmp_path / "child"
    shutil.copytree(cohort.folders[0], folder)
    scores = pq.read_table(folder / "scores.parquet")
    place, af = scores.schema.get_field_index("af"), pa.array(np.resize(FEW, len(scores)), from_pandas=True)
    pq.write_table(scores.set_column(place, "af", af), folder / "scores.parquet")
    told = {}
    for limit in (0.01, None):
        write_sample_report(folder, tmp_path / "r.html", card=card, filters=Filters(max_af=limit))
        told[limit] = "The limit on AF removes every allele" in Reader((tmp_path / "r.html").read_text()).text
    assert told == {0.01: True, None: False}


def test_limits_that_make_no_sense_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies between 0 and 1"):
        Filters(max_af=1.5)
    (tmp_path / "p.bed").write_text("chr20\t10\t20\tGENE\n")
    with pytest.raises(ConfigError, match="needs the reference"):
        Filters.open(tmp_path / "p.bed", None, None)
    with ReferenceGenome.open(cohort.reference) as genome:
        opened = Filters.open(tmp_path / "p.bed", 0.5, genome)
    assert opened.genes({"contig": "20", "start": 15, "ref": "A"}) == "GENE"
