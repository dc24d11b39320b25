"""A sample's tables: whose alleles they are, and the counts that must add up."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dnagrinder.errors import ConfigError, InputError, InvariantError
from dnagrinder.reports import tables
from dnagrinder.reports.joining import common_provenance, least_expected, most_unexpected
from dnagrinder.reports.lookup import ScoreTables
from dnagrinder.reports.tables import build_sample_tables, write_tsv, zygosity
from dnagrinder.scoring.tables import (
    ALLELE_COLUMNS,
    SCORE_SCHEMA,
    read_batches,
    read_parquet,
    read_provenance,
    write_parquet,
)
from tests.reports.conftest import PROVENANCE, SAMPLES, Callset, Cohort, make_callset, make_vcf


def build(callset: Callset, out: Path, samples: dict[str, str | None]) -> dict[str, dict[str, Any]]:
    """Tables of some samples of a call set."""
    return build_sample_tables(
        samples,
        callset="trio",
        alleles=callset.alleles,
        ledger=callset.ledger,
        genotypes=callset.genotypes,
        summary=callset.summary,
        scores=callset.scores,
        out_dir=out,
    )


def carried(vcf: Path, column: str | None) -> set[tuple[int, int]]:
    """(record, ALT) that a column carries, read from the text of the VCF; of all where the column is None."""
    lines = [line.rstrip("\n").split("\t") for line in vcf.read_text().splitlines() if not line.startswith("##")]
    header, found = lines[0], set()
    for number, fields in enumerate(lines[1:]):
        alts = set(range(1, 1 + len(fields[4].split(","))))
        if column is not None:
            alts &= {int(call) for call in fields[header.index(column)].split("|")}
        found |= {(number, alt) for alt in alts}
    return found


def places(path: Path) -> list[tuple[int, int]]:
    """(record, alt_index) of a table's rows."""
    table = read_parquet(path)
    return list(zip(table["record"].to_pylist(), table["alt_index"].to_pylist(), strict=True))


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_of_several_owns_what_its_genotype_holds(cohort: Cohort, sample: str) -> None:
    folder, summary = cohort.root / "samples" / sample, cohort.summaries[sample]
    scored, rejected = places(folder / "scores.parquet"), places(folder / "ledger.parquet")
    assert not set(scored) & set(rejected)
    assert set(scored) | set(rejected) == carried(cohort.callset.vcf, sample)
    everything = carried(cohort.callset.vcf, None)
    assert summary["alleles_in_file"] == len(everything)
    assert summary["alleles_in"] == len(scored) + len(rejected) == summary["alleles_in_file"] - summary["not_carried"]
    assert summary["scored"] + summary["from_store"] == len(scored)
    assert summary["rejected"] == len(rejected) == sum(summary["rejected_by_reason"].values()) > 0
    assert json.loads((folder / "sample.json").read_text()) == summary


def test_genotypes_and_scores_are_joined_to_their_alleles(cohort: Cohort) -> None:
    lines = [line.split("\t") for line in cohort.callset.vcf.read_text().splitlines() if not line.startswith("#")]
    scores = {
        tuple(row[name] for name in ALLELE_COLUMNS): row
        for path in cohort.callset.scores
        for row in read_parquet(path).to_pylist()
    }
    rows = read_parquet(cohort.root / "samples" / "mother" / "scores.parquet").to_pylist()
    for row in rows:
        genotype = lines[row["record"]][10]
        assert row["genotype"] == genotype
        assert row["copies"] == genotype.split("|").count(str(row["alt_index"]))
        assert row["phased"] is True
        score = scores[tuple(row[name] for name in ALLELE_COLUMNS)]
        assert {name: row[name] for name in SCORE_SCHEMA.names} == score


def test_zygosities_and_changes_are_counted(cohort: Cohort) -> None:
    summary = cohort.summaries["father"]
    rows = read_parquet(cohort.root / "samples" / "father" / "scores.parquet").to_pylist()
    snvs = [row["ref"] + row["alt"] for row in rows if row["kind"] == "snv"]
    assert summary["by_kind"]["snv"] == len(snvs) == summary["transitions"] + summary["transversions"]
    assert summary["transitions"] == sum(change in ("AG", "GA", "CT", "TC") for change in snvs)
    assert summary["homozygous_alt"] == sum(row["copies"] == 2 for row in rows)
    assert summary["heterozygous"] == sum(row["copies"] == 1 for row in rows)
    assert summary["median_snv_score"] == float(np.median([row["score"] for row in rows if row["kind"] == "snv"]))


