"""The adapter to flash-attn, against a stand-in that keeps the library's documented contract in plain PyTorch."""

import importlib.machinery
import math
import sys
import types

import pytest
import torch

from dnagrinder_kernels import alibi_slopes, reference
from dnagrinder_kernels.gpu import flash


class StandIn(types.ModuleType):
    """``flash_attn`` with its variable-length function; remembers each call's window and slopes."""

    def __init__(self):
        super().__init__("flash_attn")
        self.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
        self.calls = []

    def flash_attn_varlen_func(
        self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
        causal=False, window_size=(-1, -1), alibi_slopes=None, deterministic=False,
    ):  # fmt: skip
        """bias -slope * |i - j|; key j is seen where i - left <= j <= i + right, -1 being no bound."""
        assert q.dtype in (torch.float16, torch.bfloat16)
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert alibi_slopes.dtype == torch.float32
        assert alibi_slopes.shape == (q.shape[1],)
        assert all(x.stride(-1) == 1 for x in (q, k, v))
        assert (dropout_p, causal, deterministic) == (0.0, False, True)
        left, right = window_size
        self.calls.append((left, alibi_slopes.tolist()))
        out = []
        for first, last in zip(cu_seqlens_q.tolist(), cu_seqlens_q.tolist()[1:], strict=False):
            position = torch.arange(last - first)
            ahead = position[None, :] - position[:, None]
            hidden = ((ahead < -left) if left >= 0 else False) | ((ahead > right) if right >= 0 else torch.zeros(()).bool())
            scores = torch.einsum("ihd,jhd->hij", q[first:last].float(), k[first:last].float()) * softmax_scale
            scores = (scores - alibi_slopes[:, None, None] * ahead.abs()).masked_fill(hidden, -math.inf)
            out.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), v[first:last].float()).to(q.dtype))
        assert max_seqlen_q == max_seqlen_k
        return torch.cat(out)


@pytest.fixture
def library(monkeypatch):
    """The stand-in, importable as flash_attn."""
    module = StandIn()
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return module


def pack(lengths, heads, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(sum(lengths), 3, heads, 16, generator=generator).to(dtype).unbind(1)
    return q, k, v, torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])


def run(q, k, v, cu, slopes, epsilon=1e-6):
    longest = int(cu.diff().max())
    return flash.alibi_attention(q, k, v, cu_seqlens=cu, max_seqlen=longest, slopes=slopes, epsilon=epsilon)


def assert_as_exact(found, q, k, v, cu, slopes, epsilon):
    exact = reference.alibi_attention(q.double(), k.double(), v.double(), cu_seqlens=cu, slopes=slopes.double())
    plain = reference.alibi_attention(q, k, v, cu_seqlens=cu, slopes=slopes).double()
    allowed = 2 * (plain - exact).abs().max() + 2 * epsilon * v.double().abs().max()
    assert (found.double() - exact).abs().max() <= allowed
    assert found.abs().max() > 0.5


@pytest.mark.parametrize("lengths", [[1], [40, 0, 3], [700, 120]])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_is_as_exact_as_plain_pytorch(lengths, dtype, library):
    q, k, v, cu = pack(lengths, 5, dtype)
    assert_as_exact(run(q, k, v, cu, alibi_slopes(5)), q, k, v, cu, alibi_slopes(5), 1e-6)


def test_heads_with_like_windows_share_a_call(library):
    q, k, v, cu = pack([1100, 200], 4)
    slopes = torch.tensor([0.5, 0.05, 0.45, 0.001])
    assert_as_exact(run(q, k, v, cu, slopes), q, k, v, cu, slopes, 1e-6)
    assert [len(heads) for _, heads in library.calls] == [2, 1, 1]
    (narrow, _), (wide, _), (unbounded, _) = library.calls
    assert (narrow, unbounded) == (128, -1)
    assert 128 < wide < 1100
    assert wide % 128 == 0


