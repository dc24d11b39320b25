"""Scores of alleles: SNVs by the forced-boundary marginal, all others by block likelihood, both with embedding distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.model.tokenizer import BASES, DnaTokenizer
from dnagrinder.prefetch import prefetched
from dnagrinder.scoring.block import Pair, allele_pairs, block_log_likelihoods, embedding_distances
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.snv import Site, SiteInputs, run_sites, site_inputs, site_log_probs

CHUNK = 64  # alleles taken up together, the next ones prepared meanwhile; bounds memory, never changes a score


@dataclass(frozen=True)
class AlleleScore:
    """Score of one allele.

    Attributes:
        score: log P(ALT) - log P(REF), natural log, mean over views and strands; below 0 = ALT less expected than REF.
        spread: standard deviation of the score over views and strands (population form).
        views: number of views times strands that the score is a mean of.
        log_p_ref, log_p_alt: mean log-probabilities; of the base for an SNV, of the whole block otherwise.
        cosine_distance, l2_distance: mean distance of the hidden states of tokens outside the allele's block.
        method: "snv_marginal" or "block_likelihood".
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
    """Alleles with their contexts cut and tokenised: ``pairs`` one an allele, ``site_inputs`` for the distinct SNV sites."""

    alleles: Sequence[Allele]
    pairs: list[tuple[Pair, Pair]]
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
        chunks = (alleles[first : first + CHUNK] for first in range(0, len(alleles), CHUNK))
        done = 0
        for chunk in prefetched(self._prepare(chunk) for chunk in chunks):
            yield from self._score_chunk(chunk)
            done += len(chunk.alleles)
            if on_progress:
                on_progress(done, len(alleles))

    def base_log_probs(self, sites: Sequence[Site]) -> NDArray[np.float64]:
        """Mean log-probabilities of A, C, G, T at each site, (sites, 4), renormalised; natural log."""
        rows = site_log_probs(self._engine, self._tokenizer, self._reference, sites, self._parameters)
        means = np.stack([row.mean(axis=0) for row in rows])
        normalised: NDArray[np.float64] = means - np.log(np.exp(means).sum(axis=1, keepdims=True))
        return normalised

    def _prepare(self, alleles: Sequence[Allele]) -> _Chunk:
        """Everything before the model: windows cut and tokenised."""
        pairs = [allele_pairs(self._tokenizer, self._reference, allele, self._parameters) for allele in alleles]
        snvs = [allele for allele in alleles if allele.kind == "snv"]
        sites = list(dict.fromkeys(Site(allele.contig, allele.start) for allele in snvs))
        return _Chunk(alleles, pairs, sites, site_inputs(self._tokenizer, self._reference, sites, self._parameters))

    def _score_chunk(self, chunk: _Chunk) -> list[AlleleScore]:
        distances = embedding_distances(self._engine, chunk.pairs)
        log_likelihoods = self._log_likelihoods(chunk)
        return [
            _allele_score(allele, rows, distance)
            for allele, rows, distance in zip(chunk.alleles, log_likelihoods, distances, strict=True)
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


def _allele_score(allele: Allele, rows: NDArray[np.float64], distance: tuple[float, float]) -> AlleleScore:
    differences = rows[:, 1] - rows[:, 0]
    log_p_ref, log_p_alt = rows.mean(axis=0)
    return AlleleScore(
        allele=allele,
        score=float(differences.mean()),
        spread=float(differences.std()),
        views=len(rows),
        log_p_ref=float(log_p_ref),
        log_p_alt=float(log_p_alt),
        cosine_distance=distance[0],
        l2_distance=distance[1],
        method="snv_marginal" if allele.kind == "snv" else "block_likelihood",
    )
