"""Masked-token metrics: groups, sums and what a base is worth."""

from __future__ import annotations

import numpy as np
import pytest

from dnagrinder.evaluation.sites import RepeatMask
from dnagrinder.evaluation.tokens import MaskedTokens, Windows, _repeat_shares, masked_tokens, summary
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import Checkpoint
from dnagrinder.scoring.packing import Engine
from dnagrinder.training.evaluation_plan import Track
from tests.evaluation.conftest import REPEAT, TRAINED


def tokens(track: str, hit: list[int], nats: list[float], bases: list[int], repeat: list[int]) -> MaskedTokens:
    """Tokens of one window."""
    return MaskedTokens(
        np.array(hit, dtype=bool),
        np.array(nats),
        np.array(bases),
        np.array(repeat, dtype=np.int8),
        np.zeros(len(hit), dtype=np.int64),
        np.array([track] * len(hit)),
    )


def test_nats_per_base_divide_by_the_bases_of_the_tokens() -> None:
    found = summary([tokens("a", [1, 0], [1.0, 5.0], [2, 6], [1, 0]), tokens("b", [0, 0], [3.0, 3.0], [1, 3], [-1, -1])], 1)
    assert list(found) == ["all", "a", "b", "inside repeats", "outside repeats"]
    assert found["all"]["accuracy"]["value"] == 0.25
    assert found["all"]["nats_per_token"]["value"] == 3.0
    assert found["all"]["nats_per_base"]["value"] == 1.0
    assert found["inside repeats"]["nats_per_base"]["value"] == 0.5
    assert (found["outside repeats"]["tokens"], found["outside repeats"]["bases"]) == (1, 6)


def test_windows_of_different_tracks_are_different_blocks() -> None:
    found = summary([tokens("a", [1], [1.0], [1], [-1]), tokens("b", [0], [3.0], [1], [-1])], 1)
    assert (found["all"]["accuracy"]["low"], found["all"]["accuracy"]["high"]) == (0.0, 1.0)
    assert "inside repeats" not in found


def test_a_token_belongs_to_repeats_by_half_of_its_bases() -> None:
    mask = RepeatMask({("1", 0, 10): np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 1], dtype=bool)})
    first, last = np.array([0, 1, 1, 5, 7]), np.array([2, 3, 4, 8, 10])
    assert _repeat_shares(mask, "1", 0, 10, first, last).tolist() == [0, 1, 1, 0, 1]
    assert _repeat_shares(None, "1", 0, 10, first, last).tolist() == [-1] * 5


def test_targets_cover_the_masked_share_and_lie_in_repeats(
    engine: Engine, checkpoint: Checkpoint, reference: ReferenceGenome
) -> None:
    track = Track("x", reference.path, (f"1:{TRAINED}-72000",), reference.path)
    mask = RepeatMask.of_track(track, reference)
    windows = Windows(reference, track.places, mask, 40, (1, 2))
    found = masked_tokens(engine, checkpoint.tokenizer, windows, "x")
    assert found.bases.sum() == pytest.approx(0.15 * 40 * 1024, rel=0.1)
    assert (found.repeat == 1).mean() == pytest.approx((REPEAT[1] - REPEAT[0]) / 12_000, abs=0.2)
    assert np.isfinite(found.nats).all()
    again = masked_tokens(engine, checkpoint.tokenizer, windows, "x")
    assert (again.nats == found.nats).all()
    inside = masked_tokens(engine, checkpoint.tokenizer, Windows(reference, [("1", *REPEAT)], None, 2, (1,)), "x")
    assert (inside.repeat == -1).all()
