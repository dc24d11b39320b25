"""Haplotypes in the annotated VCF, the sample's table and the sample's page."""

from __future__ import annotations

import copy
import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pysam
import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import InputError
from dnagrinder.genome.cis import CisHaplotype, CisReader
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.reports.haplotypes import haplotype_section, haplotype_texts, write_haplotypes_tsv, write_sample_haplotypes
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.reports.tables import build_sample_tables
from dnagrinder.reports.vcf import annotate_vcf
from dnagrinder.scoring.haplotype_tables import (
    HAPLOTYPE_SCHEMA,
    haplotype_counts,
    haplotype_provenance,
    haplotypes_table,
    sorted_haplotypes,
)
from dnagrinder.scoring.haplotypes import HaplotypeScore
from dnagrinder.scoring.tables import read_parquet, read_provenance, write_parquet
from tests.reports.conftest import PROVENANCE, Callset, Cohort, make_callset
from tests.reports.test_sample import Reader
from tests.reports.test_vcf import data_lines, header_lines, stripped

LINES = (  # POS, alternative of the base there by turns, genotypes of two samples
    (700, ("C", "G"), "1|0", "1|1"),
    (702, ("A", "T"), "1|0", "0|1"),
    (730, ("G", "C"), "1|0", "0/1"),
    (900, ("T", "A"), "1|1", "0|0"),
)


@dataclass(frozen=True)
class Called:
    """A call set of two samples with the table of its haplotypes; no two of them score alike."""

    callset: Callset
    haplotypes: Path
    found: list[CisHaplotype]


def invented(haplotype: CisHaplotype, number: int) -> HaplotypeScore:
    """Scores that tell the row: difference 0.5, -1, ...; spread 0.75."""
    difference = (0.5, -1.0, 2.0, -4.0)[number]
    singles = tuple(-1.0 - i for i in range(len(haplotype.members)))
    return HaplotypeScore(haplotype, sum(singles) + difference, 0.25, singles, difference, 0.75, 4, -3.0, 0.125)


@pytest.fixture
def called(cohort: Cohort, tmp_path: Path) -> Called:
    text = f"##fileformat=VCFv4.2\n##contig=<ID=20,length={len(cohort.sequence)}>\n"
    text += '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tx\ty\n"
    for position, choices, x, y in LINES:
        ref = cohort.sequence[position - 1]
        alt = next(base for base in choices if base != ref)
        text += f"20\t{position}\t.\t{ref}\t{alt},*\t.\t.\t.\tGT\t{x}\t{y}\n"
    (tmp_path / "calls.vcf").write_text(text)
    callset = make_callset(tmp_path / "callset", tmp_path / "calls.vcf", cohort.reference)
    with ReferenceGenome.open(cohort.reference) as genome:
        reader = CisReader(callset.vcf, genome, distance=40, window=512)
        found = sorted_haplotypes(reader)
    table = haplotypes_table(invented(item, number) for number, item in enumerate(found))
    write_parquet(table, tmp_path / "haplotypes.parquet", haplotype_provenance(PROVENANCE, 40, reader.outcomes))
    return Called(callset, tmp_path / "haplotypes.parquet", found)


@pytest.fixture
def annotate(called: Called) -> Callable[..., Path]:
    """Annotates the call set, or another VCF with its tables."""

    def run(destination: Path, vcf: Path | None = None, haplotypes: Path | None = called.haplotypes) -> Path:
        callset = replace(called.callset, vcf=vcf or called.callset.vcf)
        annotate_vcf(
            callset.vcf,
            destination,
            alleles=callset.alleles,
            ledger=callset.ledger,
            scores=callset.scores,
            provenance=PROVENANCE,
            tool_version="0.1.0",
            haplotypes=haplotypes,
        )
        return destination

    return run


def test_what_the_call_set_holds(called: Called) -> None:
    """y has the alleles at 700 and 702 on its second copy; x all three, of which the first two are an mnv."""
    assert sorted((h.kind, [m.allele.position for m in h.members], h.carriers) for h in called.found) == [
        ("haplotype", [700, 702, 730], ("x",)),
        ("mnv", [700, 702], ("x", "y")),
    ]
    table = read_parquet(called.haplotypes)
    counts = haplotype_counts(table, read_provenance(called.haplotypes))
    assert counts == {
        "haplotypes": 2,
        "mnvs": 1,
        "epistasis_above_spread": 1,
        "carried_copies": 9,
        "copies_by_outcome": {"ALONE": 3, "UNPHASED": 1, "joined": 5},
    }


