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
from dnagrinder.genome.annotations import Annotation, Annotator, severity
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import ALLELES, GENOTYPES, LEDGER, write_variant_tables
from dnagrinder.scoring.calibration.classes import CLASSES

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


@pytest.mark.parametrize("kind", ["Float", "String"])
@pytest.mark.parametrize(
    ("number", "alts", "text", "expected"),
    [
        ("A", "G", "AF=0.5", [0.5]),
        ("A", "G", "AF=.", [None]),
        ("A", "G", "AF=0.5,0.5", [None]),
        ("A", "G", "X=1", [None]),
        ("A", "G,T", "AF=0.5,0.25", [0.5, 0.25]),
        ("1", "G", "AF=0.5", [0.5]),
        ("1", "G", "AF=.", [None]),
        ("1", "G,T", "AF=0.5", [None, None]),
        ("1", "G,T", "AF=0.5,0.25", [None, None]),
        (".", "G", "AF=0.5", [0.5]),
        (".", "G", "AF=0.5,0.25", [None]),
        (".", "G,T", "AF=0.5,0.25", [0.5, 0.25]),
        (".", "G,T", "AF=0.5", [None, None]),
        ("R", "G", "AF=0.75,0.25", [None]),
        ("G", "G", "AF=0.5", [None]),
    ],
)
def test_allele_frequency_only_where_it_is_clear_whose_it_is(
    write_vcf: WriteVcf,
    genome: ReferenceGenome,
    tmp_path: Path,
    kind: str,
    number: str,
    alts: str,
    text: str,
    expected: list[float | None],
) -> None:
    header = f'##INFO=<ID=AF,Number={number},Type={kind},Description="">\n'
    write(write_vcf(f"c1 4 . A {alts} . . {text}", header=header), genome, tmp_path)
    assert pq.read_table(tmp_path / "alleles.parquet")["af"].to_pylist() == expected


@pytest.mark.parametrize(("kind", "text"), [("Integer", "AF=1"), ("String", "AF=0.1|0.2"), ("Float", "AF=inf")])
def test_what_is_no_frequency_is_not_taken_for_one(
    write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path, kind: str, text: str
) -> None:
    header = f'##INFO=<ID=AF,Number=1,Type={kind},Description="">\n'
    write(write_vcf(f"c1 4 . A G . . {text}", header=header), genome, tmp_path)
    assert pq.read_table(tmp_path / "alleles.parquet")["af"].to_pylist() == [None]


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


PICKED = "Format: Allele|Consequence|IMPACT|SYMBOL|Gene|BIOTYPE|PICK|MANE_SELECT|MANE_PLUS_CLINICAL|CANONICAL"


