"""The small operations: gating, residual LayerNorm, masked log-probabilities, row-blocked products."""

import math

import pytest
import torch

from dnagrinder_kernels import (
    ROW_BLOCK,
    gated_activation,
    masked_log_probs,
    residual_layer_norm,
    row_blocked_linear,
)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("swiglu", lambda x: x / (1 + torch.exp(-x))),
        ("geglu", lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
    ],
)
def test_gate_acts_on_the_first_half(name, formula):
    x = torch.randn(5, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gated_activation(x, name), formula(x[:, :7]) * x[:, 7:])


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="swiglu"):
        gated_activation(torch.zeros(2, 2), "relu")


def test_residual_layer_norm_normalises_the_sum():
    x, y = (torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    weight, bias = torch.full((6,), 2.0, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    found = (residual_layer_norm(x, y, weight, bias, 1e-12) - 1) / 2
    torch.testing.assert_close(found.mean(-1), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.pow(2).mean(-1), torch.ones(3, dtype=torch.float64))


def test_masked_log_probs_sum_to_one_in_float32():
    hidden, decoder = torch.randn(7, 8).bfloat16(), torch.randn(11, 8).bfloat16()
    found = masked_log_probs(hidden, decoder, torch.zeros(11).bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_same_bits_in_every_batch(dtype, threads):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, generator=generator).to(dtype), torch.randn(96, generator=generator).to(dtype)
    row = torch.randn(1, 64, generator=generator).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            alone = row_blocked_linear(row, weight, bias)
            for rows in (2, 100, ROW_BLOCK - 1, ROW_BLOCK, ROW_BLOCK + 1, 2500):
                x = torch.randn(rows, 64, generator=generator).to(dtype)
                places = torch.randint(0, rows, (5,), generator=generator)
                x[places] = row
                found = row_blocked_linear(x, weight, bias)
                assert found.shape == (rows, 96)
                assert (found[places] == alone).all()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(alone.float(), row.float() @ weight.float().T + bias.float(), rtol=2e-2, atol=5e-2)
