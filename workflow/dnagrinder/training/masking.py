"""Dynamic masking: a new mask at every visit, with two kinds of targets.

*Natural* targets are the paper's: tokens of the ordinary segmentation, replaced by [MASK] 80 %, by a random token 10 %, kept
10 %. *Forced* targets are what scoring asks for (model-spec §3.2): a span of a few bases is cut out at a random place, the
text left and right of it is tokenised apart, and the span becomes one [MASK]. Without them the model would never have seen
the boundaries that the forced-boundary marginal puts around a base.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError
from dnagrinder.model.tokenizer import CLS, MASK, SEP, SPECIAL_TOKENS, DnaTokenizer

IGNORED = -100  # label of a position that carries no loss


@dataclass(frozen=True)
class Masking:
    """How targets are chosen.

    Attributes:
        natural_rate: share of the ordinary tokens that become targets (the paper: 0.15).
        span_spacing: mean distance between forced spans, in bases; 0 for none.
        span_lengths: lengths of forced spans, in bases.
        span_weights: relative frequency of each length.
        repeat_weight: weight in the loss of a target inside repeats (lower case); 1 keeps them, GPN trains with 0.1.
    """

    natural_rate: float = 0.15
    span_spacing: float = 0.0
    span_lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    span_weights: tuple[float, ...] = (10.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    repeat_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.natural_rate < 1:
            raise ConfigError(f"masking: natural_rate must lie in [0, 1), found {self.natural_rate}")
        if self.span_spacing < 0 or len(self.span_lengths) != len(self.span_weights):
            raise ConfigError("masking: span_spacing must not be negative and every span length needs a weight")
        if self.span_spacing and not (min(self.span_weights) >= 0 < sum(self.span_weights) and min(self.span_lengths) >= 1):
            raise ConfigError("masking: span_lengths must be at least 1, span_weights not negative and not all 0")
        if not 0 <= self.repeat_weight <= 1:
            raise ConfigError(f"masking: repeat_weight must lie in [0, 1], found {self.repeat_weight}")


@dataclass(frozen=True)
class Example:
    """One masked sequence.

    Attributes:
        input_ids: (tokens,) int64.
        labels: (tokens,) int64, IGNORED where nothing is asked.
        weights: (tokens,) float32, what a target counts in the loss: 1, less by its share of repeat bases, 0 where
            nothing is asked.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]


def mask_sequence(
    sequence: str, tokens: int, tokenizer: DnaTokenizer, masking: Masking, generator: np.random.Generator
) -> Example:
    """Tokenise, cut to ``tokens`` ids ([CLS] and [SEP] included) and mask.

    A sequence that gives fewer ids yields a shorter example. Lower case marks repeats.
    """
    pieces, forced_piece = _cut(sequence.upper(), tokenizer, masking, generator)
    encoded = tokenizer.encode_pieces(pieces)
    ids = np.concatenate(encoded)[: tokens - 2]
    forced = np.repeat(forced_piece, [e.size for e in encoded])[: tokens - 2]

    labels = np.full(ids.size, IGNORED, dtype=np.int64)
    masked = ids.copy()
    labels[forced] = ids[forced]
    masked[forced] = MASK
    chosen = ~forced & (ids >= len(SPECIAL_TOKENS)) & (generator.random(ids.size) < masking.natural_rate)
    labels[chosen] = ids[chosen]
    fate = generator.random(ids.size)
    masked[chosen & (fate < 0.8)] = MASK
    random_ids = generator.integers(len(SPECIAL_TOKENS), tokenizer.vocabulary, ids.size)
    swapped = chosen & (fate >= 0.8) & (fate < 0.9)
    masked[swapped] = random_ids[swapped]
    weights = np.where(labels != IGNORED, _token_weights(sequence, tokenizer, ids, masking), 0)
    return Example(
        np.concatenate([[CLS], masked, [SEP]]),
        np.concatenate([[IGNORED], labels, [IGNORED]]),
        np.concatenate([[0], weights, [0]]).astype(np.float32),
    )


def _token_weights(sequence: str, tokenizer: DnaTokenizer, ids: NDArray[np.int64], masking: Masking) -> NDArray[np.float64]:
    """(tokens,) mean weight of each token's bases."""
    if masking.repeat_weight == 1:
        return np.ones(ids.size)
    repeat = np.frombuffer(sequence.encode("ascii"), dtype=np.uint8) >= ord("a")
    before = np.concatenate([[0], np.cumsum(repeat)])  # (bases + 1,) repeat bases up to here
    offsets = tokenizer.offsets(ids)
    share = np.diff(before[offsets]) / np.maximum(1, np.diff(offsets))
    result: NDArray[np.float64] = 1 - (1 - masking.repeat_weight) * share
    return result


def _cut(
    sequence: str, tokenizer: DnaTokenizer, masking: Masking, generator: np.random.Generator
) -> tuple[list[str], NDArray[np.bool_]]:
    """Pieces of the sequence between which no token may reach, and which of them are forced targets."""
    pieces: list[str] = []
    forced: list[bool] = []
    position = 0
    if masking.span_spacing:
        weights = np.array(masking.span_weights) / sum(masking.span_weights)
        number = generator.poisson(len(sequence) / masking.span_spacing)
        starts = np.sort(generator.integers(0, len(sequence), number))
        lengths = generator.choice(masking.span_lengths, number, p=weights)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            span = sequence[start : start + length]
            if start <= position or tokenizer.token_id(span) is None or len(span) < length:
                continue
            pieces += [sequence[position:start], span]
            forced += [False, True]
            position = start + length
    pieces.append(sequence[position:])
    forced.append(False)
    return pieces, np.array(forced)