def test_a_file_of_sites_belongs_to_its_sample(cohort: Cohort, tmp_path: Path) -> None:
    make_vcf(tmp_path / "one.vcf", cohort.sequence, records=120, samples=())
    callset = make_callset(tmp_path / "callset", tmp_path / "one.vcf", cohort.reference)
    summary = build(callset, tmp_path / "out", {"patient": None})["patient"]
    everything, folder = carried(callset.vcf, None), tmp_path / "out" / "patient"
    assert (summary["column"], summary["not_carried"], summary["alleles_in"]) == (None, 0, len(everything))
    assert {*places(folder / "scores.parquet"), *places(folder / "ledger.parquet")} == everything
    assert read_parquet(folder / "scores.parquet")["genotype"].null_count == summary["scored"] + summary["from_store"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_column_cut_out_of_a_joint_file_gives_the_same_tables(cohort: Cohort, tmp_path: Path, sample: str) -> None:
    lines = [line.split("\t") for line in cohort.callset.vcf.read_text().splitlines()]
    place = 9 + SAMPLES.index(sample)
    cut = ["\t".join(fields[:9] + fields[place : place + 1]) for fields in lines]
    (tmp_path / "one.vcf").write_text("\n".join(cut) + "\n")
    callset = make_callset(tmp_path / "callset", tmp_path / "one.vcf", cohort.reference)
    summary = build(callset, tmp_path / "out", {sample: None})[sample]
    for name in ("scores.parquet", "ledger.parquet"):
        alone = (tmp_path / "out" / sample / name).read_bytes()
        assert alone == (cohort.root / "samples" / sample / name).read_bytes()
    differ = {"vcf": "one.vcf", "vcf_sha256": summary["vcf_sha256"]}
    assert summary == {**cohort.summaries[sample], **differ}
    assert summary["not_carried"] > 0


#: GT of a record with two ALTs -> the ALTs that are the sample's, with their copies
LONE_CALLS = {
    "0/0": {},
    "0|0": {},
    "0": {},
    "0/2": {2: 1},
    "1/2": {1: 1, 2: 1},
    "2": {2: 1},
    ".": {1: None, 2: None},
    "./.": {1: None, 2: None},
    "./0": {1: None, 2: None},
    ".|1": {1: 1, 2: None},
}


@pytest.mark.parametrize("other", [False, True])
def test_only_a_complete_call_takes_an_allele_from_the_sample_of_a_file(
    cohort: Cohort, tmp_path: Path, *, other: bool
) -> None:
    """A second column makes it a joint file, where an allele is the sample's only if its genotype holds it."""
    header = ["##fileformat=VCFv4.2", "##contig=<ID=20>", '##FORMAT=<ID=GT,Number=1,Type=String,Description="">']
    header += ['##FORMAT=<ID=DP,Number=1,Type=Integer,Description="">']
    rows = [["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "patient", "other"]]
    for position, call in enumerate([*LONE_CALLS, "7"], start=1001):
        ref = cohort.sequence[position - 1]
        alts = f"{'C' if ref != 'C' else 'G'},<DEL>"
        key = "DP" if call == "7" else "GT"
        rows.append(["20", str(position), ".", ref, alts, ".", ".", ".", key, call, call])
    for position, call in ((1101, "0/0"), (1102, "./.")):
        rows.append(["20", str(position), ".", cohort.sequence[position - 1], ".", ".", ".", ".", "GT", call, call])
    (tmp_path / "one.vcf").write_text("\n".join([*header, *("\t".join(row if other else row[:10]) for row in rows)]) + "\n")
    callset = make_callset(tmp_path / "callset", tmp_path / "one.vcf", cohort.reference, ["patient"])
    summary = build(callset, tmp_path / "out", {"patient": None})["patient"]
    folder = tmp_path / "out" / "patient"
    scored, rejected = places(folder / "scores.parquet"), places(folder / "ledger.parquet")
    own = {(record, alt): copies for record, call in enumerate(LONE_CALLS.values()) for alt, copies in call.items()}
    own |= {(len(LONE_CALLS), 1): None, (len(LONE_CALLS), 2): None, (len(LONE_CALLS) + 2, 0): None}
    expected = {place for place, copies in own.items() if copies or not other}
    assert sorted([*scored, *rejected]) == sorted(expected)
    table = read_parquet(folder / "scores.parquet")
    calls = [*LONE_CALLS, "."]
    assert table["copies"].to_pylist() == [own[place] for place in scored]
    assert table["genotype"].to_pylist() == [None if calls[record] == "." else calls[record] for record, _ in scored]
    assert (summary["alleles_in_file"], summary["alleles_in"]) == (24, len(expected))
    assert summary["not_carried"] == 24 - len(expected)
    assert (summary["scored"] + summary["from_store"], summary["rejected"]) == (len(scored), len(rejected))
    everything = read_parquet(callset.alleles)
    assert len(everything) == len(LONE_CALLS) + 1, "what nobody carries is scored as well"


def test_genotypes_that_were_not_read_take_nothing_away(cohort: Cohort, tmp_path: Path) -> None:
    make_vcf(tmp_path / "one.vcf", cohort.sequence, records=60, samples=("anybody",))
    callset = make_callset(tmp_path / "callset", tmp_path / "one.vcf", cohort.reference, [])
    summary = build(callset, tmp_path / "out", {"patient": None})["patient"]
    assert (summary["not_carried"], summary["alleles_in"]) == (0, len(carried(callset.vcf, None)))


def test_a_column_may_have_another_name_than_the_sample(cohort: Cohort, tmp_path: Path) -> None:
    build(cohort.callset, tmp_path, {"P1": "mother"})
    mine = (tmp_path / "P1" / "scores.parquet").read_bytes()
    assert mine == (cohort.root / "samples" / "mother" / "scores.parquet").read_bytes()


def test_an_absent_column_is_a_mistake_in_the_sheet(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sample column stranger; it has: child, mother, father"):
        build(cohort.callset, tmp_path, {"stranger": None})


def test_counts_of_another_file_do_not_add_up(cohort: Cohort, tmp_path: Path) -> None:
    facts = json.loads(cohort.callset.summary.read_text())
    wrong = tmp_path / "summary.json"
    wrong.write_text(json.dumps({**facts, "alleles_in": facts["alleles_in"] + 1}))
    callset = Callset(**{**vars(cohort.callset), "summary": wrong})
    with pytest.raises(InvariantError, match="do not add up"):
        build(callset, tmp_path, {"child": None})


def test_same_input_same_bytes(cohort: Cohort, tmp_path: Path) -> None:
    build(cohort.callset, tmp_path, dict.fromkeys(reversed(SAMPLES)))
    for sample in SAMPLES:
        for name in ("scores.parquet", "scores.tsv", "ledger.parquet", "ledger.tsv", "sample.json"):
            mine, other = (root / sample / name for root in (tmp_path, cohort.root / "samples"))
            assert mine.read_bytes() == other.read_bytes(), name


def test_pieces_do_not_show(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_seven(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        for piece in read_batches(path, columns):
            yield from (piece.slice(first, 7) for first in range(0, len(piece), 7))

    monkeypatch.setattr("dnagrinder.scoring.tables.ROW_GROUP", 30)
    build(cohort.callset, tmp_path / "large", {"child": None})
    monkeypatch.setattr(tables, "read_batches", by_seven)
    build(cohort.callset, tmp_path / "small", {"child": None})
    for name in ("scores.parquet", "scores.tsv", "ledger.parquet", "ledger.tsv", "sample.json"):
        assert (tmp_path / "small/child" / name).read_bytes() == (tmp_path / "large/child" / name).read_bytes()
    whole = pq.read_table(cohort.folders[0] / "scores.parquet")
    assert pq.read_table(tmp_path / "small/child/scores.parquet").equals(whole)
    assert pq.ParquetFile(tmp_path / "small/child/scores.parquet").num_row_groups == -(-len(whole) // 30) > 3


def test_text_and_parquet_say_the_same(cohort: Cohort) -> None:
    folder = cohort.root / "samples" / "child"
    for name in ("scores", "ledger"):
        with (folder / f"{name}.tsv").open(encoding="utf-8", newline="") as handle:
            texts = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
        rows = read_parquet(folder / f"{name}.parquet").to_pylist()
        assert len(texts) == len(rows)
        for text, row in zip(texts, rows, strict=True):
            if name == "scores":
                assert int(text.pop("position")) == row["start"] + 1
            assert text.keys() == row.keys()
            for column, value in row.items():
                found = text[column]
                if isinstance(value, float):
                    assert float(found) == value
                elif isinstance(value, bool):
                    assert found == str(value).lower()
                else:
                    assert found == ("" if value is None else str(value))


def test_tables_carry_their_provenance(cohort: Cohort) -> None:
    assert read_provenance(cohort.root / "samples" / "child" / "scores.parquet") == PROVENANCE
    assert cohort.summaries["child"]["provenance"] == PROVENANCE


def test_text_in_a_cell_cannot_break_the_table(tmp_path: Path) -> None:
    write_tsv(pa.table({"a": ['tab\t"quote"\nline', None], "b": [0.1, 1e-300], "c": [True, None]}), tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text() == 'a\tb\tc\ntab "quote" line\t0.1\ttrue\n\t1e-300\t\n'


def test_an_empty_table_is_a_header(tmp_path: Path) -> None:
    write_tsv(SCORE_SCHEMA.empty_table(), tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text() == "\t".join(SCORE_SCHEMA.names) + "\n"


@pytest.mark.parametrize(
    ("genotype", "alt", "expected"),
    [
        ("0/1", 1, "heterozygous"),
        ("1|0", 1, "heterozygous"),
        ("1/1", 1, "homozygous_alt"),
        ("1|2", 2, "heterozygous"),
        ("1", 1, "hemizygous"),
        ("./1", 1, None),
        ("0/0", 1, None),
        ("./.", 1, None),
        ("10/10", 1, None),
        (None, 1, None),
        ("/1|1", 1, "homozygous_alt"),  # VCF 4.4: phase in front
        ("|1/1", 1, "homozygous_alt"),
        ("/0|1", 1, "heterozygous"),
        ("/1", 1, "hemizygous"),
        ("|1", 1, "hemizygous"),
        ("/.|1", 1, None),
    ],
)
def test_zygosity(genotype: str | None, alt: int, expected: str | None) -> None:
    assert zygosity(genotype, alt) == expected


def alleles_table(rows: list[tuple[str, int, str, str, float]]) -> pa.Table:
    """A table of contig, start, ref, alt, score with its kind."""
    columns = list(zip(*rows, strict=True))
    table = pa.table(dict(zip([*ALLELE_COLUMNS, "score"], map(list, columns), strict=True)))
    kinds = ["snv" if len(ref) == len(alt) == 1 else "deletion" for ref, alt in zip(columns[2], columns[3], strict=True)]
    return table.append_column("kind", pa.array(kinds))


def test_most_unexpected_breaks_ties_by_place_and_takes_each_allele_once() -> None:
    table = alleles_table(
        [
            ("1", 9, "A", "G", -1.0),
            ("1", 5, "A", "G", -1.0),
            ("1", 5, "A", "G", -1.0),
            ("1", 5, "A", "C", -1.0),
            ("1", 1, "A", "G", float("nan")),
            ("2", 1, "A", "G", -2.0),
            ("2", 3, "A", "G", 0.5),
        ]
    )
    assert most_unexpected(table, 3).tolist() == [5, 3, 1]
    assert most_unexpected(table, 4).tolist() == [5, 3, 1, 0]
    assert most_unexpected(table, 99).tolist() == [5, 3, 1, 0, 6]
    assert most_unexpected(table, 0).tolist() == []


def test_most_unexpected_agrees_with_a_plain_sort() -> None:
    draw = np.random.default_rng(0)
    rows = [("1", int(draw.integers(50)), "A", str(draw.choice(list("CGT"))), 0.0) for _ in range(500)]
    rows = [(*row[:4], ((row[1] * 3 + ord(row[3])) % 7) / 8) for row in rows]
    unique = sorted({(row[4], *row[:4]) for row in rows})
    for count in (1, 5, 40, 1000):
        found = [rows[i] for i in most_unexpected(alleles_table(rows), count)]
        assert [(row[4], *row[:4]) for row in found] == unique[:count]


@pytest.mark.parametrize(("count", "snvs", "others"), [(4, 2, 2), (5, 3, 2), (8, 5, 3), (99, 6, 3), (0, 0, 0)])
def test_least_expected_shares_the_places_between_kinds(count: int, snvs: int, others: int) -> None:
    rows = [("1", n, "A", "G", float(n)) for n in range(6)] + [("1", n, "AC", "A", n - 50.0) for n in range(3)]
    mine, theirs = least_expected(alleles_table(rows), count)
    assert mine.tolist() == list(range(snvs))
    assert theirs.tolist() == [6 + n for n in range(others)]


def test_scores_of_other_models_do_not_mix(tmp_path: Path) -> None:
    write_parquet(SCORE_SCHEMA.empty_table(), tmp_path / "a.parquet", PROVENANCE)
    write_parquet(SCORE_SCHEMA.empty_table(), tmp_path / "b.parquet", {**PROVENANCE, "reference_sha256": "other"})
    write_parquet(SCORE_SCHEMA.empty_table(), tmp_path / "c.parquet", {**PROVENANCE, "tool_version": "9"})
    assert common_provenance([tmp_path / "a.parquet", tmp_path / "c.parquet"]) == PROVENANCE
    with pytest.raises(InputError, match="different models"):
        common_provenance([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(InputError, match="no score table"):
        common_provenance([])


def test_scores_are_attached_row_for_row(cohort: Cohort) -> None:
    alleles = read_parquet(cohort.callset.alleles)
    shuffled = alleles.take(pa.array(np.random.default_rng(1).permutation(len(alleles))))
    with ScoreTables(list(reversed(cohort.callset.scores))) as scores:
        attached = scores.attach(shuffled, ["score"])
    truth = {
        tuple(row[name] for name in ALLELE_COLUMNS): row["score"]
        for path in cohort.callset.scores
        for row in pq.read_table(path).to_pylist()
    }
    assert [truth[tuple(row[name] for name in ALLELE_COLUMNS)] for row in attached.to_pylist()] == attached[
        "score"
    ].to_pylist()
    assert attached.select(alleles.schema.names).equals(shuffled)
