"""Byte-pair tokenizer of DNA with exact base offsets.

Text of a token = the bases it stands for, so offsets follow from token lengths. Letters outside ACGT (N) become one [UNK] a
base. Ids 0-4 are [UNK] [CLS] [SEP] [PAD] [MASK], 5-8 are A C G T (DNABERT-2's layout).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from dnagrinder.errors import CheckpointError

UNK, CLS, SEP, PAD, MASK = range(5)
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
BASES = "ACGT"


class DnaTokenizer:
    """Sequence to ids and back; no special tokens are added.

    Attributes:
        strings: text of every id.
        lengths: (vocabulary,) int64, bases of every id; 1 for [UNK] (one N) and 0 for the other specials.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.strings = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
        if tuple(self.strings[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise CheckpointError(f"tokenizer: ids 0-4 must be {' '.join(SPECIAL_TOKENS)}, found {self.strings[:5]}")
        alien = [s for s in self.strings[len(SPECIAL_TOKENS) :] if not s or set(s) - set(BASES)]
        if alien:
            raise CheckpointError(f"tokenizer: every token after the specials is made of A, C, G, T; found {alien[:3]}")
        self.lengths = np.array([len(s) for s in self.strings], dtype=np.int64)
        self.lengths[: len(SPECIAL_TOKENS)] = 0
        self.lengths[UNK] = 1

    @classmethod
    def from_merges(cls, strings: Sequence[str], merges: Sequence[tuple[str, str]]) -> DnaTokenizer:
        """A tokenizer from the text of every id (specials first) and the merges in order, as pairs of texts."""
        model = BPE(vocab={s: i for i, s in enumerate(strings)}, merges=list(merges), unk_token=SPECIAL_TOKENS[UNK])
        tokenizer = Tokenizer(model)
        tokenizer.add_special_tokens([AddedToken(s, special=True) for s in SPECIAL_TOKENS])
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> DnaTokenizer:
        """Read a ``tokenizer.json``. Raises CheckpointError where it is absent or no such tokenizer."""
        if not path.is_file():
            raise CheckpointError(f"tokenizer {path} is missing; a checkpoint folder holds tokenizer.json")
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception on every parse failure
            raise CheckpointError(f"tokenizer {path} cannot be read: {error}") from error
        return cls(tokenizer)

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``."""
        path.write_text(json.dumps(json.loads(self._tokenizer.to_str()), indent=1) + "\n", encoding="utf-8")

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return len(self.strings)

    @cached_property
    def digest(self) -> str:
        """sha256 over the texts in id order and the merges: what decides the tokenisation, whatever the file looks like."""
        model = json.loads(self._tokenizer.to_str())["model"]
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        return hashlib.sha256(json.dumps([self.strings, merges]).encode()).hexdigest()

    def encode(self, sequence: str) -> NDArray[np.int64]:
        """Ids of a sequence, (tokens,) int64. Upper-case input; every letter outside ACGT gives one [UNK]."""
        return np.array(self._tokenizer.encode(sequence).ids, dtype=np.int64)

    def encode_pieces(self, pieces: Sequence[str]) -> list[NDArray[np.int64]]:
        """Ids of each piece, encoded apart: no token spans two pieces."""
        return [np.array(e.ids, dtype=np.int64) for e in self._tokenizer.encode_batch_fast(list(pieces))]

    def offsets(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """First base of each token, (tokens + 1,), 0-based; the last entry is the number of bases."""
        return np.concatenate([[0], np.cumsum(self.lengths[ids])])

    def token_id(self, text: str) -> int | None:
        """Id of a token's text, or None where the vocabulary lacks it."""
        token = self._tokenizer.token_to_id(text)
        return None if token is None else int(token)

    def decode(self, ids: NDArray[np.int64]) -> str:
        """Bases of the ids; [UNK] gives N, the other specials nothing."""
        return "".join("N" if i == UNK else self.strings[i] if i >= len(SPECIAL_TOKENS) else "" for i in ids.tolist())

    def bases_at(self, length: int, slot: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of all tokens of ``length`` bases, and for each the index in "ACGT" of its base at ``slot``.

        The sums over these groups are the forced-boundary marginal P(base) (model-spec §3.2).
        """
        if not 0 <= slot < length:
            raise ValueError(f"slot {slot} lies outside a token of {length} bases")
        ids = np.flatnonzero(self.lengths == length)
        ids = ids[ids >= len(SPECIAL_TOKENS)]
        return ids, np.array([BASES.index(self.strings[i][slot]) for i in ids.tolist()], dtype=np.int64)
