"""Slopes, and the certificate that bounds what far keys may add."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder_kernels.alibi import alibi_slopes, distance_bias, key_reach


def test_slopes_of_a_power_of_two_are_geometric():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


def test_slopes_of_twelve_heads_interleave():
    expected = [2.0**-i for i in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(expected))


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 6, 7, 12, 20])
def test_slopes_are_positive_and_distinct(heads):
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    assert (slopes > 0).all()
    assert slopes.unique().numel() == heads


def test_no_head_is_refused():
    with pytest.raises(ValueError, match="at least one head"):
        alibi_slopes(0)


def test_distance_bias_counts_from_the_offset():
    bias = distance_bias(2, 3, 5, 0.5)
    assert bias.tolist() == [[-2.5, -2.0, -1.5], [-3.0, -2.5, -2.0]]


def dropped_share(q, k, slope, certificate, scale):
    """Largest share of a row's softmax mass that the certificate lets go, in float64."""
    n = q.shape[0]
    rows = torch.arange(n)
    distance = (rows[:, None] - rows[None, :]).abs()
    keys = k.double() - k.double().mean(0)  # a part common to all keys changes no weight
    weights = (q.double() @ keys.T * scale - slope * distance).softmax(-1)
    dropped = distance > certificate.reach[:, None]
    dropped[:, certificate.outliers] &= ~certificate.needed
    return (weights * dropped).sum(-1).max().item()


def adversarial(kind, n, d, generator):
    q, k = torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)
    if kind == "huge norms":
        q, k = q * 30, k * 30
    elif kind == "one far key matters":
        k[-1] = q[0] * 20
    elif kind == "equal keys":
        k[:] = k[0]
    elif kind == "common offset":
        k += 5
    elif kind == "huge common offset":
        q += 5000
        k = 5000 + k * 1e-4
    elif kind == "zero query":
        q[n // 2] = 0
    elif kind == "outlier key":
        k[n // 3] *= 30
    return q, k


KINDS = (
    "plain",
    "huge norms",
    "one far key matters",
    "equal keys",
    "common offset",
    "huge common offset",
    "zero query",
    "outlier key",
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 300),
    slope=st.sampled_from([0.7, 0.25, 0.03, 0.004]),
    epsilon=st.sampled_from([1e-6, 1e-3, 0.3]),
    outliers=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_no_row_loses_more_than_epsilon(kind, n, slope, epsilon, outliers, seed):
    q, k = adversarial(kind, n, 16, torch.Generator().manual_seed(seed))
    certificate = key_reach(q, k, slope, epsilon, 0.25, outliers=min(outliers, n))
    assert dropped_share(q, k, slope, certificate, 0.25) <= epsilon


def test_the_certificate_does_skip():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2000, 16, generator=generator), torch.randn(2000, 16, generator=generator)
    certificate = key_reach(q, k, 0.5, 1e-6, 0.25)
    assert certificate.reach.max() < 200
    quarter = replace(certificate, reach=certificate.reach // 4)
    assert dropped_share(q, k, 0.5, quarter, 0.25) > 1e-6  # the share measured above is not always zero


def test_an_outlier_key_costs_its_column_and_not_the_band():
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(2000, 16, generator=generator), torch.randn(2000, 16, generator=generator)
    k[700] *= 200
    without = key_reach(q, k, 0.5, 1e-6, 0.25)
    certificate = key_reach(q, k, 0.5, 1e-6, 0.25, outliers=1)
    assert without.reach.double().mean() > 1000
    assert certificate.reach.double().mean() < 60
    assert certificate.outliers.tolist() == [700]
    assert dropped_share(q, k, 0.5, certificate, 0.25) <= 1e-6
    assert certificate.needed[690:710].any()
    ignored = replace(certificate, needed=torch.zeros_like(certificate.needed), reach=certificate.reach * 0)
    assert dropped_share(q, k, 0.5, ignored, 0.25) > 0.5


def test_reach_is_the_margin_of_the_geometric_series_for_equal_keys():
    q, k = torch.zeros(500, 8), torch.ones(500, 8)
    margin = math.log(2 / ((1 - math.exp(-0.1)) * 1e-6))
    assert key_reach(q, k, 0.1, 1e-6, 1.0).reach.tolist() == [math.ceil(margin / 0.1)] * 500


@pytest.mark.parametrize(("slope", "epsilon"), [(0.1, 0.0), (0.0, 1e-6), (1e-9, 1e-6)])
def test_nothing_is_skipped_without_slope_or_epsilon(slope, epsilon):
    q = torch.randn(50, 8)
    assert key_reach(q, q, slope, epsilon, 1.0).reach.tolist() == [50] * 50
