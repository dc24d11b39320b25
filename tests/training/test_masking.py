"""Masking follows its rates, leaves the sequence readable and weighs repeats as told."""

import numpy as np
import pytest

from dnagrinder.errors import ConfigError
from dnagrinder.model.tokenizer import CLS, MASK, SEP
from dnagrinder.training.masking import IGNORED, Masking, mask_sequence


def examples(corpus, tokenizer, masking, count=200, tokens=64):
    for index in range(count):
        generator = np.random.default_rng([7, index])
        text = corpus.segment(index % len(corpus))[:600].tobytes().decode("ascii")
        yield mask_sequence(text, tokens, tokenizer, masking, generator)


def test_natural_masking_is_fifteen_percent_of_which_eight_in_ten_are_masks(corpus, tokenizer):
    labels = inputs = None
    found = list(examples(corpus, tokenizer, Masking(0.15)))
    labels = np.concatenate([e.labels for e in found])
    inputs = np.concatenate([e.input_ids for e in found])
    asked = labels != IGNORED
    assert np.mean(asked) == pytest.approx(0.15 * 62 / 64, abs=0.01)
    assert np.mean(inputs[asked] == MASK) == pytest.approx(0.8, abs=0.03)
    assert np.mean(inputs[asked] == labels[asked]) == pytest.approx(0.1, abs=0.03)
    assert not (inputs[~asked] == MASK).any()


def test_examples_have_the_length_asked_and_ends(corpus, tokenizer):
    for example in examples(corpus, tokenizer, Masking(0.15, 30.0), count=20):
        assert example.input_ids.shape == example.labels.shape == (64,)
        assert example.input_ids[0] == CLS
        assert example.input_ids[-1] == SEP
        assert example.labels[0] == example.labels[-1] == IGNORED


def test_forced_spans_are_always_masked_and_mostly_single_bases(corpus, tokenizer):
    found = list(examples(corpus, tokenizer, Masking(0.0, 20.0)))
    labels = np.concatenate([e.labels for e in found])
    inputs = np.concatenate([e.input_ids for e in found])
    asked = labels != IGNORED
    assert (inputs[asked] == MASK).all()
    lengths = tokenizer.lengths[labels[asked]]
    assert lengths.min() == 1
    assert lengths.max() > 1
    assert np.mean(lengths == 1) > 0.5


def test_the_text_is_unchanged_by_forced_spans(tokenizer):
    sequence = "ACGTTGCATGCATCGATCGATTTAGGCACGATCGATTACG" * 3
    example = mask_sequence(sequence, 500, tokenizer, Masking(0.0, 15.0), np.random.default_rng(1))
    ids = np.where(example.labels == IGNORED, example.input_ids, example.labels)[1:-1]
    assert tokenizer.decode(ids) == sequence


def test_targets_weigh_less_by_their_share_of_repeats(tokenizer):
    text = "ACGTTGCATGCATCGATCGATTTAGGCACGATCGATTACG" * 3
    soft = text[:50] + text[50:].lower()
    plain, weighed = (
        mask_sequence(value, 500, tokenizer, Masking(0.3, 0, repeat_weight=weight), np.random.default_rng(1))
        for value, weight in ((text, 1.0), (soft, 0.1))
    )
    assert np.array_equal(plain.input_ids, weighed.input_ids)
    asked = plain.labels != IGNORED
    assert np.array_equal(plain.weights > 0, asked)
    ids = np.where(asked, plain.labels, plain.input_ids)
    ends = np.cumsum(tokenizer.lengths[ids])
    starts = ends - tokenizer.lengths[ids]
    share = np.clip(ends - np.maximum(starts, 50), 0, None) / np.maximum(1, ends - starts)
    np.testing.assert_allclose(weighed.weights[asked], 1 - 0.9 * share[asked], rtol=1e-6)
    assert share[asked].min() == 0
    assert share[asked].max() == 1


@pytest.mark.parametrize(
    "values", [{"repeat_weight": 1.5}, {"natural_rate": 1.0}, {"span_spacing": -1}, {"span_lengths": (1,)}]
)
def test_impossible_masking_is_refused(values):
    with pytest.raises(ConfigError, match="masking"):
        Masking(**values)
