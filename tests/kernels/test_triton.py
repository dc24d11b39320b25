"""The Triton kernels against the float64 definitions: on a GPU where there is one, else in Triton's interpreter."""

import importlib
import os
import sys
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from dnagrinder_kernels import alibi_slopes, reference
from dnagrinder_kernels.gpu.plan import attention_plan, row_statistics

INTERPRETED = not torch.cuda.is_available()
loaded = sys.modules.get("dnagrinder_kernels.gpu.attention")
if INTERPRETED and "triton" in sys.modules and not getattr(loaded, "INTERPRETED", False):
    pytest.skip("Triton was imported without its interpreter, and there is no GPU", allow_module_level=True)
ENVIRONMENT = {"TRITON_INTERPRET": "1"} if INTERPRETED else {}  # read when Triton and when its kernels are imported
with mock.patch.dict(os.environ, ENVIRONMENT):
    pytest.importorskip("triton")
    attention = importlib.import_module("dnagrinder_kernels.gpu.attention")
    certificate = importlib.import_module("dnagrinder_kernels.gpu.certificate")
    rowwise = importlib.import_module("dnagrinder_kernels.gpu.rowwise")

SMALL = attention.Launch(32, 16, 16, (4, 2), (4, 2), (4, 2), dense_length=0)  # the interpreter takes 10 ms a block pair
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture
def place(device, monkeypatch):
    """The device, unless the kernels run somewhere else."""
    if (device.type == "cpu") != INTERPRETED:
        pytest.skip("with a GPU the kernels are compiled for it, without one interpreted")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)  # Triton imports parts of itself at the first launch
    return device


def pack(lengths, place, heads=2, d=16, dtype=torch.float32, seed=0):
    """q, k, v as views of one projection, cumulative lengths, and slopes of which the first is steep."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(sum(lengths), 3, heads, d, generator=generator).to(place, dtype).unbind(1)
    cu = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], device=place)
    return q, k, v, cu, torch.tensor([0.7, 0.2, 0.05][:heads], device=place)


def plan_for(q, k, cu, slopes, epsilon, launch=SMALL):
    longest = int(cu.diff().max())
    return attention.plan_for(q, k, cu_seqlens=cu, max_seqlen=longest, slopes=slopes, epsilon=epsilon, launch=launch)


def run(q, k, v, cu, slopes, epsilon=1e-6, launch=SMALL):
    plan = plan_for(q, k, cu, slopes, epsilon, launch)
    return attention.planned_attention(q, k, v, plan=plan, slopes=slopes, launch=launch)


def defined(q, k, v, cu, slopes):
    return reference.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes.to(q.dtype))


def with_gradients(function, tensors, dtype, weight=None):
    """The function's result and the gradients of all tensors, in float64."""
    leaves = [x.detach().to(dtype).requires_grad_(True) for x in tensors]
    out = function(*leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)) if weight is None else weight
    out.backward(weight.to(out.device, dtype))
    return [out.detach().double(), *(x.grad.double() for x in leaves)]


def assert_as_exact(ours, plain, exact, dtype, lost=0.0):
    """Each at most twice as wrong as plain PyTorch in this dtype, and what the certificate lets go."""
    for name, a, b, c in zip(("out", "first", "second", "third", "fourth"), ours, plain, exact, strict=False):
        allowed = 2 * (b - c).abs().max() + lost
        if INTERPRETED and dtype == torch.bfloat16:
            allowed += 2**-8 * c.abs().max()  # the interpreter cuts bits off where PyTorch and GPUs round
        assert (a - c).abs().max() <= max(allowed, 1e-6 * c.abs().max()), name
        assert a.abs().max() > 0.5 * c.abs().max()


def check_attention(q, k, v, cu, slopes, epsilon=1e-6, launch=SMALL):
    dtype = q.dtype
    ours = with_gradients(lambda *x: run(*x, cu, slopes, epsilon, launch), (q, k, v), dtype)
    plain, exact = (with_gradients(lambda *x: defined(*x, cu, slopes), (q, k, v), kind) for kind in (dtype, torch.float64))
    assert_as_exact(ours, plain, exact, dtype, 2 * epsilon * float(v.abs().max()))


@pytest.mark.parametrize(
    ("lengths", "dtype", "d"),
    [
        ([33, 1, 70], torch.float32, 16),
        ([5, 0, 64], torch.bfloat16, 24),
        ([17, 40], torch.float16, 16),
        ([23], torch.float32, 100),
        ([31, 50], torch.bfloat16, 64),
    ],
)
def test_attention_is_as_exact_as_plain_pytorch(lengths, dtype, d, place):
    check_attention(*pack(lengths, place, d=d, dtype=dtype))


