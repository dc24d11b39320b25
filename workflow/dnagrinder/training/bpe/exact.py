"""Exact byte-pair encoding of a corpus that stays on disk (ME-BPE, exact form; model-spec §1.2, form 2).

The merges are those of plain BPE over all splits at once, one merge at a time: the highest count first, ties to the smaller
pair of ids (rules in ``words``); the same as ``tokenizers.trainers.BpeTrainer`` with ``min_frequency=2``. Merges never
cross the end of a sequence nor a letter outside ACGT.

What makes it fast is that one pass over the disk finds many merges, none of them approximated:

1. From the table of all pair counts choose a count ``least`` and call every pair with at least that count active.
2. Cut the corpus into segments, the longest runs of tokens whose neighbours all form active pairs, and collect them: words
   with their counts. Most are single pairs, known from the table; only the longer ones are looked for on disk.
3. Run plain BPE on these words until its best count falls below ``least``.
4. Replace every segment on disk by what has become of it, and count all pairs anew.

Why step 3 gives the merges of plain BPE. At any time during it, let (u, v) be two neighbours somewhere in the corpus. An id
unfolds into ids of the pass's beginning in one way only, so wherever (u, v) occurs the same two old tokens meet: x, the last
one of u, and y, the first one of v. Every occurrence of (u, v) thus sits on an occurrence of (x, y), and

- if (x, y) is not active, (u, v) occurs at most as often as (x, y) did, less than ``least`` times;
- if (x, y) is active, every occurrence of (u, v) lies inside a segment: its count over the words is its count.

So all pairs of at least ``least`` are of the second kind, and as long as the best pair of the words has that count, it is
the best pair of the corpus, ties included. Merging it changes nothing outside segments; inside, runs of one token (AAA) are
whole, since their pairs are all the same and hence all active: merging from the left does what it does in the corpus.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnagrinder.training.bpe.folder import State, commit, new_generation, open_state
from dnagrinder.training.bpe.merges import FIRST_MERGE, Merge, merges_wanted
from dnagrinder.training.bpe.shards import (
    ActivePairs,
    Replacement,
    Shard,
    collect_segments,
    corpus_ids,
    count_pairs,
    pair_table,
    rewrite,
)
from dnagrinder.training.bpe.words import learn_merges
from dnagrinder.training.locking import locked

LONGER_SHARE = 32  # expect at most one longer segment in that many tokens: each costs about a microsecond
DIFFERENT_LONGER = 200_000  # and at most so many different ones: each takes about 200 bytes
T = TypeVar("T")
Run = Callable[[Callable[[Sequence[Shard]], T], Sequence[Shard]], list[T]]


def train_exact_bpe(
    splits: Sequence[Callable[[], Iterable[str]]],
    vocabulary: int = 4096,
    *,
    folder: Path,
    processes: int = 1,
    on_merges: Callable[[int, int], None] | None = None,
) -> list[Merge]:
    """Learn the merges of plain BPE over all splits until there are ``vocabulary`` ids, specials and bases included.

    Memory: the table of pair counts (8 bytes x vocabulary squared), blocks of the corpus, a sequence as its split gives it.
    Disk: 2 bytes a base at first, less with every pass, and the same again during a pass.

    Args:
        splits: one function a split, which yields its sequences; called once, in order, in this process.
        vocabulary: number of ids to reach, at most 65,535.
        folder: keeps the encoded corpus and the merges so far. Called again with the same folder and corpus, after being
            killed too, training goes on behind its last whole pass, to the same result; also to a larger vocabulary.
        processes: worker processes; with 1 this process does all. The result does not depend on it.
        on_merges: called after each pass with (merges so far, merges wanted).

    Returns:
        The merges in order; ids are 5-8 for A, C, G, T and 9, 10, ... for the merges. Fewer than wanted if no pair repeats.

    Raises:
        ValueError: the vocabulary or the number of processes is out of range.
        ConfigError: the folder holds another corpus, or another process is using it.
        InputError: the folder's files are missing or altered.
    """
    wanted = merges_wanted(vocabulary)
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    with locked(folder), _runner(processes) as run:
        state = open_state(corpus_ids(splits), folder, partial(run, count_pairs))
        while len(state.merges) < wanted:
            found = _pass(state, folder, wanted, run)
            if found is None:
                break
            state = found
            if on_merges:
                on_merges(len(state.merges), wanted)
    return list(state.merges[:wanted])


def _pass(state: State, folder: Path, wanted: int, run: Run[Any]) -> State | None:
    """The state after all merges of at least a chosen count; None where no pair repeats."""
    vocabulary = FIRST_MERGE + len(state.merges)
    table = pair_table(state.shards, vocabulary)
    chosen = choose_pairs(table)
    if chosen is None:
        return None
    active, least = chosen
    left, right = np.divmod(active.codes, np.uint32(vocabulary))
    counts = dict(zip((left << np.uint32(16) | right).tolist(), table[left, right].tolist(), strict=True))
    del table
    longer: Counter[bytes] = Counter()
    if np.intersect1d(left, right).size:  # else no two active pairs can follow each other
        for part in run(partial(collect_segments, active=active), state.shards):
            longer.update(part)
    merges, changed = learn_merges(longer, counts, vocabulary, least=least, limit=wanted - len(state.merges))
    merged = {merge.left * vocabulary + merge.right: merge.merged for merge in merges if merge.right < vocabulary}
    pairs = np.array([merged.get(code, 0) for code in active.codes.tolist()], dtype=np.uint16)
    target = new_generation(folder)
    parts = run(partial(rewrite, replacement=Replacement(active, pairs, changed), folder=target), state.shards)
    shards = sorted((shard for part in parts for shard in part), key=lambda shard: shard.path)
    return commit(State(state.corpus, (*state.merges, *merges), tuple(shards)), folder)


def choose_pairs(table: NDArray[np.int64]) -> tuple[ActivePairs, int] | None:
    """The active pairs of a pass: all of at least some count, and that count; None where no pair occurs twice.

    Any count up to the best is right, a lower one makes for fewer passes with longer segments. Pairs are taken from the best
    down as long as not too many segments of three tokens are to be expected, were neighbouring pairs independent: the sum
    over tokens m of (active pairs that end in m) x (active pairs that begin with m) / (all pairs that begin with m).

    Args:
        table: (vocabulary, vocabulary) count of every pair, 0 for those with a BREAK.
    """
    vocabulary = table.shape[0]
    best = int(table.max())
    if best < 2:
        return None
    total = np.maximum(table.sum(axis=1), 1).tolist()
    floor = max(2, best // 16)
    codes = np.flatnonzero(table.ravel() >= floor)
    counts = table.ravel()[codes]
    order = np.argsort(-counts, kind="stable")
    codes, counts = codes[order], counts[order]
    most = sum(total) / LONGER_SHARE
    ending, beginning = Counter[int](), Counter[int]()  # occurrences of active pairs by their right and by their left token
    enders, beginners = Counter[int](), Counter[int]()  # different ones
    expected = different = 0.0
    least = floor
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        left, right = divmod(code, vocabulary)
        ending[right] += count
        beginning[left] += count
        enders[right] += 1
        beginners[left] += 1
        expected += count * ending[left] / total[left] + count * beginning[right] / total[right]
        different += enders[left] + beginners[right]
        if left == right:  # counted in both terms
            expected -= count * count / total[left]
            different -= 1
        if expected > most or min(expected, different) > DIFFERENT_LONGER:
            least = min(count + 1, best)
            break
    return ActivePairs(vocabulary, np.sort(codes[counts >= least]).astype(np.uint32)), least


@contextmanager
def _runner(processes: int) -> Iterator[Run[Any]]:
    """A function that applies another one to all shards, in parts and in parallel, and returns a result for each part."""
    if processes == 1:
        yield lambda function, shards: [function(shards)]
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:

        def run(function: Callable[[Sequence[Shard]], T], shards: Sequence[Shard]) -> list[T]:
            largest_first = sorted(shards, key=lambda shard: -shard.tokens)
            return list(pool.map(function, (largest_first[i::processes] for i in range(processes))))

        yield run


def _end_with_parent() -> None:
    """In a worker: end when the parent is gone, however it ended."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
