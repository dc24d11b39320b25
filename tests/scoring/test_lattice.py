"""Lattice passes: what is masked, what a score depends on, and that one mask in a pass is the single mask."""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele, normalise
from dnagrinder.model.tokenizer import MASK
from dnagrinder.scoring import alleles as scoring
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.lattice import lattice_inputs, lattice_log_probs
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import LATTICES, METHOD_REVISION, TILE, VIEWS, ScoringParameters
from dnagrinder.scoring.session import open_session
from dnagrinder.scoring.snv import Site, run_sites, site_log_probs
from dnagrinder.sequence import reverse_complement

D = 64
PARAMETERS = ScoringParameters(window=128, lattice=D)


@pytest.fixture(scope="session")
def genome(fasta):
    with ReferenceGenome.open(fasta) as opened:
        yield opened


@pytest.fixture(scope="session")
def shared_engine(checkpoint):
    device = torch.device("cpu")
    return Engine(checkpoint.load_model(device), device)


@pytest.fixture(scope="session")
def everything(shared_engine, checkpoint, genome):
    """Rows of every base of both contigs, asked for together."""
    sites = [Site(c.name, p) for c in genome.contigs for p in range(c.length)]
    rows = lattice_log_probs(shared_engine, checkpoint.tokenizer, genome, sites, PARAMETERS)
    return dict(zip(sites, rows, strict=True))


@pytest.fixture(scope="session")
def three_tiles(tmp_path_factory):
    """Contig ``1``: two whole tiles and 90 bases; 150 N in the second tile."""
    bases = "".join(random.Random(8).choices("ACGT", k=2 * TILE + 90))
    path = tmp_path_factory.mktemp("tiles") / "genome.fa"
    path.write_text(f">1\n{bases[:3000]}{'N' * 150}{bases[3150:]}\n")
    with ReferenceGenome.open(path) as opened:
        yield opened


