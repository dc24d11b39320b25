"""BPE training against the library's own trainer, and its rules."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.bpe import BREAK, Merge, apply_merges, base_ids, token_strings, train_bpe
from dnagrinder.training.bpe import carry_over as bpe


def random_bases(seed, length):
    return "".join(random.Random(seed).choices("ACGT", weights=[3, 2, 2, 3], k=length))


def test_one_pair_a_pass_gives_the_librarys_merges():
    sequences = [random_bases(seed, 4000) for seed in range(5)]
    strings = token_strings(train_bpe([lambda: sequences], 120, batch_ratio=1))
    library = Tokenizer(BPE())
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    library.train_from_iterator(sequences, BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False))
    assert strings == [library.id_to_token(i) for i in range(120)]


def test_batches_change_little():
    sequences = [random_bases(seed, 20_000) for seed in range(3)]
    exact, batched = (set(token_strings(train_bpe([lambda: sequences], 200, batch_ratio=r))) for r in (1, 0.9))
    assert len(exact & batched) > 0.9 * len(exact)


def test_training_and_library_segment_alike():
    sequence = random_bases(1, 30_000)
    merges = train_bpe([lambda: [sequence]], 250)
    ids = base_ids(sequence)
    for merge in merges:
        ids = apply_merges(ids, [merge])
    strings = token_strings(merges)
    tokenizer = DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges])
    assert ids.tolist() == tokenizer.encode(sequence).tolist()


def test_merges_stop_at_unknown_bases_and_sequence_ends():
    strings = token_strings(train_bpe([lambda: ["AC" * 50 + "N" + "CA" * 50, "GT" * 50]], 60))
    assert not any("TA" in s or "TC" in s or "CG" in s for s in strings[9:])


def test_runs_of_one_base_merge_from_the_left():
    ids = base_ids("AAAAA")
    assert apply_merges(ids, [Merge(5, 5, 9)]).tolist() == [9, 9, 5]


@given(st.text("ACGTN", max_size=80), st.sampled_from([1, 2, 7]))
def test_blocks_change_nothing(sequence, block):
    merges = [Merge(5, 5, 9), Merge(6, 7, 10)]
    expected = apply_merges(base_ids(sequence), merges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "BLOCK", block)
        assert np.array_equal(apply_merges(base_ids(sequence), merges), expected)
        found = train_bpe([lambda: [sequence]], 30, batch_ratio=1)
    assert found == train_bpe([lambda: [sequence]], 30, batch_ratio=1)


@given(st.text("ACGTN", max_size=80))
def test_merging_keeps_the_sequence(sequence):
    merges = [Merge(5, 5, 9), Merge(6, 7, 10), Merge(9, 8, 11)]
    ids = apply_merges(apply_merges(base_ids(sequence), merges[:2]), merges[2:])
    strings = token_strings(merges)
    assert "".join("N" if i == BREAK else strings[i] for i in ids) == sequence


def test_every_split_adds_its_share():
    calls = []

    def split(name, base):
        def sequences():
            calls.append(name)
            return [base * 2000]

        return sequences

    strings = token_strings(train_bpe([split("a", "AC"), split("b", "GGT")], 9 + 8))
    assert calls == ["a", "b"]
    assert all(set(s) <= set("AC") for s in strings[9:13])
    assert all(set(s) <= set("GT") for s in strings[13:])


def test_a_corpus_without_repeats_gives_fewer_merges():
    assert train_bpe([lambda: ["ACGT"]], 100) == []


@pytest.mark.parametrize("vocabulary", [9, 70_000])
def test_impossible_vocabularies_are_refused(vocabulary):
    with pytest.raises(ValueError, match="vocabulary"):
        train_bpe([], vocabulary)


def test_case_is_ignored_and_other_letters_break():
    assert np.array_equal(base_ids("acgtnR"), [5, 6, 7, 8, 0, 0])
