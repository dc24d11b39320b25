"""The fused operations of dnaGrinder: they know tensors and no genome.

Several kinds of code stand behind each function; the fastest that serves the tensors at hand is taken:

- "reference": the definition, n x n scores;
- "blocked": PyTorch, any device, differentiable, skips far keys;
- "cpp": C++ for x86-64 (AVX2, AVX-512, AVX-512-BF16 or AMX), compiled on first use; gradients by "blocked";
- "triton": GPU kernels, forward and backward;
- "flash": the flash-attn library with windows that the certificate allows (float16 and bfloat16). A window is that of the
  whole pack, so a row may move with its neighbours by what epsilon allows: it is never chosen by itself.

``DNAGRINDER_KERNEL`` forces one of them for attention.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

from dnagrinder_kernels import banded, reference
from dnagrinder_kernels.alibi import alibi_slopes
from dnagrinder_kernels.cpu import native
from dnagrinder_kernels.linear import FREE_ROWS, FixedLinear, row_block
from dnagrinder_kernels.reference import chosen_log_probs
from dnagrinder_kernels.rowwise import (
    embedding_layer_norm,
    gated_activation,
    residual_layer_norm,
    triton_takes,
    without_gradient,
)

__all__ = [
    "FREE_ROWS",
    "KINDS",
    "FixedLinear",
    "alibi_attention",
    "alibi_slopes",
    "attention_kind",
    "chosen_log_probs",
    "embedding_layer_norm",
    "gated_activation",
    "residual_layer_norm",
    "row_block",
]

KINDS = ("reference", "blocked", "cpp", "triton", "flash")
TRITON_HEAD_WIDTH = 128
TAKEN = {
    "cpp": "float32 and bfloat16 on an x86-64 CPU with a C++ compiler, heads of a multiple of "
    f"{native.MULTIPLE} up to {native.MOST_HEAD_WIDTH}",
    "triton": f"float32, float16 and bfloat16 on a CUDA device with the package triton, heads up to {TRITON_HEAD_WIDTH}",
    "flash": "float16 and bfloat16 on a CUDA device with the package flash-attn",
}


def attention_kind(q: Tensor) -> str:
    """The kind of attention that serves queries like ``q``: DNAGRINDER_KERNEL, or the fastest for device, dtype and width.

    Raises:
        ValueError: DNAGRINDER_KERNEL names no kind, or one that does not take these tensors.
    """
    asked = os.environ.get("DNAGRINDER_KERNEL")
    if asked and asked not in KINDS:
        raise ValueError(f"DNAGRINDER_KERNEL is one of {', '.join(KINDS)}, got {asked!r}")
    if asked and not _takes(asked, q):
        raise ValueError(
            f"DNAGRINDER_KERNEL={asked} takes {TAKEN[asked]}; got {q.dtype} on {q.device.type}, heads {q.shape[-1]} wide"
        )
    if asked:
        return asked
    if q.device.type == "cuda":
        return "triton" if _takes("triton", q) else "blocked"
    return "cpp" if _takes("cpp", q) else "blocked"


def alibi_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    slopes: Tensor,
    epsilon: float = 1e-6,
    out: Tensor | None = None,
) -> Tensor:
    """Symmetric ALiBi attention on packed sequences; sequences of a pack never see each other.

    Args:
        q, k, v: (tokens, heads, d), one dtype and device; d**-0.5 scales the scores.
        cu_seqlens: (sequences + 1,) int32 or int64; starts at 0, ends at ``tokens``, never falls.
        max_seqlen: length of the longest sequence, in tokens.
        slopes: (heads,) float32, positive (``alibi_slopes``).
        epsilon: share of a row's softmax mass that may be left out; 0 computes every key.
        out: (tokens, heads, d) contiguous, where to write; without gradients only. Made where None.

    Returns:
        (tokens, heads, d), dtype of ``q``; rows move by at most 2 * epsilon * max|v| against dense attention.

    Raises:
        ValueError: shapes that do not fit each other, or DNAGRINDER_KERNEL as in ``attention_kind``.
    """
    if not q.shape == k.shape == v.shape or q.dim() != 3:
        raise ValueError(f"q, k, v are (tokens, heads, d) alike, got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    if slopes.shape != (q.shape[1],):
        raise ValueError(f"one slope a head: {q.shape[1]} heads, slopes {tuple(slopes.shape)}")
    if cu_seqlens.device.type == "cpu":  # on a GPU the look would wait for it
        steps = cu_seqlens.diff()
        ends = (int(cu_seqlens[0]), int(cu_seqlens[-1]))
        if ends != (0, q.shape[0]) or (steps.numel() and not 0 <= int(steps.min()) <= int(steps.max()) <= max_seqlen):
            raise ValueError(f"cu_seqlens must run from 0 to {q.shape[0]} in steps of 0 to {max_seqlen}")
    kind = attention_kind(q)
    if kind == "cpp":
        return _cpp_attention(q, k, v, cu_seqlens, slopes, epsilon, out)
    if kind == "reference":
        result = reference.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, slopes=slopes)
    elif kind == "blocked":
        result = banded.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, slopes=slopes, epsilon=epsilon)
    elif kind == "triton":
        from dnagrinder_kernels.gpu import attention

        result = attention.alibi_attention(
            q, k, v, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, slopes=slopes, epsilon=epsilon
        )
    else:
        from dnagrinder_kernels.gpu import flash

        result = flash.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, slopes=slopes, epsilon=epsilon)
    return result if out is None else out.copy_(result)


class _CppForward(torch.autograd.Function):
    """Forward in C++, backward by running the blocked kind again with gradients."""

    @staticmethod
    def forward(ctx, q, k, v, cu_seqlens, slopes, epsilon):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(q, k, v, cu_seqlens, slopes)
        ctx.epsilon = epsilon
        return native.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, slopes=slopes, epsilon=epsilon)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        *tensors, cu_seqlens, slopes = ctx.saved_tensors
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_(True) for x in tensors]
            out = banded.alibi_attention(*inputs, cu_seqlens=cu_seqlens, slopes=slopes, epsilon=ctx.epsilon)
        return *torch.autograd.grad(out, inputs, gradient), None, None, None


def _cpp_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, slopes: Tensor, epsilon: float, out: Tensor | None
) -> Tensor:
    if without_gradient(q) and without_gradient(k) and without_gradient(v):
        return native.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, slopes=slopes, epsilon=epsilon, out=out)
    attended: Tensor = _CppForward.apply(q, k, v, cu_seqlens, slopes, epsilon)
    return attended


def _takes(kind: str, q: Tensor) -> bool:
    """Whether a kind of attention takes queries like ``q`` here."""
    if kind == "cpp":
        return native.serves_attention(q)
    if kind == "triton":
        return triton_takes(q) and q.shape[-1] <= TRITON_HEAD_WIDTH
    if kind == "flash":
        return q.device.type == "cuda" and q.dtype.itemsize == 2 and importlib.util.find_spec("flash_attn") is not None
    return True