def adversarial(kind, place):
    q, k, v, cu, slopes = pack([150], place, heads=1, seed=3)
    q, k = q.clone(), k.clone()
    if kind == "outlier keys":
        k[140] = q[3] * 40
    elif kind == "common offset":
        k = k + 5000
    elif kind == "equal keys":
        k[:] = k[0]
    elif kind == "zero query":
        q[75] = 0
    return q, k, v, cu, slopes


@pytest.mark.parametrize("kind", ["outlier keys", "common offset", "equal keys", "zero query"])
def test_adversarial_keys_cost_no_exactness(kind, place):
    arguments = adversarial(kind, place)
    assert plan_for(*arguments[:2], *arguments[3:], 1e-6).kept_fraction() < 1
    check_attention(*arguments)


def test_outlier_blocks_are_visited_outside_the_range(place):
    q, k, v, cu, slopes = adversarial("outlier keys", place)
    plan = plan_for(q, k, cu, slopes, 1e-6)
    assert plan.extra_count.sum() > 0
    blind = plan._replace(extra_count=torch.zeros_like(plan.extra_count))
    lost = attention.planned_attention(q, k, v, plan=blind, slopes=slopes, launch=SMALL)
    assert (lost - defined(q, k, v, cu, slopes)).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_make_the_plan_of_the_definition(dtype, place):
    q, k, _, cu, slopes = pack([300, 0, 140, 1], place, dtype=dtype, d=24, seed=4)
    k[100] *= 20
    k[320] *= 30
    sizes = {"scale": 24**-0.5, "block_m": 32, "block_n": 16, "dense_length": 130, "epsilon": 1e-6, "max_seqlen": 300}
    found = certificate.certified_plan(q, k, cu_seqlens=cu, slopes=slopes, **sizes)
    statistics = row_statistics(q, k, cu, 300)
    expected = attention_plan(statistics, tokens=len(q), cu_seqlens=cu, slopes=slopes, **sizes)
    counted = torch.arange(found.extra.shape[2], device=place) < found.extra_count.unsqueeze(2)
    assert counted.any()
    assert found.kept_fraction() < 0.7
    for name, a, b in zip(found._fields, found, expected, strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a[counted] if name == "extra" else a, b[counted] if name == "extra" else b), name


def test_epsilon_is_connected(place):
    q, k, v, cu, slopes = pack([150], place, seed=5)
    dense, usual, cut = (run(q, k, v, cu, slopes, epsilon) for epsilon in (0.0, 1e-6, 1e12))
    assert plan_for(q, k, cu, slopes, 0.0).kept_fraction() == 1
    assert plan_for(q, k, cu, slopes, 1e-6).kept_fraction() < 0.8
    assert (usual - dense).abs().max() < 1e-5
    assert (cut - dense).abs().max() > 1e-3


def test_bits_do_not_depend_on_the_pack(place):
    q, k, v, cu, slopes = pack([3, 150, 20], place, seed=6)
    rows = slice(3, 153)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
    together = with_gradients(lambda *x: run(*x, cu, slopes), (q, k, v), q.dtype, weight)
    alone = with_gradients(
        lambda *x: run(*x, torch.tensor([0, 150], device=place), slopes), (q[rows], k[rows], v[rows]), q.dtype, weight[rows]
    )
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[rows], b)


def test_the_public_function_with_strided_tensors_and_gradients(place):
    qkv = torch.randn(27, 3, 3, 16, generator=torch.Generator().manual_seed(7)).to(place)
    cu, slopes = torch.tensor([0, 20, 27]), alibi_slopes(3)

    def ours(x):
        q, k, v = x.unbind(1)
        return attention.alibi_attention(q, k, v, cu_seqlens=cu, max_seqlen=20, slopes=slopes, epsilon=1e-6).transpose(1, 2)

    weight = torch.ones(1, device=place).expand(27, 16, 3)  # all strides 0
    found = with_gradients(ours, (qkv,), torch.float32, weight)
    exact = with_gradients(lambda x: defined(*x.unbind(1), cu, slopes).transpose(1, 2), (qkv,), torch.float64, weight)
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_an_empty_pack(place):
    q = torch.zeros(0, 2, 16, device=place)
    cu = torch.tensor([0, 0])
    assert (
        attention.alibi_attention(q, q, q, cu_seqlens=cu, max_seqlen=0, slopes=alibi_slopes(2), epsilon=0.0).shape == q.shape
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(9, 2, 16)}, "alike"),
        ({"slopes": torch.ones(3)}, "one slope a head: 2 heads"),
        ({"v": torch.zeros(10, 2, 16).half()}, "float16"),
        ({x: torch.zeros(10, 2, 16).double() for x in "qkv"}, "float64"),
        ({x: torch.zeros(10, 2, 129) for x in "qkv"}, "1 to 128 wide, got 129"),
    ],
)
def test_wrong_tensors_are_named(change, message):
    tensors = {x: torch.zeros(10, 2, 16) for x in "qkv"} | {"slopes": torch.ones(2)} | change
    with pytest.raises(ValueError, match=message):
        attention.alibi_attention(**tensors, cu_seqlens=torch.tensor([0, 10]), max_seqlen=10, epsilon=1e-6)


