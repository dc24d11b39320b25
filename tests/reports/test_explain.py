"""One allele's fate: any spelling finds it, every outcome is told with its facts, nothing is guessed."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from dnagrinder.cli import main
from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.reference import prepare_reference
from dnagrinder.genome.variants import Reason
from dnagrinder.reports.explain import Spelling, explain
from dnagrinder.reports.explain_words import in_words
from dnagrinder.reports.tables import build_sample_tables
from dnagrinder.scoring.tables import read_parquet
from tests.reports.conftest import PROVENANCE, make_callset

DRAW = random.Random(7)
#: 600 random bases, a repeat of six CA behind a G (0-based 600), a T, 2,400 random bases.
SEQUENCE = "".join(DRAW.choices("ACGT", k=600)) + "G" + "CA" * 6 + "T" + "".join(DRAW.choices("ACGT", k=2400))
LONG = "".join(DRAW.choices("ACGT", k=150))
HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=chr20>\n##contig=<ID=zz>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tchild\tmother\n"
)
A, B = SEQUENCE[700], SEQUENCE[900]
TO = {"A": "CGT", "C": "AGT", "G": "ACT", "T": "ACG"}


def line(start: int, ref: str, alts: str, child: str, mother: str, name: str = ".", contig: str = "chr20") -> str:
    return f"{contig}\t{start + 1}\t{name}\t{ref}\t{alts}\t.\tPASS\t.\tGT\t{child}\t{mother}\n"


LINES = [
    line(610, "ACA", "A", "0|1", "0|0", "rs1"),  # the last CA of the repeat
    line(602, "ACAC", "AC", "./.", "1/1", "rs2"),  # the same deletion, spelt elsewhere
    line(700, A, f"{TO[A][0]},{TO[A][1]},<DEL>", "1|3", "2|2"),
    line(800, SEQUENCE[800], SEQUENCE[800] + LONG, "1/1", "0/0"),
    line(900, TO[B][0], B, "0/1", "0/0"),  # REF is not the reference's base
    *(line(start, SEQUENCE[start], TO[SEQUENCE[start]][0], "0/1", "0/0") for start in (1000, 1001, 1002)),
    line(50, "A", "C", "0/1", "0/0", contig="zz"),
    line(1500, SEQUENCE[1500], ".", "0/0", "0/0"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with what explain reads; the sequence's checksum is made the one of the scores."""
    root = tmp_path_factory.mktemp("results")
    fasta = root / "small.fa"
    fasta.write_text(f">20\n{SEQUENCE}\n")
    prepare_reference(fasta, root / "reference" / "genome.fa.gz")
    card = root / "reference" / "genome.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "sha256": PROVENANCE["reference_sha256"]}))
    vcf = root / "family.vcf"
    vcf.write_text(HEADER + "".join(LINES))
    callset = make_callset(root / "callsets" / "family", vcf, fasta)
    tables = {name: getattr(callset, name) for name in ("alleles", "ledger", "genotypes", "summary", "scores")}
    build_sample_tables({"kid": "child", "mum": "mother"}, callset="family", **tables, out_dir=root / "samples")
    return root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr20:5:A:G", Spelling("chr20", 4, "A", "G")),
        ("HLA:A*01:02:5:a:GT", Spelling("HLA:A*01:02", 4, "a", "GT")),
        ("1:5:A:<INS:ME:ALU>", Spelling("1", 4, "A", "<INS:ME:ALU>")),
        ("1:5:A:A[2:9[", Spelling("1", 4, "A", "A[2:9[")),
        ("1:5:A:*", Spelling("1", 4, "A", "*")),
        ("1:5:A:.", Spelling("1", 4, "A", ".")),
    ],
)
def test_spellings_are_parsed(text: str, expected: Spelling) -> None:
    assert Spelling.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text", ["", "chr20", "chr20:5", "chr20:5:A", "chr20:x:A:G", "chr20:5:A:G,T", "chr20:5::G", "20:5:A:G H"]
)
def test_what_is_no_allele_is_refused(results: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="is no allele; write it as CHROM:POS:REF:ALT"):
        explain(results, "kid", text)


