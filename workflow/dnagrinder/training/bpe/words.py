"""Plain byte-pair-encoding training on weighted words in memory: one merge at a time, nothing approximated.

At every step the pair of neighbouring tokens with the highest count is merged everywhere, from left to right; ties go to the
smaller left id, then to the smaller right id. A pair that overlaps itself counts at every place: AAA holds two AA, of which
the left one is merged. These are the rules of ``tokenizers.trainers.BpeTrainer``.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dnagrinder.training.bpe.merges import BREAK, Merge

DEAD = np.uint16(np.iinfo(np.uint16).max)  # stands where a token was swallowed by its left neighbour; no token has this id


def learn_merges(
    words: Mapping[bytes, int], counts: Mapping[int, int], first: int, *, least: int, limit: int
) -> tuple[list[Merge], dict[bytes, bytes]]:
    """Merge the best pair until its count falls below ``least`` or ``limit`` merges are made.

    Args:
        words: weight (at least 1) of every word, its uint16 ids as bytes; ids lie below ``first``, none is BREAK.
        counts: count of every pair ``left << 16 | right`` of the words (see ``pair_counts``), or more than that where it
            also occurs alone, outside the words: no other merge changes such an occurrence.
        first: id of the first merge; the others follow. ``first + limit`` is at most 65,535.
        least: smallest count that is merged, at least 1.
        limit: largest number of merges.

    Returns:
        The merges in order, and the new bytes of every word that they change.
    """
    text = _Text(words)
    counts = dict(counts)
    heap = [(-count, code) for code, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while heap and len(merges) < limit:
        known, code = heapq.heappop(heap)
        count = counts[code]
        if count != -known:  # a count falls after its pair has come up; it never rises
            heapq.heappush(heap, (-count, code))
            continue
        if count < least:
            break
        merge = Merge(code >> 16, code & 0xFFFF, first + len(merges))
        merges.append(merge)
        del counts[code]
        for changed, difference in text.apply(merge):
            if changed in counts:
                counts[changed] += difference
            elif difference > 0:
                counts[changed] = difference
                heapq.heappush(heap, (-difference, changed))
    return merges, text.changed_words()


def pair_counts(words: Mapping[bytes, int]) -> dict[int, int]:
    """Weighted count of every pair ``left << 16 | right`` of neighbours in the words."""
    text = _Text(words)
    codes, counts = text.pair_counts(np.arange(text.ids.size - 1))
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


class _Text:
    """All words in one row, each between two BREAKs, as a linked list of the tokens still alive."""

    def __init__(self, words: Mapping[bytes, int]) -> None:
        gap = BREAK.tobytes()
        self._words = list(words)
        self.ids = np.frombuffer(bytearray(gap + b"".join(word + gap for word in self._words)), dtype=np.uint16)  # (n,)
        lengths = np.fromiter(map(len, self._words), dtype=np.intp, count=len(self._words)) // 2 + 1  # tokens and a BREAK
        self._stops = np.cumsum(lengths)  # (words,) position of the BREAK behind each word
        weights = np.fromiter(words.values(), dtype=np.int64, count=len(self._words))
        self._weights = np.concatenate([[0], np.repeat(weights, lengths)])  # (n,)
        self._next = np.arange(1, self.ids.size + 1, dtype=np.int32)
        self._previous = np.arange(-1, self.ids.size - 1, dtype=np.int32)
        self._is_site = np.zeros(self.ids.size, dtype=bool)

    def pair_counts(self, left: NDArray[np.intp]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Pairs ``left << 16 | right`` that start at the given live positions, ascending, and their weighted counts."""
        a, b = self.ids[left], self.ids[self._next[left]]
        inside = (a != BREAK) & (b != BREAK)
        codes = a[inside].astype(np.uint32) << np.uint32(16) | b[inside]
        order = np.argsort(codes, kind="stable")
        codes, weights = codes[order], self._weights[left[inside][order]]
        starts = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
        return codes[starts], np.add.reduceat(weights, starts) if starts.size else weights

    def apply(self, merge: Merge) -> list[tuple[int, int]]:
        """Merge a pair everywhere; returns how the counts of pairs around it change, losses before gains."""
        sites = self._sites(merge)
        rights = self._next[sites]
        behind = self._next[rights]
        self._is_site[sites] = True
        last = ~self._is_site[behind]  # the junction to a following site is that site's left one
        self._is_site[sites] = False
        losses = self.pair_counts(np.concatenate([self._previous[sites], rights[last]]))
        self.ids[sites] = merge.merged
        self.ids[rights] = DEAD
        self._next[sites] = behind
        self._previous[behind] = sites
        gains = self.pair_counts(np.concatenate([self._previous[sites], sites[last]]))
        return [
            *zip(losses[0].tolist(), (-losses[1]).tolist(), strict=True),
            *zip(*(g.tolist() for g in gains), strict=True),
        ]

    def changed_words(self) -> dict[bytes, bytes]:
        """New bytes of every word that lost a token."""
        alive = self.ids != DEAD
        raw = self.ids[alive].tobytes()
        stops = 2 * (np.cumsum(alive)[self._stops] - 1)  # (words,) bytes before the BREAK behind each word
        starts = np.concatenate([[0], stops])[:-1] + 2
        spans = zip(self._words, starts.tolist(), stops.tolist(), strict=True)
        return {word: raw[start:stop] for word, start, stop in spans if stop - start != len(word)}

    def _sites(self, merge: Merge) -> NDArray[np.intp]:
        """Positions of the left tokens that the merge replaces, ascending."""
        sites = np.flatnonzero(self.ids == merge.left)
        sites = sites[self.ids[self._next[sites]] == merge.right]
        if merge.left == merge.right and sites.size:  # AAA holds two overlapping AA: the left one wins
            run_start = np.flatnonzero(np.concatenate([[True], self._next[sites[:-1]] != sites[1:]]))
            position_in_run = np.arange(sites.size) - np.repeat(run_start, np.diff(run_start, append=sites.size))
            sites = sites[position_in_run % 2 == 0]
        return sites
