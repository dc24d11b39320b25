"""The forced-boundary marginal, on a model whose answer can be worked out by hand."""

import numpy as np
import pytest
import torch

from dnagrinder.model.tokenizer import CLS, MASK, SEP
from dnagrinder.scoring.parameters import VIEWS, ScoringParameters
from dnagrinder.scoring.snv import Site, site_log_probs


class WordCountModel:
    """Gives every token a probability in proportion to a fixed weight, and remembers what it was asked."""

    def __init__(self, weights):
        self.log_probs_row = torch.log(torch.tensor(weights) / sum(weights)).float()
        self.inputs = []

    def log_probs(self, inputs, consume):
        self.inputs += inputs
        for index, model_input in enumerate(inputs):
            consume(index, self.log_probs_row.expand(len(model_input.masked), -1))


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


def test_context_is_both_flanks_around_one_mask(toy, checkpoint, reference):
    model, _ = toy
    tokenizer = checkpoint.tokenizer
    site_log_probs(model, tokenizer, reference, [Site("1", 700)], ScoringParameters(window=100))
    forward, reverse = (i.ids for i in model.inputs)
    (position,) = model.inputs[0].masked
    assert forward[0] == CLS
    assert forward[-1] == SEP
    assert forward[position] == MASK
    assert tokenizer.decode(forward[:position]) == reference.fetch("1", 650, 700)
    assert tokenizer.decode(forward[position + 1 :]) == reference.fetch("1", 701, 750)
    assert len(tokenizer.decode(reverse)) == 99


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
