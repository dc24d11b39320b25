"""ALiBi: head slopes, and which far keys a row may leave out with a proof.

Attention with linear biases (Press et al. 2022, symmetric form for encoders) gives query i and key j of one head the
score

    s_ij = scale * q_i . k_j - m * |i - j|                                   m = the head's slope > 0

**Certificate.** Let c be any vector (here the mean key), R >= |k_j - c| for all keys but a set X of outliers, d = |i -
j|, and M_i the largest score of row i or any score known to be in it. By Cauchy-Schwarz, for a key outside X,

    s_ij <= scale * (q_i . c + |q_i| R) - m d  =:  u_i - m d.

Leave out every such key with d > w. Relative to the row's total mass, which is at least exp(M_i), they hold, both sides
counted,

    2 * sum_{d > w} exp(u_i - m d - M_i)  <=  2 * exp(u_i - m (w + 1) - M_i) / (1 - exp(-m)),

a geometric series: the bound holds for every length N. It is <= eps as soon as

    w >= (u_i - M_i + T) / m - 1,      T = ln(2 / ((1 - exp(-m)) * eps)).

*Outliers.* One key of a large norm would enlarge R for all rows. So the x keys farthest from c form X and stay out of R;
the tail above then gets eps / 2, and a key of X may be left out by row i where its own score lies below M_i - ln(2 x /
eps): together these hold at most eps / 2. A sink costs the columns of the sink, not the band.

*Known scores.* The static form (``key_reach``) takes M_i = s_ii, the row's own key, known before any product. Kernels
that walk outward from the own block may use the running maximum instead, and the radius of the blocks still ahead
instead of R, both of which only tighten the bound. All that the proof asks of exp(M_i) is that the row's total mass is no
less, so the logarithm of the mass summed so far serves as well and is larger than the maximum: the C++ kernel takes that,
rounded down, less what float32 may have erred (``doubt`` in cpu/csrc/attention.cpp). The same bound tells it where no
score can lie so far above the row's reference that its weight would overflow; there it looks for no maximum.

*Rounding.* ``key_reach`` returns w = ceil((u_i - M_i + T) / m), one key more than needed, and works in float64 on the
difference u_i - M_i = scale * (q_i . (c - k_i) + |q_i| R), in which a large common part of the keys cancels before it is
multiplied. The proof is about exact scores of the q and k given; what a kernel rounds when it multiplies them is the
same with and without the cut-off.

An output row is a convex combination of values and moves by at most 2 * eps * max_j |v_j|. eps = 0 leaves nothing out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

OUTLIERS = 16  # most keys of a head that stay out of the radius: [CLS], [SEP] and sinks are few
KEYS_AN_OUTLIER = 64  # and at most one in so many


@dataclass(frozen=True)
class Certificate:
    """What each query of one head must look at.

    Attributes:
        reach: (n,) int64 in [0, n]; keys at a greater distance may be left out, outliers excepted.
        outliers: (x,) int64, ascending; the keys to which ``reach`` does not apply.
        needed: (n, x) bool; False where this row may leave out this outlier.
    """

    reach: Tensor
    outliers: Tensor
    needed: Tensor


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


def tail_margin(slope: float, epsilon: float) -> float:
    """T of the certificate, in nats: ln(2 / ((1 - exp(-slope)) * epsilon))."""
    return math.log(2.0) - math.log(-math.expm1(-slope)) - math.log(epsilon)


def key_reach(q: Tensor, k: Tensor, slope: float, epsilon: float, scale: float, *, outliers: int = 0) -> Certificate:
    """How far each query must look so that at most ``epsilon`` of its mass is left out (proof in the module's docstring).

    Args:
        q: queries of one head and one sequence, (n, d), any float dtype.
        k: keys of the same, (n, d).
        slope: ALiBi slope of the head, per token.
        epsilon: share of the softmax denominator that may be dropped; 0 or less means none.
        scale: factor of the dot product, usually 1/sqrt(d).
        outliers: number of keys, those farthest from the mean key, that stay out of the radius.
    """
    n = q.shape[0]
    none = torch.empty(0, dtype=torch.int64, device=q.device)
    if epsilon <= 0 or slope <= 0:
        everything = torch.full((n,), n, dtype=torch.int64, device=q.device)
        return Certificate(everything, none, torch.empty((n, 0), dtype=torch.bool, device=q.device))
    queries, keys = q.detach().double(), k.detach().double()
    offsets = keys - keys.mean(0)  # (n, d) k - c
    lengths = offsets.norm(dim=-1)  # (n,)
    chosen = lengths.topk(outliers).indices.sort().values if outliers else none
    radius = lengths.index_fill(0, chosen, 0.0).max()
    share = epsilon / 2 if outliers else epsilon
    own = (queries * offsets).sum(-1)  # (n,) q_i . (k_i - c)
    excess = scale * (queries.norm(dim=-1) * radius - own)  # (n,) u - M
    reach = ((excess + tail_margin(slope, share)) / slope).ceil().nan_to_num(nan=float(n), posinf=float(n))
    ahead = scale * (queries @ offsets[chosen].T - own.unsqueeze(1))  # (n, x) s_ij - M without the bias
    distance = (torch.arange(n, device=q.device).unsqueeze(1) - chosen).abs()
    needed = ~(ahead - slope * distance < -math.log(2 * max(1, outliers) / epsilon))  # NaN is needed
    return Certificate(reach.clamp(0, n).to(torch.int64), chosen, needed)
