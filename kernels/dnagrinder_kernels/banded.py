"""Blocked ALiBi attention in PyTorch: differentiable, far key blocks left out under the certificate of ``alibi``.

Short sequences run all heads in one dense call. Longer ones go head by head and query block by query block against the key
range that ``key_reach`` certifies. The arithmetic for a sequence depends on that sequence alone, so its output bits are the
same in whatever pack it travels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from dnagrinder_kernels.alibi import distance_bias, key_reach

QUERY_BLOCK = 768  # rows a block; torch's CPU attention picks its small tiles below 768 rows (measured 49 vs 69 GFLOP/s)
DENSE_LENGTH = 768  # up to here one dense call for all heads is faster than the search for a band


def alibi_attention(q: Tensor, k: Tensor, v: Tensor, *, cu_seqlens: Tensor, slopes: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Same contract as ``reference.alibi_attention``; at most ``epsilon`` of each row's mass is left out (0 = none).

    Runs of sequences with one length share a batched call when gradients are recorded (training packs).
    """
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
        if lengths[index] <= DENSE_LENGTH:
            pieces.append(_dense(q[rows], k[rows], v[rows], count, slopes))
        else:
            n = lengths[index]
            for first in range(rows.start, rows.stop, n):
                one = slice(first, first + n)
                pieces.append(_banded(q[one], k[one], v[one], slopes, epsilon))
        index += count
    return torch.cat(pieces) if len(pieces) != 1 else pieces[0]


def _dense(q: Tensor, k: Tensor, v: Tensor, sequences: int, slopes: Tensor) -> Tensor:
    """``sequences`` sequences of one length, all heads at once; (sequences * n, heads, d) in and out."""
    tokens, heads, d = q.shape
    n = tokens // sequences
    q, k, v = (x.reshape(sequences, n, heads, d).transpose(1, 2).reshape(sequences * heads, n, d) for x in (q, k, v))
    distance = distance_bias(n, n, 0, 1.0, device=q.device)  # (n, n)
    bias = (slopes.to(q.device).view(heads, 1, 1) * distance).to(q.dtype)  # (heads, n, n)
    bias = bias.unsqueeze(0).expand(sequences, heads, n, n).reshape(sequences * heads, n, n)
    weights = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=d**-0.5).softmax(-1)  # (sequences * heads, n, n)
    out = torch.bmm(weights, v)  # (sequences * heads, n, d)
    return out.view(sequences, heads, n, d).transpose(1, 2).reshape(tokens, heads, d)


def _banded(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, epsilon: float) -> Tensor:
    """One long sequence, (n, heads, d): per head and query block only the certified key range."""
    n, _, d = q.shape
    scale = d**-0.5
    heads = []
    for head, slope in enumerate(slopes.tolist()):
        reach = key_reach(q[:, head], k[:, head], slope, epsilon, scale)  # (n,)
        rows = torch.arange(n, device=q.device)
        lows, highs = (rows - reach).clamp(min=0), (rows + reach + 1).clamp(max=n)
        blocks = []
        for first in range(0, n, QUERY_BLOCK):
            last = min(first + QUERY_BLOCK, n)
            low, high = int(lows[first:last].min()), int(highs[first:last].max())
            bias = distance_bias(last - first, high - low, first - low, slope, device=q.device).to(q.dtype)
            scores = torch.addmm(bias, q[first:last, head], k[low:high, head].T, alpha=scale)
            blocks.append(scores.softmax(-1) @ v[low:high, head])
        heads.append(torch.cat(blocks))
    return torch.stack(heads, dim=1)
