"""Embeddings of regions in long context: one pass over a window around each region, up to hundreds of thousands of bases.

The hidden state of a token counts once for each of its bases that lies in the region (or in the bin), so the embedding is a
mean over bases. Forward strand. No token is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.windows import window_bounds
from dnagrinder.model.tokenizer import CLS, SEP, DnaTokenizer
from dnagrinder.prefetch import prefetched
from dnagrinder.scoring.packing import Engine, ModelInput

CHUNK_BASES = 1_000_000  # bases of windows taken up together, at least one window; bounds memory, never changes a value
POOLED_TOKENS = 4096  # tokens widened to float64 at a time


@dataclass(frozen=True)
class Embedding:
    """Mean hidden state of a stretch.

    Attributes:
        region: row of the region in the table given.
        start, end: the stretch, 0-based half-open: the region, or one bin of it.
        tokens: tokens of the window it was computed in, [CLS] and [SEP] included.
        values: (hidden,) float32.
    """

    region: int
    start: int
    end: int
    tokens: int
    values: NDArray[np.float32]


@dataclass(frozen=True)
class _Window:
    """A window cut and tokenised; ``offsets`` (tokens + 1,): position of each token's first base, none for specials."""

    region: int
    edges: list[int]  # borders of the stretches, ascending
    model_input: ModelInput
    offsets: NDArray[np.int64]


class RegionEmbedder:
    """Embeds regions of one reference with one model.

    Args:
        window: bases around a region's middle that the model sees at once; clipped at contig ends.
        bin_width: cut each region into stretches of so many bases, the last one shorter; 0 for one stretch a region.
    """

    def __init__(
        self, engine: Engine, tokenizer: DnaTokenizer, reference: ReferenceGenome, window: int, bin_width: int = 0
    ) -> None:
        self._engine, self._tokenizer, self._reference = engine, tokenizer, reference
        self._window, self._bin_width = window, bin_width

    def embed(self, regions: pd.DataFrame, on_progress: Callable[[int, int], None] | None = None) -> Iterator[Embedding]:
        """Stretches in the order of ``regions`` (columns contig, start, end; 0-based half-open; all within the window)."""
        done = 0
        for chunk in prefetched(self._chunks(regions)):
            results: list[list[Embedding]] = [[] for _ in chunk]

            def consume(index: int, states: torch.Tensor, chunk: list[_Window] = chunk, into: list = results) -> None:
                into[index] = _pool(chunk[index], states)

            self._engine.hidden([window.model_input for window in chunk], consume)
            for result in results:
                yield from result
            done += len(chunk)
            if on_progress:
                on_progress(done, len(regions))

    def _chunks(self, regions: pd.DataFrame) -> Iterator[list[_Window]]:
        chunk: list[_Window] = []
        bases = 0
        rows = regions[["contig", "start", "end"]].itertuples(index=False)
        for region, (contig, start, end) in enumerate(rows):
            if chunk and bases + self._window > CHUNK_BASES:
                yield chunk
                chunk, bases = [], 0
            chunk.append(self._cut(region, contig, int(start), int(end)))
            bases += self._window
        if chunk:
            yield chunk

    def _cut(self, region: int, contig: str, start: int, end: int) -> _Window:
        left, right = window_bounds(start, end, self._window, self._reference.length(contig))
        left, right = min(left, start), max(right, end)  # a region as long as the window may lie one base beside it
        ids = self._tokenizer.encode(self._reference.fetch(contig, left, right))
        with_ends = np.concatenate([[CLS], ids, [SEP]])
        firsts = left + self._tokenizer.offsets(ids)  # (tokens + 1,)
        offsets = np.concatenate([[left], firsts, [right]])  # the specials stand for no base
        edges = [*range(start, end, self._bin_width), end] if self._bin_width else [start, end]
        return _Window(region, edges, ModelInput(with_ends), offsets)


def fits_window(regions: pd.DataFrame, window: int) -> NDArray[np.bool_]:
    """Which regions are no longer than the window, (regions,)."""
    fitting: NDArray[np.bool_] = (regions["end"] - regions["start"]).to_numpy() <= window
    return fitting


def _pool(window: _Window, states: torch.Tensor) -> list[Embedding]:
    """Mean over the bases of each stretch; states: (tokens, hidden), any float dtype."""
    offsets = window.offsets
    result = []
    for start, end in pairwise(window.edges):
        total = np.zeros(states.shape[1])
        first, last = int(np.searchsorted(offsets, start, "right")) - 1, int(np.searchsorted(offsets, end, "left"))
        for low in range(max(0, first), last, POOLED_TOKENS):
            high = min(low + POOLED_TOKENS, last)
            bases = np.minimum(offsets[low + 1 : high + 1], end) - np.maximum(offsets[low:high], start)
            total += bases.clip(min=0) @ states[low:high].double().numpy()
        values = (total / (end - start)).astype(np.float32)
        result.append(Embedding(window.region, start, end, states.shape[0], values))
    return result


def embedding_columns(embeddings: Sequence[Embedding], regions: pd.DataFrame) -> dict[str, list[object]]:
    """Columns contig, start, end, name, tokens, embedding: one row a stretch."""
    contigs, names = regions["contig"].astype(str).tolist(), regions["name"].tolist()
    return {
        "contig": [contigs[e.region] for e in embeddings],
        "start": [e.start for e in embeddings],
        "end": [e.end for e in embeddings],
        "name": [str(names[e.region]) if pd.notna(names[e.region]) else None for e in embeddings],
        "tokens": [e.tokens for e in embeddings],
        "embedding": [e.values.tolist() for e in embeddings],
    }
