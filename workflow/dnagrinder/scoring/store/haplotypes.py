"""Scores of haplotypes as rows of the store, without their carriers: those belong to a cohort."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from dnagrinder.genome.cis import CisHaplotype
from dnagrinder.scoring.haplotypes import HaplotypeScore, HaplotypeScorer
from dnagrinder.scoring.parameters import HAPLOTYPE_METHOD
from dnagrinder.scoring.store.collection import HAPLOTYPES
from dnagrinder.scoring.store.shelf import Shelf, completed
from dnagrinder.scoring.tables import ALLELE_COLUMNS

PIECE = 256  # haplotypes stored together: about a minute of `mini` on one core
_NUMBERS = ("joint", "joint_spread", "epistasis", "epistasis_spread", "rows", "block_score", "block_spread")


def stored_or_scored(
    haplotypes: Sequence[CisHaplotype],
    scorer: HaplotypeScorer,
    shelf: Shelf | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[HaplotypeScore]:
    """The score of each haplotype, in the order given: what the shelf holds is taken, what it lacks is added.

    Args:
        on_progress: called with haplotypes done and haplotypes in all.

    Raises:
        StoreError: the store cannot be read or written.
    """
    wanted = haplotype_keys(haplotypes)
    by_key = dict(zip(HAPLOTYPES.keys(wanted).to_pylist(), haplotypes, strict=True))

    def make(missing: pa.Table) -> Iterator[pa.Table]:
        unscored = [by_key[key] for key in HAPLOTYPES.keys(missing).to_pylist()]
        held = len(haplotypes) - len(unscored)

        def report(done: int, _: int) -> None:
            if on_progress:
                on_progress(held + done, len(haplotypes))

        scores = scorer.score(unscored, report)
        while piece := list(islice(scores, PIECE)):
            yield haplotype_rows(piece)

    rows = completed(HAPLOTYPES, wanted, make, shelf)
    return [score_of(haplotype, row) for haplotype, row in zip(haplotypes, rows.to_pylist(), strict=True)]


def haplotype_keys(haplotypes: Sequence[CisHaplotype]) -> pa.Table:
    """The key columns of HAPLOTYPES, under the method of this version."""
    rows = [_key(haplotype) for haplotype in haplotypes]
    return pa.Table.from_pylist(rows, schema=pa.schema([HAPLOTYPES.schema.field(name) for name in HAPLOTYPES.key]))


def haplotype_rows(scores: Sequence[HaplotypeScore]) -> pa.Table:
    """Rows of HAPLOTYPES."""
    rows = [
        {**_key(item.haplotype), **{name: getattr(item, name) for name in _NUMBERS}, "singles": json.dumps(item.singles)}
        for item in scores
    ]
    return pa.Table.from_pylist(rows, schema=HAPLOTYPES.schema)


def score_of(haplotype: CisHaplotype, row: Mapping[str, Any]) -> HaplotypeScore:
    """The score of a haplotype out of its row, to the last bit."""
    return HaplotypeScore(haplotype, singles=tuple(json.loads(row["singles"])), **{name: row[name] for name in _NUMBERS})


def _key(haplotype: CisHaplotype) -> dict[str, Any]:
    return {
        **{name: getattr(haplotype.allele, name) for name in ALLELE_COLUMNS},
        "members": json.dumps([member.allele.key for member in haplotype.members]),
        "method": HAPLOTYPE_METHOD,
    }
