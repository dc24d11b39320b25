"""Which key blocks the GPU kernels visit: the certificate for a whole pack, in PyTorch alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder_kernels import alibi_slopes
from dnagrinder_kernels.gpu.plan import (
    attention_plan,
    cut,
    fixed_order_sum,
    key_visits,
    mean_keys,
    row_statistics,
    rows_of,
)

KINDS = (
    "plain",
    "huge norms",
    "one far key matters",
    "equal keys",
    "huge common offset",
    "zero query",
    "outlier keys",
    "many outlier keys",
)


def adversarial(kind, tokens, heads, d, generator):
    q, k = (torch.randn(tokens, heads, d, generator=generator) for _ in range(2))
    if kind == "huge norms":
        q, k = q * 30, k * 30
    elif kind == "one far key matters":
        k[-1] = q[0] * 20
    elif kind == "equal keys":
        k[:] = k[0]
    elif kind == "huge common offset":
        q, k = q + 5000, 5000 + k * 1e-4
    elif kind == "zero query":
        q[tokens // 2] = 0
    elif kind == "outlier keys":
        k[tokens // 3] *= 30
        k[0] *= 50
    elif kind == "many outlier keys":
        k[:: max(1, tokens // 12)] *= 20
    return q, k


def offsets(lengths):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])


def plan_of(q, k, lengths, slopes, epsilon, scale, block_m=16, block_n=8, dense_length=0):
    cu = offsets(lengths)
    return attention_plan(
        row_statistics(q, k, cu, max(lengths)),
        tokens=len(q),
        cu_seqlens=cu,
        max_seqlen=max(lengths),
        slopes=slopes,
        epsilon=epsilon,
        scale=scale,
        block_m=block_m,
        block_n=block_n,
        dense_length=dense_length,
    )


def visited_pairs(plan, block_m, block_n):
    """(head, sequence, query block, key block) of everything that the forward visits."""
    pairs = set()
    for head, block in torch.nonzero(plan.high > plan.low).tolist():
        sequence, start = int(plan.query_sequence[block]), int(plan.query_start[block])
        keys = [*range(int(plan.low[head, block]), int(plan.high[head, block]))]
        extra = plan.extra[head, block, : int(plan.extra_count[head, block])].tolist()
        assert not set(keys) & set(extra)
        pairs |= {(head, sequence, start // block_m, key) for key in keys + extra}
    return pairs


def dropped_share(q, k, lengths, slopes, plan, scale, block_m=16, block_n=8):
    """Largest share of a row's true mass on keys that the plan leaves out, in float64."""
    worst, first, pairs = 0.0, 0, visited_pairs(plan, block_m, block_n)
    for sequence, n in enumerate(lengths):
        keys, queries = k[first : first + n].double(), q[first : first + n].double()
        keys = keys - keys.mean(0)  # common to a row: softmax does not see it, float64 would
        distance = (torch.arange(n)[:, None] - torch.arange(n)[None, :]).abs().double()
        for head in range(q.shape[1]):
            scores = queries[:, head] @ keys[:, head].T * scale - float(slopes[head]) * distance
            seen = torch.zeros(-(-n // block_m), -(-n // block_n), dtype=torch.bool)
            for h, s, i, j in pairs:
                if (h, s) == (head, sequence):
                    seen[i, j] = True
            seen = seen.repeat_interleave(block_m, 0).repeat_interleave(block_n, 1)[:n, :n]
            worst = max(worst, float((scores.softmax(-1) * ~seen).sum(-1).max()))
        first += n
    return worst


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=3),
    slope=st.sampled_from([0.7, 0.25, 0.03]),
    epsilon=st.sampled_from([1e-6, 1e-3, 0.3]),
    seed=st.integers(0, 2**31),
)
def test_no_row_loses_more_than_epsilon(kind, lengths, slope, epsilon, seed):
    q, k = adversarial(kind, sum(lengths), 1, 16, torch.Generator().manual_seed(seed))
    slopes = torch.tensor([slope])
    plan = plan_of(q, k, lengths, slopes, epsilon, 0.25)
    assert dropped_share(q, k, lengths, slopes, plan, 0.25) <= epsilon


