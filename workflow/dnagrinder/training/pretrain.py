"""Masked-language-model pretraining on one machine: bf16 weights with float32 masters, exact resume.

Every batch is a pure function of (seed, step), so a resumed run sees the batches it would have seen.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dnagrinder.errors import CheckpointError, ConfigError
from dnagrinder.model.encoder import initialise
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.corpus import Corpus
from dnagrinder.training.masking import IGNORED, Masking, mask_sequence

BASES_PER_TOKEN = 8  # drawn per wanted token; more than any stretch of DNA gives, the rest is cut off
LOSS_ROWS = 1024  # targets whose logits are held at once, 16 MB of float32 for a vocabulary of 4,096
TARGET_ROWS = 512  # targets are filled up to a multiple: oneDNN compiles and keeps every new product shape


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides model and corpus; defaults follow the paper where it speaks.

    Attributes:
        steps: optimiser steps of the whole schedule.
        tokens_per_step: tokens of one batch, all sequences together.
        lengths: sequence-length warm-up: (share of the run from which it holds, tokens of a sequence), ascending shares.
        learning_rate: peak; linear warm-up over ``warmup_steps``, then cosine to 0.
        clip: largest norm of the gradient.
        recompute: activations are recomputed in the backward pass; memory and time, not the result.
    """

    steps: int
    tokens_per_step: int = 8192
    lengths: tuple[tuple[float, int], ...] = ((0.0, 64), (0.1, 128), (0.3, 256))
    learning_rate: float = 4e-4
    warmup_steps: int = 1000
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 1e-5
    clip: float = 1.0
    seed: int = 1
    recompute: bool = False

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.lengths]
        if not self.lengths or shares[0] != 0 or shares != sorted(shares):
            raise ConfigError("recipe: lengths must start at share 0 and ascend")
        longest = max(length for _, length in self.lengths)
        if self.steps < 1 or self.tokens_per_step < longest:
            raise ConfigError(f"recipe: steps must be positive and a step must hold one sequence of {longest} tokens")

    def length_at(self, step: int) -> int:
        """Tokens of a sequence at a step."""
        return [length for share, length in self.lengths if step >= share * self.steps][-1]

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, 0-based."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass(frozen=True)
class StepReport:
    """What one step measured."""

    step: int
    loss: float  # nats a target
    accuracy: float  # share of targets predicted exactly
    tokens: int
    learning_rate: float
    seconds: float


