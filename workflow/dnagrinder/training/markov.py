"""Markov models of DNA: the yardstick that a language model has to beat.

An order-k model predicts a base from the k bases to its left. Counts are taken on both strands; orders are interpolated
recursively, p_k = (count + strength * p_{k-1}) / (total + strength), from the uniform distribution upward.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dnagrinder.training.corpus.sources import COMPLEMENT

CODE = np.full(256, 4, dtype=np.uint8)  # 4 = not a known base
for _index, _base in enumerate(b"ACGT"):
    CODE[_base] = CODE[_base + 32] = _index
PIECE = 8_000_000  # bases counted at a time


class MarkovModel:
    """Interpolated left-context model of one order.

    Attributes:
        order: bases of context, at most 12.
        strength: pseudo-count of the lower order at each interpolation step.
    """

    def __init__(self, stretches: Iterable[NDArray[np.uint8]], order: int, strength: float = 8.0) -> None:
        if not 0 <= order <= 12:
            raise ValueError(f"order must lie between 0 and 12, got {order}")
        self.order, self.strength = order, strength
        self._counts = np.zeros(4 ** (order + 1), dtype=np.int64)
        for bases in stretches:
            for first in range(0, bases.size, PIECE):
                piece = bases[first : first + PIECE + order]
                for strand in (piece, COMPLEMENT[piece[::-1]]):
                    self._counts += np.bincount(_kmer_codes(CODE[strand], order + 1), minlength=self._counts.size)

    def probabilities(self, contexts: NDArray[np.uint8]) -> NDArray[np.float64]:
        """P(base | context), (n, 4), for contexts (n, order) of base codes 0-3, oldest base first."""
        n = contexts.shape[0]
        result = np.full((n, 4), 0.25)
        for k in range(self.order + 1):
            table = self._counts.reshape(4 ** (self.order - k), 4**k, 4).sum(axis=0)  # (4^k, 4): last k bases of context
            codes = np.zeros(n, dtype=np.int64)
            for position in range(self.order - k, self.order):
                codes = codes * 4 + contexts[:, position]
            counts = table[codes]  # (n, 4)
            result = (counts + self.strength * result) / (counts.sum(axis=1, keepdims=True) + self.strength)
        return result


def _kmer_codes(codes: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Codes of all k-mers without unknown bases, base 4, first base most significant."""
    if codes.size < k:
        return np.empty(0, dtype=np.int64)
    n = codes.size - k + 1
    values = np.zeros(n, dtype=np.int64)
    known = np.ones(n, dtype=bool)
    for offset in range(k):
        part = codes[offset : offset + n]
        values = values * 4 + part
        known &= part < 4
    return values[known]
