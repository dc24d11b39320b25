"""Operations on rows on a GPU: LayerNorm with what is added before it, and gating, each one Triton kernel a direction.

One program owns one row, so a row's bits depend on nothing else. All arithmetic is float32, whatever the tensors' dtype. The
gradients of weights are summed in two stages, each in a fixed order: every program its own rows, then the programs' sums.

The kernels have been compiled for sm_80, sm_90 and sm_100 and run in Triton's interpreter, never timed on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from dnagrinder_kernels.gpu.call import Call
from dnagrinder_kernels.gpu.rowwise_kernels import gate_gradient_kernel, gate_kernel, norm_gradient_kernel, norm_kernel

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ACTIVATIONS = ("swiglu", "geglu")
MOST_FEATURES = 8192  # a row lives in the registers of one program
GATE_BLOCK = 1024  # features of a program of the gating kernels
PARTS = (
    512  # programs that sum up weight gradients: two to four a multiprocessor; fixed, so that sums are the same everywhere
)


def residual_layer_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(x + residual) over the last dimension, differentiable (once).

    Args:
        x, residual: (..., features), float32, float16 or bfloat16 alike, up to 8192 features.
        weight, bias: (features,), any of these dtypes.
        eps: added to the variance.

    Returns:
        (..., features), dtype of ``x``.

    Raises:
        ValueError: shapes that do not fit each other, another dtype, or more features.
    """
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise ValueError(
            f"x and residual are alike, got {tuple(x.shape)} {x.dtype}, {tuple(residual.shape)} {residual.dtype}"
        )
    _check(x, weight=weight, bias=bias)
    rows = x.reshape(-1, x.shape[-1]).contiguous(), residual.reshape(-1, x.shape[-1]).contiguous()
    out: Tensor = _ResidualNorm.apply(*rows, weight, bias, eps)
    return out.view(x.shape)


