"""What the embedded genome browser is given: true coordinates, the sample's alleles, and no markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pysam
import pytest

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.reports import loci, page
from dnagrinder.reports.loci import FLANK, LOCI, Slice, browser_view, merged, plain
from dnagrinder.reports.sample import describe_rows, write_sample_report
from dnagrinder.scoring.tables import read_parquet, write_parquet
from tests.reports.conftest import PROVENANCE, Cohort

VENDOR = Path(page.__file__).parent / "templates" / "vendor"


def decoded(address: str) -> str:
    """Text of a data: address."""
    return base64.b64decode(address.partition(",")[2]).decode()


def lowest(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rows of the lowest scores, as the page has them."""
    return describe_rows(read_parquet(folder / "scores.parquet").sort_by([("score", "ascending")]).slice(0, count))


@pytest.fixture(scope="module")
def view(cohort: Cohort) -> dict[str, Any]:
    """The child's browser."""
    folder = cohort.folders[0]
    regions = pd.DataFrame([("20", 0, 39_000, "<b>&all"), ("21", 0, 10, "far")], columns=["contig", "start", "end", "name"])
    with ReferenceGenome.open(cohort.reference) as genome:
        made = browser_view("child", lowest(folder, 25), folder, genome, regions)
    assert made is not None
    return made


def track(view: dict[str, Any], name: str) -> dict[str, Any]:
    """The track of that name."""
    return next(one for one in view["tracks"] if one["name"] == name)


def test_sequence_stands_at_its_true_place(cohort: Cohort, view: dict[str, Any]) -> None:
    text = decoded(view["reference"]["fastaURL"])
    slices = re.findall(r">20:(\d+)-(\d+) @len=40000\n([ACGT]+)\n", text)
    assert text.count(">") == len(slices)
    for start, end, bases in slices:
        assert bases == cohort.sequence[int(start) - 1 : int(end)]
    held = [range(int(start), int(end) + 1) for start, end, _ in slices]
    assert len(view["loci"]) == LOCI
    for locus in view["loci"]:
        first, last = map(int, locus["place"].partition(":")[2].split("-"))
        assert any(first in bases and last in bases for bases in held)


def test_variants_are_a_vcf_of_the_sample(cohort: Cohort, view: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "v.vcf").write_text(decoded(track(view, "child")["url"]))
    with pysam.VariantFile(str(tmp_path / "v.vcf")) as file:
        shown = [(one.pos, one.ref, one.alts, round(one.info["DG_SCORE"], 2), one.samples["child"]["GT"]) for one in file]
    near = [row["position"] for row in lowest(cohort.folders[0], LOCI)]
    own = read_parquet(cohort.folders[0] / "scores.parquet").to_pylist()
    inside = [row for row in own if any(at - FLANK <= row["start"] + 1 <= at + len(row["ref"]) + FLANK for at in near)]
    assert len(shown) >= len(inside) - 5
    known = {(row["start"] + 1, row["ref"], (row["alt"],)): row["score"] for row in own}
    assert all(abs(known[one[:3]] - one[3]) < 0.01 for one in shown)
    assert all(1 in one[4] for one in shown)


@pytest.mark.parametrize(
    ("genotype", "shown"),
    [
        ("0|2", "0|1"),
        ("1/2", "1/1"),
        ("10", "1"),
        ("./1", "./1"),
        (None, "./."),
        ("|0|1", "0|1"),
        ("/0|2", "0/1"),
        ("/1", "1"),
    ],
)
def test_genotypes_are_as_vcf_4_2_spells_them(cohort: Cohort, genotype: str | None, shown: str) -> None:
    """The track is VCF 4.2, in which no phase stands in front of a call."""
    row = {**lowest(cohort.folders[0], 1)[0], "genotype": genotype}
    assert loci._record(row).rpartition("\t")[2] == shown


