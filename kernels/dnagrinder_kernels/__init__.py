"""The fused operations of dnaGrinder: they know tensors and no genome.

``alibi_attention`` has several kinds of code behind one function: "reference" (the definition) and "blocked" (PyTorch,
differentiable, skips far keys). ``DNAGRINDER_KERNEL`` forces one of them.
"""

from __future__ import annotations

import os

from torch import Tensor

from dnagrinder_kernels import banded, reference
from dnagrinder_kernels.alibi import alibi_slopes
from dnagrinder_kernels.linear import ROW_BLOCK, row_blocked_linear
from dnagrinder_kernels.reference import gated_activation, masked_log_probs, residual_layer_norm

__all__ = [
    "KINDS",
    "ROW_BLOCK",
    "alibi_attention",
    "alibi_slopes",
    "gated_activation",
    "masked_log_probs",
    "residual_layer_norm",
    "row_blocked_linear",
]

KINDS = ("reference", "blocked")


def alibi_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    slopes: Tensor,
    epsilon: float = 1e-6,
) -> Tensor:
    """Symmetric ALiBi attention on packed sequences; sequences of a pack never see each other.

    Args:
        q, k, v: (tokens, heads, d), one dtype and device; d**-0.5 scales the scores.
        cu_seqlens: (sequences + 1,) int32 or int64; starts at 0, ends at ``tokens``, never falls.
        max_seqlen: length of the longest sequence, in tokens.
        slopes: (heads,) float32, positive (``alibi_slopes``).
        epsilon: share of a row's softmax mass that may be left out; 0 computes every key.

    Returns:
        (tokens, heads, d), dtype of ``q``; rows move by at most 2 * epsilon * max|v| against dense attention.

    Raises:
        ValueError: shapes that do not fit each other, or DNAGRINDER_KERNEL names no kind.
    """
    if not q.shape == k.shape == v.shape or q.dim() != 3:
        raise ValueError(f"q, k, v are (tokens, heads, d) alike, got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    if slopes.shape != (q.shape[1],):
        raise ValueError(f"one slope a head: {q.shape[1]} heads, slopes {tuple(slopes.shape)}")
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != q.shape[0] or int(cu_seqlens.diff().max()) > max_seqlen:
        raise ValueError(f"cu_seqlens must run from 0 to {q.shape[0]} in steps of at most {max_seqlen}")
    kind = os.environ.get("DNAGRINDER_KERNEL", "blocked")
    if kind == "blocked":
        return banded.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, slopes=slopes, epsilon=epsilon)
    if kind == "reference":
        return reference.alibi_attention(q, k, v, cu_seqlens=cu_seqlens, slopes=slopes)
    raise ValueError(f"DNAGRINDER_KERNEL is one of {', '.join(KINDS)}, got {kind!r}")
