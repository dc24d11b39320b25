"""Linear layers whose rows do not depend on what else is in the pack.

A matrix product may round a row differently when the number of rows changes, because libraries choose another blocking.
At inference every product therefore has one shape: ROW_BLOCK rows, the last block filled up with zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROW_BLOCK = 1024  # rows a product; CPU GEMM reaches 95 % of its rate here, and oneDNN/MKL rows are position-independent


def row_blocked_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias for x (rows, in), weight (out, in), bias (out,); bits of a row independent of the other rows.

    With gradients recorded (training) it is one plain product.
    """
    if torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    rows = x.shape[0]
    if rows == ROW_BLOCK:
        return F.linear(x, weight, bias)
    out = x.new_empty((rows, weight.shape[0]))
    full = rows - rows % ROW_BLOCK
    for first in range(0, full, ROW_BLOCK):
        out[first : first + ROW_BLOCK] = F.linear(x[first : first + ROW_BLOCK], weight, bias)
    if full < rows:
        filled = x.new_zeros((ROW_BLOCK, x.shape[1]))
        filled[: rows - full] = x[full:]
        out[full:] = F.linear(filled, weight, bias)[: rows - full]
    return out
