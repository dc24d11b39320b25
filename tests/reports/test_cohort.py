"""The cohort: every allele once with its carriers, samples side by side, and a section that MultiQC shows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dnagrinder.commands.reports import report_cohort
from dnagrinder.errors import InputError, InvariantError
from dnagrinder.reports.carriers import COHORT_SCHEMA, cohort_tiles
from dnagrinder.reports.cohort import cohort_warnings, write_cohort_report
from dnagrinder.reports.multiqc import write_multiqc
from dnagrinder.reports.outliers import find_outliers
from dnagrinder.scoring.tables import ALLELE_COLUMNS, allele_keys, read_parquet, read_provenance, write_parquet
from tests.reports.conftest import PROVENANCE, SAMPLES, Cohort, edit_summary
from tests.reports.test_sample import GOOD, Reader


@pytest.fixture
def folders(cohort: Cohort, tmp_path: Path) -> list[Path]:
    """Copies of the sample folders that may be changed."""
    for folder in cohort.folders:
        shutil.copytree(folder, tmp_path / "samples" / folder.name)
    return [tmp_path / "samples" / folder.name for folder in cohort.folders]


def render(folders: list[Path], out: Path, card: dict[str, Any] | None) -> Reader:
    """Write the cohort's page and read it."""
    write_cohort_report(folders, out / "report.html", scores=out / "scores.parquet", card=card)
    return Reader((out / "report.html").read_text(encoding="utf-8"))


def cohort_table(folders: list[Path], rows: int = 10**6) -> pa.Table:
    """The tiles together."""
    return pa.concat_tables([COHORT_SCHEMA.empty_table(), *cohort_tiles(folders, rows)]).combine_chunks()


def test_every_allele_stands_once_with_its_carriers(cohort: Cohort) -> None:
    carriers: dict[tuple, list[str]] = {}
    for sample in sorted(SAMPLES):
        for row in read_parquet(cohort.root / "samples" / sample / "scores.parquet").to_pylist():
            found = carriers.setdefault(tuple(row[name] for name in ALLELE_COLUMNS), [])
            if sample not in found:
                found.append(sample)
    rows = cohort_table(cohort.folders).to_pylist()
    assert [tuple(row[name] for name in ALLELE_COLUMNS) for row in rows] == sorted(carriers)
    assert [row["samples"] for row in rows] == [carriers[key] for key in sorted(carriers)]
    assert all(row["carriers"] == len(row["samples"]) for row in rows)
    scores = {
        tuple(row[name] for name in ALLELE_COLUMNS): row["score"]
        for path in cohort.callset.scores
        for row in read_parquet(path).to_pylist()
    }
    assert all(row["score"] == scores[tuple(row[name] for name in ALLELE_COLUMNS)] for row in rows)


def test_order_of_samples_changes_nothing_in_the_table(cohort: Cohort, tmp_path: Path) -> None:
    for name, folders in (("a", cohort.folders), ("b", cohort.folders[::-1])):
        render(folders, tmp_path / name, None)
    assert (tmp_path / "a" / "scores.parquet").read_bytes() == (tmp_path / "b" / "scores.parquet").read_bytes()
    assert read_provenance(tmp_path / "a" / "scores.parquet") == PROVENANCE


@pytest.mark.parametrize("shuffled", [False, True])
def test_tiles_change_nothing(folders: list[Path], tmp_path: Path, shuffled: bool) -> None:
    """Rows spread over several contigs, in small row groups, in the order of the genome or in none."""
    for number, folder in enumerate(folders):
        table = read_parquet(folder / "scores.parquet")
        moved = [table, _on(table, "21", 3_000_000), _on(table, "3", 900_000), _on(table.slice(number, 9), "20", 70_000)]
        rows = pa.concat_tables(moved)
        if shuffled:
            rows = rows.take(pa.array(np.random.default_rng(number).permutation(len(rows))))
        pq.write_table(rows, folder / "scores.parquet", row_group_size=50)
    whole = cohort_table(folders)
    assert whole.equals(whole.sort_by([(name, "ascending") for name in ALLELE_COLUMNS]))
    assert len(pc.unique(allele_keys(whole))) == len(whole)
    assert set(whole["contig"].to_pylist()) == {"20", "21", "3"}
    for rows, least in ((1, 20), (50, 6), (10**6, 3)):
        tiles = list(cohort_tiles(folders, rows))
        assert len(tiles) >= least
        assert pa.concat_tables(tiles).combine_chunks().equals(whole)
    pages = []
    for rows in (50, 10**6):
        out = tmp_path / str(rows)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("dnagrinder.reports.cohort.cohort_tiles", partial(cohort_tiles, rows=rows))
            write_cohort_report(folders, out / "report.html", scores=out / "scores.parquet")
        pages.append([(out / name).read_bytes() for name in ("report.html", "scores.parquet")])
    assert pages[0] == pages[1]


