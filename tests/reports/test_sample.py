"""The page of a sample: complete, bounded, offline, and deaf to what its input says."""

from __future__ import annotations

import copy
import html
import math
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dnagrinder.errors import InputError
from dnagrinder.genome.tables import ALLELES, GENOTYPES, LEDGER
from dnagrinder.reports.findings import model_warnings, predictors, sample_warnings
from dnagrinder.reports.page import bases, number, share, significant, words
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.scoring.tables import SCORE_SCHEMA, read_parquet, write_parquet
from tests.reports.conftest import PROVENANCE, Cohort, edit_summary, make_context

_VOID = {"meta", "input", "br", "path", "circle"}
_LOADING = {"src", "srcset", "data", "action", "background", "poster", "xlink:href", "style"}


class Reader(HTMLParser):
    """Checks that tags are closed in order and gathers tables, attributes and plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.text = ""
        self._table = ""
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in found.items()]
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = found.get("id", "")
            self.rows.setdefault(self._table, [])
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[self._table][-1][-1] += data


@pytest.fixture
def folder(cohort: Cohort, tmp_path: Path) -> Path:
    """A copy of the child's folder that may be changed."""
    shutil.copytree(cohort.root / "samples" / "child", tmp_path / "child")
    return tmp_path / "child"


def render(folder: Path, card: dict[str, Any], **options: Any) -> Reader:
    """Write the page and read it."""
    write_sample_report(folder, folder / "report.html", card=card, **options)
    return Reader((folder / "report.html").read_text(encoding="utf-8"))


def test_attrition_is_told_in_full(folder: Path, card: dict[str, Any], cohort: Cohort) -> None:
    summary = cohort.summaries["child"]
    page = render(folder, card)
    told = {row[0]: row[1] for row in page.rows[""] if len(row) == 3}
    assert told["Alleles of this sample"] == str(summary["alleles_in"])
    assert told["Not carried by this sample"] == f"− {summary['not_carried']}"
    assert told["Scored in this run"] == str(summary["scored"])
    assert told["Taken from the score store"] == str(summary["from_store"])
    reasons = {name.split()[-1]: int(times) for name, times in told.items() if name.startswith("Not scored:")}
    assert reasons == summary["rejected_by_reason"]
    assert summary["alleles_in"] == summary["scored"] + summary["from_store"] + sum(reasons.values())


def test_top_tables_hold_the_lowest_scores_of_each_kind(folder: Path, card: dict[str, Any]) -> None:
    page = render(folder, card)
    rows = read_parquet(folder / "scores.parquet").to_pylist()
    for name, is_snv in (("snvs", True), ("others", False)):
        lowest = sorted((row for row in rows if (row["kind"] == "snv") == is_snv), key=lambda row: row["score"])[:50]
        head, *body = page.rows[name]
        assert [cell[0].rsplit(" ", 1)[0] for cell in body] == [f"{row['contig']}:{row['start'] + 1}" for row in lowest]
        score, genotype = head.index("Score"), head.index("Genotype")
        assert [cell[score] for cell in body] == [number(row["score"]) for row in lowest]
        assert [cell[genotype] for cell in body] == [row["genotype"] for row in lowest]
        assert {"Gene", "Consequence", "Clinical significance", "Frequency"} <= set(head)


def test_columns_without_any_value_are_left_out(folder: Path, card: dict[str, Any]) -> None:
    table = read_parquet(folder / "scores.parquet")
    for name in ("gene", "consequence", "clinical_significance", "af", "genotype"):
        place, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(place, field, pa.nulls(len(table), field.type))
    write_parquet(table, folder / "scores.parquet")
    assert render(folder, card).rows["snvs"][0] == ["Variant", "Score", "± Spread", "Cosine dist."]


def test_context_plots_are_linked_from_their_rows(folder: Path, card: dict[str, Any]) -> None:
    page = render(folder, card)
    figures = {value for tag, name, value in page.attributes if (tag, name) == ("figure", "id")}
    links = {
        value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href") and value[1:].startswith("context")
    }
    assert figures == links == {f"context-{n}" for n in range(1, 21)}
    (folder / "context.parquet").unlink()
    assert "figure" not in {tag for tag, _, _ in render(folder, card).attributes}


