"""Every kind of attention that runs on this processor against the float64 definition."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder_kernels import KINDS, alibi_attention, alibi_slopes, attention_kind, banded, reference
from dnagrinder_kernels.cpu import native
from dnagrinder_kernels.cpu.build import supported_instruction_sets

HERE = [f"cpp {name}" for name in supported_instruction_sets()] + ["blocked"]  # the kinds under test on the CPU
ON_GPU = [
    pytest.param(
        f"{name} on cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")],
    )
    for name in ("triton", "blocked")
]


@pytest.fixture(params=HERE + ON_GPU)
def kind(request, monkeypatch):
    """One kind, forced; "cpp" comes once for every instruction set of this processor. GPU kinds run where there is a GPU."""
    force(request.param, monkeypatch)
    return request.param


def force(kind, monkeypatch):
    name, _, instruction_set = kind.removesuffix(" on cuda").partition(" ")
    monkeypatch.setenv("DNAGRINDER_KERNEL", name)
    monkeypatch.setenv("TEST_DEVICE", "cuda" if kind.endswith("on cuda") else "cpu")
    if instruction_set:
        monkeypatch.setenv("DNAGRINDER_CPU", instruction_set)


def pack(lengths, heads=3, d=16, dtype=torch.float32, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(sum(lengths), 3, heads, d, generator=generator) * spread
    cu = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    return *qkv.to(dtype).unbind(1), cu, alibi_slopes(heads)  # views of one projection, as the encoder hands them over


def run(q, k, v, cu, slopes, epsilon=1e-6, **more):
    """The forced kind on its device; the result on the CPU."""
    longest = int(cu.diff().max())
    q, k, v, cu, slopes = (x.to(os.environ.get("TEST_DEVICE", "cpu")) for x in (q, k, v, cu, slopes))
    return alibi_attention(q, k, v, cu_seqlens=cu, max_seqlen=longest, slopes=slopes, epsilon=epsilon, **more).cpu()


def exact(q, k, v, cu, slopes):
    return reference.alibi_attention(q.double(), k.double(), v.double(), cu_seqlens=cu, slopes=slopes.double())


def plain(q, k, v, cu, slopes):
    return reference.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes).double()


def assert_as_exact(found, arguments, epsilon):
    """At most twice the error of plain PyTorch in the same dtype, and what the certificate lets go."""
    truth = exact(*arguments)
    allowed = 2 * (plain(*arguments) - truth).abs().max() + 2 * epsilon * arguments[2].double().abs().max()
    assert (found.double() - truth).abs().max() <= max(allowed, 2e-6)
    assert found.abs().max() > 0.05


@pytest.mark.parametrize("lengths", [[1], [7, 1, 42], [123, 0, 6], [769], [1000, 3, 801]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
@pytest.mark.parametrize("d", [16, 64])
def test_it_is_as_exact_as_plain_pytorch(kind, lengths, dtype, epsilon, d):
    arguments = pack(lengths, d=d, dtype=dtype, seed=d)
    assert_as_exact(run(*arguments, epsilon), arguments, epsilon)


@pytest.mark.parametrize("spread", [1.0, 1.75])  # standard deviation of the logits: 1 and 3
def test_long_sums_are_as_exact_as_plain_pytorch(kind, spread):
    arguments = pack([2314], heads=12, d=64, seed=1, spread=spread)
    assert_as_exact(run(*arguments), arguments, 1e-6)


@pytest.mark.parametrize("d", [16, 48, 80, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_head_widths(kind, d, dtype):
    arguments = pack([130, 61], heads=5, d=d, dtype=dtype, spread=1.0)
    assert_as_exact(run(*arguments), arguments, 1e-6)


def outlier_pack(kind_of_keys, dtype, n=1800):
    q, k, v, cu, slopes = pack([n], d=32, dtype=torch.float32, seed=3)
    q, k = q.clone(), k.clone()
    if kind_of_keys == "sinks":  # [CLS] and [SEP] draw every query
        k[0], k[-1] = q.mean(0) + 9, q.mean(0) + 9
        q += 0.5
    elif kind_of_keys == "one far key matters":
        k[-1] = q[0] * 12
    elif kind_of_keys == "huge norms":
        q, k = q * 8, k * 8
    elif kind_of_keys == "equal keys":
        k[:] = k[0]
    elif kind_of_keys == "common offset":
        k += 40
    elif kind_of_keys == "zero query":
        q[n // 2] = 0
    elif kind_of_keys == "outlier keys":
        k[n // 3] *= 30
        k[n // 5] = 0
    return q.to(dtype), k.to(dtype), v.to(dtype), cu, slopes


ADVERSARIES = (
    "sinks",
    "one far key matters",
    "huge norms",
    "equal keys",
    "common offset",
    "zero query",
    "outlier keys",
)


@pytest.mark.parametrize("keys", ADVERSARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adversarial_keys_cost_no_exactness(kind, keys, dtype):
    arguments = outlier_pack(keys, dtype)
    assert_as_exact(run(*arguments), arguments, 1e-6)


def computed_share(q, k, v, cu, slopes):
    """Blocks computed of all blocks, a head."""
    computed = torch.zeros(slopes.numel(), dtype=torch.int64)
    native.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes, epsilon=1e-6, computed=computed)
    return computed / native.pair_count(cu.diff().tolist())


@pytest.mark.parametrize("name", supported_instruction_sets())
def test_outlier_keys_do_not_cost_the_speed(name, monkeypatch):
    """Counted in blocks: the few blocks of largest radius stay out of the bound."""
    force(f"cpp {name}", monkeypatch)
    slopes = alibi_slopes(3)  # 2^-4, 2^-8, 2^-2
    usual, sinks, outliers = (
        computed_share(*outlier_pack(keys, torch.float32, n=6000)[:4], slopes) for keys in ("plain", "sinks", "outlier keys")
    )
    assert usual[0] < 0.25
    assert usual[2] < 0.1
    for share in (sinks, outliers):
        assert (share <= 1.2 * usual + 0.01).all(), (share, usual)
    q, k, v, cu, _ = outlier_pack("outlier keys", torch.float32, n=6000)
    k[::50] = k[2000]  # large keys in more blocks than can be excepted do cost
    assert computed_share(q, k, v, cu, slopes)[0] > 2 * usual[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strides_of_the_tensors_do_not_matter(kind, dtype):
    q, k, v, cu, slopes = pack([300, 41], d=48, dtype=dtype)
    expected = run(*(x.contiguous() for x in (q, k, v)), cu, slopes)
    heads_first = (x.transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v))
    assert torch.equal(run(*heads_first, cu, slopes), expected)
    wider = (torch.nn.functional.pad(x, (3, 5))[:, :, 3:-5] for x in (q, k, v))
    assert torch.equal(run(*wider, cu, slopes), expected)
    features_first = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    assert torch.equal(run(*features_first, cu.int(), slopes), expected)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 15, 17, 31, 33, 63, 65, 127, 193, 257, 769, 1025]), min_size=1, max_size=3),
    d=st.sampled_from([16, 32, 48, 64, 112]),
    kind=st.sampled_from(HERE),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    slope=st.sampled_from([1e-6, 1e-3, 0.06, 0.9, 20.0]),
    epsilon=st.sampled_from([0.0, 1e-12, 1e-6, 1e-3]),
    long_keys=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_pack_is_as_exact_as_plain_pytorch(lengths, d, kind, dtype, slope, epsilon, long_keys, seed):
    q, k, v, cu, slopes = pack([*lengths, 5], heads=2, d=d, dtype=dtype, seed=seed, spread=1.0)
    slopes = torch.tensor([slope, 0.1])
    if long_keys:
        k = k.clone()
        k[:: max(1, len(k) // 7)] *= 12
    with pytest.MonkeyPatch.context() as monkeypatch:
        force(kind, monkeypatch)
        found = run(q, k, v, cu, slopes, epsilon)
    truth = exact(q, k, v, cu, slopes)
    rounding = 2e-6 if dtype == torch.float32 else 2**-8  # where plain PyTorch happens to be exact
    allowed = 2 * (plain(q, k, v, cu, slopes) - truth).abs().max() + 2 * epsilon * v.double().abs().max()
    assert (found.double() - truth).abs().max() <= max(allowed, rounding * max(1.0, v.abs().max().item()))


def test_sequences_of_a_pack_do_not_see_each_other(kind):
    q, k, v, cu, slopes = pack([50, 30, 900])
    before = run(q, k, v, cu, slopes)
    k2, v2 = k.clone(), v.clone()
    k2[:50] += 9
    v2[:50] -= 9
    after = run(q, k2, v2, cu, slopes)
    assert torch.equal(before[50:], after[50:])
    assert not torch.equal(before[:50], after[:50])


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.integers(1, 60), st.integers(700, 1100)), min_size=1, max_size=5),
    chosen=st.integers(0, 4),
    kind=st.sampled_from(HERE),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_bits_of_a_sequence_do_not_depend_on_the_pack_or_on_threads(lengths, chosen, kind, dtype, seed):
    q, k, v, cu, slopes = pack(lengths, seed=seed, dtype=dtype)
    index = chosen % len(lengths)
    rows = slice(int(cu[index]), int(cu[index + 1]))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch, torch.no_grad():
        force(kind, monkeypatch)
        alone = run(q[rows], k[rows], v[rows], torch.tensor([0, lengths[index]]), slopes)
        for count in (1, 2):
            torch.set_num_threads(count)
            try:
                assert torch.equal(run(q, k, v, cu, slopes)[rows], alone)
            finally:
                torch.set_num_threads(threads)


def test_long_sequences_share_their_heads_among_threads(kind):
    q, k, v, cu, slopes = pack([4500, 20], heads=1, d=32)
    before = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            results.append(run(q, k, v, cu, slopes))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*results)
    assert_as_exact(results[0], (q, k, v, cu, slopes), 1e-6)


@pytest.mark.parametrize("lengths", [[33, 33, 5], [800]])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_gradients_match_the_definition(kind, lengths, epsilon):
    q, k, v, cu, slopes = pack(lengths, heads=2, d=16)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(3))
    gradients = []
    for attention in (
        lambda *x: reference.alibi_attention(*x, cu_seqlens=cu, slopes=slopes),
        lambda *x: run(*x, cu, slopes, epsilon),
    ):
        parts = [x.clone().requires_grad_(True) for x in (q, k, v)]
        (attention(*parts) * weight).sum().backward()
        gradients.append([p.grad for p in parts])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_an_absurd_epsilon_does_change_the_result(kind):
    """The knob is connected: with epsilon far above 1 the band is cut visibly."""
    q, k, v, cu, slopes = pack([1500], spread=0.2)
    dense, cut = (run(q, k, v, cu, slopes, epsilon) for epsilon in (0.0, 1e12))
    assert (dense - cut).abs().max() > 1e-3


def test_the_result_can_be_written_in_place(kind):
    arguments = pack([90, 20], d=32)
    out = torch.full((110, 3, 32), torch.nan, device=os.environ["TEST_DEVICE"])
    run(*arguments, out=out)
    assert torch.equal(out.cpu(), run(*arguments))


def test_not_a_number_stays_in_its_sequence(kind):
    q, k, v, cu, slopes = pack([700, 300], d=32)
    k = k.clone()
    k[10] = torch.nan
    found = run(q, k, v, cu, slopes)
    assert found[:700].isnan().all()
    assert found[700:].isfinite().all()


def test_the_fastest_kind_is_taken(monkeypatch):
    monkeypatch.delenv("DNAGRINDER_KERNEL", raising=False)
    compiled = "cpp" if native.library() else "blocked"
    assert attention_kind(torch.zeros(1, 1, 64)) == compiled
    assert attention_kind(torch.zeros(1, 1, 64, dtype=torch.bfloat16)) == compiled
    assert attention_kind(torch.zeros(1, 1, 8)) == "blocked"
    assert attention_kind(torch.zeros(1, 1, 64, dtype=torch.float64)) == "blocked"


def test_a_forced_kind_that_does_not_fit_says_what_it_takes(monkeypatch):
    monkeypatch.setenv("DNAGRINDER_KERNEL", "cpp")
    with pytest.raises(ValueError, match=r"cpp takes float32 and bfloat16.*float64"):
        attention_kind(torch.zeros(1, 1, 64, dtype=torch.float64))
    for name in ("triton", "flash"):
        monkeypatch.setenv("DNAGRINDER_KERNEL", name)
        with pytest.raises(ValueError, match=rf"{name} takes .* on a CUDA device .* got torch.float32 on cpu"):
            attention_kind(torch.zeros(1, 1, 64))
    monkeypatch.setenv("DNAGRINDER_KERNEL", "magic")
    with pytest.raises(ValueError, match=", ".join(KINDS)):
        attention_kind(torch.zeros(1, 1, 64))


def test_wrong_shapes_are_named():
    q, k, v, cu, slopes = pack([10])
    with pytest.raises(ValueError, match="one slope a head"):
        run(q, k, v, cu, slopes[:2])
    with pytest.raises(ValueError, match="alike"):
        run(q, k[:5], v, cu, slopes)
    with pytest.raises(ValueError, match="run from 0 to 10"):
        run(q, k, v, torch.tensor([0, 9]), slopes)
    with pytest.raises(ValueError, match="run from 0 to 10"):
        run(q, k, v, torch.tensor([0, 9, 3, 10]), slopes)


def test_training_packs_run_equal_lengths_together():
    q, k, v, cu, slopes = pack([40, 40, 40, 9])
    with torch.no_grad():
        apart = banded.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes)
    together = banded.alibi_attention(q.clone().requires_grad_(True), k, v, cu_seqlens=cu, slopes=slopes)
    torch.testing.assert_close(apart, together.detach())