def _on(table: pa.Table, contig: str, shift: int) -> pa.Table:
    """The rows on another contig and ``shift`` bases further right."""
    start = pc.add(table["start"], shift)
    named = table.set_column(table.schema.get_field_index("contig"), "contig", pa.array([contig] * len(table)))
    return named.set_column(table.schema.get_field_index("start"), "start", start)


def test_few_rows_held_at_a_time_change_nothing(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cohort_table(folders)
    monkeypatch.setattr("dnagrinder.reports.carriers._HELD_ROWS", 1)
    assert cohort_table(folders).equals(whole)


def test_tables_that_cannot_be_read(folders: list[Path], tmp_path: Path) -> None:
    (folders[0] / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"scores.parquet cannot be read"):
        cohort_table(folders)
    content = bytearray((folders[1] / "scores.parquet").read_bytes())
    content[40:2000] = bytes(byte ^ 255 for byte in content[40:2000])  # pages, not the footer
    (folders[0] / "scores.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"scores.parquet cannot be read"):
        write_cohort_report(folders, tmp_path / "report.html", scores=tmp_path / "scores.parquet")
    table = read_parquet(folders[1] / "scores.parquet")
    texts = table.set_column(table.schema.get_field_index("score"), "score", pa.array(["x"] * len(table)))
    write_parquet(texts, folders[0] / "scores.parquet")
    with pytest.raises(InputError, match=r"scores.parquet cannot be read"):
        cohort_table(folders)
    write_parquet(table.drop_columns(["gene"]), folders[0] / "scores.parquet")
    with pytest.raises(InputError, match=r"scores.parquet has no column gene"):
        cohort_table(folders)
    (folders[0] / "scores.parquet").unlink()
    with pytest.raises(InputError, match=r"scores.parquet is missing"):
        cohort_table(folders)


def test_an_allele_twice_in_one_sample_has_one_carrier(folders: list[Path]) -> None:
    table = read_parquet(folders[0] / "scores.parquet")
    write_parquet(pa.concat_tables([table, table]), folders[0] / "scores.parquet")
    assert set(cohort_table(folders[:1])["carriers"].to_pylist()) == {1}


def test_two_scores_of_one_allele_are_a_defect(folders: list[Path]) -> None:
    table = read_parquet(folders[1] / "scores.parquet")
    place = table.schema.get_field_index("score")
    write_parquet(table.set_column(place, "score", pc.add(table["score"], 1.0)), folders[1] / "scores.parquet")
    with pytest.raises(InvariantError, match="different scores"):
        cohort_table(folders)


def test_samples_of_different_models_are_not_compared(folders: list[Path], tmp_path: Path) -> None:
    other = {**PROVENANCE, "parameters_sha256": "0" * 64}
    write_parquet(read_parquet(folders[1] / "scores.parquet"), folders[1] / "scores.parquet", other)
    with pytest.raises(InputError, match="different models, references or parameters"):
        render(folders, tmp_path, None)


def test_a_sample_twice_and_no_sample_are_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than once in the cohort: child"):
        render([folders[0], folders[0]], tmp_path, None)
    with pytest.raises(InputError, match="at least one"):
        render([], tmp_path, None)


def test_counts_that_do_not_add_up_are_a_defect(folders: list[Path], tmp_path: Path) -> None:
    edit_summary(folders[0], scored=1)
    with pytest.raises(InvariantError, match="do not add up"):
        render(folders, tmp_path, None)


def test_samples_stand_side_by_side_and_link_to_their_pages(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    out = cohort.root / "cohort-page"
    page = render(cohort.folders, out, card)
    head, *body = page.rows["samples"]
    assert [row[0] for row in body] == list(SAMPLES)
    for row in body:
        summary = cohort.summaries[row[0]]
        told = dict(zip(head, row, strict=True))
        assert [int(told[name]) for name in ("Alleles", "Scored", "From store", "Not scored")] == [
            summary[name] for name in ("alleles_in", "scored", "from_store", "rejected")
        ]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert [f"../samples/{sample}/report.html" for sample in SAMPLES] == [link for link in links if "samples/" in link]
    assert str(sum(summary["alleles_in"] for summary in cohort.summaries.values())) in page.text


def test_shared_alleles_are_listed_lowest_first(cohort: Cohort, tmp_path: Path) -> None:
    page = render(cohort.folders, tmp_path, None)
    rows = [row for row in cohort_table(cohort.folders).to_pylist() if row["carriers"] > 1 and row["kind"] == "snv"]
    lowest = sorted(rows, key=lambda row: row["score"])[:50]
    head, *body = page.rows["snvs"]
    assert [row[0].rsplit(" ", 1)[0] for row in body] == [f"20:{row['start'] + 1}" for row in lowest]
    assert [row[head.index("Carriers")] for row in body] == [str(row["carriers"]) for row in lowest]
    assert [row[head.index("Samples")] for row in body] == [", ".join(row["samples"]) for row in lowest]


def test_one_sample_shares_nothing(cohort: Cohort, tmp_path: Path) -> None:
    page = render(cohort.folders[:1], tmp_path, None)
    assert "No scored allele is carried by more than one sample." in page.text
    assert "1 sample" in page.text


def test_reasons_are_summed_over_the_cohort(cohort: Cohort, tmp_path: Path) -> None:
    page = render(cohort.folders, tmp_path, None)
    told = {row[0].split()[-1]: (int(row[1]), int(row[2])) for row in page.rows[""][1:]}
    summaries = cohort.summaries.values()
    for reason, (alleles, samples) in told.items():
        assert alleles == sum(summary["rejected_by_reason"].get(reason, 0) for summary in summaries)
        assert samples == sum(reason in summary["rejected_by_reason"] for summary in summaries)
    assert "SYMBOLIC" in told


def test_samples_that_do_not_fit_are_warned_of() -> None:
    usual = [{**GOOD, "sample": name} for name in "abc"]
    assert cohort_warnings(usual, find_outliers(usual)) == []
    few = {**GOOD, "sample": "d", "alleles_in": 499, "rejected": 0}
    many = {**GOOD, "sample": "e", "alleles_in": 2001}
    poor = {**GOOD, "sample": "f", "ref_matched": 0}
    all_six = [*usual, few, many, poor]
    titles = [finding.title for finding in cohort_warnings(all_six, find_outliers(all_six))]
    assert titles == [
        "f: Only 0.0 % of REF alleles equal the reference",
        "d: fewer than half the alleles of a typical sample here",
        "e: more than twice the alleles of a typical sample here",
    ]


def many(values: list[float], name: str = "median_snv_score") -> list[dict[str, Any]]:
    """Summaries that differ in one fact."""
    same = {**GOOD, "heterozygous": 600, "homozygous_alt": 400, "median_snv_score": -0.1}
    return [{**same, "sample": f"s{place}", name: value} for place, value in enumerate(values)]


def test_outliers_follow_the_stated_rule() -> None:
    values = [-0.10, -0.11, -0.12, -0.09, -0.10, -0.13, -0.11, -0.10, -0.12]
    for beyond, outliers in ((1e-6, 1), (-1e-6, 0)):
        last = -0.11 - (3.5 * 1.4826 * 0.01 + beyond)  # median -0.11 and MAD 0.01, whatever the last one is
        assert len(find_outliers(many([*values, last])).found) == outliers
    found = find_outliers(many([*values, -0.5]))
    assert [(one.sample, one.measure, one.value) for one in found.found] == [("s9", "median SNV score", "−0.500")]
    assert found.found[0].z == pytest.approx((-0.5 + 0.11) / (1.4826 * 0.01))
    assert found.judged == ("median SNV score",)
    assert set(found.flat) == {"alleles", "share of alleles not scored", "Ts/Tv", "het/hom", "share of REF that match"}


def test_few_samples_are_not_judged() -> None:
    found = find_outliers(many([-0.1, -0.11, -0.12, -0.1, -0.11, -0.12, -0.1, -0.11, 9.0]))
    assert (found.enough, found.found) == (False, ())


def test_page_tells_outliers_their_rule_and_when_it_does_not_apply(
    cohort: Cohort, tmp_path: Path, card: dict[str, Any]
) -> None:
    assert "Not judged: 3 samples; the rule needs 10." in render(cohort.folders, tmp_path / "few", card).text
    folders = []
    for place in range(12):
        folders.append(tmp_path / f"s{place:02}")
        shutil.copytree(cohort.folders[0], folders[-1])
        edit_summary(folders[-1], sample=folders[-1].name, homozygous_alt=100 + place if place else 10)
    page = render(folders, tmp_path / "out", card)
    assert page.rows["outlier-table"][1][:2] == ["s00", "het/hom"]
    assert len(page.rows["outlier-table"]) == 2
    assert "s00: stands apart from the other samples" in page.text
    assert "more than half of the samples are alike in it: alleles," in page.text
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count('class="n apart"') == 1


def test_page_of_many_samples_stays_small(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    folders = []
    for number in range(200):
        folder = tmp_path / f"s{number:03}"
        folder.mkdir()
        shutil.copy(cohort.folders[0] / "scores.parquet", folder)
        shutil.copy(cohort.folders[0] / "sample.json", folder)
        edit_summary(folder, sample=folder.name)
        folders.append(folder)
    page = render(folders, tmp_path / "out", card)
    assert (tmp_path / "out" / "report.html").stat().st_size < 500_000
    assert len(page.rows["samples"]) == 201
    assert "The first 60 of 200 samples are drawn." in page.text
    assert "and 194 more" in page.text


def test_multiqc_data_holds_the_counts(cohort: Cohort, tmp_path: Path) -> None:
    write_multiqc(cohort.folders, tmp_path / "dnagrinder_mqc.json")
    content = json.loads((tmp_path / "dnagrinder_mqc.json").read_text())
    assert list(content["data"]) == list(SAMPLES)
    for sample, row in content["data"].items():
        assert row["alleles_in"] == cohort.summaries[sample]["alleles_in"]
        assert row["ref_match"] == pytest.approx(99.0)
        assert set(row) <= set(content["headers"])
    with pytest.raises(InputError, match=r"must end in _mqc\.json"):
        write_multiqc(cohort.folders, tmp_path / "dnagrinder.json")


def test_nothing_is_written_where_multiqc_would_not_find_its_section(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in _mqc\.json"):
        report_cohort(cohort.folders, tmp_path / "page.html", tmp_path / "scores.parquet", tmp_path / "section.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("multiqc", path=str(Path(sys.executable).parent)) is None, reason="multiqc is absent")
def test_multiqc_shows_our_section(cohort: Cohort, tmp_path: Path) -> None:
    write_multiqc(cohort.folders, tmp_path / "in" / "dnagrinder_mqc.json")
    command = [
        Path(sys.executable).parent / "multiqc",
        "--no-ansi",
        "--no-version-check",
        "--data-format",
        "json",
        "in",
        "-o",
        "out",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    content = json.loads((tmp_path / "out" / "multiqc_data" / "multiqc_data.json").read_text())
    data = content["report_saved_raw_data"]["multiqc_dnagrinder_table"]
    assert {sample: row["scored"] for sample, row in data.items()} == {
        sample: summary["scored"] for sample, summary in cohort.summaries.items()
    }
    page = (tmp_path / "out" / "multiqc_report.html").read_text()
    assert 'id="mqc-module-section-dnagrinder"' in page
    assert "Median SNV score" in page
