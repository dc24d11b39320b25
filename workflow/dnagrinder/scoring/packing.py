"""Running many sequences through the model without padding, and with bits that depend on nothing but each sequence.

Sequences are sorted by length and packed end to end up to a token budget. What keeps a score the same in every pack: matrix
products always have one shape (``dnagrinder_kernels.linear``), attention runs sequence by sequence, everything else is row
by row. The budget therefore decides memory and speed, never a score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.scoring.parameters import TOKEN_BUDGET

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ModelInput:
    """One sequence for the model.

    Attributes:
        ids: (tokens,) int64, special tokens included.
        masked: positions whose log-probabilities are wanted; empty where hidden states are wanted instead.
    """

    ids: Ids
    masked: tuple[int, ...] = ()


def plan_packs(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices of the sequences of each pack: longest first, as many as the budget holds, at least one."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    pack: list[int] = []
    used = 0
    for index in order:
        if pack and used + lengths[index] > token_budget:
            yield pack
            pack, used = [], 0
        pack.append(index)
        used += lengths[index]
    if pack:
        yield pack


class Engine:
    """A model on a device, fed in packs.

    Attributes:
        tokens: tokens run so far, every layer counted once.
    """

    def __init__(self, model: MaskedLanguageModel, device: torch.device, token_budget: int = TOKEN_BUDGET) -> None:
        self._model, self._device, self._budget = model, device, token_budget
        self.tokens = 0

    @property
    def hidden_width(self) -> int:
        """Features of a hidden state."""
        return self._model.config.hidden

    def log_probs(self, sequences: Sequence[ModelInput], consume: Callable[[int, Tensor], None]) -> None:
        """Call ``consume(index, rows)`` once a sequence; rows: (masked positions, vocabulary) float32 on the CPU."""
        for pack, hidden, starts in self._packs(sequences):
            rows = [starts[i] + p for i, index in enumerate(pack) for p in sequences[index].masked]
            chosen = self._model.log_probs(hidden[torch.tensor(rows, device=self._device)]).cpu()
            parts = chosen.split([len(sequences[index].masked) for index in pack])
            for index, part in zip(pack, parts, strict=True):
                consume(index, part)

    def hidden(self, sequences: Sequence[ModelInput], consume: Callable[[int, Tensor], None]) -> None:
        """Call ``consume(index, states)`` once a sequence; states: (tokens, hidden) float32 on the CPU."""
        for pack, hidden, _ in self._packs(sequences):
            parts = hidden.float().cpu().split([sequences[index].ids.size for index in pack])
            for index, part in zip(pack, parts, strict=True):
                consume(index, part)

    @torch.inference_mode()
    def _packs(self, sequences: Sequence[ModelInput]) -> Iterator[tuple[list[int], Tensor, list[int]]]:
        """For each pack: indices of its sequences, hidden states (tokens, hidden), first row of each sequence."""
        for pack in plan_packs([s.ids.size for s in sequences], self._budget):
            ids = torch.from_numpy(np.concatenate([sequences[index].ids for index in pack]))
            starts = np.concatenate([[0], np.cumsum([sequences[index].ids.size for index in pack])])
            hidden = self._model(ids.to(self._device), torch.from_numpy(starts).to(self._device), int(np.diff(starts).max()))
            self.tokens += ids.numel()
            yield pack, hidden, starts[:-1].tolist()
