"""Tokenizer: exact offsets, unknown bases, groups by length and slot, files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.errors import CheckpointError
from dnagrinder.model.tokenizer import UNK, DnaTokenizer
from dnagrinder.sequence import reverse_complement

SEQUENCES = st.text("ACGTN", max_size=300)


@given(SEQUENCES)
def test_decoding_gives_the_sequence_back(tokenizer, sequence):
    assert tokenizer.decode(tokenizer.encode(sequence)) == sequence


@given(SEQUENCES)
def test_offsets_name_the_bases_of_every_token(tokenizer, sequence):
    ids = tokenizer.encode(sequence)
    offsets = tokenizer.offsets(ids)
    assert offsets[-1] == len(sequence)
    for token, first, last in zip(ids, offsets[:-1], offsets[1:], strict=True):
        assert sequence[first:last] == ("N" if token == UNK else tokenizer.strings[token])


@given(st.lists(SEQUENCES, min_size=1, max_size=5))
def test_pieces_are_encoded_apart(tokenizer, pieces):
    for piece, ids in zip(pieces, tokenizer.encode_pieces(pieces), strict=True):
        assert np.array_equal(ids, tokenizer.encode(piece))


@given(SEQUENCES)
def test_reverse_complement_is_its_own_inverse(sequence):
    assert reverse_complement(reverse_complement(sequence)) == sequence


def test_reverse_complement_by_hand():
    assert reverse_complement("AACGTN") == "NACGTT"


def test_every_base_is_one_unknown(tokenizer):
    assert tokenizer.encode("NNN").tolist() == [UNK] * 3


@pytest.mark.parametrize(("length", "slot"), [(1, 0), (3, 1), (4, 3)])
def test_groups_hold_all_tokens_of_a_length(tokenizer, length, slot):
    ids, bases = tokenizer.bases_at(length, slot)
    assert [tokenizer.strings[i] for i in ids] == [s for s in tokenizer.strings if len(s) == length and s.isalpha()]
    assert ["ACGT"[b] for b in bases] == [tokenizer.strings[i][slot] for i in ids]


def test_slot_beyond_the_token_is_refused(tokenizer):
    with pytest.raises(ValueError, match="outside a token of 3"):
        tokenizer.bases_at(3, 3)


def test_file_round_trip_keeps_ids_and_digest(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = DnaTokenizer.load(tmp_path / "tokenizer.json")
    assert again.strings == tokenizer.strings
    assert again.digest == tokenizer.digest
    assert again.encode("ACGTTGCAAC").tolist() == tokenizer.encode("ACGTTGCAAC").tolist()


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        DnaTokenizer.load(path)


def test_text_tokens_are_refused():
    with pytest.raises(CheckpointError, match="made of A, C, G, T"):
        DnaTokenizer.from_merges(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A", "b"], [])