def embedding_layer_norm(ids: Tensor, word: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(word[ids] + offset), differentiable (once).

    Args:
        ids: (tokens,) int64; a row whose id lies outside the table comes out as NaN, and gradients need all ids within.
        word: (vocabulary, features), float32, float16 or bfloat16, up to 8192 features.
        offset, weight, bias: (features,), any of these dtypes.
        eps: added to the variance.

    Returns:
        (tokens, features), dtype of ``word``.

    Raises:
        ValueError: shapes that do not fit each other, another dtype, or more features.
    """
    if ids.dim() != 1 or word.dim() != 2:
        raise ValueError(f"ids are (tokens,) and word (vocabulary, features), got {tuple(ids.shape)}, {tuple(word.shape)}")
    _check(word, offset=offset, weight=weight, bias=bias)
    out: Tensor = _EmbeddingNorm.apply(ids.contiguous(), word.contiguous(), offset, weight, bias, eps)
    return out


def gated_activation(x: Tensor, activation: str) -> Tensor:
    """First half of the features, activated, times the second half, differentiable (once).

    Args:
        x: (..., 2m), float32, float16 or bfloat16.
        activation: "swiglu" (x sigmoid(x); Shazeer 2020) or "geglu" (exact GELU, x (1 + erf(x / sqrt 2)) / 2).

    Returns:
        (..., m), dtype of ``x``.

    Raises:
        ValueError: another name, an odd number of features, or another dtype.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {' or '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
    if x.shape[-1] % 2 or x.dtype not in DTYPES:
        raise ValueError(f"x is (..., 2m) of {_names(DTYPES)}, got {tuple(x.shape)} {x.dtype}")
    out: Tensor = _Gate.apply(x.reshape(-1, x.shape[-1]).contiguous(), activation)
    return out.view(*x.shape[:-1], x.shape[-1] // 2)


class _ResidualNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        weight, bias = weight.contiguous(), bias.contiguous()
        out, mean, scale = torch.empty_like(x), *_row_numbers(x)
        norm_call(x, residual, None, weight, bias, out, mean, scale, eps).run()
        ctx.save_for_backward(x, residual, weight, bias, mean, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, weight, bias, mean, scale = ctx.saved_tensors
        change, sums = torch.empty_like(x), _partial_sums(x)
        norm_gradient_call(gradient.contiguous(), x, residual, None, weight, mean, scale, change, sums).run()
        weight_sum, bias_sum, _ = sums.sum(0)
        return change, change, weight_sum.to(weight.dtype), bias_sum.to(bias.dtype), None


class _EmbeddingNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, word: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        offset, weight, bias = offset.contiguous(), weight.contiguous(), bias.contiguous()
        out = word.new_empty((len(ids), word.shape[1]))
        mean, scale = _row_numbers(out)
        norm_call(word, offset, ids, weight, bias, out, mean, scale, eps).run()
        ctx.save_for_backward(ids, word, offset, weight, bias, mean, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ids, word, offset, weight, bias, mean, scale = ctx.saved_tensors
        change = torch.empty(gradient.shape, dtype=torch.float32, device=gradient.device)
        sums = _partial_sums(change)
        norm_gradient_call(gradient.contiguous(), word, offset, ids, weight, mean, scale, change, sums).run()
        weight_sum, bias_sum, offset_sum = sums.sum(0)
        # sorts the ids and sums equal ones in order: no atomics
        table = torch.ops.aten.embedding_dense_backward(change, ids, len(word), -1, False)
        return (
            None,
            table.to(word.dtype),
            offset_sum.to(offset.dtype),
            weight_sum.to(weight.dtype),
            bias_sum.to(bias.dtype),
            None,
        )


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: str) -> Tensor:
        out = x.new_empty((x.shape[0], x.shape[1] // 2))
        gate_call(x, out, activation).run()
        ctx.save_for_backward(x)
        ctx.activation = activation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        change = torch.empty_like(x)
        gate_gradient_call(gradient.contiguous(), x, change, ctx.activation).run()
        return change, None


def norm_call(
    x: Tensor, other: Tensor, ids: Tensor | None, weight: Tensor, bias: Tensor, out: Tensor, mean: Tensor, scale: Tensor,
    eps: float,
) -> Call:  # fmt: skip
    """The launch that fills ``out`` (rows, features), ``mean`` and ``scale`` (rows,) float32; with ids, ``x`` is a table."""
    arguments = {
        "x": x, "other": other, "weight": weight, "bias": bias, "out": out, "mean": mean, "scale": scale, "eps": eps,
        **_source(x, other, ids),
    }  # fmt: skip
    return Call(norm_kernel, (out.shape[0],), arguments, _warps(arguments["BLOCK"]), 1)


def norm_gradient_call(
    gradient: Tensor, x: Tensor, other: Tensor, ids: Tensor | None, weight: Tensor, mean: Tensor, scale: Tensor,
    change: Tensor, sums: Tensor,
) -> Call:  # fmt: skip
    """The launch that fills ``change`` (rows, features) and ``sums`` (parts, 3, features) float32."""
    arguments = {
        "gradient": gradient, "x": x, "other": other, "weight": weight, "mean": mean, "scale": scale, "change": change,
        "sums": sums, "rows": change.shape[0], **_source(x, other, ids),
    }  # fmt: skip
    return Call(norm_gradient_kernel, (sums.shape[0],), arguments, _warps(arguments["BLOCK"]), 1)


def gate_call(x: Tensor, out: Tensor, activation: str) -> Call:
    """The launch that fills ``out`` (rows, m) from ``x`` (rows, 2m)."""
    return _gating(gate_kernel, {"x": x, "out": out}, out.shape[1], x.shape[0], activation)


def gate_gradient_call(gradient: Tensor, x: Tensor, change: Tensor, activation: str) -> Call:
    """The launch that fills ``change`` (rows, 2m) from ``gradient`` (rows, m)."""
    tensors = {"gradient": gradient, "x": x, "change": change}
    return _gating(gate_gradient_kernel, tensors, gradient.shape[1], x.shape[0], activation)


def _gating(kernel: Any, tensors: dict[str, Any], half: int, rows: int, activation: str) -> Call:
    arguments = {**tensors, "half": half, "SWIGLU": activation == "swiglu", "BLOCK": GATE_BLOCK}
    return Call(kernel, (rows, triton.cdiv(half, GATE_BLOCK)), arguments, 4, 1)


def _source(x: Tensor, other: Tensor, ids: Tensor | None) -> dict[str, Any]:
    features = x.shape[1]
    block = max(16, triton.next_power_of_2(features))
    gathered = {"ids": other if ids is None else ids, "vocabulary": x.shape[0], "GATHER": ids is not None}
    return {**gathered, "features": features, "BLOCK": block}


def _warps(block: int) -> int:
    """Eight features a thread for the model's 768; a thread never holds more than 16 of a row."""
    return max(4, block // 512)


def _row_numbers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors (rows,) float32."""
    return rows.new_empty(rows.shape[0], dtype=torch.float32), rows.new_empty(rows.shape[0], dtype=torch.float32)


def _partial_sums(rows: Tensor) -> Tensor:
    return torch.empty((min(PARTS, rows.shape[0]), 3, rows.shape[1]), dtype=torch.float32, device=rows.device)


def _check(x: Tensor, **vectors: Tensor) -> None:
    features = x.shape[-1]
    for name, vector in vectors.items():
        if vector.shape != (features,):
            raise ValueError(f"{name} is (features,) = ({features},), got {tuple(vector.shape)}")
    if any(tensor.dtype not in DTYPES for tensor in (x, *vectors.values())):
        raise ValueError(f"tensors are {_names(DTYPES)}, got {_names((x.dtype, *(v.dtype for v in vectors.values())))}")
    if features > MOST_FEATURES:
        raise ValueError(f"rows have at most {MOST_FEATURES} features, got {features}")


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
