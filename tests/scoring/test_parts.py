"""Scoring in parts: the same table, and a killed run goes on where it was."""

import pyarrow as pa
import pytest

from dnagrinder.scoring import parts
from dnagrinder.scoring.parameters import ScoringParameters, provenance
from dnagrinder.scoring.parts import scored_in_parts
from dnagrinder.scoring.tables import ALLELE_SCHEMA, SCORE_SCHEMA, read_parquet, read_provenance, write_parquet


@pytest.fixture
def traced(checkpoint):
    return provenance(checkpoint, "0" * 64, ScoringParameters())


@pytest.fixture
def alleles():
    rows = [{"contig": "1", "start": i, "ref": "A", "alt": "G"} for i in range(25)]
    return pa.Table.from_pylist(rows, schema=ALLELE_SCHEMA)


class Scorer:
    """Scores an allele by its position; dies after ``lives`` parts."""

    def __init__(self, lives=99):
        self.lives, self.scored = lives, 0

    def __call__(self, table, on_progress):
        if self.lives == 0:
            raise KeyboardInterrupt
        self.lives -= 1
        self.scored += len(table)
        if on_progress:
            on_progress(len(table), len(table))
        filled = {"spread": 0.0, "views": 2, "log_p_ref": 0.0, "log_p_alt": 0.0, "cosine_distance": 0.0}
        filled |= {"l2_distance": 0.0, "method": "snv_marginal", "status": "scored"}
        return pa.Table.from_pylist(
            [{**r, "score": r["start"] / 8, **filled} for r in table.to_pylist()], schema=SCORE_SCHEMA
        )


def score(alleles, out, traced, scorer, on_progress=None):
    """Score in parts and write the table."""
    with scored_in_parts(alleles, out, traced, scorer, on_progress) as scores:
        write_parquet(scores, out, traced)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART", 10)


def test_parts_make_the_whole(tmp_path, alleles, traced):
    calls = []
    out = tmp_path / "scores.parquet"
    score(alleles, out, traced, Scorer(), lambda done, total: calls.append((done, total)))
    table = read_parquet(out)
    assert table["score"].to_pylist() == [i / 8 for i in range(25)]
    assert read_provenance(out) == traced
    assert calls == [(10, 25), (20, 25), (25, 25)]
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]


def test_a_killed_run_keeps_its_finished_parts_and_ends_with_the_same_bytes(tmp_path, alleles, traced):
    out, whole = tmp_path / "killed" / "scores.parquet", tmp_path / "whole.parquet"
    with pytest.raises(KeyboardInterrupt):
        score(alleles, out, traced, Scorer(lives=2))
    assert not out.exists()
    again = Scorer()
    score(alleles, out, traced, again)
    assert again.scored == 5
    score(alleles, whole, traced, Scorer())
    assert out.read_bytes() == whole.read_bytes()


def test_parts_are_kept_until_the_scores_are_written(tmp_path, alleles, traced):
    out = tmp_path / "scores.parquet"
    with pytest.raises(OSError, match="disk"), scored_in_parts(alleles, out, traced, Scorer()):
        raise OSError("disk full")
    again = Scorer(lives=0)
    score(alleles, out, traced, again)
    assert len(read_parquet(out)) == len(alleles)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize("change", ["alleles", "parameters", "damage", "size"])
def test_parts_of_something_else_are_not_taken_up(tmp_path, alleles, traced, checkpoint, change, monkeypatch):
    out = tmp_path / "scores.parquet"
    with pytest.raises(KeyboardInterrupt):
        score(alleles, out, traced, Scorer(lives=2))
    if change == "alleles":
        alleles = alleles.slice(1)
    elif change == "parameters":
        traced = provenance(checkpoint, "0" * 64, ScoringParameters(window=256))
    elif change == "size":
        monkeypatch.setattr(parts, "PART", 15)
    else:
        for path in tmp_path.rglob("*.parquet"):
            path.write_bytes(path.read_bytes()[:40])
    again = Scorer()
    score(alleles, out, traced, again)
    assert again.scored == len(alleles)


@pytest.mark.parametrize("letter", ["x", "\N{ROMAN NUMERAL ONE THOUSAND}"])
def test_the_longest_names_can_be_written(tmp_path, alleles, traced, letter):
    name = letter * ((255 - len(".parquet")) // len(letter.encode())) + ".parquet"
    score(alleles, tmp_path / name, traced, Scorer())
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_no_allele_gives_an_empty_table(tmp_path, alleles, traced):
    score(alleles.slice(0, 0), tmp_path / "scores.parquet", traced, Scorer())
    assert read_parquet(tmp_path / "scores.parquet").schema.names == SCORE_SCHEMA.names
