"""Running many sequences through the model without padding, and with bits that depend on nothing but each sequence.

Sequences are sorted by length and packed end to end up to a token budget. What keeps a score the same in every pack
stands in ``model.inference``. The budget decides memory and speed, never a score; where memory runs out it is halved and
the work goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnagrinder.errors import MemoryLimitError
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.inference import InferenceModel
from dnagrinder.scoring.parameters import TOKEN_BUDGET

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ModelInput:
    """One sequence for the model.

    Attributes:
        ids: (tokens,) int64, special tokens included.
        masked: positions whose log-probabilities are wanted; empty where hidden states are wanted instead.
        targets: (masked positions, k) int64, the tokens whose log-probabilities are wanted there.
    """

    ids: Ids
    masked: tuple[int, ...] = ()
    targets: Ids = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))

    def __post_init__(self) -> None:
        if self.targets.shape[0] != len(self.masked):
            raise ValueError(f"targets: one row a masked position, got {self.targets.shape} for {len(self.masked)}")


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
        forwards: sequences run so far.
    """

    def __init__(self, model: MaskedLanguageModel, device: torch.device, token_budget: int = TOKEN_BUDGET) -> None:
        self._model, self._device, self.token_budget = InferenceModel(model.to(device)), device, token_budget
        self.tokens = self.forwards = 0

    @property
    def hidden_width(self) -> int:
        """Features of a hidden state."""
        return self._model.config.hidden

    def log_probs(self, sequences: Sequence[ModelInput], consume: Callable[[int, Tensor], None]) -> None:
        """Call ``consume(index, values)`` once a sequence; values: (masked positions, k) float32 on the CPU.

        They are log-probabilities of ``targets`` among the whole vocabulary, natural log.
        """

        def choose(pack: list[int], hidden: Tensor, starts: list[int]) -> list[Tensor]:
            rows = [starts[i] + p for i, index in enumerate(pack) for p in sequences[index].masked]
            widest = max((sequences[index].targets.shape[1] for index in pack), default=0)
            wanted = np.zeros((len(rows), widest), dtype=np.int64)
            first = 0
            for index in pack:
                count, k = sequences[index].targets.shape
                wanted[first : first + count, :k] = sequences[index].targets
                first += count
            states = hidden[torch.tensor(rows, device=self._device)]
            found = self._model.chosen_log_probs(states, torch.from_numpy(wanted).to(self._device)).cpu()
            parts = found.split([len(sequences[index].masked) for index in pack])
            return [part[:, : sequences[index].targets.shape[1]] for index, part in zip(pack, parts, strict=True)]

        self._run(sequences, choose, consume)

    def hidden(self, sequences: Sequence[ModelInput], consume: Callable[[int, Tensor], None]) -> None:
        """Call ``consume(index, states)`` once a sequence; states: (tokens, hidden) on the CPU, in the model's precision.

        They lie in a buffer of the engine: what is to stay beyond the call has to be copied.
        """

        def whole(pack: list[int], hidden: Tensor, _: list[int]) -> list[Tensor]:
            return list(hidden.cpu().split([sequences[index].ids.size for index in pack]))

        self._run(sequences, whole, consume)

    def _run(
        self,
        sequences: Sequence[ModelInput],
        extract: Callable[[list[int], Tensor, list[int]], list[Tensor]],
        consume: Callable[[int, Tensor], None],
    ) -> None:
        """Run all sequences in packs; one that does not fit into memory is cut in smaller ones."""
        waiting = list(plan_packs([s.ids.size for s in sequences], self.token_budget))[::-1]
        while waiting:
            pack = waiting.pop()
            try:
                results = self._forward([sequences[index] for index in pack], pack, extract)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                waiting += self._smaller_packs(pack, sequences, error)[::-1]
                continue
            for index, result in zip(pack, results, strict=True):
                consume(index, result)

    def _forward(
        self, parts: list[ModelInput], pack: list[int], extract: Callable[[list[int], Tensor, list[int]], list[Tensor]]
    ) -> list[Tensor]:
        ids = torch.from_numpy(np.concatenate([part.ids for part in parts]))
        starts = np.concatenate([[0], np.cumsum([part.ids.size for part in parts])])
        hidden = self._model.hidden(
            ids.to(self._device), torch.from_numpy(starts).to(self._device), int(np.diff(starts).max())
        )
        results = extract(pack, hidden, starts[:-1].tolist())
        self.tokens += ids.numel()
        self.forwards += len(parts)
        return results

    def _smaller_packs(self, pack: list[int], sequences: Sequence[ModelInput], error: BaseException) -> list[list[int]]:
        """The pack again under half the budget, which holds from now on."""
        lengths = [sequences[index].ids.size for index in pack]
        if len(pack) == 1:
            raise MemoryLimitError(
                f"a sequence of {lengths[0]} tokens does not fit into memory: its buffers alone take "
                f"{self._model.planned_bytes(lengths[0]) / 2**30:.1f} GiB; take a smaller window, precision bfloat16, or a "
                "larger machine"
            ) from error
        self.token_budget = max(1, min(self.token_budget, sum(lengths)) // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return [[pack[i] for i in smaller] for smaller in plan_packs(lengths, self.token_budget)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python says that memory ran out, on a GPU or on the CPU (torch has no class for the latter)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
