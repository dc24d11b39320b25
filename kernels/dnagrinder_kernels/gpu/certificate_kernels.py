# mypy: disable-error-code=no-untyped-def
# ruff: noqa: N803
"""The certificate on a GPU: the Triton kernels that ``gpu.certificate`` launches; names as in ``gpu.plan``.

Compile-time constants are in capitals, as in all Triton code, and kernels carry no types: hence the two lines above. Numbers
that change from pack to pack are not specialised on, or kernels would be compiled again for every other pack.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block_sum_kernel(
    k, sums, cu_seqlens, block_sequence, block_start, k_token, k_head,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sum of the keys of each block of BLOCK rows, (blocks, heads, d) float64; grid (blocks, heads)."""
    sequence, start = tl.load(block_sequence + tl.program_id(0)), tl.load(block_start + tl.program_id(0))
    first = tl.load(cu_seqlens + sequence)
    rows = tl.minimum(tl.load(cu_seqlens + sequence + 1) - first - start, BLOCK)
    within, columns = tl.arange(0, ROWS), tl.arange(0, DIM)
    place = k + (first + start) * k_token + tl.program_id(1) * k_head + within[:, None] * k_token + columns[None, :]
    total = tl.zeros([DIM], tl.float64)
    for row in range(0, rows, ROWS):
        inside = (row + within < rows)[:, None] & (columns < D)[None, :]
        keys = tl.load(place + tl.cast(row, tl.int64) * k_token, mask=inside, other=0.0)
        total += tl.sum(keys.to(tl.float64), 0)
    target = (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * D
    tl.store(sums + target + columns, total, mask=columns < D)


@triton.jit
def centre_kernel(sums, centres, cu_seqlens, block_first, block_count, D: tl.constexpr, DIM: tl.constexpr):
    """Mean key c, (sequences, heads, d) float64, from the block sums; grid (sequences, heads)."""
    sequence, heads = tl.program_id(0), tl.num_programs(1)
    columns = tl.arange(0, DIM)
    first = tl.load(block_first + sequence)
    total = tl.zeros([DIM], tl.float64)
    for block in range(first, first + tl.load(block_count + sequence)):
        place = (tl.cast(block, tl.int64) * heads + tl.program_id(1)) * D
        total += tl.load(sums + place + columns, mask=columns < D, other=0.0)
    n = tl.load(cu_seqlens + sequence + 1) - tl.load(cu_seqlens + sequence)
    place = (sequence.to(tl.int64) * heads + tl.program_id(1)) * D
    tl.store(centres + place + columns, total / tl.maximum(n, 1).to(tl.float64), mask=columns < D)


@triton.jit(do_not_specialize=["tokens"])
def row_kernel(
    q, k, centres, query_square, product, radius_square, cu_seqlens, block_sequence, block_start,
    q_token, q_head, k_token, k_head, tokens,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK_N: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """q . q and q . o of each row, (heads, tokens), and the largest o . o of each key block, (heads, key blocks), o = k - c.

    float64 all; grid (key blocks, heads). An empty block has radius -1, one with NaN an infinite one.
    """
    sequence, start = tl.load(block_sequence + tl.program_id(0)), tl.load(block_start + tl.program_id(0))
    first = tl.load(cu_seqlens + sequence)
    n = tl.load(cu_seqlens + sequence + 1) - first
    head, heads = tl.program_id(1), tl.num_programs(1)
    columns = tl.arange(0, DIM)
    centre = tl.load(centres + (sequence * heads + head) * D + columns, mask=columns < D, other=0.0)
    largest = tl.full([ROWS], -1.0, tl.float64)
    for row in range(0, BLOCK_N, ROWS):
        within = start + row + tl.arange(0, ROWS)
        valid = within < n
        inside = valid[:, None] & (columns < D)[None, :]
        places = (first + within)[:, None]
        query = tl.load(q + head * q_head + places * q_token + columns[None, :], mask=inside, other=0.0).to(tl.float64)
        key = tl.load(k + head * k_head + places * k_token + columns[None, :], mask=inside, other=0.0).to(tl.float64)
        offset = tl.where(inside, key - centre[None, :], 0.0)
        square = tl.sum(offset * offset, 1)
        square = tl.where(square >= 0, square, float("inf"))
        largest = tl.maximum(largest, tl.where(valid, square, -1.0))
        target = head.to(tl.int64) * tokens + first + within
        tl.store(query_square + target, tl.sum(query * query, 1), mask=valid)
        tl.store(product + target, tl.sum(query * offset, 1), mask=valid)
    tl.store(radius_square + head * tl.num_programs(0) + tl.program_id(0), tl.max(largest, 0))


@triton.jit(do_not_specialize=["tokens", "key_blocks", "most", "dense_length"])
def plan_kernel(
    norm, own, radius, ranked, slopes, cu_seqlens, block_sequence, block_start, key_first, key_count, key_start, outliers,
    low, high, extra, extra_count, tokens, key_blocks, most, dense_length, epsilon: tl.float64, scale: tl.float64,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Range and extra blocks of each query block; grid (query blocks, heads). Names as in ``gpu.plan``."""
    sequence, start = tl.load(block_sequence + tl.program_id(0)), tl.load(block_start + tl.program_id(0))
    first = tl.load(cu_seqlens + sequence)
    n = tl.load(cu_seqlens + sequence + 1) - first
    head = tl.program_id(1)
    place = head.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    rows = start + tl.arange(0, BLOCK_M)
    valid = rows < n
    norms = tl.load(norm + head.to(tl.int64) * tokens + first + rows, mask=valid, other=0.0)
    owns = tl.load(own + head.to(tl.int64) * tokens + first + rows, mask=valid, other=0.0)
    slope = tl.load(slopes + head).to(tl.float64)
    blocks = radius + head.to(tl.int64) * key_blocks
    ranks = ranked + head.to(tl.int64) * key_blocks + tl.load(key_first + sequence)
    count = tl.load(outliers + sequence)
    bound = tl.load(blocks + tl.load(ranks + tl.minimum(count, tl.maximum(tl.load(key_count + sequence) - 1, 0))))
    share = tl.where(count > 0, epsilon * 0.5, epsilon)
    margin = tl.where(n > dense_length, tl.log(2.0 / ((1.0 - tl.exp(-slope)) * share)), float("inf"))
    reach = tl.ceil((scale * (norms * bound - owns) + margin) * (1.0 / slope))
    distance = tl.where(reach < n, tl.maximum(reach, 0.0), n.to(tl.float64)).to(tl.int64)  # all keys for infinity and NaN
    begin = tl.min(tl.where(valid, tl.maximum(rows - distance, 0), n), 0) // BLOCK_N
    end = (tl.max(tl.where(valid, tl.minimum(rows + distance + 1, n), 0), 0) + BLOCK_N - 1) // BLOCK_N
    some = start < n
    tl.store(low + place, tl.where(some, begin, 0).to(tl.int32))
    tl.store(high + place, tl.where(some, end, 0).to(tl.int32))
    limit = -tl.log(2.0 * BLOCK_N * tl.maximum(count, 1).to(tl.float64) / epsilon)
    kept = tl.zeros([], tl.int32)
    for rank in range(0, count):
        block = tl.load(ranks + rank)
        begins = tl.load(key_start + block)
        ends = tl.minimum(begins + BLOCK_N, n) - 1
        away = tl.maximum(tl.maximum(begins - rows, rows - ends), 0).to(tl.float64)
        proven = scale * (norms * tl.load(blocks + block) - owns) - slope * away < limit
        index = begins // BLOCK_N
        needed = (tl.max((valid & ~proven).to(tl.int32), 0) > 0) & ((index < begin) | (index >= end))
        tl.store(extra + place * most + kept, index.to(tl.int32), mask=needed)
        kept += needed.to(tl.int32)
    tl.store(extra_count + place, kept)
