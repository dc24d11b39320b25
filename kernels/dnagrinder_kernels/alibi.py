"""ALiBi: head slopes, and which far keys a row may leave out with a proof.

Attention with linear biases (Press et al. 2022, symmetric form for encoders) gives query i and key j of one head the score

    s_ij = scale * q_i . k_j - m * |i - j|                                   m = the head's slope > 0

Certificate. Let c be any vector (here the mean key), R >= max_j |k_j - c|, and d = |i - j|. By Cauchy-Schwarz

    s_ij <= scale * (q_i . c + |q_i| R) - m d  =:  u_i - m d.

Row i's largest score is at least its own, M_i >= s_ii = scale * q_i . k_i. Leave out every key with d > w_i. Their mass
relative to the row's total (which is at least exp(M_i)) is at most, both sides counted,

    2 * sum_{d > w_i} exp(u_i - m d - M_i)  <=  2 * exp(u_i - m (w_i + 1) - M_i) / (1 - exp(-m)),

a geometric series: the bound holds for every length N. It is <= eps as soon as

    w_i >= (u_i - M_i + T) / m - 1,      T = ln(2 / ((1 - exp(-m)) * eps)).

``key_reach`` returns w_i = ceil((u_i - M_i + T) / m), one key more than needed, and works in float64 on the difference
u_i - M_i = scale * (q_i . (c - k_i) + |q_i| R), in which a large common part of the keys cancels before it is multiplied.
Outlier keys enlarge R and with it w_i: they can cost speed, never correctness. An output row, a convex combination of
values, moves by at most 2 * eps * max_j |v_j|. The proof is about exact scores of the q and k given; what float32 or
bfloat16 rounds when it multiplies them is the same with and without the cut-off.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def alibi_slopes(heads: int) -> Tensor:
    """Slope of each head, (heads,) float32.

    A power of two gets the geometric sequence 2^(-8/heads), 2^(-16/heads), ...; any other number takes the sequence of the
    power of two below and fills up with every other slope of the one above (the published ALiBi rule; for 12 heads
    2^-1 ... 2^-8 followed by 2^-0.5, 2^-1.5, 2^-2.5, 2^-3.5).

    Raises:
        ValueError: ``heads`` is below 1.
    """
    if heads < 1:
        raise ValueError(f"ALiBi needs at least one head, got {heads}")
    below = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    above = [2 ** (-4 * (i + 1) / below) for i in range(2 * below)]
    return torch.tensor(slopes + above[0::2][: heads - below], dtype=torch.float32)


def distance_bias(queries: int, keys: int, offset: int, slope: float, *, device: torch.device | None = None) -> Tensor:
    """ALiBi bias of a block of consecutive queries against consecutive keys, (queries, keys) float32.

    Element (a, b) is ``-slope * |offset + a - b|``; ``offset`` = position of the first query minus that of the first key.
    """
    a = torch.arange(queries, device=device).unsqueeze(1) + offset  # (queries, 1)
    b = torch.arange(keys, device=device).unsqueeze(0)  # (1, keys)
    return (a - b).abs().to(torch.float32) * -slope


def key_reach(q: Tensor, k: Tensor, slope: float, epsilon: float, scale: float) -> Tensor:
    """How far each query must look, in keys to either side, so that at most ``epsilon`` of its mass is left out.

    Args:
        q: queries of one head and one sequence, (n, d), any float dtype.
        k: keys of the same, (n, d).
        slope: ALiBi slope of the head, per token.
        epsilon: share of the softmax denominator that may be dropped; 0 or less means none.
        scale: factor of the dot product, usually 1/sqrt(d).

    Returns:
        (n,) int64 in [0, n]: keys at a distance beyond it are certified negligible (proof in the module's docstring).
    """
    n = q.shape[0]
    if epsilon <= 0 or slope <= 0:
        return torch.full((n,), n, dtype=torch.int64, device=q.device)
    queries, keys = q.detach().double(), k.detach().double()
    offsets = keys - keys.mean(0)  # (n, d) k - c
    lengths = offsets.norm(dim=-1)  # (n,)
    excess = scale * (queries.norm(dim=-1) * lengths.max() - (queries * offsets).sum(-1))  # (n,) u - M
    margin = math.log(2.0) - math.log(-math.expm1(-slope)) - math.log(epsilon)
    reach = ((excess + margin) / slope).ceil()
    return reach.nan_to_num(nan=float(n), posinf=float(n)).clamp(0, n).to(torch.int64)
