"""From the call sets of a cohort to shards: each allele once, what the store holds set aside, the rest in equal work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.tables import ALLELE_COLUMNS, ALLELE_SCHEMA, read_parquet, write_parquet

_HELD = 2_000_000  # rows of several call sets that are held before repeats are dropped


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


def allele_work(alleles: pa.Table, contigs: Mapping[str, int], parameters: ScoringParameters) -> NDArray[np.float64]:
    """Bases that the model reads to score each of the sorted alleles, (alleles,); tokens are in proportion to bases.

    With a window of w bases (clipped at the contig's ends) that ALT makes d bases longer, an allele costs on both strands
    its REF and its ALT window for the distances, 2 (2 w + d); an SNV's site 2 views w more, once for all its ALTs; any other
    allele 2 views (2 w + d) more for its masked blocks.

    Args:
        alleles: ALLELE_SCHEMA, sorted as :func:`unique_alleles` does.
        contigs: length of every contig in bases.
        parameters: window and number of views count.
    """
    if not len(alleles):
        return np.zeros(0)
    start = alleles["start"].to_numpy()
    ref, alt = (pc.utf8_length(alleles[name]).to_numpy() for name in ("ref", "alt"))
    names = alleles["contig"].combine_chunks().dictionary_encode()
    contig = names.indices.to_numpy()
    length = np.array([contigs[name] for name in names.dictionary.to_pylist()])[contig]
    left = (2 * start + ref) // 2 - parameters.window // 2
    window = np.minimum(left + parameters.window, length) - np.maximum(left, 0)
    both = 2 * window + alt - ref
    snv = (ref == 1) & (alt == 1)
    place = np.stack([contig, start])  # (2, alleles)
    shared = np.zeros(len(alleles), dtype=bool)
    shared[1:] = (place[:, 1:] == place[:, :-1]).all(axis=0) & snv[1:] & snv[:-1]
    own = np.where(snv, np.where(shared, 0, window), both)
    work: NDArray[np.float64] = (2.0 * both + 2.0 * parameters.views * own).astype(np.float64)
    return work


def write_shards(alleles: pa.Table, work: NDArray[np.float64], shards: int, folder: Path) -> list[Path]:
    """Cut sorted alleles into ``shards`` contiguous tables of about equal ``work`` (a number an allele); some may be empty.

    Files are called shard-0001-of-0004.parquet and so on. Neighbouring alleles stay together, and alleles that start at
    the same base always do, so a site's context is computed once.
    """
    starts = [0, *_cuts(alleles, work, shards), len(alleles)]
    paths = []
    for number, (first, last) in enumerate(pairwise(starts), start=1):
        path = folder / f"shard-{number:04d}-of-{shards:04d}.parquet"
        write_parquet(alleles.slice(first, last - first).combine_chunks(), path)
        paths.append(path)
    return paths


def _cuts(alleles: pa.Table, work: NDArray[np.float64], shards: int) -> list[int]:
    """First alleles of all shards but the first, each at the site's beginning that lies closest to an equal share."""
    contig = alleles["contig"].combine_chunks().dictionary_encode().indices.to_numpy()
    start = alleles["start"].to_numpy()
    new = np.flatnonzero((np.diff(contig) != 0) | (np.diff(start) != 0)) + 1
    begins = np.concatenate([[0], new, [len(alleles)]])  # (sites + 1,)
    before = np.concatenate([[0.0], np.cumsum(work)])[begins]
    wanted = before[-1] * np.arange(1, shards) / shards
    after = np.searchsorted(before, wanted).clip(1, max(1, len(begins) - 1))
    nearer = np.where(wanted - before[after - 1] <= before[after] - wanted, after - 1, after)
    return [int(cut) for cut in begins[nearer]]
