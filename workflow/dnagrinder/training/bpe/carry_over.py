"""Memory-efficient byte-pair-encoding training on DNA (ME-BPE), carry-over form.

The corpus is a series of splits and only one is in memory at a time (model-spec §1.2, form 1): each split is encoded with
the merges learned so far, then adds its share of the vocabulary from its own pair counts. Peak memory is one split as
uint16 plus the pair table (vocabulary squared). Within a split several pairs are merged per pass when they share no
symbol; such merges commute, so only the choice of the batch, not its order, departs from one-at-a-time BPE
(``batch_ratio=1`` takes one pair a pass). The form without that loss, and with the whole corpus on disk, is ``exact``.

Merges never cross the end of a sequence nor a letter outside ACGT. Ties: higher count first, then the smaller pair of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dnagrinder.training.bpe.merges import BREAK, FIRST_MERGE, Ids, Merge, base_ids, merges_wanted

BLOCK = 1 << 20  # tokens looked at together


def train_bpe(
    splits: Sequence[Callable[[], Iterable[str]]],
    vocabulary: int = 4096,
    *,
    batch_ratio: float = 0.9,
    on_merges: Callable[[int, int], None] | None = None,
) -> list[Merge]:
    """Learn merges until the vocabulary (specials and bases included) has ``vocabulary`` entries.

    Args:
        splits: one function a split, which yields its sequences; called once, in order.
        vocabulary: number of ids to reach, at most 65,535.
        batch_ratio: pairs join a pass while their count is at least this share of the pass's best.
        on_merges: called after each pass with (merges so far, merges wanted).

    Returns:
        The merges in order; ids are 5-8 for A, C, G, T and 9, 10, ... for the merges. Fewer than wanted if no pair repeats.
    """
    wanted = merges_wanted(vocabulary)
    merges: list[Merge] = []
    for index, split in enumerate(splits):
        quota = wanted * (index + 1) // len(splits)
        ids = _joined(split())
        for batch in _batches(merges):
            ids = apply_merges(ids, batch)
        while len(merges) < quota:
            pairs = _best_pairs(ids, FIRST_MERGE + len(merges), batch_ratio, quota - len(merges))
            if not pairs:
                break
            batch = [Merge(left, right, FIRST_MERGE + len(merges) + i) for i, (left, right) in enumerate(pairs)]
            ids = apply_merges(ids, batch)
            merges += batch
            if on_merges:
                on_merges(len(merges), wanted)
    return merges


def apply_merges(ids: Ids, batch: Sequence[Merge]) -> Ids:
    """Replace every occurrence of the batch's pairs, from left to right; the pairs must not share symbols."""
    vocabulary = min(merge.merged for merge in batch)  # every id in the data lies below the batch's own
    table = np.zeros(vocabulary * vocabulary, dtype=np.uint16)
    for merge in batch:
        table[merge.left * vocabulary + merge.right] = merge.merged
    hits = np.concatenate([start + np.flatnonzero(table[codes]) for start, codes in _code_blocks(ids, vocabulary)])
    if hits.size:
        run_start = np.flatnonzero(np.diff(hits, prepend=hits[0] - 2) != 1)
        position_in_run = np.arange(hits.size) - np.repeat(run_start, np.diff(run_start, append=hits.size))
        hits = hits[position_in_run % 2 == 0]  # AAA holds two overlapping AA: the left one wins
    ids = ids.copy()
    ids[hits] = table[_codes(ids[hits], ids[hits + 1], vocabulary)]
    return np.delete(ids, hits + 1)


def _joined(sequences: Iterable[str]) -> Ids:
    parts: list[Ids] = []
    for sequence in sequences:
        parts += [base_ids(sequence), np.array([BREAK])]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint16)


def _codes(left: Ids, right: Ids, vocabulary: int) -> NDArray[np.uint32]:
    return left.astype(np.uint32) * np.uint32(vocabulary) + right


def _code_blocks(ids: Ids, vocabulary: int) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Codes of all pairs of neighbours in blocks, each with its first position; as indices numpy makes 8 bytes of each."""
    for start in range(0, max(ids.size - 1, 1), BLOCK):
        block = ids[start : start + BLOCK + 1]
        yield start, _codes(block[:-1], block[1:], vocabulary)


def _best_pairs(ids: Ids, vocabulary: int, ratio: float, limit: int) -> list[tuple[int, int]]:
    """Pairs of the next pass, best first: no shared symbols, counts of at least ``ratio`` times the best, at least 2."""
    if ids.size < 2:
        return []
    counts = np.zeros(vocabulary * vocabulary, dtype=np.int64)
    for _, codes in _code_blocks(ids, vocabulary):
        np.add.at(counts, codes, 1)
    table = counts.reshape(vocabulary, vocabulary)
    table[:, int(BREAK)] = 0
    table[int(BREAK), :] = 0
    best = int(counts.max())
    if best < 2:
        return []
    candidates = np.flatnonzero(counts >= max(2, best if ratio >= 1 else ratio * best))
    candidates = candidates[np.lexsort((candidates, -counts[candidates]))]
    used: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for code in candidates.tolist():
        left, right = divmod(code, vocabulary)
        if left in used or right in used:
            continue
        pairs.append((left, right))
        used |= {left, right}
        if len(pairs) == limit or ratio >= 1:
            break
    return pairs


def _batches(merges: Sequence[Merge]) -> Iterable[list[Merge]]:
    """The merges in order, cut into longest runs that share no symbol and use no id made inside the run."""
    batch: list[Merge] = []
    used: set[int] = set()
    for merge in merges:
        if used & {merge.left, merge.right}:
            yield batch
            batch, used = [], set()
        batch.append(merge)
        used |= {merge.left, merge.right, merge.merged}
    if batch:
        yield batch
