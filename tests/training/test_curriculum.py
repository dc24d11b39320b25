"""The order of visits: every segment as often as told, the same for all, and ordered as the curriculum says."""

from collections import Counter

import numpy as np
import pytest

from dnagrinder.errors import ConfigError
from dnagrinder.training.curriculum import CURRICULA, Curriculum, VisitOrder

SIZES, COPIES = [40, 7, 100], [1.0, 2.0, 0.25]
COUNTS = np.random.default_rng(0).integers(100, 3000, sum(SIZES))


def order(slw="none", seed=3, batch=8):
    return VisitOrder(SIZES, COPIES, seed, slw, COUNTS, batch)


def shard_of(segment):
    return int(np.searchsorted(np.cumsum(SIZES), segment, side="right"))


@pytest.mark.parametrize("slw", [name for name in CURRICULA if name != "truncate_schedule"])
def test_an_epoch_visits_every_segment_as_often_as_its_shard_says(slw):
    visits = Counter(order(slw).epoch(5).tolist())
    assert sum(visits.values()) == order(slw).visits == 40 + 14 + 25
    assert {visits[segment] for segment in range(40)} == {1}
    assert {visits[segment] for segment in range(40, 47)} == {2}
    assert sum(visits[segment] for segment in range(47, 147)) == 25
    assert max(visits[segment] for segment in range(47, 147)) == 1


@pytest.mark.parametrize("slw", CURRICULA)
def test_orders_are_a_function_of_seed_and_epoch(slw):
    assert np.array_equal(order(slw).epoch(1), order(slw).epoch(1))
    assert not np.array_equal(order(slw).epoch(1), order(slw).epoch(2))
    assert not np.array_equal(order(slw, seed=4).epoch(1), order(slw).epoch(1))


def test_a_fraction_visits_other_segments_in_another_epoch():
    first, second = ({s for s in order().epoch(e).tolist() if s >= 47} for e in (0, 1))
    assert first != second


def test_visits_run_through_the_epochs():
    visits = order()
    expected = [*visits.epoch(0).tolist(), *visits.epoch(1).tolist()]
    assert [visits.segment(n) for n in range(2 * visits.visits)] == expected


def test_sorting_within_shards_ascends_inside_every_shard():
    found = order("sort_within_shard").epoch(0).tolist()
    shards = [shard_of(segment) for segment in found]
    assert [s for i, s in enumerate(shards) if i == 0 or shards[i - 1] != s] == list(
        dict.fromkeys(shards)
    )  # one run a shard
    for shard in range(3):
        counts = [COUNTS[segment] for segment in found if shard_of(segment) == shard]
        assert counts == sorted(counts)


def test_buckets_hold_similar_lengths_in_random_order():
    found = COUNTS[order("bucketed").epoch(0)]
    batches = [found[i : i + 8] for i in range(0, 72, 8)]
    spread = np.mean([np.ptp(batch) for batch in batches])
    assert spread < 0.4 * np.mean([np.ptp(COUNTS[order().epoch(0)][i : i + 8]) for i in range(0, 72, 8)])
    means = [batch.mean() for batch in batches]
    assert means != sorted(means)


def test_lengths_follow_the_schedule():
    curriculum = Curriculum("truncate_schedule", 128, ((0.0, 64), (0.25, 128)))
    assert [curriculum.length_at(step, 100) for step in (0, 24, 25, 99)] == [64, 64, 128, 128]
    assert Curriculum(max_tokens=99).length_at(0, 10) == 99


@pytest.mark.parametrize(
    "values",
    [
        {"slw": "longest_first"},
        {"max_tokens": 2},
        {"slw": "truncate_schedule"},
        {"schedule": ((0.0, 64),)},
        {"slw": "truncate_schedule", "schedule": ((0.5, 64),)},
        {"slw": "truncate_schedule", "schedule": ((0.0, 64), (1.0, 128))},
        {"slw": "truncate_schedule", "schedule": ((0.0, 64), (0.5, 9999))},
    ],
)
def test_impossible_curricula_are_refused(values):
    with pytest.raises(ConfigError, match="curriculum"):
        Curriculum(**values)


def test_an_epoch_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="no segment"):
        VisitOrder([3], [0.1], 1)