def test_windows_are_certified_and_not_generous(library):
    """The share of a row outside its head's window: at most epsilon, and not for a window half as wide."""
    q, k, _, cu = pack([900], 2)
    slopes = torch.tensor([0.3, 0.06])
    windows = flash.certified_windows(q, k, cu_seqlens=cu, max_seqlen=900, slopes=slopes, epsilon=1e-6)
    assert (windows < 900).all()
    distance = (torch.arange(900)[:, None] - torch.arange(900)[None, :]).abs()
    scores = torch.einsum("ihd,jhd->hij", q.double(), k.double()) / 4 - slopes.double()[:, None, None] * distance
    weights = scores.softmax(-1)
    for head, window in enumerate(windows.tolist()):
        assert (weights[head] * (distance > window)).sum(-1).max() <= 1e-6
        assert (weights[head] * (distance > window // 3)).sum(-1).max() > 1e-6


def test_a_far_key_in_line_with_the_queries_is_within_the_window():
    """The case for which the bound is tight."""
    q, k = torch.zeros(600, 1, 16), torch.zeros(600, 1, 16)
    q[:, :, 0] = 10
    k[-1, 0, 0] = 13  # score 32.5 - 0.05 * 599 against about 40 keys of score 0
    (window,) = flash.certified_windows(
        q, k, cu_seqlens=torch.tensor([0, 600]), max_seqlen=600, slopes=torch.tensor([0.05]), epsilon=0.3
    ).tolist()
    assert window >= 599


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_one_dense_call_without_epsilon_or_for_short_sequences(epsilon, library):
    q, k, v, cu = pack([100, 129] if epsilon else [600], 3)
    found = run(q, k, v, cu, alibi_slopes(3), epsilon)
    assert_as_exact(found, q, k, v, cu, alibi_slopes(3), epsilon)
    assert library.calls == [(-1, alibi_slopes(3).tolist())]


def test_an_absurd_epsilon_changes_the_result(library):
    q, k, v, cu = pack([900], 1, seed=2)
    slopes = torch.tensor([0.01])
    dense, cut = run(q, k, v, cu, slopes, 0.0), run(q, k, v, cu, slopes, 1e12)
    assert [window for window, _ in library.calls] == [-1, 128]
    assert (dense - cut).abs().max() > 1e-2


def test_gradients_reach_every_head(library):
    q, k, v, cu = pack([400], 3, torch.float16)
    slopes = torch.tensor([0.5, 0.02, 0.4])
    gradients = []
    for attention in (
        lambda *x: run(*x, cu, slopes),
        lambda *x: reference.alibi_attention(*x, cu_seqlens=cu, slopes=slopes.double()),
    ):
        dtype = torch.float64 if gradients else torch.float16
        leaves = [x.detach().to(dtype).requires_grad_(True) for x in (q, k, v)]
        attention(*leaves).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    assert len(library.calls) == 2
    for found, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=2e-3)


def test_twelve_heads_need_at_most_six_calls():
    windows = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 70, 140, 280, 560]
    groups = flash.head_groups(windows, 17000)
    assert len(groups) == flash.MOST_CALLS
    assert sorted(head for _, heads in groups for head in heads) == list(range(12))
    assert all(window == -1 or windows[head] <= window for window, heads in groups for head in heads)
    assert [window for window, _ in groups][-3:] == [3200, 6400, 12800]  # wide ones stay apart: they cost most


@pytest.mark.parametrize(("window", "longest", "used"), [(0, 500, 128), (128, 500, 128), (129, 500, 256), (385, 500, -1)])
def test_windows_are_rounded_up(window, longest, used):
    assert flash.head_groups([window], longest) == [(used, [0])]


def test_absence_is_noticed(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    q, k, v, cu = pack([5], 2)
    with pytest.raises(ImportError):
        run(q, k, v, cu, alibi_slopes(2))


def test_presence_is_noticed(library):
    assert flash.available()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(9, 2, 16).half()}, "alike"),
        ({"slopes": torch.ones(3)}, "one slope a head: 2 heads"),
        ({x: torch.zeros(10, 2, 16) for x in "qkv"}, "float16 and bfloat16, got torch.float32"),
        ({x: torch.zeros(10, 2, 12).half() for x in "qkv"}, "256 wide, got 12"),
    ],
)
def test_wrong_tensors_are_named(change, message):
    tensors = {x: torch.zeros(10, 2, 16).half() for x in "qkv"} | {"slopes": torch.ones(2)} | change
    with pytest.raises(ValueError, match=message):
        flash.alibi_attention(**tensors, cu_seqlens=torch.tensor([0, 10]), max_seqlen=10, epsilon=1e-6)
