"""Blocks: shared ends, masked tokens, and sums that can be worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.genome.variants import Allele
from dnagrinder.model.tokenizer import MASK
from dnagrinder.scoring.block import align_pair, allele_pairs, block_log_likelihoods, embedding_distances
from dnagrinder.scoring.parameters import ScoringParameters

IDS = st.lists(st.integers(5, 8), min_size=1, max_size=12).map(np.array)


@given(IDS, IDS)
def test_shared_ends_are_identical_and_blocks_are_not_empty(ref, alt):
    pair = align_pair(ref, alt)
    left, right = pair.shared_left, pair.shared_right
    assert ref[:left].tolist() == alt[:left].tolist()
    assert ref[ref.size - right :].tolist() == alt[alt.size - right :].tolist()
    assert left + right < min(ref.size, alt.size)


@pytest.mark.parametrize(
    ("ref", "alt", "left", "right"),
    [([5, 6, 7], [5, 8, 7], 1, 1), ([5, 6, 7], [5, 7], 1, 0), ([5, 5], [5, 5, 5], 1, 0), ([6], [7], 0, 0)],
)
def test_shared_ends_by_hand(ref, alt, left, right):
    pair = align_pair(np.array(ref), np.array(alt))
    assert (pair.shared_left, pair.shared_right) == (left, right)


class UniformModel:
    """log p = -1 for every token; hidden state of a token = (its id, 1)."""

    def __init__(self, vocabulary):
        self.vocabulary, self.asked = vocabulary, []

    def log_probs(self, inputs, consume):
        self.asked = inputs
        for index, model_input in enumerate(inputs):
            assert all(model_input.ids[p] == MASK for p in model_input.masked)
            consume(index, -torch.ones(model_input.targets.shape))

    def hidden(self, inputs, consume):
        for index, model_input in enumerate(inputs):
            ids = torch.from_numpy(model_input.ids).float()
            consume(index, torch.stack([ids, torch.ones_like(ids)], dim=1))


@pytest.fixture
def pairs(checkpoint, reference):
    base = reference.fetch("1", 500, 501)
    allele = Allele("1", 500, base, base + "ACGTT")
    return [allele_pairs(checkpoint.tokenizer, reference, allele, ScoringParameters())]


def test_each_token_of_a_block_counts_once(checkpoint, pairs):
    model = UniformModel(checkpoint.config.vocabulary)
    (rows,) = block_log_likelihoods(model, pairs, views=2)
    assert rows.shape == (4, 2)
    for strand, pair in enumerate(pairs[0]):
        shared = pair.shared_left + pair.shared_right
        assert rows[2 * strand].tolist() == [-(pair.ref.size - shared), -(pair.alt.size - shared)]
        assert (rows[2 * strand] - rows[2 * strand + 1]).tolist() == [2.0, 2.0]  # one more token on each side


def test_windows_differ_by_the_allele_only(checkpoint, reference, pairs):
    forward, _ = pairs[0]
    tokenizer = checkpoint.tokenizer
    ref, alt = tokenizer.decode(forward.ref), tokenizer.decode(forward.alt)
    assert len(ref) == 512
    assert len(alt) == 517
    inside = 501 - (501 - 256)
    assert alt == ref[:inside] + "ACGTT" + ref[inside:]


def test_equal_states_have_no_distance(checkpoint, pairs):
    ((cosine, l2),) = embedding_distances(UniformModel(checkpoint.config.vocabulary), pairs)
    assert cosine == pytest.approx(0, abs=1e-12)
    assert l2 == pytest.approx(0, abs=1e-12)


def test_a_real_model_does_see_the_allele(engine, pairs):
    ((cosine, l2),) = embedding_distances(engine, pairs)
    assert cosine > 1e-6
    assert l2 > 1e-3