@pytest.mark.parametrize("position", [0, 700, TILE - 1, TILE, 2990, 2 * TILE - 1, 2 * TILE, 2 * TILE + 89])
@pytest.mark.parametrize("view", [0, 1])
def test_the_class_of_a_site_is_masked_in_its_tile(checkpoint, three_tiles, position, view):
    """On either strand: half a window around the core, a mask at every known site of the class, pieces tokenised apart."""
    tokenizer, (length, slot) = checkpoint.tokenizer, VIEWS[view]
    parameters = ScoringParameters(window=128, views=view + 1, lattice=D)
    prepared = lattice_inputs(tokenizer, three_tiles, [Site("1", position)], parameters)
    length_1 = 2 * TILE + 90
    core = (position // TILE * TILE, min((position // TILE + 1) * TILE, length_1))
    start, end = max(0, core[0] - 64), min(length_1, core[1] + 64)
    bases = three_tiles.fetch("1", start, end)
    known = [p for p in range(*core) if p % D == position % D and bases[p - start] != "N"]
    assert position in known
    for reverse in (False, True):
        sequence = reverse_complement(bases) if reverse else bases
        offsets = sorted(end - 1 - p if reverse else p - start for p in known)
        lefts = [o - slot for o in offsets if o >= slot and o - slot + length <= len(sequence)]
        here = end - 1 - position if reverse else position - start
        found = [
            (model_input, owners)
            for model_input, (owners, owned, strand) in zip(prepared.inputs, prepared.owners, strict=True)
            if (owned, strand) == (VIEWS[view], reverse)
        ]
        if here - slot not in lefts:
            assert found == []
            continue
        ((model_input, owners),) = found
        assert owners == (0,)
        masks = np.flatnonzero(model_input.ids == MASK)
        assert model_input.masked == (masks[lefts.index(here - slot)],)
        pieces = np.split(model_input.ids[1:-1], masks - 1)
        texts = [sequence[a:b] for a, b in zip([0, *(x + length for x in lefts)], [*lefts, len(sequence)], strict=True)]
        for number, (piece, text) in enumerate(zip(pieces, texts, strict=True)):
            assert piece[min(number, 1) :].tolist() == tokenizer.encode(text).tolist()


def test_one_mask_in_a_pass_is_the_single_mask(engine, checkpoint, reference):
    """A contig shorter than D and than half the window: the same input, so the same bits."""
    sites = [Site("2", p) for p in range(40)]
    single = site_log_probs(engine, checkpoint.tokenizer, reference, sites, ScoringParameters(window=512, views=6))
    lattice = lattice_log_probs(
        engine, checkpoint.tokenizer, reference, sites, ScoringParameters(window=512, views=6, lattice=D)
    )
    for one, other in zip(single, lattice, strict=True):
        assert one.tobytes() == other.tobytes()


@settings(max_examples=15)
@given(places=st.lists(st.integers(0, 2**16), min_size=1, max_size=25), budget=st.sampled_from([1, 700, 3000, 8192]))
def test_a_score_depends_on_nothing_but_its_position(everything, shared_engine, checkpoint, genome, places, budget):
    """Any sites, in any order, in packs of any size, give the bits that all sites together gave."""
    known = list(everything)
    sites = list(dict.fromkeys(known[place % len(known)] for place in places))
    shared_engine.token_budget = budget
    rows = lattice_log_probs(shared_engine, checkpoint.tokenizer, genome, sites, PARAMETERS)
    for site, found in zip(sites, rows, strict=True):
        assert found.tobytes() == everything[site].tobytes()


def test_unknown_bases_are_no_sites(everything, checkpoint, genome, tmp_path):
    unknown = [site for site, rows in everything.items() if not np.isfinite(rows).all()]
    assert [(site.contig, site.start) for site in unknown] == [("1", p) for p in range(2000, 2100)]
    assert all(rows.shape == ((1, 4) if site in unknown else (2, 4)) for site, rows in everything.items())
    (tmp_path / "n.fa").write_text(f">1\n{'N' * 3000}\n")
    with ReferenceGenome.open(tmp_path / "n.fa") as empty:
        prepared = lattice_inputs(checkpoint.tokenizer, empty, [Site("1", 5), Site("1", 2500)], PARAMETERS)
    assert prepared.inputs == []
    assert np.isnan(run_sites(_NoModel(), prepared)).all()


def test_a_site_given_twice_is_refused(checkpoint, genome):
    with pytest.raises(ValueError, match="each site once"):
        lattice_inputs(checkpoint.tokenizer, genome, [Site("1", 5), Site("1", 5)], PARAMETERS)


class _NoModel:
    def log_probs(self, inputs, _):
        assert not inputs


def test_rows_are_distributions_and_differ_between_sites(everything):
    known = [rows for rows in everything.values() if np.isfinite(rows).all()]
    np.testing.assert_allclose(np.exp(np.stack(known)).sum(axis=2), 1, rtol=1e-6)
    assert len({rows.tobytes() for rows in known}) > 0.99 * len(known)


def test_every_spacing_is_a_method_of_its_own(checkpoint, reference, engine):
    kinds = [ScoringParameters(lattice=spacing) for spacing in LATTICES]
    assert len({parameters.digest for parameters in kinds}) == len(LATTICES)
    sites = [Site("1", p) for p in (100, 900)]
    rows = [
        np.stack(lattice_log_probs(engine, checkpoint.tokenizer, reference, sites, ScoringParameters(128, lattice=d)))
        for d in LATTICES[1:]
    ]
    assert len({table.tobytes() for table in rows}) == len(rows)
    with pytest.raises(ConfigError, match="lattice is one of 0, 32, 64, 128, 256, found 5"):
        ScoringParameters(lattice=5)


def test_the_lattice_leaves_the_digests_of_single_masks_alone():
    """Stores filled before there was a lattice stay valid."""
    parameters = ScoringParameters(window=300, views=2)
    before = {"window": 300, "views": VIEWS[:2], "precision": "float32", "epsilon": 1e-6, "method_revision": METHOD_REVISION}
    assert parameters.digest == hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert parameters.stated == {"window": 300, "views": 2, "precision": "float32", "epsilon": 1e-6}
    assert ScoringParameters(lattice=D).stated["tile"] == TILE


@pytest.fixture
def sample_alleles(reference):
    rng = random.Random(5)
    result = []
    for start in [*rng.sample(range(1, 1900), 12), 2101, 2500, 2900]:
        ref = reference.fetch("1", start, start + 1)
        result += [Allele("1", start, ref, alt) for alt in "ACGT" if alt != ref]
        result.append(normalise(reference, "1", start, ref, ref + rng.choice(["ACG", "TTTT", "G"])))
    return list(dict.fromkeys(result))


def test_order_and_chunks_do_not_change_a_score(engine, checkpoint, reference, sample_alleles, monkeypatch):
    scorer = AlleleScorer(engine, checkpoint.tokenizer, reference, PARAMETERS)

    def scores(alleles):
        return {s.allele: repr(asdict(s)) for s in scorer.score(alleles)}

    ordered = sorted(sample_alleles, key=lambda allele: (allele.contig, allele.start))
    first = scores(ordered)
    monkeypatch.setattr(scoring, "CHUNK", 3)
    assert scores(ordered) == first
    assert scores(random.Random(1).sample(ordered, len(ordered))) == first


def test_snvs_come_from_the_lattice_and_all_else_as_before(engine, checkpoint, reference, sample_alleles):
    lattice = AlleleScorer(engine, checkpoint.tokenizer, reference, PARAMETERS)
    single = AlleleScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=128))
    for one, other in zip(lattice.score(sample_alleles), single.score(sample_alleles), strict=True):
        if one.allele.kind == "snv":
            assert one.method == "snv_lattice"
            assert one.score != other.score
            assert math.isnan(one.cosine_distance)
            assert math.isnan(one.l2_distance)
        else:
            assert one == other