def test_every_gpu_has_a_launch():
    launches = {
        (capability, dtype, d): attention.launch_for(capability, dtype, d)
        for capability in ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
        for dtype in DTYPES
        for d in (16, 64, 65, 128)
    }
    assert all(launch.block_m % launch.query_rows == 0 for launch in launches.values())
    assert launches[(12, 0), torch.bfloat16, 64] == launches[(8, 0), torch.bfloat16, 64]
    assert launches[(9, 0), torch.bfloat16, 64] != launches[(8, 0), torch.bfloat16, 64]


def check_rows(ours, plain, tensors, dtype):
    found = with_gradients(ours, tensors, dtype)
    assert_as_exact(found, *(with_gradients(plain, tensors, kind) for kind in (dtype, torch.float64)), dtype)


@pytest.mark.parametrize(("rows", "features"), [(13, 42), (1, 3), (6, 431)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_layer_norm(rows, features, dtype, place):
    generator = torch.Generator().manual_seed(rows)
    tensors = [
        torch.randn(shape, generator=generator).to(place, dtype) for shape in 2 * [(rows, features)] + 2 * [(features,)]
    ]
    check_rows(
        lambda *x: rowwise.residual_layer_norm(*x, 1e-5),
        lambda *x: reference.residual_layer_norm(*x, 1e-5),
        tensors,
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_layer_norm(dtype, place):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 7, (19,), generator=generator).to(place)
    tensors = [torch.randn(shape, generator=generator).to(place, dtype) for shape in [(7, 33), *3 * [(33,)]]]
    check_rows(
        lambda *x: rowwise.embedding_layer_norm(ids, *x, 1e-5),
        lambda word, offset, *x: F.layer_norm(word[ids] + offset, (33,), *x, 1e-5),
        tensors,
        dtype,
    )


def test_an_id_outside_the_table_is_seen_and_reads_nothing(place):
    ids, one = torch.tensor([0, 7, -1], device=place), torch.ones(4, device=place)
    found = rowwise.embedding_layer_norm(ids, torch.randn(7, 4, device=place), one, one, one, 1e-5)
    assert found.isnan().all(1).tolist() == [False, True, True]


@pytest.mark.parametrize("activation", ["swiglu", "geglu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_activation(activation, dtype, place):
    x = 3 * torch.randn(2, 5, 2 * 123, generator=torch.Generator().manual_seed(2)).to(place, dtype)
    x[0, 0, :4] = torch.tensor([30.0, -30.0, 0.0, -0.0])
    check_rows(
        lambda x: rowwise.gated_activation(x, activation), lambda x: reference.gated_activation(x, activation), [x], dtype
    )


def test_wide_gates_take_several_programs(place):
    x = torch.randn(2, 2 * 1500, generator=torch.Generator().manual_seed(3)).to(place)
    torch.testing.assert_close(rowwise.gated_activation(x, "swiglu"), reference.gated_activation(x, "swiglu"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: rowwise.residual_layer_norm(x, x[:1], w, w, 1e-5), "alike"),
        (lambda x, w: rowwise.residual_layer_norm(x, x, w[:3], w, 1e-5), r"weight is \(features,\) = \(4,\), got \(3,\)"),
        (lambda x, w: rowwise.residual_layer_norm(x.double(), x.double(), w, w, 1e-5), "float64"),
        (lambda x, w: rowwise.residual_layer_norm(*2 * [x.new_zeros(1, 9000)], *2 * [w.new_zeros(9000)], 1e-5), "9000"),
        (lambda x, w: rowwise.embedding_layer_norm(x, x, w, w, w, 1e-5), r"ids are \(tokens,\)"),
        (lambda x, _: rowwise.gated_activation(x, "relu"), "'swiglu' or 'geglu', got 'relu'"),
        (lambda x, _: rowwise.gated_activation(x[:, :3], "swiglu"), r"\(2, 3\)"),
    ],
)
def test_wrong_rows_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 4), torch.ones(4))
