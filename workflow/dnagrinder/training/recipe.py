"""The numbers of a pretraining: schedule, optimiser, batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dnagrinder.errors import ConfigError
from dnagrinder.training.curriculum import Curriculum


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides model, corpus and masking; defaults follow the paper where it speaks.

    Attributes:
        steps: optimiser steps of the whole schedule.
        tokens_per_step: tokens of a step over all processes; it holds ``tokens_per_step // length`` sequences.
        curriculum: order and lengths of the sequences.
        learning_rate: peak; linear warm-up over ``warmup_steps``, then cosine to 0.
        clip: largest norm of the gradient.
        reverse_complement: read half of the visits on the other strand.
        micro_tokens: tokens of one forward and backward pass; gradients add up until the step's share is done.
        recompute: activations are recomputed in the backward pass; memory and time, not the result.
    """

    steps: int
    tokens_per_step: int = 256 * 2314
    curriculum: Curriculum = field(default_factory=Curriculum)
    learning_rate: float = 4e-4
    warmup_steps: int = 16_000
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 1e-5
    clip: float = 1.0
    seed: int = 1
    reverse_complement: bool = False
    micro_tokens: int = 37_024
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.tokens_per_step < self.curriculum.max_tokens:
            raise ConfigError(
                f"recipe: steps must be positive and a step must hold one sequence of {self.curriculum.max_tokens} tokens"
            )
        if self.warmup_steps < 0 or self.learning_rate <= 0 or self.clip <= 0:
            raise ConfigError("recipe: learning_rate and clip must be above 0, warmup_steps not below")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"recipe: betas are two numbers in [0, 1), found {list(self.betas)}")
        if self.eps <= 0 or self.weight_decay < 0 or self.seed < 0:
            raise ConfigError("recipe: eps must be above 0, weight_decay and seed not below")
        if self.micro_tokens < 1:
            raise ConfigError(f"recipe: micro_tokens must be at least 1, found {self.micro_tokens}")

    def length_at(self, step: int) -> int:
        """Tokens of the longest sequence of a step."""
        return self.curriculum.length_at(step, self.steps)

    def sequences_at(self, step: int) -> int:
        """Sequences of a step, over all processes."""
        return self.tokens_per_step // self.length_at(step)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, 0-based."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
