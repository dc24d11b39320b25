"""Scores of regions: how well the model expects the reference there, and one embedding a region.

A region is cut into tiles with flanks for context. In each tile every token is masked once: pass p of PASSES masks the
tokens whose index is p modulo PASSES, all others stay visible (one in eight is masked, as in training). A base's
log-likelihood is its token's log p shared out evenly over the token's bases; both strands are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.windows import tile
from dnagrinder.model.tokenizer import CLS, MASK, SEP, UNK, DnaTokenizer
from dnagrinder.scoring.packing import Engine, Ids, ModelInput
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.sequence import reverse_complement

PASSES = 8


@dataclass(frozen=True)
class RegionScore:
    """Score of one region.

    Attributes:
        index: row of the region in the table given.
        log_likelihood: mean log p per known base, natural log; nan where every base is N.
        known_bases: bases other than N that the mean is taken over.
        embedding: (hidden,) mean hidden state over the region's bases, forward strand; weights bases equally.
        per_base: (length,) log p of each base, nan at N.
    """

    index: int
    log_likelihood: float
    known_bases: int
    embedding: NDArray[np.float32]
    per_base: NDArray[np.float64]


class RegionScorer:
    """Scores regions of one reference with one model."""

    def __init__(
        self, engine: Engine, tokenizer: DnaTokenizer, reference: ReferenceGenome, parameters: ScoringParameters
    ) -> None:
        self._engine, self._tokenizer, self._reference, self._parameters = engine, tokenizer, reference, parameters

    def score(self, regions: pd.DataFrame, on_progress: Callable[[int, int], None] | None = None) -> Iterator[RegionScore]:
        """One score a row of ``regions`` (columns contig, start, end; 0-based half-open), in order."""
        tiles = tile(regions, self._parameters.window, self._reference)
        by_region = dict(iter(tiles.groupby("region", sort=True)))
        starts, ends = regions["start"].tolist(), regions["end"].tolist()
        for done, index in enumerate(range(len(regions)), start=1):
            start, end = starts[index], ends[index]
            yield self._score_region(index, start, end, by_region[index])
            if on_progress:
                on_progress(done, len(regions))

    def _score_region(self, index: int, start: int, end: int, tiles: pd.DataFrame) -> RegionScore:
        length = end - start
        per_base = np.full(length, np.nan)
        total = np.zeros(self._engine.hidden_width)
        columns = ("contig", "core_start", "core_end", "start", "end")
        for contig, first, last, left, right in zip(*(tiles[name].tolist() for name in columns), strict=True):
            sequence = self._reference.fetch(contig, left, right)
            core = slice(first - left, last - left)
            forward = self._per_base(sequence)
            backward = self._per_base(reverse_complement(sequence))[::-1]
            per_base[first - start : last - start] = ((forward + backward) / 2)[core]
            total += self._states_per_base(sequence)[core].sum(axis=0)
        known = np.isfinite(per_base)
        mean = float(per_base[known].mean()) if known.any() else float("nan")
        return RegionScore(index, mean, int(known.sum()), (total / length).astype(np.float32), per_base)

    def _per_base(self, sequence: str) -> NDArray[np.float64]:
        """log p of each base of one strand's window, nan at N; (len(sequence),)."""
        ids = self._tokenizer.encode(sequence)
        inputs, targets = [], []
        for first in range(min(PASSES, ids.size)):
            positions = np.arange(first, ids.size, PASSES)
            masked = ids.copy()
            masked[positions] = MASK
            with_ends = np.concatenate([[CLS], masked, [SEP]])
            inputs.append(ModelInput(with_ends, tuple((positions + 1).tolist()), ids[positions, np.newaxis]))
            targets.append(positions)
        per_token = np.zeros(ids.size)

        def consume(index: int, log_probs: torch.Tensor) -> None:
            per_token[targets[index]] = log_probs[:, 0].double().numpy()

        self._engine.log_probs(inputs, consume)
        per_token[ids == UNK] = np.nan
        lengths = self._tokenizer.lengths[ids]
        return np.repeat(per_token / lengths, lengths)

    def _states_per_base(self, sequence: str) -> NDArray[np.float64]:
        """Hidden state of each base's token, (len(sequence), hidden)."""
        ids: Ids = self._tokenizer.encode(sequence)
        result: list[NDArray[np.float64]] = []

        def consume(_: int, states: torch.Tensor) -> None:
            result.append(np.repeat(states[1:-1].double().numpy(), self._tokenizer.lengths[ids], axis=0))

        self._engine.hidden([ModelInput(np.concatenate([[CLS], ids, [SEP]]))], consume)
        return result[0]