def test_a_pass_is_run_once_for_all_alleles_of_a_tile(engine, checkpoint, reference):
    alleles = [
        Allele("1", p, ref, alt)
        for p in range(100, 100 + 2 * D)
        for ref in reference.fetch("1", p, p + 1)
        for alt in "ACGT"
        if alt != ref
    ]
    scorer = AlleleScorer(engine, checkpoint.tokenizer, reference, PARAMETERS)
    assert len(list(scorer.score(alleles))) == 6 * D
    assert engine.forwards == 2 * D


def test_an_snv_of_another_reference_is_refused(engine, checkpoint, reference):
    ref = reference.fetch("1", 300, 301)
    wrong, alt = [base for base in "ACGT" if base != ref][:2]
    with pytest.raises(InputError, match=f"1:301:{wrong}:{alt}"):
        list(AlleleScorer(engine, checkpoint.tokenizer, reference, PARAMETERS).score([Allele("1", 300, wrong, alt)]))


def test_the_embedded_model_agrees_with_its_single_mask(repository):
    """Rank correlation of neighbouring SNVs of the example; docs/lattice.md has the measurement on chromosome 20."""
    sites = [Site("20", p) for p in range(1_100_000, 1_100_600, 12)]
    found = []
    for function, spacing in ((site_log_probs, 0), (lattice_log_probs, 32)):
        parameters = ScoringParameters(lattice=spacing)
        with open_session(repository / "config/example/reference.fa.gz", "mini", parameters, device="cpu") as session:
            rows = function(session.engine, session.checkpoint.tokenizer, session.reference, sites, parameters)
            truth = ["ACGT".index(session.reference.fetch("20", site.start, site.start + 1)) for site in sites]
        means = np.stack([table.mean(axis=0) for table in rows])
        changes = means - means[np.arange(len(sites)), truth][:, np.newaxis]
        found.append(changes[np.arange(4) != np.array(truth)[:, np.newaxis]])
    single, lattice = (np.argsort(np.argsort(scores)) for scores in found)
    assert np.corrcoef(single, lattice)[0, 1] > 0.95
