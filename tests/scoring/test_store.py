"""The score store: what is put in comes back, whoever adds, merges, reads or is killed meanwhile."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder.errors import StoreError
from dnagrinder.scoring.store import parts, upkeep
from dnagrinder.scoring.store.parts import Origin, Part, list_parts, partial_files, parts_written
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.store.upkeep import merge_parts, prune_store, store_stats, verify_store
from dnagrinder.scoring.tables import ALLELE_SCHEMA, SCORE_SCHEMA
from tests.scoring.store_processes import batches, read_journal
from tests.scoring.store_rows import NUMBERS, PROVENANCE, allele_rows, score_rows, snvs

A, B, C = ("1", 5, "A", "G"), ("1", 9, "C", "T"), ("X", 0, "AC", "A")
LAB = {"name": "Lab B", "file": "b.bcf", "sha256": "b" * 64, "imports": []}
REPOSITORY = Path(__file__).resolve().parents[2]
ALLELES = st.tuples(st.sampled_from(["1", "2"]), st.integers(0, 6), st.just("A"), st.sampled_from(["G", "GTT"]))
ROWS = st.lists(st.tuples(ALLELES, st.sampled_from([-1.0, 0.5, 2.0]), st.booleans()), max_size=12)


def content(root: Path) -> list[dict]:
    """All rows of all parts, in one order."""
    rows = pa.concat_tables([SCORE_SCHEMA.empty_table(), *(read_part(path) for path in sorted(root.rglob("*.parquet")))])
    return sorted(rows.to_pylist(), key=repr)


def read_part(path: Path) -> pa.Table:
    with Part.checked(path) as part:
        return part.read(range(part.groups)).replace_schema_metadata(None)


@settings(deadline=None, max_examples=30)
@given(
    adds=st.lists(ROWS, max_size=5), merges=st.sets(st.integers(0, 4)), wanted=st.lists(ALLELES, unique=True, max_size=20)
)
def test_one_rule_decides_whatever_the_order_and_the_merges(tmp_path_factory, adds, merges, wanted):
    """Own rows before imported ones, then the smallest score."""
    root = tmp_path_factory.mktemp("store")
    expected: dict = {}
    for number, rows in enumerate(adds):
        for is_own in (True, False):
            some = [row for row in rows if row[2] == is_own]
            table = score_rows([allele for allele, _, _ in some], score=[score for _, score, _ in some])
            folder = ScoreStore(root, PROVENANCE).folder
            with parts_written(folder) as write:
                write(table, Origin(PROVENANCE, None if is_own else LAB))
            if number in merges:
                merge_parts(folder)
        for allele, score, is_own in rows:
            expected[allele] = min(expected.get(allele, (True, math.inf)), (not is_own, score))
    held, missing = ScoreStore(root, PROVENANCE).split(allele_rows(wanted))
    found = {tuple(row[name] for name in ALLELE_SCHEMA.names): row["score"] for row in held.to_pylist()}
    assert found == {allele: expected[allele][1] for allele in wanted if allele in expected}
    assert missing.to_pylist() == allele_rows([allele for allele in wanted if allele not in expected]).to_pylist()
    assert set(held["status"].to_pylist()) <= {"from_store"}


def test_split_keeps_the_order_asked_for(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([A, C]))
    held, missing = store.split(allele_rows([C, ("9", 1, "A", "G"), A, B]))
    assert held.select(ALLELE_SCHEMA.names).to_pylist() == allele_rows([C, A]).to_pylist()
    assert missing.to_pylist() == allele_rows([("9", 1, "A", "G"), B]).to_pylist()


def test_merging_changes_no_bit_and_drops_equal_rows_only(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    odd = [0.0, -0.0, math.nan, 5e-324, -1.7976931348623157e308, None]
    rows = score_rows([A] * len(odd), l2_distance=odd)
    store.add(rows)
    store.add(rows.slice(2))
    before = {repr(row) for row in content(tmp_path)}
    assert prune_store(tmp_path)["parts_after"] == 1
    assert [repr(row) for row in content(tmp_path)] == sorted(before)
    assert len(before) == len(odd)


def test_origins_are_not_merged_with_one_another(tmp_path):
    folder = ScoreStore(tmp_path, PROVENANCE).folder
    newer = {**PROVENANCE, "tool_version": "0.1"}
    for origin in (Origin(PROVENANCE), Origin(newer), Origin(PROVENANCE, LAB), Origin(PROVENANCE, {**LAB, "name": "Lab C"})):
        for allele in (A, B):
            with parts_written(folder) as write:
                write(score_rows([allele]), origin)
    assert prune_store(tmp_path)["parts_after"] == 4
    (told,) = store_stats(tmp_path)
    assert (told["rows"], told["alleles"], told["parts"]) == (8, 2, 4)
    assert told["tool_versions"] == ["0.0", "0.1"]
    assert told["bytes"] == sum(path.stat().st_size for path in list_parts(folder))
    assert told["imports"] == [{**LAB, "rows": 2}, {**LAB, "name": "Lab C", "rows": 2}]
    assert told["checkpoint"] == PROVENANCE["checkpoint"]


def test_a_merge_that_meets_vanished_parts_loses_nothing(tmp_path, monkeypatch):
    store = ScoreStore(tmp_path, PROVENANCE)
    for allele in (A, B, C):
        store.add(score_rows([allele]))
    stale = list_parts(store.folder)
    for vanished in (stale[:1], stale):  # another merge took up some, then all
        batches = list(upkeep._batches([path for path in stale if path.exists()]))
        monkeypatch.setattr(upkeep, "read_settled", lambda *_, batches=batches: batches)
        rows = [read_part(path) for path in vanished if path.exists()]
        if rows:
            with parts_written(store.folder) as write:
                write(pa.concat_tables(rows), Origin(PROVENANCE, merges=1))
        for path in vanished:
            path.unlink(missing_ok=True)
        merge_parts(store.folder)
        assert {tuple(row.values())[:4] for row in content(tmp_path)} == {A, B, C}


def test_a_merged_part_is_none_of_those_it_took_up(tmp_path):
    """Else one of two pruners could remove what the other relies on."""
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([A, B]))
    store.add(score_rows([A]))
    before = set(list_parts(store.folder))
    merge_parts(store.folder)
    (after,) = list_parts(store.folder)
    assert after not in before
    with Part(after) as part:
        assert (part.origin.merges, part.rows) == (1, 2)


def test_a_reader_that_meets_a_vanished_part_starts_again(tmp_path, monkeypatch):
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([A]))
    store.add(score_rows([B]))
    stale = [list_parts(store.folder)]
    merge_parts(store.folder)
    listed = parts.list_parts
    monkeypatch.setattr(parts, "list_parts", lambda folder: stale.pop() if stale else listed(folder))
    held, missing = store.split(allele_rows([A, B]))
    assert (len(held), len(missing), stale) == (2, 0, [])


def test_parts_that_vanish_for_ever_are_an_error(tmp_path, monkeypatch):
    store = ScoreStore(tmp_path, PROVENANCE)
    monkeypatch.setattr(parts, "list_parts", lambda folder: [folder / "gone.parquet"])
    with pytest.raises(StoreError, match="vanish"):
        store.split(allele_rows([A]))


def test_what_fails_half_way_leaves_nothing(tmp_path):
    folder = ScoreStore(tmp_path, PROVENANCE).folder

    def write_and_fail() -> None:
        with parts_written(folder) as write:
            write(score_rows([A]), Origin(PROVENANCE))
            assert len(partial_files(folder)) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_bit_is_found_by_verify(tmp_path, place):
    ScoreStore(tmp_path, PROVENANCE).add(score_rows([("1", start, "A", "G") for start in range(300)]))
    (part,) = tmp_path.rglob("*.parquet")
    altered = bytearray(part.read_bytes())
    altered[int(len(altered) * place)] ^= 16
    part.write_bytes(altered)
    counts, problems = verify_store(tmp_path)
    assert (counts["rows"], len(problems)) == (0, 1)
    assert str(part) in problems[0]
    assert "altered" in problems[0]
    assert "remove it" in problems[0]


def test_an_altered_number_is_found_by_the_reader(tmp_path):
    """In the bytes of a column chunk; pages are checksummed."""
    store = ScoreStore(tmp_path, PROVENANCE)
    alleles = [("1", start, "A", "G") for start in range(300)]
    store.add(score_rows(alleles, score=[random.Random(start).random() for start in range(300)]))
    (path,) = tmp_path.rglob("*.parquet")
    with Part(path) as part:
        chunk = part._file.metadata.row_group(0).column(SCORE_SCHEMA.get_field_index("score"))
        end = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size
    altered = bytearray(path.read_bytes())
    altered[end - 40] ^= 1
    path.write_bytes(altered)
    with pytest.raises(StoreError, match=path.name):
        store.split(allele_rows(alleles))


def test_a_damaged_part_is_not_merged(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([A]))
    store.add(score_rows([B]))
    part = list_parts(store.folder)[0]
    part.write_bytes(part.read_bytes() + b" ")
    with pytest.raises(StoreError, match=part.name):
        prune_store(tmp_path)
    assert len(list_parts(store.folder)) == 2


def test_verify_tells_conflicts_by_their_size(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([A, B, C], score=1.0))
    assert verify_store(tmp_path)[0]["conflicts"] == 0
    store.add(score_rows([A, B], score=[1.0, 1.0 + 2.0**-20]))
    counts, problems = verify_store(tmp_path)
    assert counts == {
        "contexts": 1,
        "parts": 2,
        "rows": 5,
        "alleles": 3,
        "sites": 0,
        "haplotypes": 0,
        "duplicates": 2,
        "partial_files": 0,
        "conflicts": 1,
        "largest_difference": 2.0**-20,
    }
    assert problems == []
    store.add(score_rows([B, C], score=[0.5, 3.5]))
    counts, problems = verify_store(tmp_path)
    assert (counts["conflicts"], counts["largest_difference"], len(problems)) == (2, 2.5, 1)
    assert "X:1 AC>A by 2.5" in problems[0]
    assert verify_store(tmp_path, tolerance=2.5)[1] == []


def test_verify_tells_what_does_not_belong(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([A]))
    (part,) = list_parts(store.folder)
    other = ScoreStore(tmp_path, {**PROVENANCE, "reference_sha256": "9" * 64})
    other.prepare()
    (other.folder / part.name).write_bytes(part.read_bytes())
    (store.folder / "notes.txt").write_text("")
    problems = sorted(verify_store(tmp_path)[1])
    assert len(problems) == 2
    assert any("another model" in line and str(other.folder) in line for line in problems)
    assert any("notes.txt" in line for line in problems)
    with pytest.raises(StoreError, match="does not exist"):
        verify_store(tmp_path / "absent")


def test_prune_removes_old_partial_files_and_contexts_not_named(tmp_path):
    stores = [ScoreStore(tmp_path, {**PROVENANCE, "reference_sha256": digit * 64}) for digit in "45"]
    for store in stores:
        store.add(score_rows([A]))
    old, new = stores[0].folder / ".old.tmp", stores[0].folder / ".new.tmp"
    for path, age in ((old, 25 * 3600), (new, 23 * 3600)):
        path.write_bytes(b"PAR1")
        os.utime(path, (time.time() - age,) * 2)
    assert verify_store(tmp_path)[1] == []
    with pytest.raises(StoreError, match="0 contexts"):
        prune_store(tmp_path, keep=["zz"])
    assert old.exists()
    counts = prune_store(tmp_path, keep=[stores[0].folder.name[:12]])
    assert counts == {"contexts_removed": 1, "partial_files_removed": 1, "parts_before": 1, "parts_after": 1}
    assert (old.exists(), new.exists(), stores[1].folder.exists()) == (False, True, False)


def test_large_tables_become_several_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 100)
    monkeypatch.setattr(upkeep, "PART_ROWS", 100)
    monkeypatch.setattr(parts, "GROUP_ROWS", 30)
    rows = snvs(450, 1)
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(rows.slice(0, 250))
    for first in range(250, 450, 20):
        store.add(rows.slice(first, 20))
    assert len(list_parts(store.folder)) == 13
    before = content(tmp_path)
    prune_store(tmp_path)
    assert len(list_parts(store.folder)) == 5
    assert content(tmp_path) == before
    held, missing = store.split(rows.select(ALLELE_SCHEMA.names))
    assert held.drop_columns("status").equals(rows.drop_columns("status"))
    assert len(missing) == 0


def test_a_small_look_up_reads_little(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "GROUP_ROWS", 100)
    store = ScoreStore(tmp_path, PROVENANCE)
    store.add(score_rows([(contig, start, "A", "G") for contig in "123" for start in range(1000)]))
    reads = []
    read = Part.read
    monkeypatch.setattr(Part, "read", lambda part, groups, *rest: reads.append(groups) or read(part, groups, *rest))
    held, _ = store.split(allele_rows([("2", 250, "A", "G"), ("2", 5000, "A", "G"), ("4", 1, "A", "G")]))
    assert len(held) == 1
    assert reads == [[12], [12]]  # its place, then its rows


@pytest.mark.slow
def test_a_million_alleles_are_found_in_seconds(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    tables = [snvs(1_000_000, seed) for seed in (1, 2)]
    for rows in tables:
        store.add(rows)
    wanted = pa.concat_tables([tables[0].slice(0, 900_000), snvs(100_000, 3)]).select(ALLELE_SCHEMA.names)
    wanted = wanted.group_by(ALLELE_SCHEMA.names).aggregate([])
    started = time.process_time()
    held, missing = store.split(wanted)
    assert time.process_time() - started < 30  # 3 s on one core of a 2023 server
    assert len(held) + len(missing) == len(wanted)
    assert 899_000 < len(held) < 901_000
    assert pc.all(pc.equal(held["views"], 2)).as_py()


def run_processes(*arguments: object) -> None:
    command = [sys.executable, "-m", "tests.scoring.store_processes", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "workflow")}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("processes", "seed"), [(1, 1), (3, 1), (4, 2)])
def test_several_processes_add_the_same_as_one(tmp_path, processes, seed):
    run_processes("together", tmp_path / "store", processes, seed)
    expected = sorted({allele for batch in batches(seed) for allele in batch})
    prune_store(tmp_path / "store")
    assert content(tmp_path / "store") == sorted(score_rows(expected).to_pylist(), key=repr)
    assert verify_store(tmp_path / "store")[1] == []


def test_killed_writers_lose_nothing(tmp_path):
    """Three writers, a pruner and a reader, 200 times kill -9."""
    root = tmp_path / "store"
    run_processes("killed", root, 200, 7)
    kept, missed = read_journal(root)
    assert missed == []
    assert len(kept) >= 200
    counts, problems = verify_store(root)
    assert problems == []
    assert (counts["conflicts"], counts["alleles"] >= len(set(kept))) == (0, True)
    expected = score_rows(sorted(set(kept)))
    for _ in range(2):
        held, missing = ScoreStore(root, PROVENANCE).split(expected.select(ALLELE_SCHEMA.names))
        assert len(missing) == 0
        assert held.select([*ALLELE_SCHEMA.names, *NUMBERS]).equals(expected.select([*ALLELE_SCHEMA.names, *NUMBERS]))
        assert prune_store(root, partial_hours=0)["parts_after"] == 1
    assert verify_store(root)[0]["partial_files"] == 0
