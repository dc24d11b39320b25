"""Blocked ALiBi attention in PyTorch: differentiable, on any device, far keys left out under the certificate of ``alibi``.

Short sequences run all heads in one dense call. Longer ones go head by head and query block by query block against the
key range that ``key_reach`` certifies, plus the outlier keys that a block needs. Each call is torch's own fused
attention with the ALiBi bias as its mask; within a range the mask is a Toeplitz view of one vector, so memory grows with
the length and not with its square, in both directions of the computation. The arithmetic for a sequence depends on that
sequence alone, so its output bits are the same in whatever pack it travels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from dnagrinder_kernels.alibi import KEYS_AN_OUTLIER, OUTLIERS, Certificate, distance_bias, key_reach

DENSE_LENGTH = 768  # up to here one dense call for all heads is faster than the search for a band
WIDE_REACH = 1024  # tokens; heads that look farther take blocks of 768 queries (torch's CPU attention picks its large tiles
WIDE_BLOCK, NARROW_BLOCK = 768, 256  # from 768 rows on: 350 against 270 GFLOP/s with AMX), others blocks of 256


def alibi_attention(q: Tensor, k: Tensor, v: Tensor, *, cu_seqlens: Tensor, slopes: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Same contract as ``reference.alibi_attention``; at most ``epsilon`` of each row's mass is left out (0 = none).

    Runs of sequences with one length share a batched call when gradients are recorded (training packs).
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))  # torch rounds other layouts differently
    bounds = cu_seqlens.tolist()
    lengths = [b - a for a, b in pairwise(bounds)]
    pieces = []
    index = 0
    while index < len(lengths):
        count = 1
        if torch.is_grad_enabled():
            while index + count < len(lengths) and lengths[index + count] == lengths[index]:
                count += 1
        rows = slice(bounds[index], bounds[index + count])
        n = lengths[index]
        if n <= DENSE_LENGTH:
            pieces.append(_dense(q[rows], k[rows], v[rows], count, slopes))
        else:
            for first in range(rows.start, rows.stop, n):
                one = slice(first, first + n)
                pieces.append(_banded(q[one], k[one], v[one], slopes, epsilon))
        index += count
    return torch.cat(pieces) if len(pieces) != 1 else pieces[0]


def _dense(q: Tensor, k: Tensor, v: Tensor, sequences: int, slopes: Tensor) -> Tensor:
    """``sequences`` sequences of one length, all heads at once; (sequences * n, heads, d) in and out."""
    tokens, heads, d = q.shape
    n = tokens // max(1, sequences)
    if n == 0:
        return q
    q, k, v = (x.reshape(sequences, n, heads, d).transpose(1, 2) for x in (q, k, v))  # (sequences, heads, n, d)
    distance = distance_bias(n, n, 0, 1.0, device=q.device)  # (n, n)
    bias = (slopes.to(q.device).view(heads, 1, 1) * distance).to(_mask_dtype(q))  # (heads, n, n)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(sequences, heads, n, n))
    return out.transpose(1, 2).reshape(tokens, heads, d)


def _banded(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, epsilon: float) -> Tensor:
    """One long sequence, (n, heads, d): per head and query block the certified keys only."""
    n, _, d = q.shape
    outliers = min(OUTLIERS, n // KEYS_AN_OUTLIER)
    heads = []
    for head, slope in enumerate(slopes.tolist()):
        queries, keys, values = (x[:, head].contiguous() for x in (q, k, v))  # (n, d)
        certificate = key_reach(queries, keys, slope, epsilon, d**-0.5, outliers=outliers)
        size = WIDE_BLOCK if int(certificate.reach.median()) > WIDE_REACH else NARROW_BLOCK
        starts = range(0, n - size + 1, size)
        blocks = [_block(queries[a : a + size], keys, values, a, certificate, slope) for a in starts]
        rest = n - len(starts) * size
        if (
            rest
        ):  # the last block is as large as the others, so that its products have their shapes; its first rows are known
            blocks.append(_block(queries[n - size :], keys, values, n - size, certificate, slope)[size - rest :])
        heads.append(torch.cat(blocks))
    return torch.stack(heads, dim=1)


def _block(q: Tensor, k: Tensor, v: Tensor, first: int, certificate: Certificate, slope: float) -> Tensor:
    """Attention of consecutive queries from ``first`` on, (queries, d), against the keys that any of them needs."""
    rows = slice(first, first + q.shape[0])
    positions = torch.arange(rows.start, rows.stop, device=q.device)
    reach = certificate.reach[rows]
    low = max(0, int((positions - reach).min()))
    high = min(k.shape[0], int((positions + reach).max()) + 1)
    far = certificate.outliers[certificate.needed[rows].any(0)]
    far = far[(far < low) | (far >= high)]
    # Queries are taken in reverse, so that the bias depends on the sum of row and column and is a view with strides (1, 1).
    bias = distance_bias(1, q.shape[0] + high - low - 1, rows.stop - 1 - low, slope, device=q.device)[0].to(_mask_dtype(q))
    bias = bias.as_strided((q.shape[0], high - low), (1, 1))
    keys, values = k[low:high], v[low:high]
    if far.numel():
        extra = (positions.flip(0).unsqueeze(1) - far).abs().to(bias.dtype) * -slope  # (queries, far)
        bias = torch.cat([bias, extra], dim=1)
        keys, values = torch.cat([keys, k[far]]), torch.cat([values, v[far]])
    out = F.scaled_dot_product_attention(
        q.flip(0)[None, None], keys[None, None], values[None, None], attn_mask=bias[None, None]
    )
    return out[0, 0].flip(0)


def _mask_dtype(q: Tensor) -> torch.dtype:
    """The bias stays float32 where torch's attention takes it so beside bf16 (CPU); a GPU wants the dtype of the queries."""
    return torch.promote_types(q.dtype, torch.float32) if q.device.type == "cpu" else q.dtype
