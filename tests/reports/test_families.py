"""Families: candidates from genotypes in tables and page, and every case that cannot be told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.reports.families import Member, write_family
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.findings import family_warnings
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.reports.tables import build_sample_tables
from tests.reports.conftest import make_callset, write_reference
from tests.reports.test_sample import Reader

HEADER = """\
##fileformat=VCFv4.2
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">
##INFO=<ID=CONTIG,Number=1,Type=String,Description="Where the test puts the row">
##INFO=<ID=GENE,Number=1,Type=String,Description="Gene">
##INFO=<ID=CSQ,Number=.,Type=String,Description="From Ensembl VEP. Format: Allele|Consequence|IMPACT|SYMBOL">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">
##contig=<ID=20,length=40000>
##contig=<ID=MT,length=40000>
##contig=<ID=X,length=40000>
##contig=<ID=Y,length=40000>
"""
TRIO = ("child", "mother", "father")
#: position, INFO, then child, mother, father
ROWS = [
    (1001, "GENE=NEW", "0/1", "0/0", "0/0"),
    (1101, "GENE=NEW", "0/1", "./.", "0/0"),
    (1201, "GENE=NEW", "0/1", "0/0", "./."),
    (1301, "GENE=PAIR;AF=0.001", "0/1", "0/1", "0/0"),
    (1401, "GENE=PAIR;AF=0.002", "0/1", "0/0", "0/1"),
    (1501, "GENE=ONE", "0/1", "0/1", "0/0"),
    (1601, "GENE=ONE", "0/1", "0/1", "0/0"),
    (1701, "GENE=BOTH", "0/1", "0/1", "0/1"),
    (1801, "AF=0.6", "0/1", "0/1", "0/0"),
    (1901, "AF=0.6", "0/1", "0/0", "0/1"),
    (2001, "GENE=HOM", "1/1", "0/0", "0/0"),
    (2101, "GENE=APART", "0|1:7", "0/1", "0/1"),
    (2201, "GENE=APART", "1|0:7", "0/1", "0/1"),
    (2301, "GENE=SETS", "0|1:7", "0/1", "0/1"),
    (2401, "GENE=SETS", "1|0:8", "0/1", "0/1"),
    (2501, "GENE=NOT", "0/0", "0/1", "0/1"),
]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Writes a VCF of rows (position, INFO with ? for ALT, genotype ...) and the tables of its columns; returns the VCF.

    Rows lie on contig 20; those whose INFO begins with CONTIG=, on that one.
    """
    sequence = write_reference(tmp_path / "reference.fa")
    bases = (tmp_path / "reference.fa").read_text()
    (tmp_path / "reference.fa").write_text("".join(bases.replace(">20", f">{name}") for name in ("20", "MT", "X", "Y")))

    def make(name: str, rows: list[tuple], samples: tuple[str, ...]) -> Path:
        lines = [HEADER + "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples])]
        for position, info, *calls in rows:
            ref = sequence[position - 1]
            others = ("ACGT" * 2)["ACGT".index(ref) + 1 :]
            alt = ",".join(others[: 2 if any("2" in call.split(":")[0] for call in calls) else 1])
            values = [call if ":" in call else f"{call}:." for call in calls]
            info = info.replace("?", alt)
            contig = info.partition("CONTIG=")[2].partition(";")[0] or "20"
            lines.append("\t".join([contig, str(position), ".", ref, alt, ".", "PASS", info, "GT:PS", *values]))
        (tmp_path / f"{name}.vcf").write_text("\n".join(lines) + "\n")
        files = make_callset(tmp_path / name, tmp_path / f"{name}.vcf", tmp_path / "reference.fa")
        build_sample_tables(
            dict.fromkeys(samples),
            callset=name,
            alleles=files.alleles,
            ledger=files.ledger,
            genotypes=files.genotypes,
            summary=files.summary,
            scores=files.scores,
            out_dir=tmp_path / "samples",
        )
        return tmp_path / f"{name}.vcf"

    return make


def trio(tmp_path: Path, vcf: Path, filters: Filters | None = None, **changes: Any) -> dict[str, Any]:
    """The family of child, mother and father, and its table by list and position."""
    members = [Member("child", "proband", "female", "affected"), Member("mother", "mother"), Member("father", "father")]
    settings = {"vcf": vcf, "samples": tmp_path / "samples", "out_dir": tmp_path / "family", "filters": filters or Filters()}
    content = write_family("F1", changes.pop("members", members), **{**settings, **changes})
    with (tmp_path / "family" / "candidates.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {**content, "table": {(row["list"], int(row["position"])): row for row in rows}}


def test_lists_are_those_of_the_genotypes(tmp_path: Path, build: Callable[..., Path]) -> None:
    found = trio(tmp_path, build("trio", ROWS, TRIO))
    new = [place for name, place in found["table"] if name == "de_novo"]
    assert set(new) == {1001, 2001}
    assert found["origins"] == {"de_novo": 2, "inherited": 11, "cannot_tell": 2}
    assert found["reasons"] == {
        "the father's call is missing or incomplete": 1,
        "the mother's call is missing or incomplete": 1,
    }
    assert found["table"]["de_novo", 1001]["evidence"] == "mother 0/0, father 0/0"
    assert "homozygous" in found["table"]["de_novo", 2001]["evidence"]
    pairs = {place: (row["gene"], row["copy"]) for (name, place), row in found["table"].items() if name == "compound_het"}
    assert pairs == {
        1301: ("PAIR", "mother"),
        1401: ("PAIR", "father"),
        2101: ("APART", "copy 2"),
        2201: ("APART", "copy 1"),
    }
    assert found["table"]["compound_het", 2101]["evidence"] == "phased apart, phase set 7"
    assert found["table"]["compound_het", 1301]["evidence"] == "one from each parent"
    assert found["totals"] == {"de_novo": 2, "compound_het": 4, "genes": 2}


def test_an_allele_pairs_in_every_gene_it_lies_in(tmp_path: Path, build: Callable[..., Path]) -> None:
    intron, missense = "intron_variant|MODIFIER", "missense_variant|MODERATE"
    first = f"CSQ=?|{intron}|OVER,?|upstream_gene_variant|MODIFIER|NEXT,?|{missense}|MAIN"
    second = f"CSQ=?|{intron}|OVER,?|upstream_gene_variant|MODIFIER|NEXT"
    rows = [(1001, first, "0/1", "0/1", "0/0"), (1101, second, "0/1", "0/0", "0/1"), (1201, first, "0/1", "0/0", "0/0")]
    table = trio(tmp_path, build("trio", rows, TRIO))["table"]
    paired = {place: (row["gene"], row["consequence"]) for (name, place), row in table.items() if name == "compound_het"}
    assert paired == {1001: ("OVER", "intron_variant"), 1101: ("OVER", "intron_variant")}
    assert (table["de_novo", 1201]["gene"], table["de_novo", 1201]["consequence"]) == ("MAIN", "missense_variant")


def test_alleles_of_one_record_lie_on_both_copies(tmp_path: Path, build: Callable[..., Path]) -> None:
    """As its two records would that bcftools norm makes of it."""
    found = trio(tmp_path, build("trio", [(1001, "GENE=A", "1/2", "0/1", "0/2")], TRIO))
    assert [(row["copy"], row["gene"]) for row in found["compound_het"]] == [("father", "A"), ("mother", "A")]


def test_an_allele_is_no_pair_with_itself(tmp_path: Path, build: Callable[..., Path]) -> None:
    """The same allele in two records, on either copy: neither by parents nor by phase, but beside a second allele."""
    twice = [(1001, "GENE=A", "0|1:7", "0/1", "0/0"), (1001, "GENE=A", "1|0:7", "0/0", "0/1")]
    found = trio(tmp_path, build("trio", twice, TRIO))
    assert found["totals"]["compound_het"] == 0
    found = trio(tmp_path, build("trio", [*twice, (1101, "GENE=A", "0|1:7", "0/1", "0/0")], TRIO))
    assert found["totals"]["compound_het"] == 3


def test_where_there_is_one_copy_there_are_no_pairs(tmp_path: Path, build: Callable[..., Path]) -> None:
    """MT and Y by parents and by phase; on X the pair stays, a son's too."""
    rows = [
        (position, f"CONTIG={contig};GENE={contig}{gene}", *calls)
        for contig in ("MT", "X", "Y")
        for position, gene, *calls in [
            (1001, "PARENTS", "0/1", "0/1", "0/0"),
            (1101, "PARENTS", "0/1", "0/0", "0/1"),
            (1201, "PHASE", "0|1:7", "0/1", "0/1"),
            (1301, "PHASE", "1|0:7", "0/1", "0/1"),
        ]
    ]
    vcf = build("trio", rows, TRIO)
    members = [Member("child", "proband", "male"), Member("mother", "mother"), Member("father", "father")]
    for who in (members, [Member("child", "proband", "female"), *members[1:]]):
        assert {row["gene"] for row in trio(tmp_path, vcf, members=who)["compound_het"]} == {"XPARENTS", "XPHASE"}


def test_panel_names_genes_and_frequency_limits(tmp_path: Path, build: Callable[..., Path]) -> None:
    vcf = build("trio", ROWS, TRIO)
    panel = pd.DataFrame([("20", 1000, 1950, "PANEL")], columns=["contig", "start", "end", "name"])
    found = trio(tmp_path, vcf, Filters(panel, "p.bed"))
    assert {place for name, place in found["table"] if name == "compound_het"} == {1301, 1401, 1801, 1901}
    assert found["table"]["compound_het", 1801]["gene"] == "PANEL"
    assert found["table"]["de_novo", 1001]["gene"] == "NEW"
    assert found["limited"].startswith("Only alleles in the panel p.bed: 10 of 15.")
    rare = trio(tmp_path, vcf, Filters(panel, "p.bed", 0.0015))
    assert {place for name, place in rare["table"] if name == "compound_het"} == set()
    assert (rare["rare"], found["rare"]) == (True, False)


@pytest.mark.parametrize(
    ("parents", "reason"),
    [
        ([], "the sheet names no mother"),
        ([Member("mother", "mother")], "the sheet names no father"),
        ([Member("mother", "mother"), Member("away", "father")], "the father's calls are in another file"),
    ],
)
def test_absent_parents_leave_it_open(
    tmp_path: Path, build: Callable[..., Path], parents: list[Member], reason: str
) -> None:
    vcf = build("trio", ROWS[:1], TRIO)
    build("other", [(3001, "AF=0.1", "0/1")], ("away",))
    found = trio(tmp_path, vcf, members=[Member("child", "proband"), *parents])
    assert found["origins"] == {"de_novo": 0, "inherited": 0, "cannot_tell": 1}
    assert next(iter(found["reasons"])).startswith(reason)
    assert found["table"] == {}


def test_a_parent_of_another_file_who_carries_the_allele_passed_it_on(tmp_path: Path, build: Callable[..., Path]) -> None:
    vcf = build("trio", ROWS[:1], TRIO)
    build("other", [(1001, "AF=0.1", "0/1")], ("away",))
    found = trio(tmp_path, vcf, members=[Member("child", "proband"), Member("mother", "mother"), Member("away", "father")])
    assert found["origins"]["inherited"] == 1


def test_the_same_allele_in_another_record_of_a_parent_counts(tmp_path: Path, build: Callable[..., Path]) -> None:
    rows = [(1001, "AF=0.1", "0/1", "0/0", "0/0"), (1001, "AF=0.1", "0/0", "0/1", "0/0")]
    assert trio(tmp_path, build("trio", rows, TRIO))["origins"]["de_novo"] == 0


def test_siblings_are_told_as_carriers(tmp_path: Path, build: Callable[..., Path]) -> None:
    vcf = build("quad", [(1001, "GENE=A", "0/1", "0/0", "0/0", "0/1")], (*TRIO, "twin"))
    members = [Member("child", "proband"), Member("mother", "mother"), Member("father", "father"), Member("twin", "sibling")]
    assert trio(tmp_path, vcf, members=members)["table"]["de_novo", 1001]["also_carried_by"] == "twin"


def test_a_file_other_than_that_of_the_tables_is_noticed(tmp_path: Path, build: Callable[..., Path]) -> None:
    vcf = build("trio", ROWS, TRIO)
    lines = vcf.read_text().splitlines(keepends=True)
    vcf.write_text("".join(lines[:-4]))
    with pytest.raises(InputError, match="fewer records than the proband's tables"):
        trio(tmp_path, vcf)


@pytest.mark.parametrize("change", ["position", "contig", "ref", "alt", "alts", "genotype"])
def test_a_file_of_other_records_is_refused(tmp_path: Path, build: Callable[..., Path], change: str) -> None:
    """As many records, every one another: candidates would be those of wrong records."""
    vcf = build("trio", ROWS, TRIO)
    lines = []
    for line in vcf.read_text().splitlines():
        fields = line.split("\t")
        if not line.startswith("#"):
            bases = [base for base in "ACGT" if base not in fields[3:5]]
            fields[0] = "21" if change == "contig" else fields[0]
            fields[1] = str(int(fields[1]) + 1) if change == "position" else fields[1]
            fields[3] = bases[0] if change == "ref" else fields[3]
            fields[4] = {"alt": bases[1], "alts": f"{bases[1]},{fields[4]}"}.get(change, fields[4])
            fields[9] = "1|1:." if change == "genotype" else fields[9]
        lines.append("\t".join(fields) + "\n")
    vcf.write_text("".join(lines).replace("##contig", "##contig=<ID=21>\n##contig", 1))
    place = {"position": "20:1002", "contig": "21:1001"}.get(change, "20:1001")
    with pytest.raises(
        InputError, match=rf"record 1 \({place}\): the proband's tables were made from another file.*--forcerun"
    ):
        trio(tmp_path, vcf)


def test_members_that_make_no_family_are_refused(tmp_path: Path, build: Callable[..., Path]) -> None:
    vcf = build("trio", ROWS[:1], TRIO)
    with pytest.raises(ConfigError, match="proband: none"):
        trio(tmp_path, vcf, members=[Member("mother", "mother")])
    with pytest.raises(ConfigError, match="mother: mother, father"):
        trio(tmp_path, vcf, members=[Member("child", "proband"), Member("mother", "mother"), Member("father", "mother")])
    with pytest.raises(ConfigError, match="role 'aunt' is none of proband"):
        Member("x", "aunt")


def test_page_of_the_proband_shows_both_lists_and_their_limits(
    tmp_path: Path, build: Callable[..., Path], card: dict[str, Any]
) -> None:
    evil = "<script>x</script>"
    trio(tmp_path, build("trio", [*ROWS, (2601, f"GENE={evil}", "0/1", "0/0", "0/0")], TRIO))
    path = tmp_path / "family" / "family.json"
    write_sample_report(tmp_path / "samples" / "child", tmp_path / "r.html", card=card, family=path)
    text = (tmp_path / "r.html").read_text()
    page = Reader(text)
    assert text.count("<script>") == 1
    assert "Lists from genotypes, no diagnosis" in page.text
    assert "Of 16 alleles looked at, 11 are inherited, 3 may be new, of 2 it cannot be told." in page.text
    assert "Cannot be told for 1: the mother's call is missing or incomplete." in page.text
    assert "No limit of frequency is set" in page.text
    assert {row[0] for row in page.rows["de_novo"][1:]} == {"NEW", "HOM", evil}
    assert [row[0] for row in page.rows["compound_het"][1:]] == ["APART", "APART", "PAIR", "PAIR"]
    assert 'href="family/candidates.tsv"' in text
    with pytest.raises(InputError, match="not of a family whose proband is mother"):
        write_sample_report(tmp_path / "samples" / "mother", tmp_path / "m.html", card=card, family=path)
    assert json.loads(path.read_text())["members"][0] == {
        "name": "child", "role": "proband", "sex": "female", "phenotype": "affected", "same_file": True,
    }  # fmt: skip


def test_parents_who_are_none_are_warned_of() -> None:
    def family(new: int, inherited: int) -> dict[str, Any]:
        return {"family": "F", "origins": {"de_novo": new, "inherited": inherited, "cannot_tell": 9}}

    assert family_warnings(family(2, 98)) == []
    assert family_warnings(family(90, 9)) == [], "too few to judge"
    assert [one.title for one in family_warnings(family(3, 97))] == ["3.0 % of the alleles would be new in family F"]
