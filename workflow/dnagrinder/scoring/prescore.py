"""Every SNV of some regions into the score store, before anybody asks for them.

Work goes batch by batch, a batch being BATCH tiles of the lattice's grid: what the store lacks of it is scored and added at
once. So a killed run loses one batch at most, and a run over what is held already makes no model call. Where regions
overlap a base counts once; unknown bases (N) are skipped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.windows import merged
from dnagrinder.model.tokenizer import BASES
from dnagrinder.scoring.parameters import TILE
from dnagrinder.scoring.session import Progress, ScoringSession
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import ALLELE_SCHEMA

BATCH = 16  # tiles scored and stored together: a minute and a half of `mini` on one core

Interval = tuple[int, int]  # start, end; 0-based half-open


@dataclass(frozen=True)
class Prescored:
    """What became of the bases of the regions: ``3 * (bases - skipped_n) = snvs = scored + held``.

    Attributes:
        bases: different bases in the regions.
        skipped_n: those of them that the reference does not know.
        snvs: single-nucleotide variants at the others, three a base.
        scored: SNVs scored and added to the store by this run.
        held: SNVs that the store held before.
    """

    bases: int
    skipped_n: int
    snvs: int
    scored: int
    held: int


def prescore(
    session: ScoringSession, regions: pd.DataFrame, store: ScoreStore, on_progress: Progress | None = None
) -> Prescored:
    """Score what ``store`` lacks of the regions' SNVs and add it.

    Args:
        regions: columns contig, start, end (0-based half-open, on the session's reference); may overlap.
        on_progress: called with bases done and bases in all.

    Raises:
        StoreError: the store cannot be read or written.
    """
    store.prepare()
    work = list(batches(regions))
    bases = sum(end - start for _, intervals in work for start, end in intervals)
    done = skipped = scored = held = 0
    for contig, intervals in work:
        size = sum(end - start for start, end in intervals)
        alleles = interval_snvs(session.reference, contig, intervals)
        found, missing = store.split(alleles)
        if len(missing):

            def report(part: int, total: int, done: int = done, size: int = size) -> None:
                if on_progress:
                    on_progress(done + size * part // total, bases)

            store.add(session.score_alleles(missing, report))
        done += size
        skipped += size - len(alleles) // 3
        scored += len(missing)
        held += len(found)
        if on_progress:
            on_progress(done, bases)
    return Prescored(bases, skipped, scored + held, scored, held)


def batches(regions: pd.DataFrame) -> Iterator[tuple[str, list[Interval]]]:
    """(contig, intervals) of every batch that the regions touch; each base once, in the order of contig and position."""
    span = BATCH * TILE
    found: dict[tuple[str, int], list[Interval]] = {}
    for contig, first, last in merged(regions):
        for start in range(first - first % span, last, span):
            found.setdefault((contig, start), []).append((max(first, start), min(last, start + span)))
    for (contig, _), intervals in found.items():
        yield contig, intervals


def interval_snvs(reference: ReferenceGenome, contig: str, intervals: list[Interval]) -> pa.Table:
    """The three SNVs (ALLELE_SCHEMA) of every known base of sorted intervals that do not overlap, in order."""
    text = "".join(reference.fetch(contig, start, end) for start, end in intervals)
    positions = np.concatenate([np.arange(start, end) for start, end in intervals])
    letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    refs = np.array([BASES.find(chr(code)) for code in range(256)])[letters]
    known = refs >= 0
    refs = np.repeat(refs[known], 3)  # (SNVs,) index in BASES
    alts = _OTHERS[refs[::3]].reshape(-1)
    names = pa.array(list(BASES))
    return pa.table(
        {
            "contig": pa.array([contig]).take(pa.array(np.zeros(refs.size, np.int8))),
            "start": np.repeat(positions[known], 3),
            "ref": names.take(pa.array(refs)),
            "alt": names.take(pa.array(alts)),
        },
        schema=ALLELE_SCHEMA,
    )


_OTHERS: NDArray[np.int64] = np.array([[b for b in range(4) if b != ref] for ref in range(4)])  # (ref, 3)