def test_each_allele_names_its_haplotypes_in_the_vcf(called: Called, annotate, tmp_path: Path) -> None:
    ids = {row["kind"]: row for row in read_parquet(called.haplotypes).to_pylist()}
    values = {}
    with pysam.VariantFile(str(annotate(tmp_path / "out.vcf.gz"))) as vcf:
        assert vcf.header.info["DG_HAP"].number == "A"
        for record in vcf:
            values[record.pos] = record.info["DG_HAP"]
    texts = {
        kind: f"{row['id']}|{kind}|{row['joint']:.6g}|{row['singles_sum']:.6g}|{row['epistasis']:.6g}|0.75"
        for kind, row in ids.items()
    }
    both = f"{texts['mnv']}&{texts['haplotype']}"  # on two copies, on one
    assert values == {700: (both, "."), 702: (both, "."), 730: (texts["haplotype"], "."), 900: (".", ".")}


def test_all_other_bytes_stay_and_a_second_run_replaces_the_field(called: Called, annotate, tmp_path: Path) -> None:
    once, twice, without = (tmp_path / f"{name}.vcf.gz" for name in ("once", "twice", "without"))
    annotate(once)
    assert [stripped(line) for line in data_lines(once)] == data_lines(called.callset.vcf)
    annotate(twice, vcf=once)
    assert twice.read_bytes() == once.read_bytes()
    annotate(without, vcf=once, haplotypes=None)
    assert b"DG_HAP" not in gzip.decompress(without.read_bytes())
    annotate(tmp_path / "plain.vcf.gz", haplotypes=None)
    assert without.read_bytes() == (tmp_path / "plain.vcf.gz").read_bytes()
    assert [line for line in header_lines(once) if "DG_" not in line] == [
        line for line in header_lines(without) if "DG_" not in line
    ]


def sample_folder(called: Called, folder: Path, name: str) -> Path:
    """The folder of one sample with all its tables."""
    callset = called.callset
    build_sample_tables(
        {name: None},
        callset="calls",
        alleles=callset.alleles,
        ledger=callset.ledger,
        genotypes=callset.genotypes,
        summary=callset.summary,
        scores=callset.scores,
        out_dir=folder,
    )
    write_sample_haplotypes(called.haplotypes, name, folder / name)
    return folder / name


def test_a_sample_has_the_haplotypes_it_carries(called: Called, tmp_path: Path) -> None:
    folder = sample_folder(called, tmp_path, "y")
    (row,) = read_parquet(folder / "haplotypes.parquet").to_pylist()
    assert (row["kind"], row["copies"], row["copies_in_file"]) == ("mnv", 1, 2)
    assert "carriers" not in row  # who else carries it is not the sample's to tell
    provenance = read_provenance(folder / "haplotypes.parquet")
    assert provenance["haplotypes"]["outcomes"] == {"ALONE": 1, "UNPHASED": 1, "joined": 2}
    assert provenance["parameters_sha256"] == PROVENANCE["parameters_sha256"]
    header, line = (text.split("\t") for text in (folder / "haplotypes.tsv").read_text().splitlines())
    told = dict(zip(header, line, strict=True))
    assert (told["position"], told["start"], told["singles"]) == ("700", "699", "-1.0,-2.0")
    assert told["members"] == ",".join(row["members"])


def test_tables_of_an_earlier_run_do_not_stay_where_none_are_scored(called: Called, tmp_path: Path) -> None:
    sample_folder(called, tmp_path, "y")
    callset = called.callset
    options = ["sample-tables", *map(str, callset.scores), f"--alleles={callset.alleles}", f"--ledger={callset.ledger}"]
    options += [f"--genotypes={callset.genotypes}", f"--summary={callset.summary}", "--sample=y", f"--out-dir={tmp_path}"]
    assert CliRunner().invoke(app, options).exit_code == 0
    assert not list((tmp_path / "y").glob("haplotypes.*"))
    other = {**PROVENANCE, "parameters_sha256": "0" * 64}
    table = tmp_path / "other.parquet"
    write_parquet(read_parquet(called.haplotypes), table, haplotype_provenance(other, 40, {}))
    result = CliRunner().invoke(app, [*options, f"--haplotypes={table}"])
    assert isinstance(result.exception, InputError)
    assert "different models, references or parameters" in str(result.exception)


