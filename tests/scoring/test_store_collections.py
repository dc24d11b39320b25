"""Bases and haplotypes in the store: by the same parts as alleles, each in a folder of its own."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder.errors import StoreError
from dnagrinder.scoring.store.collection import BASE_LOG_PROBS, BASES, HAPLOTYPES, collection_folders
from dnagrinder.scoring.store.parts import Part, find_context, list_parts
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.store.shelf import Shelf, completed
from dnagrinder.scoring.store.upkeep import merge_parts, prune_store, store_stats, verify_store
from tests.scoring.store_rows import PROVENANCE, allele_rows, score_rows

A = ("1", 5, "A", "G")
CONTIG_END = 2**31 - 2  # last base of the longest contig that BAI, and so most tools, can name
SITES = st.tuples(st.sampled_from(["1", "2", "HLA-A*01:01", "x\u00e9"]), st.sampled_from([0, 1, 2, 9, CONTIG_END]))
ROWS = st.lists(st.tuples(SITES, st.sampled_from([-3.0, -1.5, -0.25])), max_size=12)


def site_rows(sites: list[tuple[str, int]], log_p: list[float] | float = -1.0) -> pa.Table:
    """Rows of BASES; ``log_p`` is that of A, the others follow from the place."""
    values = log_p if isinstance(log_p, list) else [log_p] * len(sites)
    rows = [
        {"contig": contig, "start": start, "ref": "ACGT"[start % 4]}
        | {name: value if name == "log_p_a" else -float(place) for place, name in enumerate(BASE_LOG_PROBS)}
        for (contig, start), value in zip(sites, values, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=BASES.schema)


def site_keys(sites: list[tuple[str, int]]) -> pa.Table:
    return site_rows(sites).select(BASES.key)


def haplotype_rows(method: str = "m/1", **columns: object) -> pa.Table:
    row = dict.fromkeys(HAPLOTYPES.schema.names, 0.5) | {"contig": "1", "start": 5, "ref": "AC", "alt": "GT", "rows": 4}
    row |= {"members": '["1:6:A:G", "1:7:C:T"]', "singles": "[0.1, -0.2]", "method": method} | columns
    return pa.Table.from_pylist([row], schema=HAPLOTYPES.schema)


@settings(deadline=None, max_examples=40)
@given(adds=st.lists(ROWS, max_size=4), merges=st.sets(st.integers(0, 3)), wanted=st.lists(SITES, unique=True, max_size=12))
def test_sites_are_found_whatever_the_parts(tmp_path_factory, adds, merges, wanted):
    """Each once, with the smallest values; those never added are missing."""
    shelf = ScoreStore(tmp_path_factory.mktemp("store"), PROVENANCE).bases
    expected: dict[tuple[str, int], float] = {}
    for number, rows in enumerate(adds):
        shelf.add(site_rows([site for site, _ in rows], [value for _, value in rows]))
        if number in merges:
            merge_parts(shelf.folder)
        for site, value in rows:
            expected[site] = min(expected.get(site, math.inf), value)
    held, missing = shelf.split(site_keys(wanted))
    found = [site for site in wanted if site in expected]
    assert held.equals(site_rows(found, [expected[site] for site in found]))
    assert missing.equals(site_keys([site for site in wanted if site not in expected]))


def test_what_is_missing_is_made_once_and_kept_piece_by_piece(tmp_path):
    shelf = ScoreStore(tmp_path, PROVENANCE).bases
    shelf.add(site_rows([("1", 3), ("2", 0)]))
    wanted = site_keys([("1", start) for start in range(6)])
    made = []

    def make(missing: pa.Table):
        for row in range(len(missing)):
            if row == 3:
                raise ZeroDivisionError
            made.append(missing["start"][row].as_py())
            yield site_rows([("1", made[-1])])

    with pytest.raises(ZeroDivisionError):
        completed(BASES, wanted, make, shelf)
    assert made == [0, 1, 2]
    assert completed(BASES, wanted, make, shelf).equals(site_rows([("1", start) for start in range(6)]))
    assert made == [0, 1, 2, 4, 5]
    assert completed(BASES, wanted, lambda missing: iter([site_rows([])] * (len(missing) + 1)), shelf).num_rows == 6
    assert completed(BASES, wanted, lambda _: iter([site_rows([("1", s) for s in range(6)])]), None).num_rows == 6


def test_haplotypes_come_back_to_the_last_bit(tmp_path):
    shelf = ScoreStore(tmp_path, PROVENANCE).haplotypes
    odd = haplotype_rows(joint=-0.0, joint_spread=5e-324, epistasis=math.nan, block_score=-1.7976931348623157e308)
    shelf.add(odd)
    held, missing = shelf.split(odd.select(HAPLOTYPES.key))
    assert repr(held.to_pylist()) == repr(odd.to_pylist())
    assert len(missing) == 0


@pytest.mark.parametrize("other", [{"method": "m/2"}, {"members": '["1:6:A:G", "1:8:C:T"]'}, {"alt": "GG"}])
def test_another_method_or_other_members_are_another_haplotype(tmp_path, other):
    shelf = ScoreStore(tmp_path, PROVENANCE).haplotypes
    shelf.add(haplotype_rows())
    assert len(shelf.split(haplotype_rows(**other).select(HAPLOTYPES.key))[0]) == 0


def filled(root: Path) -> ScoreStore:
    """A store with rows of all collections, in two parts each."""
    store = ScoreStore(root, PROVENANCE)
    for number in range(2):
        store.add(score_rows([A], score=1.0))
        store.add(score_rows([("2", number, "A", "G")]))
        store.bases.add(site_rows([("1", 7), ("2", number)]))
        store.haplotypes.add(haplotype_rows(start=number))
    return store


def test_upkeep_covers_every_collection(tmp_path):
    store = filled(tmp_path)
    (told,) = store_stats(tmp_path)
    assert {told[name] for name in ("rows", "alleles", "parts")} == {3}
    for name, unit, rows, keys in (("bases", "sites", 4, 3), ("haplotypes", "haplotypes", 2, 2)):
        size = sum(path.stat().st_size for path in list_parts(store.folder / name))
        assert told[name] == {"rows": rows, unit: keys, "parts": 2, "bytes": size, "partial_files": 0}
    counts, problems = verify_store(tmp_path)
    assert problems == []
    assert {name: counts[name] for name in ("parts", "rows", "alleles", "sites", "haplotypes", "duplicates")} == {
        "parts": 7,
        "rows": 9,
        "alleles": 3,
        "sites": 3,
        "haplotypes": 2,
        "duplicates": 1,
    }
    assert prune_store(tmp_path) == {"contexts_removed": 0, "partial_files_removed": 0, "parts_before": 7, "parts_after": 3}
    held, _ = store.bases.split(site_keys([("2", 1), ("1", 7), ("2", 0)]))
    assert held.equals(site_rows([("2", 1), ("1", 7), ("2", 0)]))
    other = ScoreStore(tmp_path, {**PROVENANCE, "reference_sha256": "9" * 64})
    other.bases.add(site_rows([("1", 7)]))
    assert [told["alleles"] for told in store_stats(tmp_path)].count(0) == 1
    assert prune_store(tmp_path, keep=[store.folder.name])["contexts_removed"] == 1
    assert not other.folder.exists()


def test_alleles_are_read_without_the_folders_below(tmp_path):
    store = filled(tmp_path)
    for folder in collection_folders(store.folder)[1:]:
        (folder / list_parts(folder)[0].name).write_bytes(b"damaged")
    assert len(store.split(allele_rows([A]))[0]) == 1


def test_verify_tells_how_far_two_rows_of_a_site_are_apart(tmp_path):
    store = ScoreStore(tmp_path, PROVENANCE)
    store.bases.add(site_rows([("1", 7), ("2", 8)], [math.nan, -math.inf]))
    store.bases.add(site_rows([("1", 7), ("2", 8), ("3", 1)], [math.nan, -math.inf, -2.0]))
    assert verify_store(tmp_path)[0]["conflicts"] == 0
    store.bases.add(site_rows([("3", 1)], -2.5))
    counts, (problem,) = verify_store(tmp_path)
    assert (counts["conflicts"], counts["largest_difference"]) == (1, 0.5)
    assert "1 sites" in problem
    assert "3:2 by 0.5" in problem


@pytest.mark.parametrize("name", ["bases", "haplotypes"])
def test_a_damaged_part_is_told_by_verify_and_by_readers(tmp_path, name):
    store = filled(tmp_path)
    shelf: Shelf = getattr(store, name)
    path = list_parts(shelf.folder)[0]
    altered = bytearray(path.read_bytes())
    altered[len(altered) // 4] ^= 1
    path.write_bytes(altered)
    (problem,) = verify_store(tmp_path)[1]
    assert str(path) in problem
    assert f"its {shelf.collection.unit} are scored again" in problem
    path.write_bytes(altered[: len(altered) // 2])
    with pytest.raises(StoreError, match=path.name):
        shelf.split((site_keys([("1", 7)]) if name == "bases" else haplotype_rows()).select(shelf.collection.key))


def test_a_part_of_another_collection_or_context_is_refused(tmp_path):
    store = filled(tmp_path)
    part = list_parts(store.bases.folder)[0]
    stray = store.haplotypes.folder / part.name
    stray.write_bytes(part.read_bytes())
    (problem,) = verify_store(tmp_path)[1]
    assert str(stray) in problem
    other = ScoreStore(tmp_path, {**PROVENANCE, "reference_sha256": "9" * 64}).bases
    other.prepare()
    (other.folder / part.name).write_bytes(part.read_bytes())
    with pytest.raises(StoreError, match="another model"):
        Part(other.folder / part.name)
    (store.bases.folder / "notes.txt").write_text("")
    assert any("notes.txt is no part" in line for line in verify_store(tmp_path)[1])
    (tmp_path / "other").mkdir()
    bases = ScoreStore(tmp_path / "other", PROVENANCE).folder / "bases"
    bases.parent.mkdir()
    bases.write_text("a file where a folder belongs")
    assert [line for line in verify_store(tmp_path / "other")[1] if line == f"{bases} is no part of a store; remove it"]


def test_a_context_without_rows_is_none(tmp_path):
    store = filled(tmp_path)
    ScoreStore(tmp_path, PROVENANCE | {"parameters_sha256": "0" * 64}).bases.prepare()
    assert [told["context"] for told in store_stats(tmp_path)] == [store.folder.name]
    assert find_context(tmp_path, None) == store.folder


@pytest.mark.parametrize("name", ["bases", "haplotypes"])
def test_a_folder_that_cannot_be_written_is_told_before_work(tmp_path, name, monkeypatch):
    shelf: Shelf = getattr(ScoreStore(tmp_path, PROVENANCE), name)
    shelf.prepare()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(StoreError, match=f"{name} cannot be written"):
        shelf.prepare()
