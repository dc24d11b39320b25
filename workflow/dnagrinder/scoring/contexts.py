"""Log-probabilities of the four bases at every place around some alleles; a site that several share is scored once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import pyarrow as pa

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.parameters import TILE
from dnagrinder.scoring.snv import Site
from dnagrinder.scoring.store.collection import BASE_LOG_PROBS, BASES
from dnagrinder.scoring.store.shelf import Shelf, completed

CONTEXT_FLANK = 50  # bases shown to either side of a top variant
SITES = 512  # scored and stored together, at least: a quarter of a minute of `mini` on one core


def base_contexts(
    scorer: AlleleScorer,
    reference: ReferenceGenome,
    alleles: Sequence[Allele],
    shelf: Shelf | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Log-probabilities of the bases around each allele, ±CONTEXT_FLANK, clipped at contig ends.

    Args:
        shelf: what it holds of BASES is taken, what it lacks is added.
        on_progress: called with sites done and sites in all.

    Returns:
        key, position (1-based), ref, log_p_a, log_p_c, log_p_g, log_p_t (natural log, both strands and all views).

    Raises:
        StoreError: the store cannot be read or written.
    """
    contexts = [context_sites(reference, allele) for allele in alleles]
    sites = sorted({(site.contig, site.start) for context in contexts for site in context})

    def make(missing: pa.Table) -> Iterator[pa.Table]:
        unscored = [Site(*row.values()) for row in missing.to_pylist()]
        done = len(sites) - len(unscored)
        for some in site_pieces(unscored):
            if on_progress:
                on_progress(done, len(sites))
            yield _scored(scorer, reference, some)
            done += len(some)
        if on_progress:
            on_progress(done, len(sites))

    contigs, starts = zip(*sites, strict=True) if sites else ((), ())
    wanted = pa.table({"contig": pa.array(contigs, pa.string()), "start": pa.array(starts, pa.int64())})
    rows = completed(BASES, wanted, make, shelf)
    places = {site: place for place, site in enumerate(sites)}
    shown = [(allele.key, site) for allele, context in zip(alleles, contexts, strict=True) for site in context]
    table = rows.take(pa.array([places[site.contig, site.start] for _, site in shown], pa.int64()))
    columns = {
        "key": pa.array([key for key, _ in shown], pa.string()),
        "position": pa.array([site.start + 1 for _, site in shown], pa.int64()),
    }
    return pa.table(columns | {name: table[name] for name in ("ref", *BASE_LOG_PROBS)}).combine_chunks()


def context_sites(reference: ReferenceGenome, allele: Allele) -> list[Site]:
    """The reference bases of an allele and CONTEXT_FLANK to either side, clipped at the contig's ends."""
    first = max(0, allele.start - CONTEXT_FLANK)
    last = min(reference.length(allele.contig), allele.end + CONTEXT_FLANK)
    return [Site(allele.contig, start) for start in range(first, last)]


def site_pieces(sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Sorted sites in pieces of SITES and up to a tile more: cut between tiles only, so that a lattice pass serves all."""
    piece: list[Site] = []
    for _, tile in groupby(sites, key=lambda site: (site.contig, site.start // TILE)):
        piece += tile
        if len(piece) >= SITES:
            yield piece
            piece = []
    if piece:
        yield piece


def _scored(scorer: AlleleScorer, reference: ReferenceGenome, sites: Sequence[Site]) -> pa.Table:
    """Rows of BASES."""
    log_probs = scorer.base_log_probs(sites)
    return pa.table(
        {
            "contig": [site.contig for site in sites],
            "start": [site.start for site in sites],
            "ref": [reference.fetch(site.contig, site.start, site.start + 1) for site in sites],
            **{name: log_probs[:, column] for column, name in enumerate(BASE_LOG_PROBS)},
        },
        schema=BASES.schema,
    )