@pytest.mark.parametrize(
    ("n", "block_n", "slope", "near", "far"),
    [
        (448, 64, 0.2, 0.0, 37.2),  # 7 key blocks, no outliers: the range must reach it
        (112, 16, 0.8, -20.0, 17.0),  # rows whose own key scores below the mean key
        (600, 8, 0.2, 0.0, 49.4),  # its block is an outlier: the list must name it
    ],
)
def test_a_far_key_in_line_with_the_queries_is_visited(n, block_n, slope, near, far):
    """The cases for which the bounds are tight: the last key scores 3.6 more than the first row's own."""
    q, k = torch.zeros(n, 1, 16), torch.zeros(n, 1, 16)
    q[0, 0, 0], k[:50, 0, 0], k[-1, 0, 0] = 10, near, far
    plan = plan_of(q, k, [n], torch.tensor([slope]), 0.3, 0.25, block_n=block_n)
    assert (0, 0, 0, (n - 1) // block_n) in visited_pairs(plan, 16, block_n)
    assert dropped_share(q, k, [n], torch.tensor([slope]), plan, 0.25, block_n=block_n) <= 0.3


def test_it_skips_and_outlier_keys_cost_their_blocks_only():
    generator = torch.Generator().manual_seed(1)
    slopes = torch.tensor([0.5])
    plain, keys = adversarial("plain", 2000, 1, 16, generator)
    usual = plan_of(plain, keys, [2000], slopes, 1e-6, 0.25).kept_fraction()
    assert 0.02 < usual < 0.15
    keys[700] *= 200
    plan = plan_of(plain, keys, [2000], slopes, 1e-6, 0.25)
    assert plan.kept_fraction() < 1.5 * usual + 8 / 250
    assert plan.extra_count.sum() > 0
    assert dropped_share(plain, keys, [2000], slopes, plan, 0.25) <= 1e-6
    without = plan._replace(extra_count=torch.zeros_like(plan.extra_count))
    assert dropped_share(plain, keys, [2000], slopes, without, 0.25) > 0.5  # they are visited for a reason


@pytest.mark.parametrize(("epsilon", "slope", "dense_length"), [(0.0, 0.5, 0), (1e-6, 0.0, 0), (1e-6, 0.5, 300)])
def test_nothing_is_skipped_without_epsilon_or_slope_or_up_to_the_dense_length(epsilon, slope, dense_length):
    q, k = adversarial("plain", 340, 1, 16, torch.Generator().manual_seed(0))
    plan = plan_of(q, k, [300, 40], torch.tensor([slope]), epsilon, 0.25, dense_length=dense_length)
    assert plan.kept_fraction() == 1


@pytest.mark.parametrize("lengths", [[1], [16, 0, 17, 130], [0, 5, 0, 0], [0]])
def test_dense_plans_cover_every_pair_of_a_sequence_and_no_other(lengths):
    plan = attention_plan(
        None,
        tokens=sum(lengths),
        cu_seqlens=offsets(lengths),
        max_seqlen=max(lengths),
        slopes=alibi_slopes(2),
        epsilon=0.0,
        scale=1.0,
        block_m=16,
        block_n=8,
        dense_length=0,
    )
    wanted = {
        (h, s, i, j) for h in (0, 1) for s, n in enumerate(lengths) for i in range(-(-n // 16)) for j in range(-(-n // 8))
    }
    assert visited_pairs(plan, 16, 8) == wanted
    assert plan.kept_fraction() == (1 if wanted else 0)


def test_the_backward_visits_the_pairs_of_the_forward():
    lengths = [230, 0, 77, 400]
    q, k = adversarial("outlier keys", sum(lengths), 3, 16, torch.Generator().manual_seed(2))
    plan = plan_of(q, k, lengths, alibi_slopes(3), 1e-3, 0.25)
    assert plan.extra_count.sum() > 0
    assert plan.kept_fraction() < 0.9
    visits = key_visits(plan)
    blocks, found = len(plan.key_start), set()
    for index in range(3 * blocks):
        head, block = divmod(index, blocks)
        starts = visits.start[int(visits.bounds[index]) : int(visits.bounds[index + 1])].tolist()
        assert starts == sorted(set(starts))
        found |= {(head, int(plan.key_sequence[block]), start // 16, int(plan.key_start[block]) // 8) for start in starts}
    assert found == visited_pairs(plan, 16, 8)


@pytest.mark.parametrize("lengths", [[900, 3, 1500], [1500, 900], [64] * 20 + [900]])
def test_the_plan_of_a_sequence_does_not_depend_on_its_pack(lengths):
    generator = torch.Generator().manual_seed(3)
    q, k = (torch.randn(sum(lengths), 2, 16, generator=generator) for _ in range(2))
    cu = offsets(lengths)
    chosen = lengths.index(900)
    rows = slice(int(cu[chosen]), int(cu[chosen + 1]))
    together, alone = row_statistics(q, k, cu, max(lengths)), row_statistics(q[rows], k[rows], offsets([900]), 900)
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[rows], b)
    packed, single = (
        plan_of(q, k, lengths, alibi_slopes(2), 1e-6, 0.25),
        plan_of(q[rows], k[rows], [900], alibi_slopes(2), 1e-6, 0.25),
    )
    own = {(h, i, j) for h, s, i, j in visited_pairs(packed, 16, 8) if s == chosen}
    assert own == {(h, i, j) for h, _, i, j in visited_pairs(single, 16, 8)}


def test_values_that_are_not_finite_are_never_left_out():
    q, k = adversarial("plain", 400, 1, 16, torch.Generator().manual_seed(4))
    k[300, 0, 0] = math.nan
    assert plan_of(q, k, [400], torch.tensor([0.5]), 1e-6, 0.25).kept_fraction() == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_sums_in_a_fixed_order(size):
    x = torch.randn(4, size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    torch.testing.assert_close(fixed_order_sum(x, 1), x.sum(1))
    assert torch.equal(fixed_order_sum(x[1:2, :, 2:], 1), fixed_order_sum(x, 1)[1:2, 2:])


def test_mean_keys_of_long_and_empty_sequences():
    lengths = [2500, 0, 10]
    k = torch.randn(2510, 2, 4, generator=torch.Generator().manual_seed(5)) + 7
    found = mean_keys(k, offsets(lengths), 2500)
    torch.testing.assert_close(found[0], k[:2500].double().mean(0))
    torch.testing.assert_close(found[2], k[2500:].double().mean(0))
    assert found.shape == (3, 2, 4)


def test_blocks_never_cross_a_sequence():
    cu = offsets([5, 0, 9])
    blocks = cut(cu, 14, 4)
    assert blocks.sequence.tolist() == [0, 0, 2, 2, 2, 2]
    assert blocks.start.tolist() == [0, 4, 0, 4, 8, 12]
    rows = rows_of(blocks, cu, 14)
    assert rows.tolist() == [[0, 1, 2, 3], [4, 4, 4, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 13, 13, 13], [13, 13, 13, 13]]
