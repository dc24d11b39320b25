"""The store filled with all SNVs of regions: counts, resuming, and that scored calls then need no model."""

from __future__ import annotations

import json
from dataclasses import asdict

import pandas as pd
import pyarrow as pa
import pysam
import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.pipeline import score_vcf
from dnagrinder.scoring import prescore as room
from dnagrinder.scoring.parameters import TILE, ScoringParameters
from dnagrinder.scoring.prescore import Prescored, batches, prescore
from dnagrinder.scoring.session import open_session
from dnagrinder.scoring.store import shelf
from dnagrinder.scoring.store.parts import Part
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, read_parquet, write_parquet
from tests.tiny_checkpoint import make_tiny_checkpoint

PARAMETERS = ScoringParameters(window=128, lattice=32)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(make_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def session(fasta, model):
    with open_session(fasta, model, PARAMETERS, device="cpu") as opened:
        yield opened


def frame(rows):
    return pd.DataFrame(rows, columns=["contig", "start", "end"])


def store_rows(store, alleles):
    held, missing = store.split(alleles)
    assert len(missing) == 0
    return held.drop_columns(["status"]).to_pylist()


REGIONS = frame([("1", 1990, 2110), ("2", 0, 4), ("1", 2040, 2120), ("1", 60, 63)])


def test_every_snv_of_the_regions_once_and_the_same_as_asked_for_alone(session, tmp_path):
    store = ScoreStore(tmp_path, session.provenance)
    calls = []
    counts = prescore(session, REGIONS, store, lambda done, total: calls.append((done, total)))
    assert counts == Prescored(bases=137, skipped_n=100, snvs=111, scored=111, held=0)
    assert calls[-1] == (137, 137)
    assert sorted(calls) == calls
    alleles = pa.concat_tables([room.interval_snvs(session.reference, c, i) for c, i in batches(REGIONS)])
    assert [(r["contig"], r["start"]) for r in alleles.to_pylist()][::3] == [
        *(("1", p) for p in [60, 61, 62, *range(1990, 2000), *range(2100, 2120)]),
        *(("2", p) for p in range(4)),
    ]
    rows = store_rows(store, alleles)
    assert all(row["cosine_distance"] is None and row["method"] == "snv_lattice" for row in rows)
    for row in rows[::20]:
        one = pa.Table.from_pylist([{name: row[name] for name in ALLELE_COLUMNS}])
        assert session.score_alleles(one).drop_columns(["status"]).to_pylist() == [row]


def test_a_second_run_computes_nothing(session, tmp_path):
    store = ScoreStore(tmp_path, session.provenance)
    prescore(session, REGIONS, store)
    tokens = session.engine.tokens
    counts = prescore(session, frame([("1", 60, 62), ("1", 2105, 2110)]), store)
    assert asdict(counts) == {"bases": 7, "skipped_n": 0, "snvs": 21, "scored": 0, "held": 21}
    assert session.engine.tokens == tokens
    assert prescore(session, frame([("1", 62, 64)]), store) == Prescored(2, 0, 6, 3, 3)
    assert prescore(session, frame([]), store) == Prescored(0, 0, 0, 0, 0)


def test_a_killed_run_loses_one_batch(session, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 1)
    regions = frame([("1", TILE - 20, TILE + 30), ("1", 2120, 2150), ("2", 30, 40)])  # no known base before TILE
    alleles = pa.concat_tables([room.interval_snvs(session.reference, c, i) for c, i in batches(regions)])
    whole, killed = (ScoreStore(tmp_path / name, session.provenance) for name in ("whole", "killed"))
    prescore(session, regions, whole)

    def die_in_the_second(done, total):
        if done > 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prescore(session, regions, killed, die_in_the_second)
    held, missing = killed.split(alleles)
    assert len(held) == 90
    counts = prescore(session, regions, killed)
    assert (counts.held, counts.scored) == (len(held), len(missing))
    assert store_rows(killed, alleles) == store_rows(whole, alleles)


@pytest.fixture
def vcf(reference, tmp_path):
    """SNVs at 100 to 109 of contig 1; with ``indel`` a deletion besides."""

    def write(*, indel: bool):
        lines = ["##fileformat=VCFv4.2", "##contig=<ID=1,length=3000>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
        for start in range(100, 110):
            ref = reference.fetch("1", start, start + 1)
            lines.append(f"1\t{start + 1}\t.\t{ref}\t{','.join(b for b in 'ACGT' if b != ref)}\t.\t.\t.")
        if indel:
            lines.append(f"1\t301\t.\t{reference.fetch('1', 300, 303)}\t{reference.fetch('1', 300, 301)}\t.\t.\t.")
        path = tmp_path / f"calls-{indel}.vcf"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_a_vcf_of_prescored_regions_needs_no_model(session, fasta, model, vcf, tmp_path):
    prescore(session, frame([("1", 90, 120)]), ScoreStore(tmp_path / "store", session.provenance))
    with open_session(fasta, model, PARAMETERS, device="cpu") as fresh:
        counts = score_vcf(fresh, vcf(indel=False), tmp_path / "out.vcf.gz", store=tmp_path / "store")
        assert (counts["from_store"], counts["scored"]) == (30, 0)
        assert fresh.engine.tokens == 0
        counts = score_vcf(fresh, vcf(indel=True), tmp_path / "indel.vcf.gz", store=tmp_path / "store")
        assert (counts["from_store"], counts["scored"]) == (30, 1)
    with open_session(fasta, model, PARAMETERS, device="cpu") as fresh:
        score_vcf(fresh, vcf(indel=True), tmp_path / "direct.vcf.gz")
    stored, direct = (read_records(tmp_path / name) for name in ("indel.vcf.gz", "direct.vcf.gz"))
    assert [r[:-1] for r in stored] == [r[:-1] for r in direct]
    assert all(cosine == l2 == "." for _, _, cosine, l2, _ in direct[:30])
    assert "." not in direct[30]


def read_records(path):
    """(DG_SCORE, DG_SPREAD, DG_COS, DG_L2, DG_STATUS) of every ALT, as text."""
    rows = []
    with pysam.BGZFile(str(path)) as lines:
        for line in lines:
            if not line.startswith(b"#"):
                info = dict(field.split("=") for field in line.decode().rstrip("\n").split("\t")[7].split(";"))
                rows += zip(
                    *(info[f"DG_{name}"].split(",") for name in ("SCORE", "SPREAD", "COS", "L2", "STATUS")), strict=True
                )
    return rows


def test_scores_of_other_lattices_are_not_taken(session, fasta, model, vcf, tmp_path):
    prescore(session, frame([("1", 90, 120)]), ScoreStore(tmp_path / "store", session.provenance))
    for lattice in (0, 64):
        with open_session(fasta, model, ScoringParameters(window=128, lattice=lattice), device="cpu") as other:
            counts = score_vcf(other, vcf(indel=False), tmp_path / "out.vcf.gz", store=tmp_path / "store")
        assert (counts["from_store"], counts["scored"]) == (0, 30)


def test_the_commands_go_together(fasta, model, reference, vcf, tmp_path):
    (tmp_path / "regions.bed").write_text("chr1\t90\t120\nchr1\t2050\t2060\n9\t1\t5\n")
    common = ["--reference", str(fasta), "--checkpoint", model, "--window", "128", "--device", "cpu"]
    common += ["--store", str(tmp_path / "store"), "--lattice", "32", "--json"]
    ledger = tmp_path / "ledger.tsv"
    result = CliRunner().invoke(app, ["prescore", str(tmp_path / "regions.bed"), "--ledger", str(ledger), *common])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert counts.pop("tokens") > 0
    assert counts == {
        "regions_in": 3, "rejected": 1, "rejected_by_reason": {"CONTIG_ABSENT": 1},
        "bases": 40, "skipped_n": 10, "snvs": 90, "scored": 90, "held": 0,
    }  # fmt: skip
    assert "contig 9 is not in reference" in ledger.read_text()
    out = ["--out", str(tmp_path / "scored.vcf.gz")]
    scored = CliRunner().invoke(app, ["score-variants", str(vcf(indel=False)), *out, *common])
    assert json.loads(scored.stdout)["from_store"] == 30
    alleles = [{"contig": "1", "start": 100, "ref": reference.fetch("1", 100, 101), "alt": a} for a in "ACGT"]
    table = pa.Table.from_pylist([row for row in alleles if row["alt"] != row["ref"]])
    write_parquet(table, tmp_path / "alleles.parquet")
    common.remove("--device")
    common.remove("cpu")
    unique = CliRunner().invoke(
        app, ["unique-alleles", str(tmp_path / "alleles.parquet"), "--shards", "1", "--out-dir", str(tmp_path), *common]
    )
    assert json.loads(unique.stdout) == {"unique": 3, "from_store": 3, "to_score": 0}
    assert read_parquet(tmp_path / "stored.parquet").schema.remove_metadata() == SCORE_SCHEMA


def test_parts_that_hold_nothing_of_a_batch_are_opened_once(session, tmp_path, monkeypatch):
    """Else a long run would open every part of the store for every batch."""
    monkeypatch.setattr(room, "BATCH", 1)
    opened = []

    class CountedPart(Part):
        def __init__(self, path, content=None):
            opened.append(path)
            super().__init__(path, content)

    monkeypatch.setattr(shelf, "Part", CountedPart)
    store = ScoreStore(tmp_path, session.provenance)
    counts = prescore(session, frame([("1", 0, 20), ("1", TILE + 60, TILE + 80), ("2", 0, 20), ("2", 30, 40)]), store)
    assert counts.scored == 210
    assert len(opened) == len(set(opened)) == 2
    assert store.split(room.interval_snvs(session.reference, "1", [(TILE + 60, TILE + 63)]))[0].num_rows == 9
