"""Operations on rows of features, each by the fastest code that serves: LayerNorm with a sum before it, and gates."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from dnagrinder_kernels import reference
from dnagrinder_kernels.cpu import native

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TRITON_FEATURES = 8192  # of a row that a LayerNorm kernel holds


def residual_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor | None = None
) -> Tensor:
    """LayerNorm(x + residual) over the last dimension: (rows, features), weight and bias (features,).

    ``out`` may be ``x`` itself; without gradients only.
    """
    if without_gradient(x) and native.serves_rows(x) and residual.is_contiguous():
        return native.residual_layer_norm(x, residual, weight, bias, eps, out)
    if triton_takes(x) and x.shape[-1] <= TRITON_FEATURES:
        from dnagrinder_kernels.gpu import rowwise

        result = rowwise.residual_layer_norm(x, residual, weight, bias, eps)
    else:
        result = reference.residual_layer_norm(x, residual, weight, bias, eps)
    return result if out is None else out.copy_(result)


def embedding_layer_norm(ids: Tensor, table: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(table[ids] + offset): ids (tokens,) int64; table (vocabulary, features); offset, weight, bias (features,).

    Raises:
        IndexError: an id outside the table (CPU).
    """
    if ids.device.type == "cpu" and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < table.shape[0]:
        raise IndexError(f"token ids must lie in [0, {table.shape[0]}), found {int(ids.min())} to {int(ids.max())}")
    if without_gradient(table) and native.serves_rows(table):
        return native.embedding_layer_norm(ids.contiguous(), table, offset.contiguous(), weight, bias, eps)
    if triton_takes(table) and table.shape[-1] <= TRITON_FEATURES:
        from dnagrinder_kernels.gpu import rowwise

        return rowwise.embedding_layer_norm(ids, table, offset, weight, bias, eps)
    return reference.embedding_layer_norm(ids, table, offset, weight, bias, eps)


def gated_activation(x: Tensor, activation: str) -> Tensor:
    """First half of the features, activated, times the second half: (rows, 2m) -> (rows, m).

    ``activation`` is "swiglu" (SiLU; Shazeer 2020) or "geglu" (exact GELU).

    Raises:
        ValueError: another name.
    """
    halves_fit = x.shape[-1] % (2 * native.MULTIPLE) == 0
    if activation == "swiglu" and without_gradient(x) and halves_fit and native.serves_rows(x):
        return native.swiglu(x)
    if triton_takes(x) and activation in reference.ACTIVATIONS:
        from dnagrinder_kernels.gpu import rowwise

        return rowwise.gated_activation(x, activation)
    return reference.gated_activation(x, activation)


def without_gradient(x: Tensor) -> bool:
    """Whether no gradient will be asked of ``x``."""
    return not (torch.is_grad_enabled() and x.requires_grad)


def triton_takes(x: Tensor) -> bool:
    """Whether the Triton kernels serve the device and dtype of ``x``."""
    return x.device.type == "cuda" and x.dtype in TRITON_DTYPES and importlib.util.find_spec("triton") is not None
