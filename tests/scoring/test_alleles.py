"""Scores of alleles with the tiny model: identities that must hold whatever the weights."""

import math
import random
from dataclasses import asdict

import pytest

from dnagrinder.errors import InputError
from dnagrinder.genome.variants import Allele, normalise
from dnagrinder.scoring import alleles as module
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.parameters import ScoringParameters


@pytest.fixture
def scorer(engine, checkpoint, reference):
    return AlleleScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=128, views=2))


@pytest.fixture
def sample_alleles(reference):
    rng = random.Random(5)
    result = []
    for start in rng.sample(range(1, 1900), 25):
        ref = reference.fetch("1", start, start + 1)
        result += [Allele("1", start, ref, alt) for alt in "ACGT" if alt != ref]
        result.append(normalise(reference, "1", start, ref, ref + rng.choice(["ACG", "TTTT", "G"])))
        result.append(normalise(reference, "1", start, reference.fetch("1", start, start + 4), ref))
    return list(dict.fromkeys(result))


def test_order_and_chunks_do_not_change_a_score(scorer, sample_alleles, monkeypatch):
    first = {s.allele: asdict(s) for s in scorer.score(sample_alleles)}
    shuffled = random.Random(1).sample(sample_alleles, len(sample_alleles))
    monkeypatch.setattr(module, "CHUNK", 7)
    second = {s.allele: asdict(s) for s in scorer.score(shuffled)}
    assert first == second
    assert len({s["score"] for s in first.values()}) > len(first) // 2


def test_alternates_of_a_site_are_differences_of_one_distribution(scorer, reference):
    ref = reference.fetch("1", 300, 301)
    a, b, c = (Allele("1", 300, ref, alt) for alt in "ACGT" if alt != ref)
    scores = {s.allele: s for s in scorer.score([a, b, c])}
    assert scores[a].log_p_ref == scores[b].log_p_ref == scores[c].log_p_ref
    for item in scores.values():
        assert item.score == pytest.approx(item.log_p_alt - item.log_p_ref)
        assert item.views == 4
        assert item.spread >= 0


def test_methods_follow_the_kind(scorer, sample_alleles):
    for item in scorer.score(sample_alleles):
        assert item.method == ("snv_marginal" if item.allele.kind == "snv" else "block_likelihood")


def test_both_ends_of_a_contig_are_scored(scorer, reference):
    found = list(
        scorer.score(
            [
                Allele("2", 0, reference.fetch("2", 0, 1), "A" if reference.fetch("2", 0, 1) != "A" else "C"),
                normalise(reference, "2", 37, reference.fetch("2", 37, 40), reference.fetch("2", 37, 38)),
            ]
        )
    )
    assert all(math.isfinite(item.score) for item in found)
    assert found[0].method == "snv_marginal"


def test_progress_ends_at_the_total(scorer, sample_alleles):
    calls = []
    list(scorer.score(sample_alleles, lambda done, total: calls.append((done, total))))
    assert calls[-1] == (len(sample_alleles), len(sample_alleles))


def test_an_allele_of_another_reference_is_refused(scorer, reference):
    ref = reference.fetch("1", 300, 301)
    wrong, alt = [base for base in "ACGT" if base != ref][:2]
    with pytest.raises(InputError, match=f"1:301:{wrong}:{alt}"):
        list(scorer.score([Allele("1", 300, wrong, alt)]))
