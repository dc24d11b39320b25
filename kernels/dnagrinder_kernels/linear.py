"""Linear layers for inference whose rows do not depend on what else is in the pack.

A matrix product may round a row differently when the number of rows changes, because libraries choose another blocking.
Their products therefore have one shape, ``row_block`` rows; callers keep their buffers filled up to a multiple of it.
Within that shape a row's bits depend neither on its place nor on the number of threads (tested). Own C++ for bfloat16 on
processors with AMX (cpu/csrc/linear.cpp) takes any number of rows with the same bits.

Own C++, oneDNN with weights packed once, or torch: the choice follows from dtype, shape and processor alone, since one by
the clock would change bits between runs.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dnagrinder_kernels.cpu import native
from dnagrinder_kernels.rowwise import gated_activation

CPU_ROWS = 1024  # CPU products reach 95 % of their rate here, and oneDNN and MKL rows are position-independent
GPU_ROWS = 8192
FREE_ROWS = 2048  # best for products of any number: the weights serve many rows, and the rows stay near


def row_block(device: torch.device) -> int:
    """Rows of every product of a library on a device."""
    return GPU_ROWS if device.type == "cuda" else CPU_ROWS


class FixedLinear:
    """x @ weight.T + bias, and a gate where asked for; a row's bits depend on the row alone.

    oneDNN's packing pays for bfloat16 and, on processors of AMD, for float32, where oneDNN also beats MKL
    (tests/benchmarks/operations.py).

    Args:
        weight: (out, in).
        bias: (out,), or None.
        activation: a gate that follows (``gated_activation``), or None; the first half of the outputs goes into it.

    Attributes:
        rows: rows that a call takes; None: any number.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> None:
        tiled, gated = native.serves_linear(weight), activation == "swiglu"
        self.rows = None if tiled and (gated or activation is None) else row_block(weight.device)
        self._weight, self._bias, self._activation = weight, bias, activation
        self._tiles = self._packed = None
        if tiled:
            self._tiles = native.pack_linear(weight, bias, gated=gated)
        elif packing_pays(weight):
            self._packed = _pack(weight, row_block(weight.device))

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """(rows, in) -> (rows, out features), half as many behind a gate; into ``out`` where given.

        Raises:
            ValueError: another number of rows.
        """
        if self.rows not in (None, x.shape[0]):
            raise ValueError(f"a product has {self.rows} rows, got {x.shape[0]}; fill up with zeros")
        if self._activation is None:
            return self._product(x, out)
        product = self._product(x, None)
        gated = product if self._tiles and self._tiles.gated else gated_activation(product, self._activation)
        return gated if out is None else out.copy_(gated)

    def _product(self, x: Tensor, out: Tensor | None) -> Tensor:
        if self._tiles is not None:
            return native.linear(x, self._tiles, out)
        if self._packed is not None:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
            return product if out is None else out.copy_(product)
        if out is None:
            return F.linear(x, self._weight, self._bias)
        if self._bias is None:
            return torch.mm(x, self._weight.T, out=out)
        return torch.addmm(self._bias, x, self._weight.T, out=out)


def packing_pays(weight: Tensor) -> bool:
    """Whether oneDNN's packed product is taken for this weight."""
    offered = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if weight.device.type != "cpu" or not offered:
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 and _vendor() == "AuthenticAMD"


@lru_cache(maxsize=1)
def _vendor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), "")


def _pack(weight: Tensor, rows: int) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
    return packed
