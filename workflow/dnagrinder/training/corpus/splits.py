"""The text that a tokenizer is trained on: random segments of the whole mixture, in splits that are read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.curriculum import VisitOrder


def tokenizer_splits(corpus: Corpus, *, splits: int, bases: int, seed: int) -> list[Callable[[], Iterator[str]]]:
    """Functions that each yield about ``bases`` bases of upper-case segments; together they visit no segment twice as often
    as an epoch does, and end where the epoch ends. Every split holds all species, so that none owns the short merges.
    """
    order = VisitOrder([s.segments for s in corpus.shards], [s.copies for s in corpus.shards], seed).epoch(0).tolist()
    per_split = max(1, min(round(bases / (corpus.bases / len(corpus))), -(-len(order) // splits)))
    parts = [order[index * per_split : (index + 1) * per_split] for index in range(splits)]
    return [partial(_texts, corpus.folder, part) for part in parts]


def _texts(folder: Path, numbers: list[int]) -> Iterator[str]:
    corpus = Corpus(folder)
    for number in numbers:
        own = corpus.segment(number)[: corpus.step]  # without the overlap with the next segment
        yield own.tobytes().decode("ascii").upper()
