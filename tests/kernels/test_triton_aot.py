"""Every Triton kernel compiled for the GPUs it is meant for, in a process of its own, without a GPU."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
]
SCRIPT = """
import json, sys
from dnagrinder_kernels.gpu.ahead_of_time import ARCHITECTURES, build_all
json.dump([built._asdict() for built in build_all(ARCHITECTURES)], sys.stdout)
"""
VISITORS = ("forward_kernel", "key_gradient_kernel", "query_gradient_kernel")


@pytest.fixture(scope="module")
def builds(repository):
    """What each kernel became on each architecture; 40 s on one core."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(repository / "kernels"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_kernel_spills_registers(builds):
    assert {built["sm"] for built in builds} == {80, 90, 100}
    assert len({built["kernel"] for built in builds}) >= 40
    assert [(built["kernel"], built["sm"], built["spilled"]) for built in builds if built["spilled"]] == []
    assert all(16 <= built["registers"] <= 255 for built in builds)


def test_shared_memory_fits_the_smallest_gpu_of_each_kind(builds):
    limits = {80: 99, 90: 227, 100: 227}  # KiB a program; sm_86, sm_89 and sm_120 run sm_80's launches and have 99
    assert all(built["shared"] <= limits[built["sm"]] * 1024 for built in builds)


def test_sixteen_bit_attention_multiplies_on_tensor_cores(builds):
    found = {(built["kernel"].split()[0], built["sm"], built["matrix"]) for built in builds if "bf16" in built["kernel"]}
    wanted = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}
    assert {x for x in found if x[0] == "forward_kernel"} == {("forward_kernel", *pair) for pair in wanted.items()}
    for name in VISITORS:
        assert all(matrix != "-" for kernel, _, matrix in found if kernel == name)


def test_float32_is_not_multiplied_in_tf32(builds):
    assert {built["matrix"] for built in builds if "fp32" in built["kernel"]} == {"-"}


def test_the_loops_run_over_blocks_that_the_plan_names(builds):
    """Both ends of the loop over blocks come from memory, up to a constant factor, in what Triton optimises."""
    checked = 0
    for built in builds:
        name = built["kernel"].split()[0]
        if name in VISITORS:
            code = built["code"]["ttir"]
            begin, end = re.search(r"scf\.for \S+ = (%\w+) to (%\w+) ", code).groups()
            assert is_loaded(begin, code)
            assert is_loaded(end, code)
            assert re.search(r"bra(\.uni)?\s", built["code"]["ptx"])
            checked += 1
    assert checked == 3 * 3 * 2 * 2


def is_loaded(value, code):
    """Whether a value is loaded, or a loaded one times a constant."""
    source = re.search(rf"^ *{value} = (\S+) (%\w+)", code, re.MULTILINE)
    operation, operand = source.groups()
    return operation == "tt.load" or (operation == "arith.muli" and is_loaded(operand, code))
