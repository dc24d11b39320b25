"""Regions: every base once, N left out, both strands, tables."""

import numpy as np
import pandas as pd
import pytest
import torch

from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.regions import RegionScorer
from dnagrinder.scoring.session import region_tables
from dnagrinder.sequence import reverse_complement


def frame(rows):
    return pd.DataFrame(rows, columns=["contig", "start", "end", "name"])


class CountingModel:
    """log p = -(bases of the token); every hidden state is one."""

    hidden_width = 4

    def __init__(self, lengths):
        self.row = -torch.from_numpy(lengths).float()
        self.masked = 0

    def log_probs(self, inputs, consume):
        for index, model_input in enumerate(inputs):
            self.masked += len(model_input.masked)
            consume(index, self.row[torch.from_numpy(model_input.targets)])

    def hidden(self, inputs, consume):
        for index, model_input in enumerate(inputs):
            consume(index, torch.ones(model_input.ids.size, 4))


def test_minus_one_a_base_by_construction(checkpoint, reference):
    model = CountingModel(checkpoint.tokenizer.lengths)
    scorer = RegionScorer(model, checkpoint.tokenizer, reference, ScoringParameters(window=100))
    (score,) = scorer.score(frame([("1", 10, 360, "x")]))
    assert score.log_likelihood == pytest.approx(-1)
    assert score.per_base.shape == (350,)
    assert score.known_bases == 350
    np.testing.assert_allclose(score.embedding, 1)


def test_unknown_bases_have_no_likelihood(engine, checkpoint, reference):
    scorer = RegionScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=200))
    some, none = scorer.score(frame([("1", 1990, 2010, "a"), ("1", 2000, 2100, "b")]))
    assert np.isfinite(some.per_base).tolist() == [True] * 10 + [False] * 10
    assert some.known_bases == 10
    assert none.known_bases == 0
    table, lines = region_tables(frame([("1", 1990, 2010, "a"), ("1", 2000, 2100, "b")]), [some, none])
    assert table["log_likelihood"].to_pylist()[1] is None
    assert all(int(line.split("\t")[2]) <= 2000 for line in lines)


def test_tiling_does_not_skip_or_repeat_bases(engine, checkpoint, reference):
    scorer = RegionScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=64))
    (score,) = scorer.score(frame([("1", 3, 500, "x")]))
    assert np.isfinite(score.per_base).all()
    assert score.log_likelihood == pytest.approx(score.per_base.mean())


def test_overlapping_regions_give_one_sorted_bedgraph(engine, checkpoint, reference):
    regions = frame([("1", 50, 80, "late"), ("1", 20, 60, "early"), ("2", 0, 40, "other")])
    scorer = RegionScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=64))
    _, lines = region_tables(regions, list(scorer.score(regions)))
    places = [(c, int(s), int(e)) for c, s, e, _ in (line.split("\t") for line in lines)]
    assert places == sorted(places)
    covered = sorted(p for c, s, e in places for p in range(s, e) if c == "1")
    assert covered == list(range(20, 80))


def test_each_token_is_masked_once_a_strand(checkpoint, reference):
    model = CountingModel(checkpoint.tokenizer.lengths)
    scorer = RegionScorer(model, checkpoint.tokenizer, reference, ScoringParameters(window=64))
    list(scorer.score(frame([("2", 0, 40, "x")])))
    bases = reference.fetch("2", 0, 40)
    tokens = sum(checkpoint.tokenizer.encode(s).size for s in (bases, reverse_complement(bases)))
    assert model.masked == tokens
