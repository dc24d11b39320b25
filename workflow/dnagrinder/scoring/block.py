"""Block likelihood and embedding distance: what compares a REF window with an ALT window.

Both windows are tokenised whole. Tokens shared at the left and at the right end are set aside; what differs in between is
REF's block and ALT's block (never empty: where one would be, both take in a shared token). With a block masked,

    score = sum of log p(token of ALT's block | flanks) - sum of log p(token of REF's block | flanks),

a difference of block pseudo-log-likelihoods: each token is predicted from the flanks alone, and the number of masks tells
the model how many tokens to expect. [UNK] tokens (N) carry no term.

A view widens both blocks by the same number of shared tokens on each side. Each strand is tokenised by itself.

      REF  ...|ACGT|TTG|CA  |GGC|...        shared | block REF = TTG, CA | shared
      ALT  ...|ACGT|TTTGCA  |GGC|...        shared | block ALT = TTTGCA  | shared
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.genome.windows import window_bounds
from dnagrinder.model.tokenizer import CLS, MASK, SEP, UNK, DnaTokenizer
from dnagrinder.scoring.packing import Engine, Ids, ModelInput
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.sequence import reverse_complement


@dataclass(frozen=True)
class Pair:
    """REF and ALT window of one allele on one strand, as ids without special tokens.

    Attributes:
        shared_left, shared_right: number of identical tokens at either end; both blocks in between are non-empty.
    """

    ref: Ids
    alt: Ids
    shared_left: int
    shared_right: int


def align_pair(ref: Ids, alt: Ids) -> Pair:
    """Longest shared ends that leave each side at least one token."""
    shorter = min(ref.size, alt.size)
    differs = np.flatnonzero(ref[:shorter] != alt[:shorter])
    left = int(differs[0]) if differs.size else shorter
    left = min(left, shorter - 1)
    room = shorter - left - 1
    differs = np.flatnonzero(ref[::-1][:room] != alt[::-1][:room])
    right = int(differs[0]) if differs.size else room
    return Pair(ref, alt, left, right)


def check_ref(allele: Allele, reference: ReferenceGenome) -> None:
    """Raise InputError where REF is not what the reference holds there: the allele was read against another one."""
    start, ref, _ = allele.trimmed()
    if reference.fetch(allele.contig, start, start + len(ref)) != ref:
        raise InputError(
            f"allele {allele.key}: REF is not what {reference.path.name} holds there; the alleles were read against "
            "another reference, run read-variants again with this one"
        )


def allele_pairs(
    tokenizer: DnaTokenizer, reference: ReferenceGenome, allele: Allele, parameters: ScoringParameters
) -> tuple[Pair, Pair]:
    """The pair of windows on the forward and on the reverse strand.

    Raises:
        InputError: see ``check_ref``.
    """
    check_ref(allele, reference)
    start, ref, alt = allele.trimmed()
    left, right = window_bounds(start, start + len(ref), parameters.window, reference.length(allele.contig))
    sequence = reference.fetch(allele.contig, left, right)
    changed = sequence[: start - left] + alt + sequence[start - left + len(ref) :]
    return strand_pairs(tokenizer, sequence, changed)


def strand_pairs(tokenizer: DnaTokenizer, ref: str, alt: str) -> tuple[Pair, Pair]:
    """The pair of two sequences on the forward and on the reverse strand."""
    forward = align_pair(tokenizer.encode(ref), tokenizer.encode(alt))
    reverse = align_pair(tokenizer.encode(reverse_complement(ref)), tokenizer.encode(reverse_complement(alt)))
    return forward, reverse


def block_log_likelihoods(engine: Engine, pairs: Sequence[tuple[Pair, Pair]], views: int) -> list[NDArray[np.float64]]:
    """For each allele (views x strands, 2): log-likelihood of REF's and of ALT's block, natural log."""
    inputs: list[ModelInput] = []
    targets: list[Ids] = []
    for strands in pairs:
        for pair in strands:
            for widening in range(views):
                for ids in (pair.ref, pair.alt):
                    model_input, target = _masked_block(ids, pair, widening)
                    inputs.append(model_input)
                    targets.append(target)
    sums = np.zeros(len(inputs))

    def consume(position: int, log_probs: torch.Tensor) -> None:
        known = targets[position] != UNK
        sums[position] = log_probs[:, 0].double().numpy()[known].sum()

    engine.log_probs(inputs, consume)
    return list(sums.reshape(len(pairs), 2 * views, 2))


def embedding_distances(engine: Engine, pairs: Sequence[tuple[Pair, Pair]]) -> list[tuple[float, float]]:
    """For each allele the mean (cosine distance, L2 distance) between REF's and ALT's hidden state of the same token.

    Only tokens outside the blocks count, each once; mean of both strands. (nan, nan) where no token is shared.
    """
    inputs = [
        ModelInput(np.concatenate([[CLS], ids, [SEP]]))
        for strands in pairs
        for pair in strands
        for ids in (pair.ref, pair.alt)
    ]
    flat = [pair for strands in pairs for pair in strands]
    waiting: dict[int, torch.Tensor] = {}
    distances = np.full((len(flat), 2), np.nan)

    def consume(position: int, states: torch.Tensor) -> None:
        partner = position ^ 1
        if partner not in waiting:
            waiting[position] = states.clone()
            return
        other = waiting.pop(partner)
        ref, alt = (states, other) if position % 2 == 0 else (other, states)
        distances[position // 2] = _distance(ref[1:-1], alt[1:-1], flat[position // 2])

    engine.hidden(inputs, consume)
    means = distances.reshape(len(pairs), 2, 2).mean(axis=1)
    return [(float(cosine), float(l2)) for cosine, l2 in means]


def _masked_block(ids: Ids, pair: Pair, widening: int) -> tuple[ModelInput, Ids]:
    first = max(0, pair.shared_left - widening)
    last = min(ids.size, ids.size - pair.shared_right + widening)
    masked = ids.copy()
    masked[first:last] = MASK
    with_ends = np.concatenate([[CLS], masked, [SEP]])
    target = ids[first:last]
    return ModelInput(with_ends, tuple(range(first + 1, last + 1)), target[:, np.newaxis]), target


def _distance(ref: torch.Tensor, alt: torch.Tensor, pair: Pair) -> tuple[float, float]:
    """Mean over the shared tokens of one strand; (tokens, hidden) each."""
    left, right = pair.shared_left, pair.shared_right
    if left + right == 0:
        return float("nan"), float("nan")
    a = torch.cat([ref[:left], ref[ref.shape[0] - right :]]).double()
    b = torch.cat([alt[:left], alt[alt.shape[0] - right :]]).double()
    cosine = 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1)
    return float(cosine.mean()), float((a - b).norm(dim=-1).mean())
