"""Every kind of attention against the float64 definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder_kernels import alibi_attention, alibi_slopes, banded, reference


def pack(lengths, heads=3, d=16, dtype=torch.float32, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    q, k, v = (torch.randn(tokens, heads, d, generator=generator) * spread for _ in range(3))
    cu = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    return q.to(dtype), k.to(dtype), v.to(dtype), cu, alibi_slopes(heads)


def run(kind, q, k, v, cu, slopes, monkeypatch, epsilon=1e-6):
    monkeypatch.setenv("DNAGRINDER_KERNEL", kind)
    return alibi_attention(q, k, v, cu_seqlens=cu, max_seqlen=int(cu.diff().max()), slopes=slopes, epsilon=epsilon)


@pytest.mark.parametrize("lengths", [[1], [7, 1, 42], [123, 6], [769], [1000, 3, 801]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_blocked_is_as_exact_as_plain_pytorch(lengths, dtype, epsilon, monkeypatch):
    q, k, v, cu, slopes = pack(lengths, dtype=dtype)
    exact = reference.alibi_attention(q.double(), k.double(), v.double(), cu_seqlens=cu, slopes=slopes.double())
    plain = run("reference", q, k, v, cu, slopes, monkeypatch).double()
    ours = run("blocked", q, k, v, cu, slopes, monkeypatch, epsilon).double()
    allowed = 2 * (plain - exact).abs().max() + 2 * epsilon * v.double().abs().max()
    assert (ours - exact).abs().max() <= max(allowed, 2e-7)
    assert ours.abs().max() > 0.1


def test_sequences_of_a_pack_do_not_see_each_other(monkeypatch):
    q, k, v, cu, slopes = pack([50, 30, 900])
    before = run("blocked", q, k, v, cu, slopes, monkeypatch)
    k2, v2 = k.clone(), v.clone()
    k2[:50] += 9
    v2[:50] -= 9
    after = run("blocked", q, k2, v2, cu, slopes, monkeypatch)
    assert torch.equal(before[50:], after[50:])
    assert not torch.equal(before[:50], after[:50])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 5), st.randoms(use_true_random=False))
def test_bits_of_a_sequence_do_not_depend_on_the_pack(lengths, chosen, random):
    q, k, v, cu, slopes = pack(lengths, seed=random.randrange(1000))
    with torch.no_grad():
        together = banded.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes)
        index = chosen % len(lengths)
        rows = slice(int(cu[index]), int(cu[index + 1]))
        alone = banded.alibi_attention(
            q[rows], k[rows], v[rows], cu_seqlens=torch.tensor([0, lengths[index]]), slopes=slopes
        )
    assert torch.equal(together[rows], alone)


@pytest.mark.parametrize("lengths", [[33, 33, 5], [800]])
def test_gradients_match_the_definition(lengths):
    q, k, v, cu, slopes = pack(lengths, heads=2, d=8)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(3))
    gradients = []
    for attention in (
        lambda *x: reference.alibi_attention(*x, cu_seqlens=cu, slopes=slopes),
        lambda *x: banded.alibi_attention(*x, cu_seqlens=cu, slopes=slopes),
    ):
        parts = [x.clone().requires_grad_(True) for x in (q, k, v)]
        (attention(*parts) * weight).sum().backward()
        gradients.append([p.grad for p in parts])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_absurd_epsilon_does_change_the_result():
    """The knob is connected: with epsilon far above 1 the band is cut visibly."""
    q, k, v, cu, slopes = pack([1500], spread=0.2)
    dense = banded.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes, epsilon=0.0)
    cut = banded.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes, epsilon=1e12)
    assert (dense - cut).abs().max() > 1e-3


def test_wrong_shapes_are_named(monkeypatch):
    q, k, v, cu, slopes = pack([10])
    with pytest.raises(ValueError, match="one slope a head"):
        run("blocked", q, k, v, cu, slopes[:2], monkeypatch)
    with pytest.raises(ValueError, match="alike"):
        run("blocked", q, k[:5], v, cu, slopes, monkeypatch)
    with pytest.raises(ValueError, match="run from 0 to 10"):
        run("blocked", q, k, v, torch.tensor([0, 9]), slopes, monkeypatch)
    with pytest.raises(ValueError, match="DNAGRINDER_KERNEL"):
        run("magic", q, k, v, cu, slopes, monkeypatch)