def test_tracks_hold_scores_contexts_and_regions(cohort: Cohort, view: dict[str, Any]) -> None:
    scores = {round(one["value"], 3) for one in track(view, "Score")["features"]}
    assert {round(row["score"], 3) for row in lowest(cohort.folders[0], 3)} <= scores
    context = {row["position"] - 1: row for row in read_parquet(cohort.folders[0] / "context.parquet").to_pylist()}
    expected = track(view, "P(reference base)")["features"]
    assert len(expected) > 400
    assert all(0 < one["value"] < 1 and one["end"] == one["start"] + 1 for one in expected)
    only_once = [one for one in expected if sum(row["position"] - 1 == one["start"] for row in context.values()) == 1]
    assert any(
        one["value"]
        == pytest.approx(math.exp(context[one["start"]][f"log_p_{context[one['start']]['ref'].lower()}"]), abs=1e-4)
        for one in only_once
    )
    assert track(view, "Regions")["features"] == [{"chr": "20", "start": 0, "end": 39_000, "name": "_b_&all"}]


def test_slices_that_touch_are_joined() -> None:
    parts = [Slice("2", 0, 5), Slice("1", 5, 9), Slice("1", 0, 5), Slice("1", 20, 30), Slice("1", 21, 22)]
    assert merged(parts) == [Slice("1", 0, 9), Slice("1", 20, 30), Slice("2", 0, 5)]


def test_nothing_to_show_gives_no_browser(cohort: Cohort) -> None:
    row = lowest(cohort.folders[0], 1)[0]
    with ReferenceGenome.open(cohort.reference) as genome:
        assert browser_view("child", [], cohort.folders[0], genome) is None
        assert browser_view("child", [{**row, "contig": "HLA:A*01"}], cohort.folders[0], genome) is None


def test_text_of_the_input_becomes_no_markup_in_the_browser(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    evil = '<img src=x onerror="alert(1)">;</script>'
    shutil.copytree(cohort.root / "samples" / "child", tmp_path / "s")
    table = read_parquet(tmp_path / "s" / "scores.parquet")
    for column in ("id", "filter", "gene", "consequence", "genotype"):
        table = table.set_column(table.schema.get_field_index(column), column, pa.array([evil] * len(table)))
    write_parquet(table, tmp_path / "s" / "scores.parquet", PROVENANCE)
    with ReferenceGenome.open(cohort.reference) as genome:
        write_sample_report(tmp_path / "s", tmp_path / "r.html", card=card, genome=genome)
        made = browser_view(evil, lowest(tmp_path / "s", 3), tmp_path / "s", genome)
    assert made is not None
    assert not set(decoded(made["tracks"][0]["url"]).partition("#CHROM")[2]) & set("<>\"'")
    text = (tmp_path / "r.html").read_text()
    held = re.search(r'id="browser-data">(.*?)</script>', text, re.DOTALL)
    assert held is not None
    assert json.loads(held[1])["tracks"][0]["name"] == "child"
    assert text.count("</script>") == text.count("<script")
    assert plain("A-b_1.2,x|y&z") == "A-b_1.2,x|y&z"


def test_page_with_browser_allows_its_scripts_by_hash_and_stays_small(
    cohort: Cohort, tmp_path: Path, card: dict[str, Any]
) -> None:
    with ReferenceGenome.open(cohort.reference) as genome:
        write_sample_report(cohort.folders[0], tmp_path / "a.html", card=card, genome=genome)
        write_sample_report(cohort.folders[0], tmp_path / "b.html", card=card, genome=genome)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_size < 1_200_000
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', (tmp_path / "a.html").read_text())
    assert policy is not None
    rules = {name: values for name, *values in (part.split() for part in policy[1].split(";"))}
    assert rules["default-src"] == ["'none'"]
    assert len(rules["script-src"]) == 3
    assert all(value.startswith("'sha256-") for value in [*rules["script-src"], *rules["style-src"]])
    assert "connect-src" not in rules


def test_igv_is_the_file_that_its_note_names() -> None:
    source = gzip.decompress(base64.b64decode((VENDOR / "igv.min.js.gz.b64").read_text()))
    assert hashlib.sha256(source).hexdigest() in (VENDOR / "README.md").read_text()
    assert "MIT" in (VENDOR / "igv.LICENSE").read_text()
