"""Compile every Triton kernel for GPUs that need not be there and print what the assembler says of it.

    python -m dnagrinder_kernels.gpu.ahead_of_time [--sm 80 90 100]

One line a kernel, dtype and architecture: registers a thread, bytes spilled (stack and local memory), shared memory, the
matrix instruction, seconds to compile. The launches are those that the package makes for 768 features in heads 64 and 128
wide: the functions that build them are called with CPU tensors, and what they return is compiled instead of run.

Numbers come from the wheel's ``cuobjdump`` on the binary that Triton's own ptxas wrote (ptxas-blackwell for sm_100).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dnagrinder_kernels.alibi import alibi_slopes
from dnagrinder_kernels.gpu import attention, certificate, rowwise
from dnagrinder_kernels.gpu.call import Call
from dnagrinder_kernels.gpu.plan import CENTRE_BLOCK, attention_plan, cut, row_statistics

ARCHITECTURES = (80, 90, 100)
LENGTHS = (2000, 47)  # any pack will do: lengths are no part of a kernel, strides and alignment are
FEATURES, INTERMEDIATE, HEAD_WIDTHS = 768, 1024, (64, 128)
TYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
}
MATRIX_INSTRUCTIONS = ("tcgen05.mma", "wgmma.mma_async", "mma.sync")


class Built(NamedTuple):
    """What one kernel became on one architecture.

    Attributes:
        kernel: name, flags, dtype and head width.
        sm: architecture, 10 * major + minor.
        registers: a thread.
        spilled: bytes a thread of stack and local memory; 0 where all values live in registers.
        shared: bytes a program.
        matrix: the matrix instruction in the PTX, or "-".
        seconds: to compile.
        code: by stage ("ttir", "ttgir", "ptx").
    """

    kernel: str
    sm: int
    registers: int
    spilled: int
    shared: int
    matrix: str
    seconds: float
    code: dict[str, str]


def attention_calls(sm: int, dtype: torch.dtype, d: int) -> Iterator[Call]:
    """Every launch of one attention, forward and backward, with CPU tensors in the places of the GPU's."""
    tokens, longest, heads = sum(LENGTHS), max(LENGTHS), FEATURES // d
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn((tokens, 3, heads, d), generator=generator).to(dtype).unbind(1)
    slopes, cu_seqlens = alibi_slopes(heads), torch.tensor([0, LENGTHS[0], tokens])
    launch = attention.launch_for((sm // 10, sm % 10), dtype, d)
    scale = d**-0.5
    plan = attention_plan(
        row_statistics(q, k, cu_seqlens, longest), tokens=tokens, cu_seqlens=cu_seqlens, max_seqlen=longest, slopes=slopes,
        epsilon=1e-6, scale=scale, block_m=launch.block_m, block_n=launch.block_n, dense_length=launch.dense_length,
    )  # fmt: skip
    out, gradient, dq, dk, dv = (torch.empty((tokens, heads, d), dtype=dtype) for _ in range(5))
    log_sum, delta = torch.empty((heads, tokens)), torch.empty((heads, tokens))
    yield attention.forward_call(q, k, v, out, log_sum, plan, slopes, launch)
    yield from attention.backward_calls(q, k, v, out, gradient, dq, dk, dv, log_sum, delta, plan, slopes, launch)
    summed, queries, keys = (cut(cu_seqlens, tokens, size) for size in (CENTRE_BLOCK, launch.block_m, launch.block_n))
    sums = torch.empty((len(summed.start), heads, d), dtype=torch.float64)
    row_shape, block_shape = (heads, tokens), (heads, len(keys.start))
    norm, own, radius = (torch.empty(shape, dtype=torch.float64) for shape in (row_shape, row_shape, block_shape))
    yield certificate.block_sum_call(k, sums, cu_seqlens, summed)
    yield certificate.centre_call(sums, sums, cu_seqlens, summed)
    yield certificate.row_call(q, k, sums, norm, own, radius, cu_seqlens, keys)
    yield certificate.plan_call(
        norm, own, radius, torch.empty(block_shape, dtype=torch.int64), slopes, cu_seqlens, queries, keys,
        plan.low, plan.high, plan.extra, plan.extra_count, 1e-6, scale, launch.dense_length,
    )  # fmt: skip


def rowwise_calls(dtype: torch.dtype) -> Iterator[Call]:
    """Every launch of the operations on rows."""
    rows, features = sum(LENGTHS), FEATURES
    x, other, out = (torch.empty((rows, features), dtype=dtype) for _ in range(3))
    vector, ids = torch.empty(features, dtype=dtype), torch.zeros(rows, dtype=torch.int64)
    mean, scale = (torch.empty(rows) for _ in range(2))
    change, sums = torch.empty((rows, features)), torch.empty((rowwise.PARTS, 3, features))
    for second, gathered in ((other, None), (vector, ids)):
        yield rowwise.norm_call(x, second, gathered, vector, vector, out, mean, scale, 1e-12)
        yield rowwise.norm_gradient_call(out, x, second, gathered, vector, mean, scale, change, sums)
    wide, half = torch.empty((rows, 2 * INTERMEDIATE), dtype=dtype), torch.empty((rows, INTERMEDIATE), dtype=dtype)
    for activation in rowwise.ACTIVATIONS:
        yield rowwise.gate_call(wide, half, activation)
        yield rowwise.gate_gradient_call(half, wide, wide, activation)


def build(call: Call, sm: int, label: str) -> Built:
    """Compile one launch for an architecture."""
    began = time.perf_counter()
    source = ASTSource(fn=call.kernel, **specialised(call))
    options = {"num_warps": call.warps, "num_stages": call.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    registers, spilled = resources(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    flags = [name.lower() for name, value in call.arguments.items() if value is True]
    return Built(
        " ".join([call.kernel.__name__, *flags, label]),
        sm,
        registers,
        spilled,
        compiled.metadata.shared,
        next((name for name in MATRIX_INSTRUCTIONS if name in ptx), "-"),
        time.perf_counter() - began,
        {stage: compiled.asm[stage] for stage in ("ttir", "ttgir", "ptx")},
    )


def specialised(call: Call) -> dict[str, dict[Any, Any]]:
    """Signature, constants and divisibility of a launch, by the rules of Triton's own launcher."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for index, parameter in enumerate(call.kernel.params):
        value = call.arguments[parameter.name]
        free = not parameter.do_not_specialize
        if parameter.is_constexpr or (free and isinstance(value, int) and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[parameter.name] = f"*{TYPES[value.dtype]}"
            if value.data_ptr() % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[parameter.name] = "i32"
            if free and value % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = parameter.annotation_type or "fp32"
    return {"signature": signature, "constexprs": constants, "attrs": attributes}


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers a thread, and bytes of stack and local memory a thread, of a binary with one kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def build_all(architectures: tuple[int, ...]) -> Iterator[Built]:
    """Every kernel for each architecture, compiled afresh in a folder that is deleted afterwards."""
    if attention.INTERPRETED:
        raise RuntimeError("the interpreter compiles nothing: unset TRITON_INTERPRET")
    with tempfile.TemporaryDirectory() as folder:
        triton.knobs.cache.dir = folder
        for sm in architectures:
            for dtype in (torch.bfloat16, torch.float32):
                for d in HEAD_WIDTHS:
                    for call in attention_calls(sm, dtype, d):
                        yield build(call, sm, f"{TYPES[dtype]} {d} wide")
                for call in rowwise_calls(dtype):
                    yield build(call, sm, TYPES[dtype])


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Registers, spills and shared memory of every Triton kernel.")
    parser.add_argument("--sm", type=int, nargs="+", default=list(ARCHITECTURES), help="architectures, such as 80 90 100")
    print(f"{'kernel':<34} {'sm':>4} {'registers':>9} {'spilled B':>9} {'shared B':>9} {'matrix':<16} {'s':>5}")
    for built in build_all(tuple(parser.parse_args(arguments).sm)):
        print(
            f"{built.kernel:<34} {built.sm:>4} {built.registers:>9} {built.spilled:>9} {built.shared:>9} "
            f"{built.matrix:<16} {built.seconds:>5.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
