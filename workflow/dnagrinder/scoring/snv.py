"""P(base | both flanks) at a site: the forced-boundary marginal (model-spec §3.2).

The flanks are tokenised apart and one [MASK] of an assumed length stands between them, so REF and every ALT of a site
share one context and the segmentation cannot differ between them. For a view (length L, slot j)

    P(b) = sum of p(t) over tokens t of L bases with base b at slot j, renormalised over b in ACGT.

Each view is computed on both strands. A view that would reach beyond the window is left out for that site, one that the
vocabulary cannot spell for all four bases is left out altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.windows import window_bounds
from dnagrinder.model.tokenizer import CLS, MASK, SEP, DnaTokenizer
from dnagrinder.scoring.packing import Engine, ModelInput
from dnagrinder.scoring.parameters import VIEWS, ScoringParameters
from dnagrinder.sequence import reverse_complement

View = tuple[int, int]  # (masked bases, slot of the scored base)


@dataclass(frozen=True)
class Site:
    """One reference base; ``start`` is 0-based."""

    contig: str
    start: int


@dataclass(frozen=True)
class SiteInputs:
    """What the model has to run for some sites.

    Attributes:
        inputs: one a site, view and strand; in a lattice pass one serves several sites.
        owners: for each input the indices of its sites, one a masked position that is asked for, its view, and whether it
            is on the reverse strand.
        bases: for each view the base ("ACGT" index) of each of its targets.
        sites: number of sites.
    """

    inputs: list[ModelInput]
    owners: list[tuple[tuple[int, ...], View, bool]]
    bases: dict[View, NDArray[np.int64]]
    sites: int


def site_log_probs(
    engine: Engine,
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    sites: Sequence[Site],
    parameters: ScoringParameters,
) -> list[NDArray[np.float64]]:
    """For each site the log-probabilities of A, C, G, T on the reference strand, (views x strands, 4), natural log."""
    return run_sites(engine, site_inputs(tokenizer, reference, sites, parameters))


def site_inputs(
    tokenizer: DnaTokenizer, reference: ReferenceGenome, sites: Sequence[Site], parameters: ScoringParameters
) -> SiteInputs:
    """Cut and tokenise the contexts of sites, both strands."""
    groups = {view: tokenizer.bases_at(*view) for view in supported_views(tokenizer, parameters.views)}
    inputs: list[ModelInput] = []
    owners: list[tuple[tuple[int, ...], View, bool]] = []
    for index, site in enumerate(sites):
        for model_input, view, reverse in _site_inputs(tokenizer, reference, site, parameters.window, groups):
            inputs.append(model_input)
            owners.append(((index,), view, reverse))
    return SiteInputs(inputs, owners, {view: bases for view, (_, bases) in groups.items()}, len(sites))


def run_sites(engine: Engine, prepared: SiteInputs) -> list[NDArray[np.float64]]:
    """As ``site_log_probs``, for contexts that are cut and tokenised; one row of nan for a site without any."""
    tables: list[NDArray[np.float64]] = [np.empty(0)] * len(prepared.inputs)  # (masked positions, 4) each

    def consume(position: int, log_probs: torch.Tensor) -> None:
        _, view, reverse = prepared.owners[position]
        tables[position] = _base_marginals(log_probs.double().numpy(), prepared.bases[view], reverse)

    engine.log_probs(prepared.inputs, consume)
    collected: list[list[NDArray[np.float64]]] = [[] for _ in range(prepared.sites)]
    for (indices, _, _), table in zip(prepared.owners, tables, strict=True):
        for index, row in zip(indices, table, strict=True):
            collected[index].append(row)
    return [np.stack(site_rows) if site_rows else np.full((1, 4), np.nan) for site_rows in collected]


def supported_views(tokenizer: DnaTokenizer, count: int) -> list[View]:
    """Of the first ``count`` views those whose tokens can hold every base; (1, 0) always can."""
    return [view for view in VIEWS[:count] if np.unique(tokenizer.bases_at(*view)[1]).size == 4]


def _site_inputs(
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    site: Site,
    window: int,
    groups: dict[View, tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[tuple[ModelInput, View, bool]]:
    start, end = window_bounds(site.start, site.start + 1, window, reference.length(site.contig))
    forward = reference.fetch(site.contig, start, end)
    result = []
    for reverse in (False, True):
        sequence = reverse_complement(forward) if reverse else forward
        offset = end - 1 - site.start if reverse else site.start - start
        for (length, slot), (tokens, _) in groups.items():
            left, right = offset - slot, offset - slot + length
            if left < 0 or right > len(sequence):
                continue
            before, after = tokenizer.encode_pieces([sequence[:left], sequence[right:]])
            ids = np.concatenate([[CLS], before, [MASK], after, [SEP]])
            result.append((ModelInput(ids, (1 + before.size,), tokens[np.newaxis]), (length, slot), reverse))
    return result


def _base_marginals(log_probs: NDArray[np.float64], bases: NDArray[np.int64], reverse: bool) -> NDArray[np.float64]:
    """Log-sum-exp of the tokens of each base, normalised over the four; complemented for the reverse strand, (n, 4)."""
    top = log_probs.max(axis=1, keepdims=True)
    mass = np.zeros((len(log_probs), 4))
    np.add.at(mass.T, bases, np.exp(log_probs - top).T)
    if reverse:
        mass = mass[:, ::-1]  # A C G T in reverse order are their own complements
    with np.errstate(divide="ignore"):
        logs: NDArray[np.float64] = np.log(mass) - np.log(mass.sum(axis=1, keepdims=True))
    return logs
