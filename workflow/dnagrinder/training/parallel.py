"""Training over several processes, started by ``torchrun``: who I am, and how weights and gradients are kept in step.

Two layouts, both with float32 master weights, float32 gradient sums and the model computing in ``dtype``:

- ``ReplicatedWeights`` (data parallel): every process holds all weights; gradients add up in float32 over micro-batches and
  then, once a step, over processes. One all-reduce of 4 bytes a parameter is 0.25 GB for ``base``.
- ``ShardedWeights`` (FSDP2): masters, gradients and moments are spread over the processes; for sizes that do not fit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dnagrinder.errors import ConfigError
from dnagrinder.model.heads import MaskedLanguageModel

TIMEOUT = timedelta(minutes=30)  # the slowest step of a process may take this much longer than that of the others
PATIENCE = timedelta(days=7)  # what ``wait`` waits; counting the tokens of a large corpus takes the first process hours


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: number of this process, 0-based.
        size: number of processes.
        device: where this process computes.
        patient: the same processes with a longer timeout; None where there is but one.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    patient: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes logs and states."""
        return self.rank == 0

    def total(self, value: float) -> float:
        """Sum over all processes, in float64."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor.item())

    def wait(self) -> None:
        """Return when every process is here, however long the first works alone."""
        if self.size > 1:
            dist.barrier(self.patient)


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """The world that torchrun's environment describes (one process where there is none), left again at the end.

    Raises:
        ConfigError: several processes on one machine and fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ConfigError(f"process {local} on this machine has no GPU: {torch.cuda.device_count()} are there")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), size, device, dist.new_group(timeout=PATIENCE, backend="gloo"))
    finally:
        dist.destroy_process_group()


class Weights(Protocol):
    """The trainable numbers of a run, as the trainer uses them."""

    loss_scale: float
    """Factor on the loss, whose gradient is to be that of the sum over all processes."""

    def masters(self) -> dict[str, Tensor]:
        """The float32 tensors that the optimiser steps, by name."""

    def collect(self) -> None:
        """Take up the gradients of a micro-batch."""

    def reduce(self) -> None:
        """Make the gradients of the masters those of the whole step."""

    def publish(self) -> None:
        """Bring the masters into the model that computes."""

    def whole(self, tensor: Tensor) -> Tensor:
        """A master, or a moment of one, with all its numbers; every process must call it."""

    def share(self, master: Tensor, whole: Tensor) -> Tensor:
        """This process's share of a whole tensor, laid out like ``master``."""


class ReplicatedWeights:
    """All weights in every process; the model itself is held in ``dtype``."""

    loss_scale = 1.0

    def __init__(self, model: MaskedLanguageModel, dtype: torch.dtype, world: World) -> None:
        self._model, self._world = model, world
        model.to(world.device)
        self._masters = {name: p.detach().clone().float().requires_grad_(True) for name, p in model.named_parameters()}
        model.to(dtype)

    def masters(self) -> dict[str, Tensor]:
        return self._masters

    def collect(self) -> None:
        for name, parameter in self._model.named_parameters():
            if parameter.grad is None:
                continue
            master = self._masters[name]
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def reduce(self) -> None:
        if self._world.size == 1:
            return
        gradients = [m.grad if m.grad is not None else torch.zeros_like(m) for m in self._masters.values()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for master, piece in zip(self._masters.values(), pieces, strict=True):
            master.grad = piece.view_as(master)

    @torch.no_grad()
    def publish(self) -> None:
        for name, parameter in self._model.named_parameters():
            parameter.copy_(self._masters[name])

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.detach()

    def share(self, master: Tensor, whole: Tensor) -> Tensor:
        return whole.to(master.device)


class ShardedWeights:
    """Weights, gradients and moments spread over the processes by FSDP2, block by block."""

    def __init__(self, model: MaskedLanguageModel, dtype: torch.dtype, world: World) -> None:
        if world.size == 1:
            raise ConfigError("sharded weights need several processes; start them with torchrun")
        model.to(world.device)
        mesh = dist.init_device_mesh(world.device.type, (world.size,))
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        for block in model.encoder.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)  # the head runs after ``forward``
        assert isinstance(model, FSDPModule)  # noqa: S101 - what fully_shard makes of it, for mypy
        self._model = model
        self.loss_scale = float(world.size)  # FSDP2 averages over processes

    def masters(self) -> dict[str, Tensor]:
        return dict(self._model.named_parameters())

    def collect(self) -> None:
        """FSDP2 adds the gradients of micro-batches to the shares itself."""

    def reduce(self) -> None:
        """FSDP2 has reduced them during the backward pass."""

    def publish(self) -> None:
        """FSDP2 gathers and rounds the masters itself."""

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()

    def share(self, master: Tensor, whole: Tensor) -> Tensor:
        if not isinstance(master, DTensor):
            return whole.to(master.device)
        return distribute_tensor(whole.to(master.device), master.device_mesh, master.placements)