KEY = "20:601:GCA:G"


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        (KEY, (False, 0, 0)),
        ("chr20:601:GCA:G", (True, 0, 0)),
        ("20:611:ACA:A", (False, 0, 9)),
        ("20:602:CACACA:CACA", (False, 3, 0)),
        ("20:601:gcacacacacaca:gcacacacaca", (False, 10, 0)),
        ("20:612:CAT:T", (False, 0, 10)),
    ],
)
def test_any_spelling_finds_the_allele_and_its_records(results: Path, asked: str, steps: tuple[bool, int, int]) -> None:
    facts = explain(results, "kid", asked)
    assert tuple(facts["normalisation"].values()) == steps
    assert (facts["asked"], facts["key"], facts["kind"]) == (asked, KEY, "deletion")
    assert facts["fully_justified"] == {"contig": "20", "start": 601, "end": 613, "ref": "CA" * 6, "alt": "CA" * 5}
    assert facts["outcome"] == "scored"
    (record,) = facts["records"]
    assert (record["record"], record["id"], record["position"], record["ref"], record["alt"]) == (0, "rs1", 611, "ACA", "A")
    assert (record["genotype"], record["copies"], record["phased"]) == ("0|1", 1, True)
    (scored,) = [row for row in read_parquet(results / "samples/kid/scores.parquet").to_pylist() if row["start"] == 600]
    assert facts["score"] == {name: scored[name] for name in facts["score"]}
    assert facts["provenance"] == PROVENANCE
    assert facts["reason"] is None
    assert facts["nearest"] == facts["carriers"] == []
    assert explain(results, "mum", asked)["records"][0]["id"] == "rs2"


def test_words_of_a_scored_allele(results: Path) -> None:
    words = in_words(explain(results, "kid", "chr20:611:ACA:A"))
    for part in (
        "chr20:611:ACA:A in sample kid (family.vcf)",
        f"Key: {KEY} (deletion; bases moved left: 9, contig named as in the reference).",
        "Fully justified (VRS, 0-based): 20:[601, 613) CACACACACACA > CACACACACA.",
        "It can be written at 11 places",
        "Scored in this run.",
        "Input: record 1 of family.vcf (header not counted), ALT 1: chr20:611 ACA > A, ID rs1, FILTER PASS, genotype 0|1",
        "Model: mini, sha256 ",
        "precision float32, views 2, window 512",
    ):
        assert part in words


def test_every_allele_of_the_tables_is_told_as_the_tables_have_it(results: Path) -> None:
    told: list[str] = []
    for sample in ("kid", "mum"):
        for row in read_parquet(results / "samples" / sample / "scores.parquet").to_pylist():
            facts = explain(results, sample, f"{row['contig']}:{row['start'] + 1}:{row['ref']}:{row['alt']}")
            assert facts["outcome"] == row["status"]
            assert facts["score"]["score"] == row["score"]
            assert row["record"] in {record["record"] for record in facts["records"]}
            told.append(facts["outcome"])
        for row in read_parquet(results / "samples" / sample / "ledger.parquet").to_pylist():
            alt = row["input_alt"] if "..." not in row["input_alt"] else SEQUENCE[800] + LONG
            facts = explain(results, sample, f"{row['input_contig']}:{row['input_position']}:{row['input_ref']}:{alt}")
            assert (facts["outcome"], facts["score"]) == ("rejected", None)
            assert (facts["reason"]["code"], facts["reason"]["detail"]) == (row["reason"], row["detail"])
            assert f"What to do: {Reason[row['reason']].advice}." in in_words(facts)
            told.append(facts["reason"]["code"])
    assert set(told) == {"scored", "from_store", "SYMBOLIC", "TOO_LONG", "REF_MISMATCH", "CONTIG_ABSENT"}


def test_an_allele_too_long_is_found_in_another_spelling(results: Path) -> None:
    asked = f"20:800:{SEQUENCE[799:802]}:{SEQUENCE[799:801]}{LONG}{SEQUENCE[801]}"
    facts = explain(results, "kid", asked)
    assert (facts["outcome"], facts["reason"]["code"], facts["records"][0]["record"]) == ("rejected", "TOO_LONG", 3)
    assert facts["kind"] == "insertion"
    other = asked[:-10] + ("A" if asked[-10] != "A" else "C") + asked[-9:]
    facts = explain(results, "kid", other)
    assert (facts["outcome"], facts["reason"]["code"]) == ("absent", "TOO_LONG")
    assert "It would be rejected: TOO_LONG" in in_words(facts)


