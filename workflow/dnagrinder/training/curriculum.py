"""In which order segments are visited and how long sequences are: the paper's sequence-length warm-up and its alternatives.

Every order is a pure function of (seed, epoch): all ranks of a parallel run and a resumed run compute the same one.
Model-spec §1.4 names four curricula:

- ``none``: random order, full length.
- ``sort_within_shard``: shards in random order, inside each the segments ascend by their number of tokens (the paper's
  warm-up as far as it can be read; a shard holds one species).
- ``bucketed``: random batches of segments with similar numbers of tokens.
- ``truncate_schedule``: random order, sequences cut to a length that grows (Li et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError

CURRICULA = ("none", "sort_within_shard", "bucketed", "truncate_schedule")
BUCKET_BATCHES = 50  # batches sorted together before their order is shuffled


@dataclass(frozen=True)
class Curriculum:
    """How a run orders and cuts its sequences.

    Attributes:
        slw: one of CURRICULA.
        max_tokens: tokens of the longest sequence, [CLS] and [SEP] included.
        schedule: for ``truncate_schedule``: (share of the run from which it holds, tokens of a sequence), ascending.
    """

    slw: str = "none"
    max_tokens: int = 2314
    schedule: tuple[tuple[float, int], ...] = ()

    def __post_init__(self) -> None:
        if self.slw not in CURRICULA:
            raise ConfigError(f"curriculum: slw is one of {', '.join(CURRICULA)}, found {self.slw!r}")
        if self.max_tokens < 3:
            raise ConfigError(f"curriculum: max_tokens must be at least 3, found {self.max_tokens}")
        if (self.slw == "truncate_schedule") != bool(self.schedule):
            raise ConfigError("curriculum: truncate_schedule needs a schedule, and no other slw takes one")
        shares = [share for share, _ in self.schedule]
        if shares and (shares[0] != 0 or shares != sorted(shares) or shares[-1] >= 1):
            raise ConfigError("curriculum: the shares of the schedule must start at 0, ascend and stay below 1")
        if any(not 3 <= length <= self.max_tokens for _, length in self.schedule):
            raise ConfigError(f"curriculum: lengths of the schedule must lie between 3 and max_tokens ({self.max_tokens})")

    @property
    def needs_token_counts(self) -> bool:
        """Whether the order depends on the segments' numbers of tokens."""
        return self.slw in ("sort_within_shard", "bucketed")

    def length_at(self, step: int, steps: int) -> int:
        """Tokens of a sequence at a step of ``steps``."""
        lengths = [length for share, length in self.schedule if step >= share * steps]
        return lengths[-1] if lengths else self.max_tokens


class VisitOrder:
    """Which segment the n-th visit of a run goes to.

    Args:
        shard_sizes: segments of each shard.
        shard_copies: visits of each segment of the shard in an epoch; what is left of a whole number visits a random part.
        seed: of the run.
        slw: one of CURRICULA.
        token_counts: (segments,) tokens of every segment, for the two curricula that need them.
        batch: sequences of a step, the size of the batches of ``bucketed``.
    """

    def __init__(
        self,
        shard_sizes: list[int],
        shard_copies: list[float],
        seed: int,
        slw: str = "none",
        token_counts: NDArray[np.int64] | None = None,
        batch: int = 1,
    ) -> None:
        self._sizes, self._copies, self._seed, self._slw, self._batch = shard_sizes, shard_copies, seed, slw, batch
        self._counts = token_counts
        self.visits = sum(_visits(size, copies) for size, copies in zip(shard_sizes, shard_copies, strict=True))
        if not self.visits:
            raise ConfigError("corpus: an epoch visits no segment at all; raise the copies of the sources")
        self._epoch = lru_cache(maxsize=2)(self.epoch)

    def segment(self, visit: int) -> int:
        """The segment of a visit, counted from the start of the run."""
        epoch, place = divmod(visit, self.visits)
        return int(self._epoch(epoch)[place])

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """(visits,) the segments of an epoch in order."""
        generator = np.random.default_rng([self._seed, epoch])
        first = np.concatenate([[0], np.cumsum(self._sizes)])
        shards = [
            start + _drawn(size, copies, generator)
            for start, size, copies in zip(first[:-1].tolist(), self._sizes, self._copies, strict=True)
        ]
        if self._counts is not None and self._slw == "sort_within_shard":
            order = generator.permutation(len(shards))
            return np.concatenate([_ascending(shards[i], self._counts) for i in order.tolist()])
        visits = generator.permutation(np.concatenate(shards))
        if self._counts is not None and self._slw == "bucketed":
            bucket = BUCKET_BATCHES * self._batch
            parts = [_ascending(visits[i : i + bucket], self._counts) for i in range(0, visits.size, bucket)]
            batches = [part[i : i + self._batch] for part in parts for i in range(0, part.size, self._batch)]
            # whole batches first, so that the short one at the end of a bucket does not shift the others
            whole = [batch for batch in batches if batch.size == self._batch]
            rest = [batch for batch in batches if batch.size < self._batch]
            return np.concatenate([*(whole[i] for i in generator.permutation(len(whole)).tolist()), *rest])
        return visits


def _visits(size: int, copies: float) -> int:
    return int(copies) * size + round((copies - int(copies)) * size)


def _drawn(size: int, copies: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """The segments of one shard that an epoch visits, 0-based in the shard."""
    whole = np.tile(np.arange(size), int(copies))
    part = generator.permutation(size)[: _visits(size, copies) - whole.size]
    return np.concatenate([whole, part])


def _ascending(segments: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return segments[np.argsort(counts[segments], kind="stable")]
