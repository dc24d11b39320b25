"""The forced-boundary marginal, on a model whose answer can be worked out by hand."""

import numpy as np
import pytest
import torch

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.tokenizer import CLS, MASK, SEP, SPECIAL_TOKENS, DnaTokenizer
from dnagrinder.scoring.parameters import VIEWS, ScoringParameters
from dnagrinder.scoring.snv import Site, site_log_probs, supported_views
from dnagrinder.sequence import reverse_complement


class WordCountModel:
    """Gives every token a probability in proportion to a fixed weight, and remembers what it was asked."""

    def __init__(self, weights):
        self.log_probs_row = torch.log(torch.tensor(weights) / sum(weights)).float()
        self.inputs = []

    def log_probs(self, inputs, consume):
        self.inputs += inputs
        for index, model_input in enumerate(inputs):
            consume(index, self.log_probs_row[torch.from_numpy(model_input.targets)])


@pytest.fixture
def toy(checkpoint):
    weights = np.random.default_rng(0).integers(1, 9, checkpoint.config.vocabulary).astype(float)
    return WordCountModel(weights.tolist()), weights


def expected(tokenizer, weights, view, reverse):
    length, slot = view
    mass = np.zeros(4)
    for token, text in enumerate(tokenizer.strings):
        if len(text) == length and text.isalpha():
            mass["ACGT".index(text[slot])] += weights[token]
    mass /= mass.sum()
    return np.log(mass[::-1] if reverse else mass)


def test_marginal_sums_tokens_of_the_length_by_their_base(toy, checkpoint, reference):
    model, weights = toy
    tokenizer = checkpoint.tokenizer
    parameters = ScoringParameters(views=len(VIEWS))
    (rows,) = site_log_probs(model, tokenizer, reference, [Site("1", 700)], parameters)
    wanted = [expected(tokenizer, weights, view, reverse) for reverse in (False, True) for view in VIEWS]
    np.testing.assert_allclose(rows, wanted, rtol=1e-5)
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1.0)


@pytest.mark.parametrize("start", [700, 701, 2990, 3])
def test_context_is_both_flanks_around_one_mask(toy, checkpoint, reference, start):
    """Left of the mask ends L bases before what is right of it, on both strands and for every view."""
    model, _ = toy
    tokenizer = checkpoint.tokenizer
    site_log_probs(model, tokenizer, reference, [Site("1", start)], ScoringParameters(window=100, views=len(VIEWS)))
    first, last = max(0, start - 50), min(start + 50, 3000)
    forward = reference.fetch("1", first, last)
    strands = ((forward, start - first), (reverse_complement(forward), last - 1 - start))
    expected = [
        (sequence[: offset - slot], sequence[offset - slot + length :])
        for sequence, offset in strands
        for length, slot in VIEWS
        if offset - slot >= 0 and offset - slot + length <= len(sequence)
    ]
    found = []
    for model_input in model.inputs:
        (position,) = model_input.masked
        ids = model_input.ids
        assert (ids[0], ids[position], ids[-1]) == (CLS, MASK, SEP)
        found.append((tokenizer.decode(ids[:position]), tokenizer.decode(ids[position + 1 :])))
    assert found == expected


def test_a_reverse_complemented_reference_gives_complemented_probabilities(engine, checkpoint, reference, tmp_path):
    bases = reference.fetch("1", 0, 401)
    path = tmp_path / "turned.fa"
    path.write_text(f">1\n{reverse_complement(bases)}\n")
    (tmp_path / "same.fa").write_text(f">1\n{bases}\n")
    parameters = ScoringParameters(window=101, views=4)
    with ReferenceGenome.open(path) as turned, ReferenceGenome.open(tmp_path / "same.fa") as same:
        (rows,) = site_log_probs(engine, checkpoint.tokenizer, same, [Site("1", 200)], parameters)
        (other,) = site_log_probs(engine, checkpoint.tokenizer, turned, [Site("1", 200)], parameters)
    half = len(rows) // 2
    np.testing.assert_allclose(other[:half, ::-1], rows[half:], atol=1e-6)
    np.testing.assert_allclose(other[half:, ::-1], rows[:half], atol=1e-6)
    assert np.abs(rows[:half] - rows[half:]).max() > 1e-3


@pytest.mark.parametrize(("contig", "start"), [("1", 0), ("1", 2999), ("2", 0), ("2", 39)])
def test_contig_ends_are_scored_with_the_views_that_fit(toy, checkpoint, reference, contig, start):
    model, _ = toy
    (rows,) = site_log_probs(model, checkpoint.tokenizer, reference, [Site(contig, start)], ScoringParameters(views=6))
    assert 2 <= len(rows) <= 12
    assert np.isfinite(rows).all()


def test_reverse_strand_complements_the_bases(checkpoint, reference):
    """A model that always says T on the strand it reads says A for the reverse strand."""
    weights = np.full(checkpoint.config.vocabulary, 1e-6)
    weights[checkpoint.tokenizer.token_id("T")] = 1.0
    model = WordCountModel(weights.tolist())
    (rows,) = site_log_probs(model, checkpoint.tokenizer, reference, [Site("1", 50)], ScoringParameters(views=1))
    assert ["ACGT"[row.argmax()] for row in rows] == ["T", "A"]


def test_views_that_the_vocabulary_cannot_spell_are_left_out():
    """Bases only: no token of two or more bases exists, so one view remains."""
    tokenizer = DnaTokenizer.from_merges([*SPECIAL_TOKENS, *"ACGT"], [])
    assert supported_views(tokenizer, len(VIEWS)) == [(1, 0)]