@pytest.mark.parametrize(
    ("entries", "gene", "consequence"),
    [
        (["upstream_gene_variant|MODIFIER|NEXT|||", "stop_gained|HIGH|GENEX|||1"], "GENEX", "stop_gained"),
        (["stop_gained|HIGH|OTHER", "missense_variant|MODERATE|GENEX|||1"], "GENEX", "missense_variant"),
        (["intron_variant|MODIFIER|A|||1", "missense_variant|MODERATE|B|||1"], "B", "missense_variant"),
        (["intergenic_variant|MODIFIER", "5_prime_UTR_variant|MODIFIER|A"], "A", "5_prime_UTR_variant"),
        (["missense_variant|MODERATE|A||||NM_1|||YES", "splice_donor_variant|HIGH|B"], "B", "splice_donor_variant"),
        (["splice_region_variant&intron_variant|LOW|A", "synonymous_variant|LOW|B"], "A",
         "splice_region_variant&intron_variant"),
        (["synonymous_variant|LOW|A||||NM_1", "frameshift_variant&NMD_transcript_variant|HIGH|B"], "B",
         "frameshift_variant&NMD_transcript_variant"),
        (["intron_variant|MODIFIER|A||protein_coding", "non_coding_transcript_exon_variant|MODIFIER|B"], "B",
         "non_coding_transcript_exon_variant"),
        (["stop_lost|HIGH|A||protein_coding|||NM_1|YES", "stop_lost|HIGH|B||||NM_2"], "B", "stop_lost"),
        (["stop_lost|HIGH|A||protein_coding||||YES", "stop_lost|HIGH|B|||||NM_1"], "B", "stop_lost"),
        (["missense_variant|MODERATE|A||protein_coding", "missense_variant|MODERATE|B||||||YES"], "B", "missense_variant"),
        (["missense_variant|MODERATE|A||lncRNA", "missense_variant|MODERATE|B||protein_coding"], "B", "missense_variant"),
        (["missense_variant|MODERATE|A", "missense_variant|MODERATE|B"], "A", "missense_variant"),
        (["stop_gained|HIGH|A", "novel_term|HIGH|B"], "A", "stop_gained"),
        (["missense_variant|MODERATE|A", "novel_term|HIGH|B"], "B", "novel_term"),
        (["novel_term|MODIFIER|A", "intergenic_variant|MODIFIER|B"], "B", "intergenic_variant"),
        (["novel_term||A", "sequence_feature|LOW|B", "intron_variant|MODIFIER|C"], "C", "intron_variant"),
    ],
)  # fmt: skip
def test_of_several_vep_entries_the_picked_or_most_severe_counts(entries: list[str], gene: str, consequence: str) -> None:
    csq = ",".join(["T|transcript_ablation|HIGH|NOT|||1", *(f"G|{entry}" for entry in entries)])
    found = Annotator.from_header(PICKED, ".").read({"CSQ": csq}, 10, "A", ["G", "T"], 0)
    assert (found.gene, found.consequence) == (gene, consequence)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"BCSQ": "intron|G1|T1|protein_coding,*stop_gained|G2|T2|protein_coding,missense|G3|T3|protein_coding"},
         ("G2", "stop_gained")),
        ({"BCSQ": "non_coding|G1|T1|lncRNA,3_prime_utr|G2|T2|protein_coding"}, ("G2", "3_prime_utr")),
        ({"ANN": "G|sequence_feature|LOW|G1|E1|domain|T1|protein_coding,G|intron_variant|MODIFIER|G1|E1||T1|lncRNA"},
         ("G1", "intron_variant")),
        ({"ANN": "G|structural_interaction_variant|HIGH|G1|E1||T1|,G|disruptive_inframe_insertion|MODERATE|G2|E2||T2|"},
         ("G2", "disruptive_inframe_insertion")),
    ],
)  # fmt: skip
def test_of_several_entries_of_others_the_most_severe_counts(info: dict[str, str], expected: tuple[str, str]) -> None:
    found = Annotator().read(info, 10, "A", ["G"], 0)
    assert (found.gene, found.consequence) == expected


def test_severity_follows_ensembl_and_knows_the_terms_of_every_calibration_class() -> None:
    ordered = ("splice_acceptor_variant", "stop_gained", "frameshift_variant", "start_lost", "inframe_deletion",
               "missense_variant", "splice_donor_5th_base_variant", "synonymous_variant", "coding_sequence_variant",
               "5_prime_UTR_variant", "non_coding_transcript_exon_variant", "intron_variant", "NMD_transcript_variant",
               "upstream_gene_variant", "regulatory_region_variant", "intergenic_variant", "unheard_of")  # fmt: skip
    ranks = [severity(term) for term in ordered]
    assert ranks == sorted(set(ranks))
    assert severity("intron_variant&splice_donor_variant&unheard_of") == severity("splice_donor_variant")
    known = set().union(*CLASSES.values())
    assert {term for term in known if severity(term) == severity("unheard_of")} == set()


def test_genes_in_which_the_allele_lies_have_a_consequence_each() -> None:
    entries = ["downstream_gene_variant|MODIFIER|NEXT", "intron_variant|MODIFIER|A", "missense_variant|MODERATE|A",
               "intergenic_variant|MODIFIER", "regulatory_region_variant|MODIFIER", "unheard_of|MODIFIER||ENSG2",
               "stop_gained|HIGH|B", "sequence_feature|LOW|FEATURE"]  # fmt: skip
    csq = ",".join(["T|stop_gained|HIGH|NOT", *(f"G|{entry}" for entry in entries)])
    annotator = Annotator.from_header(PICKED, ".")
    found = annotator.consequences_by_gene({"CSQ": csq}, 10, "A", ["G", "T"], 0)
    assert found == {"A": "missense_variant", "B": "stop_gained", "ENSG2": "unheard_of"}
    assert annotator.consequences_by_gene({"GENE": "A", "MC": "SO:1|nonsense"}, 10, "A", ["G"], 0) == {}


def test_clinical_significance_per_allele_where_declared_so() -> None:
    info = {"CLNSIG": "Benign,Pathogenic"}
    assert Annotator.from_header(None, "A").read(info, 1, "A", ["G", "T"], 1).clinical_significance == "Pathogenic"
    assert Annotator.from_header(None, ".").read(info, 1, "A", ["G", "T"], 1).clinical_significance == "Benign,Pathogenic"
