"""The small operations, in every kind of code that serves here, against their definitions in float64."""

import math

import pytest
import torch

from dnagrinder_kernels import (
    chosen_log_probs,
    embedding_layer_norm,
    gated_activation,
    reference,
    residual_layer_norm,
)
from dnagrinder_kernels.cpu.build import supported_instruction_sets

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(params=[*supported_instruction_sets(), "none"])
def instruction_set(request, monkeypatch):
    """Every build that this processor runs, and PyTorch alone."""
    if request.param == "none":
        monkeypatch.setattr("dnagrinder_kernels.cpu.native.library", lambda: None)
    else:
        monkeypatch.setenv("DNAGRINDER_CPU", request.param)
    return request.param


def random(*shape, dtype=torch.float32, seed=0, scale=1.0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def assert_as_exact(found, plain, exact):
    """At most twice the error of plain PyTorch in the same dtype."""
    allowed = 2 * (plain.double() - exact).abs().max()
    assert (found.double() - exact).abs().max() <= max(allowed, 1e-6)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("swiglu", lambda x: x / (1 + torch.exp(-x))),
        ("geglu", lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
    ],
)
def test_gate_acts_on_the_first_half(name, formula):
    x = random(5, 14, dtype=torch.float64)
    torch.testing.assert_close(gated_activation(x, name), formula(x[:, :7]) * x[:, 7:])


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="swiglu"):
        gated_activation(torch.zeros(2, 2), "relu")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (7, 48), (431, 1024), (6, 42)])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_gate_is_as_exact_as_plain_pytorch(instruction_set, dtype, rows, width, scale):
    x = random(rows, 2 * width, dtype=dtype, scale=scale)
    for name in ("swiglu", "geglu"):
        found = gated_activation(x, name)
        assert found.shape == (rows, width)
        assert_as_exact(found, reference.gated_activation(x, name), reference.gated_activation(x.double(), name))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (5, 768), (123, 256), (6, 42)])
def test_residual_layer_norm_is_as_exact_as_plain_pytorch(instruction_set, dtype, rows, width):
    x, residual = random(rows, width, dtype=dtype), random(rows, width, dtype=dtype, seed=1, scale=3)
    weight, bias = random(width, dtype=dtype, seed=2), random(width, dtype=dtype, seed=3)
    arguments = (x, residual, weight, bias)
    exact = reference.residual_layer_norm(*(a.double() for a in arguments), 1e-12)
    plain = reference.residual_layer_norm(*arguments, 1e-12)
    assert_as_exact(residual_layer_norm(*arguments, 1e-12), plain, exact)
    assert_as_exact(residual_layer_norm(*arguments, 1e-12, out=x), plain, exact)
    assert_as_exact(x, plain, exact)  # it was written in place


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "width"), [(1, 16), (300, 768), (7, 42)])
def test_embedding_layer_norm_is_as_exact_as_plain_pytorch(instruction_set, dtype, tokens, width):
    ids = torch.randint(0, 50, (tokens,), generator=torch.Generator().manual_seed(0))
    arguments = [random(50, width, dtype=dtype), *(random(width, dtype=dtype, seed=s) for s in (1, 2, 3))]
    exact = reference.embedding_layer_norm(ids, *(a.double() for a in arguments), 1e-12)
    plain = reference.embedding_layer_norm(ids, *arguments, 1e-12)
    assert_as_exact(embedding_layer_norm(ids, *arguments, 1e-12), plain, exact)


@pytest.mark.parametrize("ids", [[-1], [3, 50]])
def test_ids_outside_the_table_are_refused(ids):
    with pytest.raises(IndexError, match=r"\[0, 50\)"):
        embedding_layer_norm(torch.tensor(ids), random(50, 16), *(random(16, seed=s) for s in (1, 2, 3)), 1e-12)


def test_operations_keep_their_gradients():
    x, residual = random(3, 32).requires_grad_(True), random(3, 32, seed=1)
    weight, bias = random(32, seed=2).requires_grad_(True), random(32, seed=3)
    gated_activation(residual_layer_norm(x, residual, weight, bias, 1e-12), "swiglu").sum().backward()
    assert x.grad.abs().max() > 0
    assert weight.grad.abs().max() > 0


def test_residual_layer_norm_normalises_the_sum():
    x, y = random(3, 6, dtype=torch.float64), random(3, 6, dtype=torch.float64, seed=2)
    weight, bias = torch.full((6,), 2.0, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    found = (residual_layer_norm(x, y, weight, bias, 1e-12) - 1) / 2
    torch.testing.assert_close(found.mean(-1), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.pow(2).mean(-1), torch.ones(3, dtype=torch.float64))


def test_chosen_log_probs_are_normalised_over_the_vocabulary_in_float32():
    logits = random(7, 11, dtype=torch.bfloat16, scale=3)
    everything = torch.arange(11).expand(7, 11)
    found = chosen_log_probs(logits, everything)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(7))
    chosen = torch.tensor([[0, 10]]).expand(7, 2)
    assert torch.equal(chosen_log_probs(logits, chosen), found[:, [0, 10]])
