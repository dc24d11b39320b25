"""Shards hold every allele once; the store gives back what was scored and nothing else."""

from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder.errors import StoreError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.scoring.block import allele_pairs
from dnagrinder.scoring.parameters import ScoringParameters, provenance
from dnagrinder.scoring.shards import allele_work, unique_alleles, write_shards
from dnagrinder.scoring.snv import Site, site_inputs
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import (
    ALLELE_SCHEMA,
    SCORE_SCHEMA,
    read_parquet,
    read_provenance,
    table_alleles,
    write_parquet,
)

ALLELES = st.lists(
    st.tuples(st.sampled_from(["1", "2"]), st.integers(0, 50), st.sampled_from(["A", "AC"]), st.sampled_from(["G", "GTT"])),
    max_size=40,
)


def allele_table(rows):
    return pa.Table.from_pylist([dict(zip(ALLELE_SCHEMA.names, row, strict=True)) for row in rows], schema=ALLELE_SCHEMA)


def score_table(rows, score=-1.5):
    table = allele_table(rows).to_pylist()
    filled = {"score": score, "spread": 0.1, "views": 2, "log_p_ref": -1.0, "log_p_alt": -2.5, "cosine_distance": 0.1}
    filled |= {"l2_distance": 0.2, "method": "snv_marginal", "status": "scored"}
    return pa.Table.from_pylist([{**row, **filled} for row in table], schema=SCORE_SCHEMA)


@settings(deadline=None)
@given(callsets=st.lists(ALLELES, min_size=1, max_size=3), shards=st.integers(1, 7), held=st.sampled_from([0, 3, 10**6]))
def test_shards_are_the_union_once_and_in_order(tmp_path_factory, callsets, shards, held):
    folder = tmp_path_factory.mktemp("shards")
    paths = []
    for number, rows in enumerate(callsets):
        paths.append(folder / f"{number}.parquet")
        write_parquet(allele_table(rows), paths[-1])
    with mock.patch("dnagrinder.scoring.shards._HELD", held):
        unique = unique_alleles(paths)
    work = allele_work(unique, {"1": 60, "2": 60}, ScoringParameters(window=32))
    written = write_shards(unique, work, shards, folder / "out")
    assert [p.name for p in written] == [f"shard-{i:04d}-of-{shards:04d}.parquet" for i in range(1, shards + 1)]
    together = pa.concat_tables([read_parquet(p) for p in written]).to_pylist()
    assert [tuple(row.values()) for row in together] == sorted({row for rows in callsets for row in rows})
    sites = [{(row["contig"], row["start"]) for row in read_parquet(path).to_pylist()} for path in written]
    assert sum(len(held) for held in sites) == len(set().union(*sites))


def test_shards_share_the_work(tmp_path):
    rows = allele_table([("1", i, "A", "G") for i in range(100)])
    sizes = [len(read_parquet(p)) for p in write_shards(rows, np.ones(100), 3, tmp_path)]
    assert sizes == [33, 34, 33]
    heavy = np.where(np.arange(100) < 10, 11.0, 1.0)  # 110 of 200 lie in the first ten
    sizes = [len(read_parquet(p)) for p in write_shards(rows, heavy, 2, tmp_path)]
    assert sizes == [9, 91]


def test_work_of_each_kind_of_allele():
    rows = [("1", 100, "A", "AT"), ("1", 100, "A", "C"), ("1", 100, "A", "G"), ("1", 101, "A", "G"), ("1", 1, "A", "G")]
    work = allele_work(allele_table(rows), {"1": 1000}, ScoringParameters(window=40, views=3))
    # a window of 40 holds 40 bases, 21 beside the contig's end; two strands, two windows, three views
    assert work.tolist() == [2 * 81 + 6 * 81, 2 * 80 + 6 * 40, 2 * 80, 2 * 80 + 6 * 40, 2 * 42 + 6 * 21]


