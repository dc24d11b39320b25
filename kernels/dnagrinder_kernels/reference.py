"""Every operation in its plainest form: the definitions that the fast kinds are tested against.

All functions compute in the dtype of their inputs, so a float64 call is the yardstick of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from dnagrinder_kernels.alibi import distance_bias


def alibi_attention(q: Tensor, k: Tensor, v: Tensor, *, cu_seqlens: Tensor, slopes: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) - slope * |i - j|) v within each sequence of a pack; materialises n x n scores.

    Args:
        q, k, v: (tokens, heads, d).
        cu_seqlens: (sequences + 1,) int, first token of each sequence, then the number of tokens.
        slopes: (heads,) positive.

    Returns:
        (tokens, heads, d), dtype of ``q``.
    """
    out = torch.empty_like(q)
    bounds = cu_seqlens.tolist()
    for first, last in pairwise(bounds):
        n = last - first
        for head in range(q.shape[1]):
            bias = distance_bias(n, n, 0, float(slopes[head]), device=q.device).to(q.dtype)
            scores = q[first:last, head] @ k[first:last, head].T * q.shape[-1] ** -0.5 + bias
            out[first:last, head] = scores.softmax(-1) @ v[first:last, head]
    return out


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": F.silu, "geglu": F.gelu}


def gated_activation(x: Tensor, activation: str) -> Tensor:
    """First half of the features, activated, times the second half: (..., 2m) -> (..., m).

    ``activation`` is "swiglu" (SiLU; Shazeer 2020) or "geglu" (exact GELU).

    Raises:
        ValueError: another name.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    gate, value = x.chunk(2, dim=-1)
    return ACTIVATIONS[activation](gate) * value


def residual_layer_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(x + residual) over the last dimension; shapes (..., features), weight and bias (features,)."""
    return F.layer_norm(x + residual, (x.shape[-1],), weight, bias, eps)


def embedding_layer_norm(ids: Tensor, table: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(table[ids] + offset): ids (tokens,); table (vocabulary, features); offset, weight, bias (features,)."""
    return F.layer_norm(F.embedding(ids, table) + offset, (table.shape[1],), weight, bias, eps)


def chosen_log_probs(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log-probabilities of a few tokens a row, normalised over the whole vocabulary.

    Args:
        logits: (rows, vocabulary). chosen: (rows, k) int64, token ids.

    Returns:
        (rows, k) float32 (float64 for float64 input).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(-1).gather(1, chosen)  # torch's logsumexp takes longer than its log_softmax
