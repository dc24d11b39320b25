"""From the call sets of a cohort to shards: each allele once, what the store holds set aside, the rest in equal work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.scoring.tables import ALLELE_COLUMNS, ALLELE_SCHEMA, read_parquet, write_parquet

BLOCK_COST = 1.5  # work of an indel or MNV relative to an SNV: blocks are masked in both windows, sites are shared


def unique_alleles(tables: Sequence[Path]) -> pa.Table:
    """Union of the alleles of several call sets, each once, sorted by contig, start, ref and alt."""
    parts = [read_parquet(path, ALLELE_COLUMNS).cast(ALLELE_SCHEMA) for path in tables]
    union = pa.concat_tables(parts) if parts else ALLELE_SCHEMA.empty_table()
    return union.group_by(list(ALLELE_COLUMNS)).aggregate([]).sort_by([(name, "ascending") for name in ALLELE_COLUMNS])


def write_shards(alleles: pa.Table, shards: int, folder: Path) -> list[Path]:
    """Cut sorted alleles into ``shards`` contiguous tables of about equal work; some may be empty.

    Files are called shard-0001-of-0004.parquet and so on. Neighbouring alleles stay together, so a site's context is
    computed once.
    """
    snv = pc.and_(pc.equal(pc.utf8_length(alleles["ref"]), 1), pc.equal(pc.utf8_length(alleles["alt"]), 1))
    cost = pc.if_else(snv, 1.0, BLOCK_COST)
    running = pc.cumulative_sum(cost).to_pylist() if len(alleles) else []
    total = running[-1] if running else 0.0
    paths = []
    first = 0
    for number in range(1, shards + 1):
        last = first
        while last < len(running) and running[last] <= total * number / shards + 1e-9:
            last += 1
        if number == shards:
            last = len(running)
        path = folder / f"shard-{number:04d}-of-{shards:04d}.parquet"
        write_parquet(alleles.slice(first, last - first).combine_chunks(), path)
        paths.append(path)
        first = last
    return paths
