"""Scores of alleles: SNVs by the forced-boundary marginal, all others by block likelihood, both with embedding distances.

With a lattice SNVs take their marginal from lattice passes. No window with ALT is run for them, so no distance is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.model.tokenizer import BASES, DnaTokenizer
from dnagrinder.prefetch import prefetched
from dnagrinder.scoring.block import Pair, allele_pairs, block_log_likelihoods, check_ref, embedding_distances
from dnagrinder.scoring.lattice import lattice_inputs
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import TILE, ScoringParameters
from dnagrinder.scoring.snv import Site, SiteInputs, run_sites, site_inputs

CHUNK = 64  # alleles taken up together, the next ones prepared meanwhile; bounds memory, never changes a score


@dataclass(frozen=True)
class AlleleScore:
    """Score of one allele.

    Attributes:
        score: log P(ALT) - log P(REF), natural log, mean over views and strands; below 0 = ALT less expected than REF.
        spread: standard deviation of the score over views and strands (population form).
        views: number of views times strands that the score is a mean of.
        log_p_ref, log_p_alt: mean log-probabilities; of the base for an SNV, of the whole block otherwise.
        cosine_distance, l2_distance: mean distance of the hidden states of tokens outside the allele's block; nan where
            it was not measured (lattice) or no token lies outside.
        method: "snv_marginal", "snv_lattice" or "block_likelihood".
    """

    allele: Allele
    score: float
    spread: float
    views: int
    log_p_ref: float
    log_p_alt: float
    cosine_distance: float
    l2_distance: float
    method: str


@dataclass(frozen=True)
class _Chunk:
    """Alleles with their contexts cut and tokenised.

    ``pairs`` by the place of an allele in ``alleles``, of SNVs only without a lattice; ``site_inputs`` for the distinct
    SNV sites.
    """

    alleles: Sequence[Allele]
    pairs: dict[int, tuple[Pair, Pair]]
    sites: list[Site]
    site_inputs: SiteInputs


class AlleleScorer:
    """Scores alleles of one reference with one model."""

    def __init__(
        self, engine: Engine, tokenizer: DnaTokenizer, reference: ReferenceGenome, parameters: ScoringParameters
    ) -> None:
        self._engine, self._tokenizer, self._reference, self._parameters = engine, tokenizer, reference, parameters

    def score(
        self, alleles: Sequence[Allele], on_progress: Callable[[int, int], None] | None = None
    ) -> Iterator[AlleleScore]:
        """One score an allele, in the order given; ``on_progress(done, total)`` after every chunk."""
        done = 0
        for chunk in prefetched(self._prepare(chunk) for chunk in self._chunks(alleles)):
            yield from self._score_chunk(chunk)
            done += len(chunk.alleles)
            if on_progress:
                on_progress(done, len(alleles))

    def base_log_probs(self, sites: Sequence[Site]) -> NDArray[np.float64]:
        """Mean log-probabilities of A, C, G, T at each site, (sites, 4), renormalised; natural log."""
        rows = run_sites(self._engine, self._site_inputs(sites))
        means = np.stack([row.mean(axis=0) for row in rows])
        normalised: NDArray[np.float64] = means - np.log(np.exp(means).sum(axis=1, keepdims=True))
        return normalised

    def _chunks(self, alleles: Sequence[Allele]) -> Iterator[Sequence[Allele]]:
        """Pieces of CHUNK alleles; with a lattice cut between tiles only, so that a pass serves all its sites at once."""
        first = 0
        for last in range(1, len(alleles)):
            cuts_tile = self._parameters.lattice and _in_one_tile(alleles[last - 1], alleles[last])
            if last - first >= CHUNK and not cuts_tile:
                yield alleles[first:last]
                first = last
        if alleles:
            yield alleles[first:]

    def _prepare(self, alleles: Sequence[Allele]) -> _Chunk:
        """Everything before the model: windows cut and tokenised."""
        pairs = {}
        for place, allele in enumerate(alleles):
            if self._parameters.lattice and allele.kind == "snv":
                check_ref(allele, self._reference)
            else:
                pairs[place] = allele_pairs(self._tokenizer, self._reference, allele, self._parameters)
        snvs = [allele for allele in alleles if allele.kind == "snv"]
        sites = list(dict.fromkeys(Site(allele.contig, allele.start) for allele in snvs))
        return _Chunk(alleles, pairs, sites, self._site_inputs(sites))

    def _site_inputs(self, sites: Sequence[Site]) -> SiteInputs:
        prepare = lattice_inputs if self._parameters.lattice else site_inputs
        return prepare(self._tokenizer, self._reference, sites, self._parameters)

    def _score_chunk(self, chunk: _Chunk) -> list[AlleleScore]:
        found = embedding_distances(self._engine, list(chunk.pairs.values()))
        distances = dict(zip(chunk.pairs, found, strict=True))
        log_likelihoods = self._log_likelihoods(chunk)
        return [
            _allele_score(allele, rows, distances.get(place))
            for place, (allele, rows) in enumerate(zip(chunk.alleles, log_likelihoods, strict=True))
        ]

    def _log_likelihoods(self, chunk: _Chunk) -> list[NDArray[np.float64]]:
        """For each allele (views x strands, 2): REF and ALT."""
        result: list[NDArray[np.float64]] = [np.empty(0)] * len(chunk.alleles)
        by_site = dict(zip(chunk.sites, run_sites(self._engine, chunk.site_inputs), strict=True))
        others = []
        for i, allele in enumerate(chunk.alleles):
            if allele.kind == "snv":
                table = by_site[Site(allele.contig, allele.start)]
                result[i] = table[:, [BASES.index(allele.ref), BASES.index(allele.alt)]]
            else:
                others.append(i)
        blocks = block_log_likelihoods(self._engine, [chunk.pairs[i] for i in others], self._parameters.views)
        for i, block in zip(others, blocks, strict=True):
            result[i] = block
        return result


def _in_one_tile(one: Allele, other: Allele) -> bool:
    return (one.contig, one.start // TILE) == (other.contig, other.start // TILE)


def _allele_score(allele: Allele, rows: NDArray[np.float64], distance: tuple[float, float] | None) -> AlleleScore:
    cosine, l2 = distance or (math.nan, math.nan)
    by_base = "snv_marginal" if distance else "snv_lattice"
    differences = rows[:, 1] - rows[:, 0]
    log_p_ref, log_p_alt = rows.mean(axis=0)
    return AlleleScore(
        allele=allele,
        score=float(differences.mean()),
        spread=float(differences.std()),
        views=len(rows),
        log_p_ref=float(log_p_ref),
        log_p_alt=float(log_p_alt),
        cosine_distance=cosine,
        l2_distance=l2,
        method=by_base if allele.kind == "snv" else "block_likelihood",
    )