def test_context_says_the_probabilities_of_the_data(folder: Path, card: dict[str, Any]) -> None:
    render(folder, card)
    page = (folder / "report.html").read_text()
    context = read_parquet(folder / "context.parquet").to_pylist()
    site = next(
        row for row in context if row["key"].split(":")[1] == str(row["position"]) and len(row["key"].split(":")[2]) == 1
    )
    said = ", ".join(f"{base} {math.exp(site[f'log_p_{base.lower()}']):.0%}" for base in "ACGT")
    assert f"at the variant {said}" in page


def test_page_loads_nothing_and_allows_nothing(folder: Path, card: dict[str, Any]) -> None:
    page = render(folder, card, annotated_vcf="../../callsets/trio/scored.vcf.gz")
    text = (folder / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]", text.replace("http://www.w3.org", ""))
    assert "@import" not in text
    assert "url(" not in text
    assert not [found for found in page.attributes if found[1] in _LOADING or found[1].startswith("on")]
    assert {tag for tag, _, _ in page.attributes} & {"link", "iframe", "img", "object", "embed", "base", "form"} == set()
    policy = next(value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_links_lead_to_existing_files_from_anywhere(folder: Path, card: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = tmp_path / "pages" / "a b"
    write_sample_report(folder, elsewhere / "r.html", card=card, annotated_vcf="x y/scored.vcf.gz")
    page = Reader((elsewhere / "r.html").read_text())
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href") and not value.startswith("#")]
    assert links[0] == "x%20y/scored.vcf.gz"
    assert len(links) == 6
    assert all((elsewhere / link).is_file() for link in links[1:])


def test_text_of_the_input_stays_text(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    evil = '<script>alert("1")</script>&amp;\'{{ 7 * 7 }}'
    shutil.copytree(cohort.root / "samples" / "child", tmp_path / "evil")
    edit_summary(tmp_path / "evil", sample=evil, vcf=evil, column=evil)
    for name, columns in (
        ("scores", ("gene", "consequence", "clinical_significance", "genotype")),
        ("ledger", ("detail", "reason", "input_alt")),
    ):
        table = read_parquet(tmp_path / "evil" / f"{name}.parquet")
        for column in columns:
            table = table.set_column(table.schema.get_field_index(column), column, pa.array([evil] * len(table)))
        write_parquet(table, tmp_path / "evil" / f"{name}.parquet")
    page = render(tmp_path / "evil", {**card, "limits": [evil]})
    text = (tmp_path / "evil" / "report.html").read_text()
    assert text.count("<script>") == 1
    assert 'alert("1")' not in text
    assert evil in page.text
    assert page.rows["snvs"][1][2] == words(evil)
    assert "49" not in page.rows["snvs"][1][2]


def test_same_input_same_bytes(folder: Path, card: dict[str, Any]) -> None:
    write_sample_report(folder, folder / "a.html", card=card)
    write_sample_report(folder, folder / "b.html", card=card)
    assert (folder / "a.html").read_bytes() == (folder / "b.html").read_bytes()


def test_checksums_stand_in_the_page(folder: Path, card: dict[str, Any]) -> None:
    text = render(folder, card).text
    for name in ("tokenizer_sha256", "reference_sha256", "parameters_sha256"):
        assert PROVENANCE[name] in text
    assert PROVENANCE["checkpoint"]["sha256"] in text


def test_model_is_compared_with_its_baselines(folder: Path, card: dict[str, Any]) -> None:
    text = render(folder, card).text
    assert "This model (mini)1.30227.2 %" in text
    assert "20,000 bases" in text
    assert "Not evaluated on disease variants." in text
    assert [row.is_model for row in predictors(card)] == [True, False, False, False, False]


def test_a_model_no_better_than_counting_words_is_said_to_be_so(folder: Path, card: dict[str, Any]) -> None:
    assert model_warnings(card) == []
    poor = copy.deepcopy(card)
    poor["metrics"]["scoring_cross_entropy_nats"]["model"] = 1.3402
    assert [finding.title for finding in model_warnings(poor)] == ["This model knows little about DNA"]
    assert "This model knows little about DNA" in render(folder, poor).text
    assert [finding.title for finding in model_warnings({**card, "metrics": {}})] == ["The model's quality was not measured"]
    render(folder, {"name": "x", "sha256": card["sha256"]})


def test_card_of_another_model_is_refused(folder: Path, card: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the card given is of mini"):
        render(folder, {**card, "sha256": {"model.safetensors": "0" * 64}})


GOOD = {
    "ref_checked": 1000, "ref_matched": 990, "alleles_in": 1000, "rejected": 100, "rejected_by_reason": {"SYMBOLIC": 100},
    "transitions": 600, "transversions": 300,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"ref_matched": 989}, "Only 98.9 % of REF alleles equal the reference"),
        ({"rejected": 101}, "10.1 % of the alleles were not scored"),
        ({"rejected": 1000}, "No allele was scored"),
        ({"alleles_in": 0, "rejected": 0}, "The sample has no alternative allele"),
        ({"transitions": 449}, "Transition/transversion ratio is 1.50"),
    ],
)
def test_doubtful_input_is_warned_of(changes: dict[str, int], title: str) -> None:
    assert sample_warnings(GOOD) == []
    assert [finding.title for finding in sample_warnings({**GOOD, **changes})] == [title]


def test_warnings_come_before_everything_else(folder: Path, card: dict[str, Any]) -> None:
    edit_summary(folder, ref_matched=200)
    text = render(folder, card).text
    assert text.index("of REF alleles equal the reference") < text.index("Read this first") < text.index("What became of")


def test_a_sample_without_scores_has_a_page(folder: Path, card: dict[str, Any]) -> None:
    table = read_parquet(folder / "scores.parquet").slice(0, 0)
    write_parquet(table, folder / "scores.parquet")
    (folder / "context.parquet").unlink()
    edit_summary(folder, alleles_in=12, scored=0, from_store=0, by_kind={}, transitions=0, transversions=0)
    text = render(folder, card).text
    assert "No allele was scored" in text
    assert text.count("No allele has a score.") == 2


def test_regions_are_named_where_a_variant_touches_them(folder: Path, card: dict[str, Any]) -> None:
    first = read_parquet(folder / "scores.parquet").sort_by([("score", "ascending")]).slice(0, 1).to_pylist()[0]
    start, end = first["start"], first["start"] + len(first["ref"])
    regions = pd.DataFrame(
        [
            ("20", end - 1, end + 5, "exon:1"),
            ("20", end, end + 5, "after"),
            ("20", start - 5, start, "before"),
            ("21", 0, 10**6, "other"),
        ],
        columns=["contig", "start", "end", "name"],
    )
    head, row = render(folder, card, regions=regions).rows["others"][:2]
    assert row[head.index("Region")] == "exon:1"
    assert render(folder, card, regions=regions.iloc[:0]).rows["others"][0].count("Region") == 0


def large_sample(folder: Path, alleles: int, rejected: int) -> None:
    """A folder as ``build_sample_tables`` writes it, of a whole genome's kind."""
    folder.mkdir()
    draw = np.random.default_rng(7)
    is_snv = draw.random(alleles) < 0.85
    codes = draw.integers(0, 12, alleles)
    pairs = [a + b for a in "ACGT" for b in "ACGT" if a != b]
    refs = np.array([pair[0] for pair in pairs])[codes]
    alts = np.array([pair[1] for pair in pairs])[codes]
    start = np.sort(draw.choice(60_000_000, alleles, replace=False))
    annotated = {"gene": "G", "consequence": "intron_variant", "clinical_significance": "Uncertain_significance"}
    columns: dict[str, Any] = {
        **{field.name: pa.nulls(alleles, field.type) for field in [*ALLELES, *SCORE_SCHEMA, *list(GENOTYPES)[3:]]},
        "record": np.arange(alleles), "alt_index": np.ones(alleles, dtype=np.int32), "contig": pa.array(["20"] * alleles),
        "start": start, "ref": refs, "alt": np.where(is_snv, alts, np.char.add(np.char.add(refs, "ACGT"), alts)),
        "kind": np.where(is_snv, "snv", "insertion"), "af": draw.random(alleles), "genotype": pa.array(["0|1"] * alleles),
        "score": draw.normal(-1, 1, alleles), "spread": draw.random(alleles), "cosine_distance": draw.random(alleles),
        "status": pa.array(["scored"] * alleles), **{name: pa.array([text] * alleles) for name, text in annotated.items()},
    }  # fmt: skip
    write_parquet(pa.table(columns), folder / "scores.parquet", PROVENANCE)
    ledger = {field.name: pa.nulls(rejected, field.type) for field in LEDGER}
    texts = {"input_contig": "20", "input_ref": "A" * 200, "input_alt": "<DEL>", "reason": "SYMBOLIC", "detail": "x" * 100}
    ledger |= {name: pa.array([text] * rejected) for name, text in texts.items()}
    ledger["input_position"] = pa.array(np.arange(rejected))
    write_parquet(pa.table(ledger), folder / "ledger.parquet", PROVENANCE)
    total = alleles + rejected
    facts = {"sample": "genome", "callset": "c", "vcf": "genome.vcf.gz", "vcf_sha256": "0" * 64, "column": None}
    facts |= {"alleles_in_file": total, "not_carried": 0, "alleles_in": total, "scored": alleles, "from_store": 0}
    facts |= {"rejected": rejected, "rejected_by_reason": {"SYMBOLIC": rejected}, "records": total, "ref_checked": total}
    facts |= {"ref_matched": total, "by_kind": {"snv": int(is_snv.sum()), "insertion": int((~is_snv).sum())}}
    facts |= {"transitions": 2, "transversions": 1, "heterozygous": alleles, "homozygous_alt": 0, "hemizygous": 0}
    (folder / "sample.json").write_text("{}")
    edit_summary(folder, **facts, median_snv_score=-1.0, calibration=None, provenance=PROVENANCE)


def test_page_stays_small_whatever_the_number_of_variants(tmp_path: Path, card: dict[str, Any], cohort: Cohort) -> None:
    large_sample(tmp_path / "genome", 300_000, 50_000)
    make_context(tmp_path / "genome", cohort.sequence * 1501)
    began = time.monotonic()
    write_sample_report(tmp_path / "genome", tmp_path / "genome" / "report.html", card=card)
    assert time.monotonic() - began < 20
    assert (tmp_path / "genome" / "report.html").stat().st_size < 1_000_000
    page = Reader((tmp_path / "genome" / "report.html").read_text())
    assert [len(page.rows[name]) for name in ("snvs", "others")] == [51, 51]
    assert "The first 200 of 50,000" in page.text
    assert html.escape("300,000") in page.text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(-1.005, 1), "−1.0"), (number(-0.001), "0.00"), (number(None), "–"), (number(math.nan), "–"),
        (significant(0.000199681), "0.00020"), (significant(0.5), "0.50"), (significant(0), "0"),
        (significant(1234.5), "1,234"),
        (significant(2.34e-12), "2.3e−12"), (significant(None), "–"), (share(1, 3), "33.3 %"), (share(0, 3), "0.0 %"),
        (share(1, 10**6), "< 0.1 %"), (share(999_999, 10**6), "> 99.9 %"), (share(3, 3), "100.0 %"), (share(1, 0), "–"),
        (bases("ACGTACGTACGTAC"), "ACGTACGTACGTAC"), (bases("ACGTACGTACGTACG"), "ACGTACGTAC…(15 bp)"),
        (words("missense_variant&NMD_variant"), "missense variant, NMD variant"), (words(None), "–"),
    ],
)  # fmt: skip
def test_numbers_and_words_are_written_for_people(shown: str, expected: str) -> None:
    assert shown == expected
