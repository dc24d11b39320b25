"""The encoded corpus on disk and the three passes of exact BPE over it: counting pairs, collecting segments, rewriting.

A shard is a file of uint16 ids that begins and ends at the end of a sequence, so no pair spans two shards. It is read in
blocks; of a shard's size only its disk space depends. A segment is a longest run of tokens in which every pair of neighbours
is one of a given set of active pairs (see ``exact``); a block always ends between two segments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnagrinder.training.bpe.merges import BREAK, Ids, base_ids

BLOCK = 1 << 20  # tokens read at once
SHARD = 1 << 23  # a shard ends at the first sequence end behind that many tokens
PENDING = 8  # blocks whose pair counts are kept apart before they are added up

Codes = NDArray[np.uint32]
Segments = tuple[NDArray[np.intp], NDArray[np.intp]]  # first token of each, and the token behind its last


@dataclass(frozen=True)
class Shard:
    """A file of the encoded corpus and its length."""

    path: Path
    tokens: int

    @property
    def counts(self) -> Path:
        """The file beside it with its pair counts."""
        return _counts_path(self.path)


@dataclass(frozen=True)
class ActivePairs:
    """The pairs of a pass as codes left * vocabulary + right, ascending; all ids in the shards lie below ``vocabulary``."""

    vocabulary: int
    codes: Codes

    def table(self) -> NDArray[np.bool_]:
        """(vocabulary squared,) whether a code is active."""
        table = np.zeros(self.vocabulary * self.vocabulary, dtype=bool)
        table[self.codes] = True
        return table


@dataclass(frozen=True)
class Replacement:
    """What a pass makes of its segments.

    Attributes:
        pairs: (active pairs,) id that a segment of two tokens becomes, 0 where it stays.
        longer: new ids of every longer segment that changes, both as bytes of uint16.
    """

    active: ActivePairs
    pairs: Ids
    longer: Mapping[bytes, bytes]


def corpus_ids(splits: Sequence[Callable[[], Iterable[str]]]) -> Iterator[Ids]:
    """Ids of all sequences of all splits in order, in blocks; one BREAK stands for each run of them, none comes first."""
    last = BREAK
    for ids in _gathered(_sequence_ids(splits)):
        is_break = ids == BREAK
        keep = ~(is_break & np.concatenate([[last == BREAK], is_break[:-1]]))
        last = ids[-1]
        if keep.any():
            yield ids[keep]


def _sequence_ids(splits: Sequence[Callable[[], Iterable[str]]]) -> Iterator[Ids]:
    """Ids of every sequence in pieces, a BREAK behind each."""
    for split in splits:
        for sequence in split():
            for start in range(0, len(sequence), BLOCK):
                yield base_ids(sequence[start : start + BLOCK])
            yield np.array([BREAK])


def _gathered(parts: Iterable[Ids]) -> Iterator[Ids]:
    """The parts joined into blocks of ``BLOCK`` ids or a little more."""
    held: list[Ids] = []
    size = 0
    for part in parts:
        held.append(part)
        size += part.size
        if size >= BLOCK:
            yield np.concatenate(held)
            held, size = [], 0
    if held:
        yield np.concatenate(held)


def write_shards(blocks: Iterable[Ids], folder: Path) -> list[Shard]:
    """Write encoded blocks into shard files of about ``SHARD`` tokens, cut at BREAKs only."""
    shards: list[Shard] = []
    for number, part in _shard_parts(blocks):
        path = folder / f"{number:06d}.ids"
        with path.open("ab") as file:
            part.tofile(file)
        tokens = part.size + (shards.pop().tokens if len(shards) > number else 0)
        shards.append(Shard(path, tokens))
    return shards


def _shard_parts(blocks: Iterable[Ids]) -> Iterator[tuple[int, Ids]]:
    """Blocks, cut where a shard ends, with the number of the shard they belong to."""
    number = size = 0
    for block in blocks:
        if size >= SHARD and (breaks := np.flatnonzero(block == BREAK)).size:
            end = int(breaks[0]) + 1
            yield number, block[:end]
            number, size, block = number + 1, 0, block[end:]
        size += block.size
        if block.size:
            yield number, block


def count_pairs(shards: Sequence[Shard]) -> None:
    """Count the pairs of neighbours of each shard and leave the counts beside it."""
    for shard in shards:
        tally = _Tally()
        with shard.path.open("rb") as file:
            while (ids := np.fromfile(file, dtype=np.uint16, count=BLOCK)).size:
                tally.add(ids)
        tally.save(shard.path)


def pair_table(shards: Sequence[Shard], vocabulary: int) -> NDArray[np.int64]:
    """(vocabulary, vocabulary) how often a left id (row) stands before a right id in the shards; 0 where one is BREAK."""
    table = np.zeros((vocabulary, vocabulary), dtype=np.int64)
    for shard in shards:
        with np.load(shard.counts) as saved:
            codes = saved["codes"]
            table[codes >> 16, codes & 0xFFFF] += saved["counts"]
    table[BREAK, :] = 0
    table[:, BREAK] = 0
    return table


def collect_segments(shards: Sequence[Shard], active: ActivePairs) -> Counter[bytes]:
    """How often each segment of three or more tokens occurs; keys are the bytes of its uint16 ids."""
    found: Counter[bytes] = Counter()
    table = active.table()
    for shard in shards:
        for ids, (starts, stops) in _blocks(shard.path, table, active.vocabulary):
            long = stops - starts > 2
            found.update(_slices(ids, starts[long], stops[long]))
    return found


def rewrite(shards: Sequence[Shard], replacement: Replacement, folder: Path) -> list[Shard]:
    """Write the shards with their segments replaced into ``folder``, under the same names, with their new pair counts."""
    table = replacement.active.table()
    written = []
    for shard in shards:
        path = folder / shard.path.name
        tally = _Tally()
        tokens = 0
        with path.open("wb") as file:
            for ids, segments in _blocks(shard.path, table, replacement.active.vocabulary):
                new = _replaced(ids, segments, replacement)
                new.tofile(file)
                tally.add(new)
                tokens += new.size
        tally.save(path)
        written.append(Shard(path, tokens))
    return written


class _Tally:
    """Pair counts of a stream of ids that arrives in pieces; memory follows the number of different pairs."""

    def __init__(self) -> None:
        self._last = np.array([BREAK])
        self._parts = [(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64))]  # (codes, counts), codes ascending

    def add(self, ids: Ids) -> None:
        ids = np.concatenate([self._last, ids])
        self._last = ids[-1:]
        codes = np.sort(ids[:-1].astype(np.uint32) << np.uint32(16) | ids[1:])
        starts = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
        self._parts.append((codes[starts], np.diff(starts, append=codes.size)))
        if len(self._parts) > PENDING:
            self._parts = [self._total()]

    def save(self, shard: Path) -> None:
        codes, counts = self._total()
        np.savez(_counts_path(shard), codes=codes, counts=counts)

    def _total(self) -> tuple[Codes, NDArray[np.int64]]:
        codes, counts = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        order = np.argsort(codes, kind="stable")
        codes, counts = codes[order], counts[order]
        starts = np.flatnonzero(np.diff(codes, prepend=~codes[:1]))
        return codes[starts], np.add.reduceat(counts, starts) if starts.size else counts


def _counts_path(shard: Path) -> Path:
    return shard.with_suffix(".pairs.npz")


def _pair_codes(ids: Ids, vocabulary: int) -> Codes:
    codes = ids[:-1].astype(np.uint32)
    codes *= np.uint32(vocabulary)
    codes += ids[1:]
    return codes


def _blocks(path: Path, table: NDArray[np.bool_], vocabulary: int) -> Iterator[tuple[Ids, Segments]]:
    """A shard in blocks that end between segments (longer ones where a segment does not fit), each with its segments."""
    carried = np.empty(0, dtype=np.uint16)
    with path.open("rb") as file:
        while True:
            read = np.fromfile(file, dtype=np.uint16, count=BLOCK)
            ids = np.concatenate([carried, read])
            starts, stops = _segments(np.flatnonzero(table[_pair_codes(ids, vocabulary)]))
            if not read.size:
                break
            end = ids.size - 1  # the last token may belong with what comes next
            if stops.size and stops[-1] == ids.size:
                end = int(starts[-1])
                starts, stops = starts[:-1], stops[:-1]
            carried = ids[end:]
            yield ids[:end], (starts, stops)
    if ids.size:
        yield ids, (starts, stops)


def _segments(pairs: NDArray[np.intp]) -> Segments:
    """Segments from the ascending positions of the active pairs' left tokens."""
    first = np.flatnonzero(np.diff(pairs, prepend=-2) != 1)
    starts = pairs[first]
    return starts, starts + np.diff(first, append=pairs.size) + 1


