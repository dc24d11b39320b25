"""In-silico mutagenesis: the variant's own substitution is its score, and the tracks hold each base once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.genome.variants import Allele
from dnagrinder.model.tokenizer import BASES
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.contexts import CONTEXT_FLANK
from dnagrinder.scoring.mutagenesis import TRACKS, mutagenesis_tracks, substitution_effects
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.session import open_session
from dnagrinder.scoring.tables import read_parquet, write_parquet
from tests.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(make_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny"))


def snvs(reference, start):
    ref = reference.fetch("1", start, start + 1)
    return [Allele("1", start, ref, alt) for alt in BASES if alt != ref]


@pytest.mark.parametrize(("lattice", "views"), [(0, 1), (0, 3), (32, 1), (64, 2)])
def test_the_effect_at_the_variant_is_its_score(fasta, model, lattice, views):
    parameters = ScoringParameters(window=128, views=views, lattice=lattice)
    with open_session(fasta, model, parameters, device="cpu") as session:
        alleles = snvs(session.reference, 700)
        contexts = session.base_contexts(alleles[:1])
        scorer = AlleleScorer(session.engine, session.checkpoint.tokenizer, session.reference, parameters)
        scores = {item.allele.alt: item.score for item in scorer.score(alleles)}
    assert len(contexts) == 2 * CONTEXT_FLANK + 1 == 101
    logs = np.stack([contexts[f"log_p_{base.lower()}"].to_numpy() for base in BASES], axis=1)
    effects = substitution_effects("".join(contexts["ref"].to_pylist()), logs)
    own = dict(zip(BASES, effects[CONTEXT_FLANK].tolist(), strict=True))
    for alt, score in scores.items():
        assert own[alt] == pytest.approx(score, abs=1e-9)
    assert np.isnan(own[alleles[0].ref])


def context_table(key, first, bases, log_probs):
    rows = [
        {"key": key, "position": first + n, "ref": base}
        | {f"log_p_{b.lower()}": value for b, value in zip(BASES, logs, strict=True)}
        for n, (base, logs) in enumerate(zip(bases, log_probs, strict=True))
    ]
    return pa.Table.from_pylist(rows)


def test_tracks_hold_each_base_once_in_order():
    logs = [(-1.0, -2.0, -3.0, -4.0), (-1.0, -1.5, -2.0, -2.5), (np.nan,) * 4]
    near = context_table("7:12:A:C", 11, "ACN", logs)
    other = context_table("10:5:T:C", 5, "T", [(-4.0, -3.0, -2.0, -1.0)])
    lines = mutagenesis_tracks(pa.concat_tables([near, other, context_table("7:11:A:T", 11, "AC", logs[:2])]))
    assert tuple(lines) == TRACKS
    assert lines["mean"] == ["10\t4\t5\t-2.0000", "7\t10\t11\t-2.0000", "7\t11\t12\t-0.3333"]
    assert lines["A"] == ["10\t4\t5\t-3.0000", "7\t11\t12\t0.5000"]
    assert lines["T"] == ["7\t10\t11\t-3.0000", "7\t11\t12\t-1.0000"]


def test_score_context_writes_tracks_on_request(fasta, model, reference, tmp_path):
    rows = [
        {
            "contig": "1",
            "start": a.start,
            "ref": a.ref,
            "alt": a.alt,
            "kind": "snv",
            "score": -1.0 - a.start / 1000,
            "af": 0.5,
        }
        for start in (20, 60, 2110)
        for a in snvs(reference, start)[:1]
    ]
    write_parquet(pa.Table.from_pylist(rows), tmp_path / "scores.parquet")
    command = ["score-context", str(tmp_path / "scores.parquet"), "-r", str(fasta), "-c", model, "--window", "128"]
    command += ["--device", "cpu", "--lattice", "64", "--out", str(tmp_path / "context.parquet")]
    result = CliRunner().invoke(app, [*command, "--tracks", str(tmp_path / "tracks")])
    assert result.exit_code == 0, result.output
    contexts = read_parquet(tmp_path / "context.parquet")
    assert len(contexts) == 20 + 51 + 101 + 101
    assert sorted(path.name for path in (tmp_path / "tracks").iterdir()) == sorted(f"{name}.bedgraph" for name in TRACKS)
    header, *lines = (tmp_path / "tracks" / "mean.bedgraph").read_text().splitlines()
    assert header.startswith("track type=bedGraph")
    places = [(int(start), int(end)) for _, start, end, _ in (line.split("\t") for line in lines)]
    assert places == [(p, p + 1) for p in [*range(111), *range(2100, 2161)]], "N has no effect, overlaps count once"
