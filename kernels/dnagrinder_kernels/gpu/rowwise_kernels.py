# mypy: disable-error-code=no-untyped-def
# ruff: noqa: N803
"""Operations on rows on a GPU: the Triton kernels that ``gpu.rowwise`` launches.

Compile-time constants are in capitals, as in all Triton code, and kernels carry no types: hence the two lines above. Numbers
that change from pack to pack are not specialised on, or kernels would be compiled again for every other pack.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _summed_row(x, other, ids, row, columns, inside, vocabulary, features, GATHER: tl.constexpr):
    """x[row] + other[row], or x[ids[row]] + other; NaN for an id outside the table. float32."""
    if GATHER:
        token = tl.load(ids + row)
        known = (token >= 0) & (token < vocabulary)
        mine = tl.load(x + token * features + columns, mask=inside & known, other=float("nan")).to(tl.float32)
        theirs = tl.load(other + columns, mask=inside, other=0.0).to(tl.float32)
    else:
        mine = tl.load(x + row * features + columns, mask=inside, other=0.0).to(tl.float32)
        theirs = tl.load(other + row * features + columns, mask=inside, other=0.0).to(tl.float32)
    return mine + theirs


@triton.jit(do_not_specialize=["vocabulary"])
def norm_kernel(
    x, other, ids, weight, bias, out, mean, scale, vocabulary, features, eps,
    GATHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """LayerNorm of a sum; grid (rows,). Saves each row's mean and 1 / standard deviation."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < features
    summed = _summed_row(x, other, ids, row, columns, inside, vocabulary, features, GATHER)
    middle = tl.sum(tl.where(inside, summed, 0.0), 0) / features
    centred = tl.where(inside, summed - middle, 0.0)
    factor = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(centred * centred, 0) / features + eps))
    weights = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    biases = tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    result = centred * factor * weights + biases
    tl.store(out + row * features + columns, result.to(out.dtype.element_ty), mask=inside)
    tl.store(mean + row, middle)
    tl.store(scale + row, factor)


@triton.jit(do_not_specialize=["vocabulary", "rows"])
def norm_gradient_kernel(
    gradient, x, other, ids, weight, mean, scale, change, sums, vocabulary, features, rows,
    GATHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of the sum, (rows, features), and this program's share of three sums over rows; grid (parts,).

    ``sums`` (parts, 3, features): gradient of the weight, of the bias, and the sum of ``change``.
    """
    columns = tl.arange(0, BLOCK)
    inside = columns < features
    weights = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    weight_sum = tl.zeros([BLOCK], tl.float32)
    bias_sum = tl.zeros([BLOCK], tl.float32)
    change_sum = tl.zeros([BLOCK], tl.float32)
    for index in range(tl.program_id(0), rows, tl.num_programs(0)):
        row = tl.cast(index, tl.int64)
        summed = _summed_row(x, other, ids, row, columns, inside, vocabulary, features, GATHER)
        factor = tl.load(scale + row)
        normal = tl.where(inside, (summed - tl.load(mean + row)) * factor, 0.0)
        incoming = tl.load(gradient + row * features + columns, mask=inside, other=0.0).to(tl.float32)
        weighted = incoming * weights
        along = tl.sum(weighted * normal, 0) / features
        constant = tl.sum(weighted, 0) / features
        result = (weighted - normal * along - constant) * factor
        tl.store(change + row * features + columns, result.to(change.dtype.element_ty), mask=inside)
        weight_sum += incoming * normal
        bias_sum += incoming
        change_sum += result
    place = sums + tl.program_id(0) * 3 * features + columns
    tl.store(place, weight_sum, mask=inside)
    tl.store(place + features, bias_sum, mask=inside)
    tl.store(place + 2 * features, change_sum, mask=inside)


@triton.jit
def _activated(x, SWIGLU: tl.constexpr):
    """The activation and its derivative at x."""
    if SWIGLU:
        share = tl.sigmoid(x)
        return x * share, share * (1.0 + x * (1.0 - share))
    share = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    return x * share, share + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)


@triton.jit
def gate_kernel(x, out, half, SWIGLU: tl.constexpr, BLOCK: tl.constexpr):
    """activation(first half) * second half; grid (rows, blocks of features)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < half
    place = x + row * 2 * half + columns
    activated, _ = _activated(tl.load(place, mask=inside, other=0.0).to(tl.float32), SWIGLU)
    value = tl.load(place + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * half + columns, (activated * value).to(out.dtype.element_ty), mask=inside)


@triton.jit
def gate_gradient_kernel(gradient, x, change, half, SWIGLU: tl.constexpr, BLOCK: tl.constexpr):
    """Gradient of both halves; grid of ``gate_kernel``."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < half
    place = row * 2 * half + columns
    activated, slope = _activated(tl.load(x + place, mask=inside, other=0.0).to(tl.float32), SWIGLU)
    value = tl.load(x + place + half, mask=inside, other=0.0).to(tl.float32)
    incoming = tl.load(gradient + row * half + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(change + place, (incoming * value * slope).to(change.dtype.element_ty), mask=inside)
    tl.store(change + place + half, (incoming * activated).to(change.dtype.element_ty), mask=inside)
