"""The plan of ``gpu.plan`` made by Triton kernels: q and k are read once or twice, and nothing of their size is written.

The PyTorch form moves float64 copies of all queries and keys several times, about 60 kB a token at 768 features against the
6 kB read here, in some 280 launches against some 60. By bandwidth alone it would cost as much as dense attention over 3,000
keys. The formulas are those of ``gpu.plan``, where they are proved. Compiled and run in Triton's interpreter, never timed
on a GPU.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from dnagrinder_kernels.gpu.call import Call
from dnagrinder_kernels.gpu.certificate_kernels import block_sum_kernel, centre_kernel, plan_kernel, row_kernel
from dnagrinder_kernels.gpu.plan import (
    CENTRE_BLOCK,
    AttentionPlan,
    Blocks,
    by_radius,
    cut,
    most_outliers,
    outlier_counts,
    plan_of,
)

ROWS = 16  # of a tile; 8 elements of each operand a thread for heads 64 wide


def certified_plan(
    q: Tensor,
    k: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    slopes: Tensor,
    epsilon: float,
    scale: float,
    block_m: int,
    block_n: int,
    dense_length: int,
) -> AttentionPlan:
    """``attention_plan`` of ``row_statistics``; q, k (tokens, heads, d), last dimension contiguous, epsilon above 0."""
    tokens, heads, d = q.shape
    cu = cu_seqlens.long()
    summed, queries, keys = (cut(cu, tokens, size) for size in (CENTRE_BLOCK, block_m, block_n))
    sums = q.new_empty((len(summed.start), heads, d), dtype=torch.float64)
    block_sum_call(k, sums, cu, summed).run()
    centres = sums.new_empty((len(cu) - 1, heads, d))
    centre_call(sums, centres, cu, summed).run()
    query_square, product = sums.new_empty((heads, tokens)), sums.new_empty((heads, tokens))
    radius_square = sums.new_empty((heads, len(keys.start)))
    row_call(q, k, centres, query_square, product, radius_square, cu, keys).run()
    radius = radius_square.sqrt()  # in a kernel the square root is a function call, which spills registers
    radius = radius.nan_to_num(nan=-1.0, posinf=torch.inf)  # of an empty block
    shape = (heads, len(queries.start))
    low, high, extra_count = (sums.new_empty(shape, dtype=torch.int32) for _ in range(3))
    extra = low.new_zeros((*shape, most_outliers(max_seqlen, block_n)))
    plan_call(
        query_square.sqrt(), product, radius, by_radius(radius, keys), slopes, cu, queries, keys, low, high, extra,
        extra_count, epsilon, scale, dense_length,
    ).run()  # fmt: skip
    return plan_of(cu, slopes, queries, keys, low, high, extra, extra_count)


def block_sum_call(k: Tensor, sums: Tensor, cu_seqlens: Tensor, blocks: Blocks) -> Call:
    """The launch that fills ``sums`` (blocks, heads, d) float64."""
    arguments = {
        "k": k, "sums": sums, "cu_seqlens": cu_seqlens, "block_sequence": blocks.sequence, "block_start": blocks.start,
        "k_token": k.stride(0), "k_head": k.stride(1), **_widths(k), "BLOCK": blocks.size, "ROWS": ROWS,
    }  # fmt: skip
    return Call(block_sum_kernel, tuple(sums.shape[:2]), arguments, 4, 2)


def centre_call(sums: Tensor, centres: Tensor, cu_seqlens: Tensor, blocks: Blocks) -> Call:
    """The launch that fills ``centres`` (sequences, heads, d) float64."""
    arguments = {
        "sums": sums, "centres": centres, "cu_seqlens": cu_seqlens, "block_first": blocks.first,
        "block_count": blocks.counts, **_widths(sums),
    }  # fmt: skip
    return Call(centre_kernel, tuple(centres.shape[:2]), arguments, 1, 1)


def row_call(
    q: Tensor, k: Tensor, centres: Tensor, query_square: Tensor, product: Tensor, radius_square: Tensor,
    cu_seqlens: Tensor, keys: Blocks,
) -> Call:  # fmt: skip
    """The launch that fills ``query_square``, ``product`` (heads, tokens), ``radius_square`` (heads, key blocks) float64."""
    arguments = {
        "q": q, "k": k, "centres": centres, "query_square": query_square, "product": product,
        "radius_square": radius_square, "cu_seqlens": cu_seqlens, "block_sequence": keys.sequence, "block_start": keys.start,
        "q_token": q.stride(0), "q_head": q.stride(1), "k_token": k.stride(0), "k_head": k.stride(1), "tokens": q.shape[0],
        **_widths(k), "BLOCK_N": keys.size, "ROWS": ROWS,
    }  # fmt: skip
    return Call(row_kernel, (len(keys.start), q.shape[1]), arguments, 4, 1)


def plan_call(
    norm: Tensor, own: Tensor, radius: Tensor, ranked: Tensor, slopes: Tensor, cu_seqlens: Tensor,
    queries: Blocks, keys: Blocks, low: Tensor, high: Tensor, extra: Tensor, extra_count: Tensor,
    epsilon: float, scale: float, dense_length: int,
) -> Call:  # fmt: skip
    """The launch that fills ``low``, ``high``, ``extra_count`` (heads, query blocks) and ``extra`` (.., .., most) int32."""
    arguments = {
        "norm": norm, "own": own, "radius": radius, "ranked": ranked, "slopes": slopes, "cu_seqlens": cu_seqlens,
        "block_sequence": queries.sequence, "block_start": queries.start, "key_first": keys.first, "key_count": keys.counts,
        "key_start": keys.start, "outliers": outlier_counts(keys, dense_length, extra.shape[2]),
        "low": low, "high": high, "extra": extra, "extra_count": extra_count, "tokens": norm.shape[1],
        "key_blocks": radius.shape[1], "most": extra.shape[2], "dense_length": dense_length,
        "epsilon": epsilon, "scale": scale, "BLOCK_M": queries.size, "BLOCK_N": keys.size,
    }  # fmt: skip
    return Call(plan_kernel, (low.shape[1], low.shape[0]), arguments, 4, 1)


def _widths(k: Tensor) -> dict[str, int]:
    return {"D": k.shape[2], "DIM": triton.next_power_of_2(k.shape[2])}
