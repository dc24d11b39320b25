"""What both forms of BPE training share: the merge, the ids of bases, the texts of tokens.

Merges never cross the end of a sequence nor a letter outside ACGT. Ties: higher count first, then the smaller pair of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.model.tokenizer import BASES, SPECIAL_TOKENS, UNK

BREAK = np.uint16(UNK)  # stands between sequences and for every letter outside ACGT

FIRST_MERGE = len(SPECIAL_TOKENS) + len(BASES)  # id of the first merge

Ids = NDArray[np.uint16]


@dataclass(frozen=True)
class Merge:
    """One learned merge: the two token ids and the id of their concatenation."""

    left: int
    right: int
    merged: int


def base_ids(sequence: str) -> Ids:
    """Ids of single bases, (len(sequence),) uint16; any letter outside ACGT becomes BREAK; case is ignored."""
    return _BASE_TABLE[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)]


def merges_wanted(vocabulary: int) -> int:
    """Number of merges that make a vocabulary. Raises ValueError unless it holds a merge and fits uint16."""
    if not FIRST_MERGE < vocabulary <= np.iinfo(np.uint16).max:
        raise ValueError(f"vocabulary must lie between {FIRST_MERGE + 1} and 65535, got {vocabulary}")
    return vocabulary - FIRST_MERGE


def token_strings(merges: Sequence[Merge]) -> list[str]:
    """Text of every id: the specials, the bases, then each merge's concatenation."""
    strings = [*SPECIAL_TOKENS, *BASES]
    for merge in merges:
        strings.append(strings[merge.left] + strings[merge.right])
    return strings


_BASE_TABLE = np.full(256, BREAK, dtype=np.uint16)
for _index, _base in enumerate(BASES):
    _BASE_TABLE[ord(_base)] = _BASE_TABLE[ord(_base.lower())] = len(SPECIAL_TOKENS) + _index
