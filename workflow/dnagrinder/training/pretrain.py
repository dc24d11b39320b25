"""Masked-language-model pretraining, on one process or many, with exact resume.

Every batch is a pure function of (seed, step, rank), so a resumed run sees the batches it would have seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dnagrinder.errors import ConfigError
from dnagrinder.model.encoder import initialise
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.prefetch import prefetched
from dnagrinder.training.batches import Batch, BatchMaker
from dnagrinder.training.masking import IGNORED
from dnagrinder.training.parallel import ReplicatedWeights, ShardedWeights, Weights, World
from dnagrinder.training.recipe import Recipe
from dnagrinder.training.state import TrainingState, load_newest_state, save_state

LOSS_ROWS = 1024  # targets whose logits are held at once, 16 MB of float32 for a vocabulary of 4,096
TARGET_ROWS = 512  # targets are filled up to a multiple: oneDNN compiles and keeps every new product shape
NO_RESULT = ("recompute", "micro_tokens")  # settings of a recipe that change memory and rounding, not what is computed


@dataclass(frozen=True)
class StepReport:
    """What one step measured, over all processes."""

    step: int
    loss: float  # nats a target, weighted
    accuracy: float  # share of targets predicted exactly
    tokens: int
    learning_rate: float
    gradient_norm: float  # before clipping
    seconds: float

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are numbers; where they are not the weights were left as they were."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class Trainer:
    """One run: float32 masters and moments, a model in ``dtype``, a state that survives a kill.

    Args:
        model: its weights are drawn from the recipe's seed, or kept where ``fresh`` is False.
        batches: the batches of this process.
        identity: what a saved state must share with this run, besides the recipe; JSON values.
        folder: receives the states; see ``state``.
        dtype: of the model's weights and activations.
        sharded: spread weights and moments over the processes (FSDP2).
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        batches: BatchMaker,
        recipe: Recipe,
        identity: dict[str, Any],
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        world: World | None = None,
        fresh: bool = True,
        sharded: bool = False,
    ) -> None:
        self.model, self.recipe, self.folder, self.world = model, recipe, folder, world or World()
        self._batches = batches
        settings = {key: value for key, value in asdict(recipe).items() if key not in NO_RESULT}
        self.identity = {**identity, "recipe": settings, "architecture": model.config.to_dict(), "dtype": str(dtype)}
        model.requires_grad_(True)
        if fresh:
            initialise(model, torch.Generator().manual_seed(recipe.seed))
        self.weights: Weights = (ShardedWeights if sharded else ReplicatedWeights)(model, dtype, self.world)
        self.optimizer = torch.optim.AdamW(
            self.weights.masters().values(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
        )
        model.train()
        model.encoder.recompute = recipe.recompute
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, on_step: Callable[[StepReport], None], *, save_every: int = 200, until: int | None = None) -> None:
        """Train up to step ``until`` (default: the recipe's end), saving the state every ``save_every`` steps.

        Raises:
            ConfigError: the training diverged; told to ``on_step`` first, and no weight was changed by that step.
        """
        last = self.recipe.steps if until is None else min(self.recipe.steps, until)
        for batches in prefetched(self._batches.step(step) for step in range(self.step, last)):
            report = self._advance(batches)
            on_step(report)
            if not report.is_finite:
                raise ConfigError(
                    f"training diverged at step {report.step}: loss {report.loss:g}, gradient norm "
                    f"{report.gradient_norm:g}; the states in {self.folder} were saved before and stay good: start anew in "
                    "another folder with a lower learning_rate, a lower clip or more warmup_steps"
                )
            if self.step % save_every == 0 or self.step == last:
                self.save()

    def _advance(self, batches: list[Batch]) -> StepReport:
        started = time.perf_counter()
        weight = self.world.total(sum(float(batch.weights.double().sum()) for batch in batches))
        targets = self.world.total(sum(int((batch.labels != IGNORED).sum()) for batch in batches))
        tokens = self.world.total(sum(batch.tokens for batch in batches))
        loss, hits = 0.0, 0.0
        for batch in _on_device(batches, self.world.device):
            hidden = self.model(batch.input_ids, batch.cu_seqlens, batch.max_seqlen)
            part, right = masked_token_loss(self.model, hidden, batch.labels, batch.weights)
            (part * (self.weights.loss_scale / max(weight, 1e-9))).backward()
            self.weights.collect()
            loss += float(part.detach())
            hits += right
        self.weights.reduce()
        norm = torch.nn.utils.clip_grad_norm_(self.weights.masters().values(), self.recipe.clip)
        rate = self.recipe.rate_at(self.step)
        loss, hits = self.world.total(loss) / max(weight, 1e-9), self.world.total(hits)
        gradient_norm = float(self.weights.whole(norm))
        step = self.step + 1
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self._apply(rate)
            self.step = step
        seconds = time.perf_counter() - started
        self.seconds += seconds
        return StepReport(step, loss, hits / max(1, targets), int(tokens), rate, gradient_norm, seconds)

    def _apply(self, rate: float) -> None:
        """Step the masters along their gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.weights.publish()

    def save(self) -> None:
        """Write the whole state; every process must call it."""
        tensors = {}
        for name, master in self.weights.masters().items():
            moments = self.optimizer.state[master]
            for kind, value in (("master", master), ("exp_avg", moments["exp_avg"]), ("exp_avg_sq", moments["exp_avg_sq"])):
                whole = self.weights.whole(value)
                if self.world.is_first:
                    tensors[f"{kind}.{name}"] = whole.cpu()  # sharded weights need not fit one GPU
        if self.world.is_first:
            save_state(self.folder, TrainingState(self.step, self.seconds, tensors), self.identity)
        self.world.wait()

    def resume(self) -> bool:
        """Continue from the newest state of ``folder``; False where it holds none. Any number of processes may continue it.

        Raises:
            CheckpointError: the state belongs to another run or cannot be read.
        """
        state = load_newest_state(self.folder, self.identity)
        if state is None:
            return False
        self.step, self.seconds = state.step, state.seconds
        for name, master in self.weights.masters().items():
            with torch.no_grad():
                master.copy_(self.weights.share(master, state.tensors[f"master.{name}"]))
            self.optimizer.state[master] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": self.weights.share(master, state.tensors[f"exp_avg.{name}"]),
                "exp_avg_sq": self.weights.share(master, state.tensors[f"exp_avg_sq.{name}"]),
            }
        self.weights.publish()
        return True

    def final_weights(self) -> dict[str, Tensor]:
        """All weights, float32 on the CPU, by name; every process must call it."""
        return {name: self.weights.whole(master).float().cpu() for name, master in self.weights.masters().items()}


def masked_token_loss(model: MaskedLanguageModel, hidden: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, int]:
    """Weighted sum of the targets' cross-entropies, nats, and how many of them were predicted exactly.

    Logits are computed for LOSS_ROWS targets at a time and again in the backward pass; (targets, vocabulary) is never held.
    Where nothing is asked, the head runs over rows that count nothing: processes must agree on which weights have gradients.

    Args:
        hidden: (tokens, hidden) states. labels: (tokens,) int64, IGNORED where nothing is asked. weights: (tokens,) float32.
    """
    rows = torch.nonzero(labels != IGNORED).squeeze(1)
    spare = -rows.numel() % TARGET_ROWS if rows.numel() else TARGET_ROWS
    wanted = F.pad(labels[rows], (0, spare), value=IGNORED)  # (targets + spare,)
    weight = F.pad(weights[rows], (0, spare))  # (targets + spare,)
    states = hidden[F.pad(rows, (0, spare))]  # (targets + spare, hidden)

    def part(states: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.logits(states).float()  # (LOSS_ROWS, vocabulary)
        nats = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")  # (LOSS_ROWS,)
        return (nats * weight).sum(), (logits.argmax(-1) == wanted).sum()

    pieces = zip(states.split(LOSS_ROWS), wanted.split(LOSS_ROWS), weight.split(LOSS_ROWS), strict=True)
    results = [checkpoint(part, *piece, use_reentrant=False) for piece in pieces]
    return torch.stack([loss for loss, _ in results]).sum(), sum(int(hits) for _, hits in results)


def _on_device(batches: list[Batch], device: torch.device) -> Iterator[Batch]:
    for batch in batches:
        moved = {
            name: getattr(batch, name).to(device, non_blocking=True)
            for name in ("input_ids", "labels", "weights", "cu_seqlens")
        }
        yield replace(batch, **moved)