class Trainer:
    """One run: model in ``dtype``, float32 master weights and moments, state that survives a kill.

    ``folder`` receives ``state.safetensors`` (masters and moments) and ``state.json``; both are replaced atomically.
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        tokenizer: DnaTokenizer,
        corpus: Corpus,
        recipe: Recipe,
        masking: Masking,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.tokenizer, self.corpus, self.recipe, self.masking, self.folder = tokenizer, corpus, recipe, masking, folder
        generator = torch.Generator().manual_seed(recipe.seed)
        initialise(model, generator)
        self.masters = {name: p.detach().clone().float() for name, p in model.named_parameters()}
        for master in self.masters.values():
            master.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.masters.values(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
        )
        self.model = model.to(dtype).train()
        self.model.encoder.recompute = recipe.recompute
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, on_step: Callable[[StepReport], None], *, save_every: int = 200, until: int | None = None) -> None:
        """Train up to step ``until`` (default: the recipe's end), saving the state every ``save_every`` steps."""
        last = self.recipe.steps if until is None else min(self.recipe.steps, until)
        while self.step < last:
            on_step(self._advance())
            if self.step % save_every == 0 or self.step == last:
                self.save()

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Input ids (tokens,), labels (tokens,), cu_seqlens (sequences + 1,) and the length of a sequence."""
        length = self.recipe.length_at(step)
        ids, labels = [], []
        for index in range(self.recipe.tokens_per_step // length):
            generator = np.random.default_rng([self.recipe.seed, step, index])
            window = self.corpus.window(length * BASES_PER_TOKEN, generator)
            example = mask_sequence(window, length, self.tokenizer, self.masking, generator)
            ids.append(example.input_ids)
            labels.append(example.labels)
        cu_seqlens = np.concatenate([[0], np.cumsum([i.size for i in ids])])
        return (
            torch.from_numpy(np.concatenate(ids)),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(cu_seqlens),
            length,
        )

    def _advance(self) -> StepReport:
        started = time.perf_counter()
        input_ids, labels, cu_seqlens, length = self.batch(self.step)
        hidden = self.model(input_ids, cu_seqlens, length)
        loss, accuracy = masked_token_loss(self.model, hidden, labels)
        loss.backward()
        for name, parameter in self.model.named_parameters():
            self.masters[name].grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters.values(), self.recipe.clip)
        rate = self.recipe.rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self._publish()
        self.step += 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        return StepReport(self.step, loss.item(), accuracy, input_ids.numel(), rate, seconds)

    @torch.no_grad()
    def _publish(self) -> None:
        """Round the masters into the model's weights."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(self.masters[name])

    def save(self) -> None:
        """Write the whole state aside, then rename it into place."""
        tensors = {f"master.{name}": master.detach() for name, master in self.masters.items()}
        for name, master in self.masters.items():
            moments = self.optimizer.state[master]
            tensors |= {f"exp_avg.{name}": moments["exp_avg"], f"exp_avg_sq.{name}": moments["exp_avg_sq"]}
        progress = {"step": str(self.step), "seconds": repr(self.seconds), "run": json.dumps(self.identity())}
        partial = self.folder / "state.safetensors.partial"
        save_file(tensors, partial, metadata=progress)
        partial.replace(self.folder / "state.safetensors")

    def resume(self) -> bool:
        """Continue from ``folder`` where it holds a state; False where it holds none.

        Raises:
            CheckpointError: the state belongs to another recipe, masking or architecture.
        """
        path = self.folder / "state.safetensors"
        if not path.is_file():
            return False
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if json.loads(metadata["run"]) != json.loads(json.dumps(self.identity())):
            raise CheckpointError(f"{path} belongs to a run with other settings; give another folder or the same settings")
        tensors = load_file(path)
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        for name, master in self.masters.items():
            with torch.no_grad():
                master.copy_(tensors[f"master.{name}"])
            self.optimizer.state[master] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": tensors[f"exp_avg.{name}"],
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"],
            }
        self._publish()
        return True

    def identity(self) -> dict[str, Any]:
        """What a state must share with a run to continue it: corpus, recipe, masking, architecture, tokenizer."""
        return {
            "corpus_sha256": self.corpus.digest,
            "recipe": {key: value for key, value in asdict(self.recipe).items() if key != "recompute"},
            "masking": asdict(self.masking),
            "architecture": self.model.config.to_dict(),
            "tokenizer_sha256": self.tokenizer.digest,
        }


def masked_token_loss(model: MaskedLanguageModel, hidden: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Mean cross-entropy of the targets, nats, and the share of them predicted exactly.

    Logits are computed for LOSS_ROWS targets at a time and again in the backward pass; (targets, vocabulary) is never held.

    Args:
        hidden: (tokens, hidden) states. labels: (tokens,) int64, IGNORED where nothing is asked.
    """
    rows = torch.nonzero(labels != IGNORED).squeeze(1)
    spare = -rows.numel() % TARGET_ROWS
    wanted = F.pad(labels[rows], (0, spare), value=IGNORED)  # (targets + spare,)
    states = hidden[F.pad(rows, (0, spare))]  # (targets + spare, hidden)

    def part(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.logits(states).float()  # (LOSS_ROWS, vocabulary)
        return F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum"), (logits.argmax(-1) == wanted).sum()

    pieces = zip(states.split(LOSS_ROWS), wanted.split(LOSS_ROWS), strict=True)
    results = [checkpoint(part, *piece, use_reentrant=False) for piece in pieces if piece[0].numel()]
    targets = max(1, rows.numel())
    total = torch.stack([loss for loss, _ in results]).sum() if results else hidden.sum() * 0
    return total / targets, sum(int(hits) for _, hits in results) / targets