def test_a_file_of_sites_gives_an_empty_table(called: Called, tmp_path: Path) -> None:
    write_sample_haplotypes(called.haplotypes, None, tmp_path)
    assert read_parquet(tmp_path / "haplotypes.parquet").num_rows == 0
    section = haplotype_section(tmp_path)
    assert section is not None
    assert (section["count"], section["outcomes"]) == (0, [])


def test_the_page_tells_joint_sum_and_difference(called: Called, card: dict[str, Any], tmp_path: Path) -> None:
    folder = sample_folder(called, tmp_path, "x")
    write_sample_report(folder, tmp_path / "report.html", card=card)
    reader = Reader((tmp_path / "report.html").read_text())
    rows = reader.rows["haplotype-rows"]
    assert len(rows) == 1 + 2
    first, second = ([cell.strip() for cell in row] for row in rows[1:])
    by_kind = {row["kind"]: row for row in read_parquet(called.haplotypes).to_pylist()}
    kinds = sorted(by_kind, key=lambda kind: -abs(by_kind[kind]["epistasis"]))
    assert [first[1], second[1]] == kinds  # the one beyond its spread first
    assert first[5:] == ["−1.00", "0.75"]
    assert first[3] == f"{by_kind[kinds[0]]['joint']:.2f}".replace("-", "−")
    assert second[2] in ("1 of 1", "1 of 2")
    assert "In 1 of 2 it is larger" in reader.text
    assert "Nothing here says what a haplotype does to a protein or to health" in reader.text
    assert "3 scored together with a neighbour joined" in " ".join(reader.text.split())


def test_without_haplotypes_the_page_is_silent_and_with_none_it_says_so(
    called: Called, card: dict[str, Any], tmp_path: Path
) -> None:
    folder = sample_folder(called, tmp_path, "y")
    table = read_parquet(folder / "haplotypes.parquet")
    write_parquet(table.slice(0, 0), folder / "haplotypes.parquet", read_provenance(folder / "haplotypes.parquet"))
    write_sample_report(folder, tmp_path / "none.html", card=card)
    assert "No two alleles of this sample are known to lie on one copy" in (tmp_path / "none.html").read_text()
    for name in ("haplotypes.parquet", "haplotypes.tsv"):
        (folder / name).unlink()
    write_sample_report(folder, tmp_path / "silent.html", card=card)
    assert "one chromosome copy" not in (tmp_path / "silent.html").read_text()


def test_many_haplotypes_are_cut_and_names_escaped(called: Called, card: dict[str, Any], tmp_path: Path) -> None:
    folder = sample_folder(called, tmp_path, "x")
    provenance = copy.deepcopy(read_provenance(folder / "haplotypes.parquet"))
    provenance["haplotypes"]["outcomes"] = {"<b>NEW</b>": 3}
    table = read_parquet(folder / "haplotypes.parquet").replace_schema_metadata(None)
    row = {**table.to_pylist()[0], "contig": "<i>x", "members": ["<i>x:1:A:C", "<i>x:3:A:C"]}
    many = pa.Table.from_pylist([{**row, "epistasis": float(n)} for n in range(80)], schema=table.schema)
    write_parquet(many, folder / "haplotypes.parquet", provenance)
    write_sample_report(folder, tmp_path / "report.html", card=card)
    page = (tmp_path / "report.html").read_text()
    assert len(Reader(page).rows["haplotype-rows"]) == 1 + 50
    assert "all are in <code>haplotypes.tsv</code>" in page
    assert "<i>x" not in page
    assert "<b>NEW" not in page


def test_another_table_is_refused(called: Called, tmp_path: Path) -> None:
    shutil.copy(called.callset.scores[0], tmp_path / "scores.parquet")
    for function in (haplotype_texts, lambda path: write_sample_haplotypes(path, "x", tmp_path)):
        with pytest.raises(InputError, match=r"scores\.parquet holds no haplotypes"):
            function(tmp_path / "scores.parquet")


def test_text_of_an_empty_table(tmp_path: Path) -> None:
    write_haplotypes_tsv(HAPLOTYPE_SCHEMA.empty_table(), tmp_path / "none.tsv")
    assert (tmp_path / "none.tsv").read_text().splitlines()[0].split("\t")[:3] == ["id", "contig", "position"]