@pytest.mark.parametrize(("window", "views"), [(512, 1), (512, 6), (64, 2)])
def test_shards_of_the_example_hold_equally_many_tokens(repository, tmp_path, window, views):
    """Counted token by token, as the model would read them, over shards that were cut by estimate."""
    example = repository / "config" / "example"
    parameters = ScoringParameters(window, views)
    tokenizer = open_checkpoint("mini").tokenizer
    names = {name: tmp_path / f"{name}.parquet" for name in ("alleles", "ledger", "genotypes")}
    with ReferenceGenome.open(example / "reference.fa.gz") as genome:
        write_variant_tables(
            example / "joint.vcf.gz", genome, **names, summary=tmp_path / "summary.json", samples=[], window=window
        )
        unique = unique_alleles([names["alleles"]])
        lengths = {contig.name: contig.length for contig in genome.contigs}
        tokens = []
        for path in write_shards(unique, allele_work(unique, lengths, parameters), 4, tmp_path / "shards"):
            alleles = table_alleles(read_parquet(path))
            sites = dict.fromkeys(Site(allele.contig, allele.start) for allele in alleles if allele.kind == "snv")
            count = sum(len(run.ids) for run in site_inputs(tokenizer, genome, list(sites), parameters).inputs)
            for allele in alleles:
                passes = 1 if allele.kind == "snv" else 1 + views
                count += passes * sum(
                    p.ref.size + p.alt.size + 4 for p in allele_pairs(tokenizer, genome, allele, parameters)
                )
            tokens.append(count)
    assert max(tokens) < 1.05 * min(tokens), tokens


@pytest.fixture
def traced(checkpoint):
    return provenance(checkpoint, "0" * 64, ScoringParameters())


def test_stored_scores_come_back_marked(tmp_path, traced):
    store = ScoreStore(tmp_path / "store", traced)
    store.add(score_table([("1", 5, "A", "G"), ("1", 9, "C", "T")]))
    held, missing = store.split(allele_table([("1", 9, "C", "T"), ("1", 9, "C", "G")]))
    assert held.select(ALLELE_SCHEMA.names).to_pylist() == allele_table([("1", 9, "C", "T")]).to_pylist()
    assert held["status"].to_pylist() == ["from_store"]
    assert held["score"].to_pylist() == [-1.5]
    assert missing.to_pylist() == allele_table([("1", 9, "C", "G")]).to_pylist()


def test_adding_twice_holds_an_allele_once(tmp_path, traced):
    store = ScoreStore(tmp_path / "store", traced)
    for rows in ([("1", 5, "A", "G")], [("1", 5, "A", "G")], [("1", 5, "A", "G"), ("2", 1, "A", "G")]):
        store.add(score_table(rows))
    held, missing = store.split(allele_table([("1", 5, "A", "G"), ("2", 1, "A", "G")]))
    assert (len(held), len(missing)) == (2, 0)


def test_another_model_reference_or_parameters_share_nothing(tmp_path, checkpoint, traced):
    wanted = allele_table([("1", 5, "A", "G")])
    ScoreStore(tmp_path, traced).add(score_table([("1", 5, "A", "G")]))
    for other in (
        provenance(checkpoint, "1" * 64, ScoringParameters()),
        provenance(checkpoint, "0" * 64, ScoringParameters(window=256)),
        {**traced, "checkpoint": {"name": "x", "sha256": "2" * 64}},
    ):
        held, missing = ScoreStore(tmp_path, other).split(wanted)
        assert (len(held), len(missing)) == (0, 1)


def test_a_damaged_or_foreign_part_is_named(tmp_path, traced):
    store = ScoreStore(tmp_path, traced)
    store.add(score_table([("1", 5, "A", "G")]))
    (part,) = tmp_path.rglob("*.parquet")
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=part.name):
        store.split(allele_table([]))
    pq.write_table(score_table([]), part)
    with pytest.raises(StoreError, match=part.name):
        store.split(allele_table([]))


def test_tables_have_the_same_bytes_every_time_and_carry_provenance(tmp_path, traced):
    for name in ("a", "b"):
        write_parquet(score_table([("1", 5, "A", "G")]), tmp_path / name, traced)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_provenance(tmp_path / "a") == traced