def _replaced(ids: Ids, segments: Segments, replacement: Replacement) -> Ids:
    starts, stops = segments
    ids = ids.copy()
    keep = np.ones(ids.size, dtype=bool)

    single = starts[stops - starts == 2]
    codes = ids[single].astype(np.uint32) * np.uint32(replacement.active.vocabulary) + ids[single + 1]
    merged = replacement.pairs[np.searchsorted(replacement.active.codes, codes)]
    changed = single[merged != 0]
    ids[changed] = merged[merged != 0]
    keep[changed + 1] = False

    long = stops - starts > 2
    starts, stops = starts[long], stops[long]
    old = _slices(ids, starts, stops)
    new = list(map(replacement.longer.get, old, old))
    lengths = np.fromiter(map(len, new), dtype=np.intp, count=len(new)) // 2
    keep[_positions(starts, stops - starts)] = False
    places = _positions(starts, lengths)
    ids[places] = np.frombuffer(b"".join(new), dtype=np.uint16)
    keep[places] = True
    return ids[keep]


def _slices(ids: Ids, starts: NDArray[np.intp], stops: NDArray[np.intp]) -> list[bytes]:
    raw = ids.tobytes()
    return list(map(raw.__getitem__, map(slice, (2 * starts).tolist(), (2 * stops).tolist())))


def _positions(starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.intp]:
    """starts[0], starts[0] + 1, ... (lengths[0] of them), starts[1], ..."""
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))
