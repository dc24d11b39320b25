"""In-silico mutagenesis: what each of the three substitutions of a base would score, out of base log-probabilities.

The values come from the very scores of SNVs: the effect of REF > b is log P(b) - log P(REF) at that base, so at a variant's
own place it is the variant's score.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dnagrinder.genome.variants import Allele
from dnagrinder.model.tokenizer import BASES
from dnagrinder.scoring.bedgraph import bedgraph_runs

TRACKS = ("mean", *BASES)


def substitution_effects(references: str, log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """log P(b) - log P(reference base) for b of A, C, G, T, (bases, 4); nan for the reference base itself and at N.

    Args:
        references: reference base of each row.
        log_probs: (bases, 4) natural logs.
    """
    columns = np.array([BASES.find(base) for base in references], dtype=np.int64)
    rows = np.arange(columns.size)
    effects: NDArray[np.float64] = log_probs - log_probs[rows, columns][:, np.newaxis]
    effects[rows, columns] = np.nan
    effects[columns < 0] = np.nan
    return effects


def mutagenesis_tracks(contexts: pa.Table) -> dict[str, list[str]]:
    """bedGraph lines by name: ``mean`` of the three substitutions, and the effect of each base written in place of REF.

    Args:
        contexts: as ``ScoringSession.base_contexts`` gives them; where contexts overlap a base counts once.
    """
    contigs = {key: Allele.from_key(key).contig for key in set(contexts["key"].to_pylist())}
    places = [contigs[key] for key in contexts["key"].to_pylist()]
    logs = np.stack([contexts[f"log_p_{base.lower()}"].to_numpy() for base in BASES], axis=1)
    effects = substitution_effects("".join(contexts["ref"].to_pylist()), logs)
    sums, counts = np.nansum(effects, axis=1), np.isfinite(effects).sum(axis=1)
    means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    values = np.column_stack([means, effects])  # (bases, tracks)
    rows = dict(zip(zip(places, contexts["position"].to_pylist(), strict=True), values, strict=True))
    lines: dict[str, list[str]] = {name: [] for name in TRACKS}
    stretch: list[tuple[str, int]] = []
    for place in [*sorted(rows), None]:
        if stretch and place != (stretch[-1][0], stretch[-1][1] + 1):
            contig, first = stretch[0]
            for name, column in zip(TRACKS, np.stack([rows[one] for one in stretch]).T, strict=True):
                lines[name] += bedgraph_runs(contig, first - 1, column)
            stretch = []
        if place:
            stretch.append(place)
    return lines
