"""A launch of a Triton kernel as a value: it can be run, and it can be compiled for a GPU that is not there."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Call:
    """One launch.

    Attributes:
        kernel: the function under ``triton.jit``.
        grid: programs in up to three dimensions.
        arguments: every argument of the kernel by name, tensors and compile-time constants included.
        warps: warps a program (32 threads each).
        stages: depth of the software pipeline of the kernel's loops.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int
    stages: int

    def run(self) -> None:
        """Launch on the current stream of the device that the tensors are on; nothing happens for an empty grid."""
        if 0 in self.grid:
            return
        device = next(x.device for x in self.arguments.values() if isinstance(x, torch.Tensor))
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[self.grid](**self.arguments, num_warps=self.warps, num_stages=self.stages)
