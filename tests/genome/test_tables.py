"""The tables of a call set, and the annotations in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dnagrinder.errors import BuildMismatchError, ConfigError, InputError
from dnagrinder.genome import tables
from dnagrinder.genome.annotations import Annotation, Annotator
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import ALLELES, GENOTYPES, LEDGER, write_variant_tables

WriteVcf = Callable[..., Path]
HEADER = (
    '##INFO=<ID=AF,Number=A,Type=Float,Description="">\n'
    '##INFO=<ID=CLNSIG,Number=.,Type=String,Description="">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
)
LINES = (
    "c1 9 rs1 TTG TG,*,GTTG . PASS AF=0.25,0.5,1e-3;GENEINFO=BRCA1:672|NBR2:10230;CLNSIG=Benign GT 0|1 3/2 1|3|3",
    "c1 1 . C . . . . GT 0|0 0|0 .",
    "chrc1 4 . a g 50 q10 AF=0.1;GENE=MLH1 GT:DP 1:3 1/1 ./.",
    "c2 4 . A <DEL> . . . GT 0/1 . 0",
)


def write(vcf: Path, genome: ReferenceGenome, folder: Path, **options: Any) -> dict[str, Any]:
    return write_variant_tables(
        vcf,
        genome,
        alleles=folder / "alleles.parquet",
        ledger=folder / "ledger.parquet",
        genotypes=folder / "genotypes.parquet",
        summary=folder / "summary.json",
        **options,
    )


def rows(path: Path) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]


def test_tables(write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path) -> None:
    vcf = write_vcf(*LINES, header=HEADER, samples=("s1", "s2", "s3"))
    summary = write(vcf, genome, tmp_path / "new")
    assert rows(tmp_path / "new/alleles.parquet") == [
        (0, 1, "c1", 7, "AT", "A", "deletion", "c1", 9, "TTG", "TG", "rs1", "PASS", 0.25, "BRCA1,NBR2", None, "Benign"),
        (0, 3, "c1", 7, "A", "AG", "insertion", "c1", 9, "TTG", "GTTG", "rs1", "PASS", 0.001, "BRCA1,NBR2", None, "Benign"),
        (2, 1, "c1", 3, "A", "G", "snv", "chrc1", 4, "a", "g", None, "q10", 0.1, "MLH1", None, None),
    ]
    assert rows(tmp_path / "new/ledger.parquet") == [
        (0, 2, "c1", 9, "TTG", "*", "SPANNING_DELETION", "ALT is *"),
        (1, 0, "c1", 1, "C", ".", "MISSING_ALT", "the record has no ALT allele"),
        (3, 1, "c2", 4, "A", "<DEL>", "SYMBOLIC", "ALT is <DEL>"),
    ]
    assert rows(tmp_path / "new/genotypes.parquet") == [
        (0, 1, "s1", "0|1", 1, True),
        (2, 1, "s1", "1", 1, False),
        (3, 1, "s1", "0/1", 1, False),
        (0, 2, "s2", "3/2", 1, False),
        (0, 3, "s2", "3/2", 1, False),
        (2, 1, "s2", "1/1", 2, False),
        (0, 1, "s3", "1|3|3", 1, True),
        (0, 3, "s3", "1|3|3", 2, True),
    ]
    assert summary == {
        "vcf": "calls.vcf",
        "vcf_sha256": hashlib.sha256(vcf.read_bytes()).hexdigest(),
        "samples": ["s1", "s2", "s3"],
        "samples_read": ["s1", "s2", "s3"],
        "records": 4,
        "alleles_in": 6,
        "accepted": 3,
        "rejected": 3,
        "rejected_by_reason": {"MISSING_ALT": 1, "SPANNING_DELETION": 1, "SYMBOLIC": 1},
        "ref_checked": 4,
        "ref_matched": 4,
    }
    assert json.loads((tmp_path / "new/summary.json").read_text()) == summary
    assert len(list((tmp_path / "new").iterdir())) == 4


def test_rows_of_a_sample_lie_together_and_in_file_order(
    write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcf = write_vcf(*LINES * 6, header=HEADER, samples=("s1", "s2", "s3"))
    write(vcf, genome, tmp_path / "whole")
    monkeypatch.setattr(tables, "_ROWS_PER_GROUP", 5)
    monkeypatch.setattr(tables, "_GROUPS_SORTED", 4)
    write(vcf, genome, tmp_path / "pieces")
    file = pq.ParquetFile(tmp_path / "pieces/genotypes.parquet")
    samples = [file.read_row_group(group)["sample"].to_pylist() for group in range(file.num_row_groups)]
    assert len(samples) == 10
    assert all(names == sorted(names) for names in samples)
    assert any(len(set(names)) == 1 for names in samples)
    for sample in ("s1", "s2", "s3"):
        whole, pieces = (
            [row for row in rows(tmp_path / name / "genotypes.parquet") if row[2] == sample] for name in ("whole", "pieces")
        )
        assert pieces == whole == sorted(whole)


def test_a_phase_in_front_of_a_genotype_is_no_allele(write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path) -> None:
    calls = ("/0|1", "|0/1", "/1|1", "|1/1", "/1", "/.|1", "0|1")
    vcf = write_vcf(f"c1 9 . T G . . . GT {' '.join(calls)}", header=HEADER, samples=tuple("abcdefg"), version="4.4")
    write(vcf, genome, tmp_path / "new")
    copies = [(1, False), (1, False), (2, False), (2, False), (1, False), (1, False), (1, True)]
    found = [(row[3], row[4:]) for row in rows(tmp_path / "new/genotypes.parquet")]
    assert found == list(zip(calls, copies, strict=True))  # the text as the file has it


def test_only_the_samples_asked_for(write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path) -> None:
    vcf = write_vcf(*LINES, header=HEADER, samples=("s1", "s2", "s3"))
    assert write(vcf, genome, tmp_path, samples=["s3"])["samples_read"] == ["s3"]
    assert rows(tmp_path / "genotypes.parquet") == [(0, 1, "s3", "1|3|3", 1, True), (0, 3, "s3", "1|3|3", 2, True)]
    assert write(vcf, genome, tmp_path, samples=[])["samples"] == ["s1", "s2", "s3"]
    assert rows(tmp_path / "genotypes.parquet") == []
    with pytest.raises(ConfigError, match="no sample s9"):
        write(vcf, genome, tmp_path, samples=["s9"])


def test_bytes_are_the_same_each_time_and_schemas_are_kept_when_empty(
    write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcf = write_vcf(*LINES * 5, header=HEADER, samples=("s1", "s2", "s3"))
    write(vcf, genome, tmp_path / "a")
    write(vcf, genome, tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    monkeypatch.setattr(tables, "_ROWS_PER_GROUP", 4)
    write(vcf, genome, tmp_path / "c")
    assert pq.ParquetFile(tmp_path / "c/alleles.parquet").num_row_groups == 4
    assert rows(tmp_path / "c/alleles.parquet") == rows(tmp_path / "a/alleles.parquet")
    write(write_vcf(), genome, tmp_path / "empty")
    for name, schema in (("alleles", ALLELES), ("ledger", LEDGER), ("genotypes", GENOTYPES)):
        table = pq.read_table(tmp_path / "empty" / f"{name}.parquet")
        assert table.num_rows == 0
        assert table.schema.equals(schema)


def test_nothing_is_left_or_replaced_when_reading_fails(
    write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    write(write_vcf(LINES[1], header=HEADER, samples=("s1", "s2", "s3")), genome, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError, match="not a VCF record"):
        write(write_vcf("c1 4 . A G . . .", "c1"), genome, folder)
    with pytest.raises(BuildMismatchError, match="only 0 of 20"):
        write(write_vcf(*["c1 4 . C G . . ."] * 20), genome, folder)
    with pytest.raises(BuildMismatchError, match="differ in length"):
        write(write_vcf(header="##contig=<ID=c1,length=5>\n"), genome, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_long_alleles_are_cut_in_the_ledger(write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path) -> None:
    write(write_vcf(f"c2 1 . {'A' * 400} {'A' * 201} . . ."), genome, tmp_path)
    (row,) = rows(tmp_path / "ledger.parquet")
    assert row[4:6] == ("A" * 200 + "...(400 bp)", "A" * 200 + "...(201 bp)")
    assert row[6:] == ("TOO_LONG", "199 bp become 0 bp, the limit is 128 bp")


@pytest.mark.parametrize(
    ("number", "text", "expected"),
    [("A", "AF=0.5", 0.5), ("A", "AF=.", None), ("A", "AF=0.5,0.5", None), ("A", "X=1", None), ("1", "AF=0.5", None)],
)
def test_allele_frequency_only_where_declared_per_allele(
    write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path, number: str, text: str, expected: float | None
) -> None:
    header = f'##INFO=<ID=AF,Number={number},Type=Float,Description="">\n'
    write(write_vcf(f"c1 4 . A G . . {text}", header=header), genome, tmp_path)
    assert pq.read_table(tmp_path / "alleles.parquet")["af"].to_pylist() == [expected]


CSQ = "Consequence annotations from Ensembl VEP. Format: Allele|Consequence|IMPACT|SYMBOL|Gene|CLIN_SIG"


@pytest.mark.parametrize(
    ("info", "ref", "alts", "index", "expected"),
    [
        ({"CSQ": "G|stop_gained|HIGH|TP53|E1|,G|missense|MODERATE|X|E2|"}, "A", ["G"], 0, ("TP53", "stop_gained", None)),
        ({"CSQ": "T|a|||E1|,G|b||||pathogenic"}, "A", ["G", "T"], 0, (None, "b", "pathogenic")),
        ({"CSQ": "T|a|||E1|,G|b||||pathogenic"}, "A", ["G", "T"], 1, ("E1", "a", None)),
        ({"CSQ": "-|frameshift_variant|HIGH|APC||"}, "CAT", ["C"], 0, ("APC", "frameshift_variant", None)),
        ({"CSQ": "TT|ins|HIGH|APC||,T|snv|LOW|APC||"}, "C", ["CTT", "CT"], 1, ("APC", "snv", None)),
        ({"CSQ": "T|snv|LOW|APC||"}, "C", ["G"], 0, (None, None, None)),
        ({"ANN": "G|missense_variant|MODERATE|PER3|ENSG,T|x|LOW|Y|E"}, "A", ["G"], 0, ("PER3", "missense_variant", None)),
        ({"BCSQ": "@5,missense|MUTYH|ENST|coding|-|45G>E|10A>G"}, "A", ["G"], 0, ("MUTYH", "missense", None)),
        ({"BCSQ": "x|G1|||||10A>T,*y|G2|||||10A>G+12C>T"}, "A", ["T", "G"], 1, ("G2", "y", None)),
        ({"GENEINFO": "BRCA1:672|NBR2:1", "MC": "SO:1|nonsense,SO:2|intron_variant"}, "A", ["G"], 0,
         ("BRCA1,NBR2", "nonsense&intron_variant", None)),
        ({"GENE": "AGRN", "CLNSIG": "Benign|Likely_benign"}, "A", ["G"], 0, ("AGRN", None, "Benign|Likely_benign")),
        ({"CLNSIG": "."}, "A", ["G"], 0, (None, None, None)),
        ({}, "A", ["G"], 0, (None, None, None)),
    ],
)  # fmt: skip
def test_annotations(
    info: dict[str, str], ref: str, alts: list[str], index: int, expected: tuple[str | None, str | None, str | None]
) -> None:
    assert Annotator.from_header(CSQ, ".").read(info, 10, ref, alts, index) == Annotation(*expected)


def test_clinical_significance_per_allele_where_declared_so() -> None:
    info = {"CLNSIG": "Benign,Pathogenic"}
    assert Annotator.from_header(None, "A").read(info, 1, "A", ["G", "T"], 1).clinical_significance == "Pathogenic"
    assert Annotator.from_header(None, ".").read(info, 1, "A", ["G", "T"], 1).clinical_significance == "Benign,Pathogenic"
