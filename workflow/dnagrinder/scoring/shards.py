"""From the call sets of a cohort to shards: each allele once, what the store holds set aside, the rest in equal work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.scoring.tables import ALLELE_COLUMNS, ALLELE_SCHEMA, read_parquet, write_parquet

_HELD = 2_000_000  # rows of several call sets that are held before repeats are dropped
BLOCK_COST = 1.5  # work of an indel or MNV relative to an SNV: blocks are masked in both windows, sites are shared


def unique_alleles(tables: Sequence[Path]) -> pa.Table:
    """Union of the alleles of several call sets, each once, sorted by contig, start, ref and alt.

    Repeats are dropped whenever they may be half of what is held, so memory grows with the different alleles, not with the
    call sets, and the work stays linear in the alleles read.
    """
    held, limit = [ALLELE_SCHEMA.empty_table()], _HELD
    for path in tables:
        held.append(read_parquet(path, ALLELE_COLUMNS).cast(ALLELE_SCHEMA))
        if sum(map(len, held)) > limit:
            held = [_each_once(held)]
            limit = max(_HELD, 2 * len(held[0]))
    union = held[0] if len(held) == 1 else _each_once(held)
    return union.sort_by([(name, "ascending") for name in ALLELE_COLUMNS])


def _each_once(parts: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(parts).group_by(list(ALLELE_COLUMNS)).aggregate([])


def write_shards(alleles: pa.Table, shards: int, folder: Path) -> list[Path]:
    """Cut sorted alleles into ``shards`` contiguous tables of about equal work; some may be empty.

    Files are called shard-0001-of-0004.parquet and so on. Neighbouring alleles stay together, so a site's context is
    computed once.
    """
    snv = pc.and_(pc.equal(pc.utf8_length(alleles["ref"]), 1), pc.equal(pc.utf8_length(alleles["alt"]), 1))
    cost = pc.if_else(snv, 1.0, BLOCK_COST)
    running = pc.cumulative_sum(cost).to_numpy() if len(alleles) else np.empty(0)
    total = running[-1] if len(running) else 0.0
    paths = []
    first = 0
    for number in range(1, shards + 1):
        reached = int(np.searchsorted(running, total * number / shards + 1e-9, side="right"))
        last = len(running) if number == shards else max(first, reached)
        path = folder / f"shard-{number:04d}-of-{shards:04d}.parquet"
        write_parquet(alleles.slice(first, last - first).combine_chunks(), path)
        paths.append(path)
        first = last
    return paths