def test_what_the_sample_does_not_carry(results: Path) -> None:
    facts = explain(results, "kid", f"20:701:{A}:{TO[A][1]}")
    assert (facts["outcome"], facts["score"], facts["carriers"]) == ("not_carried", None, ["mother"])
    assert facts["records"][0]["genotype"] == "1|3"
    words = in_words(facts)
    assert "The sample does not carry it" in words
    assert "genotype 1|3" in words
    assert "Carried by: mother." in words
    facts = explain(results, "mum", f"20:901:{TO[B][0]}:{B}")
    assert (facts["outcome"], facts["reason"]["code"], facts["carriers"]) == ("not_carried", "REF_MISMATCH", ["child"])
    facts = explain(results, "kid", f"20:1501:{SEQUENCE[1500]}:.")
    assert (facts["outcome"], facts["reason"]["code"], facts["carriers"]) == ("not_carried", "MISSING_ALT", [])


def test_a_file_with_one_column(results: Path, tmp_path: Path) -> None:
    """A complete call without the allele is told as not carried; one that leaves it open is the sample's."""
    shutil.copytree(results / "reference", tmp_path / "reference")
    calls = {1000: "0/1", 1001: "0/0", 1002: "./0", 1003: "."}
    text = [HEADER.replace("\tmother", "")]
    for start, call in calls.items():
        text.append("\t".join(line(start, SEQUENCE[start], TO[SEQUENCE[start]][0], call, "").split("\t")[:10]) + "\n")
    (tmp_path / "one.vcf").write_text("".join(text))
    callset = make_callset(tmp_path / "callsets" / "kid", tmp_path / "one.vcf", results / "small.fa")
    tables = {name: getattr(callset, name) for name in ("alleles", "ledger", "genotypes", "summary", "scores")}
    build_sample_tables({"kid": "child"}, callset="kid", **tables, out_dir=tmp_path / "samples")
    told = {}
    for start in calls:
        told[start] = explain(tmp_path, "kid", f"20:{start + 1}:{SEQUENCE[start]}:{TO[SEQUENCE[start]][0]}")
    assert [facts["outcome"] in ("scored", "from_store") for facts in told.values()] == [True, False, True, True]
    assert (told[1001]["outcome"], told[1001]["carriers"]) == ("not_carried", [])
    said = ["genotype 0/1 (1 copy", "no ALT in the sample's genotype", "genotype ./0.", "the record states no genotype"]
    for facts, part in zip(told.values(), said, strict=True):
        assert part in in_words(facts)


def test_an_absent_allele_names_its_neighbours(results: Path) -> None:
    base = SEQUENCE[1001]
    facts = explain(results, "kid", f"chr20:1002:{base}:{TO[base][1]}")
    assert (facts["outcome"], facts["records"], facts["reason"]) == ("absent", [], None)
    assert [other["distance"] for other in facts["nearest"]] == [0, 0, 0, 100, 200]
    assert facts["nearest"][1]["allele"] == f"20:1002:{base}:{TO[base][0]}"
    assert [other["reason"] for other in facts["nearest"]] == [None, None, None, "REF_MISMATCH", "TOO_LONG"]
    assert "20:1002:" in in_words(facts)
    far = explain(results, "kid", f"20:2901:{SEQUENCE[2900]}:{TO[SEQUENCE[2900]][0]}")
    assert far["nearest"] == []
    assert "no allele near it" in in_words(far)
    unknown = explain(results, "kid", "chr21:5:A:G")
    assert (unknown["outcome"], unknown["key"], unknown["reason"]["code"]) == ("absent", None, "CONTIG_ABSENT")


def test_a_sample_a_reference_and_a_folder_that_do_not_fit(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tables of sample dad \(it holds: kid, mum\)"):
        explain(results, "dad", KEY)
    with pytest.raises(InputError, match=r"it holds: none"):
        explain(tmp_path, "kid", KEY)
    card = results / "reference" / "genome.json"
    before = card.read_text()
    try:
        card.write_text(json.dumps({"sha256": "0" * 64}))
        with pytest.raises(InputError, match="is of another reference than the scores"):
            explain(results, "kid", KEY)
    finally:
        card.write_text(before)


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["dnagrinder", "explain", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_the_command(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"--results={results}"
    facts: dict[str, Any] = explain(results, "kid", KEY)
    code, out, _ = run(["kid", KEY, folder, "--json"], monkeypatch, capsys)
    assert (code, json.loads(out)) == (0, facts)
    assert run(["kid", KEY, folder], monkeypatch, capsys) == (0, in_words(facts) + "\n", "")
    assert run(["kid", "20:5:A:G", folder], monkeypatch, capsys)[0] == 0
    assert run(["dad", KEY, folder], monkeypatch, capsys)[0] == 3
    code, _, error = run(["kid", "nonsense", folder], monkeypatch, capsys)
    assert (code, error.count("\n")) == (5, 1)
