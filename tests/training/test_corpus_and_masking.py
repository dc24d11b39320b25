"""The corpus never shows what is held out; masking follows its rates and leaves the sequence readable."""

import numpy as np
import pytest

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.model.tokenizer import CLS, MASK, SEP, reverse_complement
from dnagrinder.training.corpus import Source, load_corpus, parse_interval, tokenizer_splits
from dnagrinder.training.masking import IGNORED, Masking, mask_sequence
from tests.training.conftest import HELD_OUT


@pytest.fixture(scope="module")
def corpus(data):
    return load_corpus([Source(data / "human" / "genome.fa", 1.0, ("1:50000-51000",), 0.1)])


def test_held_out_parts_are_never_drawn(corpus):
    generator = np.random.default_rng(0)
    windows = [corpus.window(2000, generator) for _ in range(400)]
    assert not any(HELD_OUT in w or reverse_complement(HELD_OUT) in w for w in windows)
    assert {len(w) for w in windows} == {2000}


def test_both_strands_are_drawn(corpus, data):
    text = (data / "human" / "genome.fa").read_text().split("\n")[1]
    generator = np.random.default_rng(0)
    forward = sum(corpus.window(200, generator) in text for _ in range(200))
    assert 60 < forward < 140


def test_windows_are_a_function_of_the_seed(corpus):
    first, second = (corpus.window(500, np.random.default_rng([1, 2, 3])) for _ in range(2))
    assert first == second


def test_tokenizer_splits_are_reproducible_and_of_the_size_asked(corpus):
    for split in tokenizer_splits(corpus, splits=2, bases=40_000, seed=1):
        assert sum(map(len, split())) == 40_000
        assert list(split()) == list(split())


def test_too_long_windows_are_refused(corpus):
    with pytest.raises(ConfigError, match="train on shorter windows"):
        corpus.window(1_000_000, np.random.default_rng(0))


def test_a_source_that_is_all_held_out_is_refused(data):
    with pytest.raises(InputError, match="no stretch"):
        load_corpus([Source(data / "human" / "genome.fa", 1.0, ("1:0-120000",), 0.0)])


@pytest.mark.parametrize("text", ["1:5", "1:9-3", "1-5", ":1-2", "1:a-b"])
def test_bad_intervals_are_named(text):
    with pytest.raises(ConfigError, match="contig:start-end"):
        parse_interval(text)


def test_intervals_may_have_colons_in_the_contig():
    assert parse_interval("hg38.chr16:1-5:0-9") == ("hg38.chr16:1-5", 0, 9)


def examples(corpus, tokenizer, masking, count=200, tokens=64):
    for index in range(count):
        generator = np.random.default_rng([7, index])
        yield mask_sequence(corpus.window(600, generator), tokens, tokenizer, masking, generator)


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


@pytest.mark.parametrize("values", [{"natural_rate": 1.0}, {"span_spacing": -1}, {"span_lengths": (1,)}])
def test_impossible_masking_is_refused(values):
    with pytest.raises(ConfigError, match="masking"):
        Masking(**values)
