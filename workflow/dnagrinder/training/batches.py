"""From visits of segments to packed batches; every batch is a pure function of (seed, step, rank)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnagrinder.model.tokenizer import PAD, DnaTokenizer
from dnagrinder.sequence import reverse_complement
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.curriculum import VisitOrder
from dnagrinder.training.masking import IGNORED, Example, Masking, mask_sequence
from dnagrinder.training.recipe import Recipe

FILL = 256  # tokens; a product of every new shape is compiled and kept by oneDNN, so few shapes are to occur
BASES_PER_TOKEN = 8  # drawn per wanted token; more than any stretch of DNA gives, the rest is cut off


@dataclass(frozen=True)
class Batch:
    """Packed sequences; a last one of [PAD] may fill them up.

    Attributes:
        input_ids: (tokens,) int64.
        labels: (tokens,) int64.
        weights: (tokens,) float32.
        cu_seqlens: (sequences + 1,) int64, first token of each sequence, then ``tokens``.
        max_seqlen: tokens of the longest sequence.
        tokens: without those that fill up.
    """

    input_ids: Tensor
    labels: Tensor
    weights: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    tokens: int


class BatchMaker:
    """The batches of a run, for one of its ranks."""

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: DnaTokenizer,
        recipe: Recipe,
        masking: Masking,
        *,
        token_counts: NDArray[np.int64] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._corpus, self._tokenizer, self._recipe, self._masking = corpus, tokenizer, recipe, masking
        self._rank, self._world = rank, world
        self._order = VisitOrder(
            [shard.segments for shard in corpus.shards],
            [shard.copies for shard in corpus.shards],
            recipe.seed,
            recipe.curriculum.slw,
            token_counts,
            recipe.sequences_at(0),
        )
        self._first_visit = np.cumsum([0, *(recipe.sequences_at(step) for step in range(recipe.steps))])  # (steps + 1,)

    def epochs_at(self, step: int) -> float:
        """Epochs gone through before a step."""
        return float(self._first_visit[step]) / self._order.visits

    def step(self, step: int) -> list[Batch]:
        """This process's share of a step, in batches of about ``micro_tokens`` tokens; all processes get as many batches."""
        first, after = int(self._first_visit[step]), int(self._first_visit[step + 1])
        length = self._recipe.length_at(step)
        largest_share = -(-(after - first) // self._world)
        number = -(-largest_share // max(1, self._recipe.micro_tokens // length))
        shares = _cuts(first, after, self._world)
        cuts = _cuts(shares[self._rank], shares[self._rank + 1], number)
        return [_pack([self._example(visit, length) for visit in range(start, end)]) for start, end in pairwise(cuts)]

    def _example(self, visit: int, length: int) -> Example:
        generator = np.random.default_rng([self._recipe.seed, visit])
        bases = self._corpus.segment(self._order.segment(visit))
        wanted = min(self._corpus.step, length * BASES_PER_TOKEN, bases.size)
        offset = int(generator.integers(0, bases.size - wanted + 1))
        text = bases[offset : offset + wanted].tobytes().decode("ascii")
        if self._recipe.reverse_complement and generator.random() < 0.5:
            text = reverse_complement(text)
        return mask_sequence(text, length, self._tokenizer, self._masking, generator)


def _cuts(first: int, after: int, parts: int) -> list[int]:
    """Bounds of ``parts`` runs of nearly equal length in [first, after), (parts + 1,)."""
    return [first + (after - first) * part // parts for part in range(parts + 1)]


def _pack(examples: list[Example]) -> Batch:
    """The sequences end to end, filled up to a multiple of FILL tokens by one that asks for nothing."""
    tokens = sum(example.input_ids.size for example in examples)
    spare = -tokens % FILL if tokens else FILL
    if spare:
        filler = Example(np.full(spare, PAD), np.full(spare, IGNORED), np.zeros(spare, dtype=np.float32))
        examples = [*examples, filler]
    sizes = [example.input_ids.size for example in examples]
    return Batch(
        torch.from_numpy(np.concatenate([example.input_ids for example in examples])),
        torch.from_numpy(np.concatenate([example.labels for example in examples])),
        torch.from_numpy(np.concatenate([example.weights for example in examples])),
        torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
        max(sizes),
        tokens,
    )
