"""Contexts and haplotypes out of the store: the model sees what is new and nothing else, and no bit of a result changes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import StoreError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.scoring import contexts as contexts_module
from dnagrinder.scoring.contexts import CONTEXT_FLANK, base_contexts, context_sites, site_pieces
from dnagrinder.scoring.parameters import TILE, ScoringParameters
from dnagrinder.scoring.session import open_session
from dnagrinder.scoring.snv import Site
from dnagrinder.scoring.store.parts import list_parts
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.store.upkeep import prune_store, store_stats, verify_store
from dnagrinder.scoring.tables import write_parquet
from tests.scoring.store_rows import PROVENANCE
from tests.tiny_checkpoint import make_tiny_checkpoint

LENGTHS = {"1": 3000, "2": 40}
PLACES = st.one_of(
    st.tuples(st.just("1"), st.sampled_from([0, 1, 49, 50, 51, 1990, 2047, 2048, 2949, 2950, 2999])),
    st.tuples(st.just("1"), st.integers(0, 2999)),
    st.tuples(st.just("2"), st.integers(0, 39)),
)
PROCESS = """
import os, signal, sys
from dnagrinder.cli import app
from dnagrinder.scoring import contexts, haplotypes
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.store import haplotypes as stored
haplotypes.CHUNK, stored.PIECE, contexts.SITES = 2, 2, 1
forward, left = Engine._forward, int(sys.argv.pop(1))
def counted(self, *arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, *arguments)
Engine._forward = counted
app()
"""


class CountedScorer:
    """Log-probabilities that follow from the site; notes every site it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Site] = []

    def base_log_probs(self, sites: list[Site]) -> np.ndarray:
        self.asked += sites
        return np.array([[-(site.start + 1) / (7 + base) - len(site.contig) for base in range(4)] for site in sites])


@settings(deadline=None, max_examples=40)
@given(rounds=st.lists(st.lists(PLACES, max_size=6), max_size=4))
def test_no_site_is_scored_twice(tmp_path_factory, fasta, rounds):
    """Overlapping and equal contexts, contig ends, several runs on one store."""
    root = tmp_path_factory.mktemp("store")
    scorer = CountedScorer()
    with ReferenceGenome.open(fasta) as reference:
        for places in rounds:
            alleles = [Allele(contig, start, "A", "G") for contig, start in places]
            table = base_contexts(scorer, reference, alleles, ScoreStore(root, PROVENANCE).bases)
            expected = [
                {"key": allele.key, "position": start + 1, "ref": reference.fetch(allele.contig, start, start + 1)}
                | dict(zip(table.column_names[3:], CountedScorer().base_log_probs([site])[0].tolist(), strict=True))
                for allele in alleles
                for start in range(
                    max(0, allele.start - CONTEXT_FLANK), min(LENGTHS[allele.contig], allele.start + 1 + CONTEXT_FLANK)
                )
                for site in [Site(allele.contig, start)]
            ]
            assert table.to_pylist() == expected
            assert base_contexts(CountedScorer(), reference, alleles).equals(table)
        wanted = {Site(contig, s) for places in rounds for contig, p in places for s in around(contig, p)}
    assert len(scorer.asked) == len(set(scorer.asked))
    assert set(scorer.asked) == wanted


def around(contig: str, place: int) -> range:
    return range(max(0, place - CONTEXT_FLANK), min(LENGTHS[contig], place + CONTEXT_FLANK + 1))


def test_pieces_are_cut_between_tiles_only(monkeypatch):
    monkeypatch.setattr(contexts_module, "SITES", 3)
    places = [("1", 0), ("1", 1), ("1", TILE), ("1", TILE + 1), ("1", TILE + 2), ("1", 2 * TILE), ("2", 0)]
    sites = [Site(*place) for place in places]
    assert list(site_pieces(sites)) == [sites[:5], sites[5:]]
    assert list(site_pieces([])) == []


@pytest.mark.parametrize("lattice", [0, 32])
def test_contexts_share_what_the_store_holds(fasta, checkpoint, tmp_path, lattice):
    parameters = ScoringParameters(window=128, lattice=lattice)
    with open_session(fasta, str(checkpoint.folder), parameters, device="cpu") as session:
        store = ScoreStore(tmp_path, session.provenance)
        first, second = (Allele("1", start, "A", "G") for start in (2060, 2080))  # 40 N lie around them
        plain = [session.base_contexts([one]) for one in (first, second)]
        before = session.engine.forwards
        kept = [session.base_contexts([one], store=store) for one in (first, second)]
        used = session.engine.forwards - before
        again = [session.base_contexts([one], store=store) for one in (second, first)]
        assert session.engine.forwards - before == used
        if not lattice:
            assert used == 2 * (101 + 20)  # strands x sites
    assert repr([table.to_pylist() for table in kept]) == repr([table.to_pylist() for table in plain])
    assert repr([table.to_pylist() for table in again]) == repr([table.to_pylist() for table in plain[::-1]])
    assert store_stats(tmp_path)[0]["bases"]["rows"] == 121


@pytest.fixture(scope="module")
def common(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command's arguments: the example's joint call set, a tiny model, a small window."""
    model = make_tiny_checkpoint(tmp_path_factory.mktemp("model"))
    example = repository / "config" / "example"
    options = [f"--reference={example / 'reference.fa.gz'}", f"--checkpoint={model}", "--window=128", "--device=cpu"]
    return ["score-haplotypes", str(example / "joint.vcf.gz"), *options, "--distance=25", "--threads=1", "--json"]


def told_by(command: list[str], out: Path, *options: str) -> dict[str, int]:
    result = CliRunner().invoke(app, [*command, f"--out={out}", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, int] = json.loads(result.stdout)
    return told


@pytest.fixture(scope="module")
def plain(common: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], bytes]:
    """What score-haplotypes tells and writes without a store."""
    out = tmp_path_factory.mktemp("plain") / "h.parquet"
    return told_by(common, out), out.read_bytes()


def test_another_sample_costs_its_own_haplotypes_only(common, plain, tmp_path):
    store = f"--store={tmp_path / 'store'}"
    one = told_by(common, tmp_path / "one.parquet", store, "--sample=HG00171")
    alone = told_by(common, tmp_path / "alone.parquet", "--sample=HG00171")
    assert one["tokens"] == alone["tokens"] > 0
    every = told_by(common, tmp_path / "all.parquet", store)
    assert 0 < every["tokens"] == plain[0]["tokens"] - one["tokens"]
    assert (tmp_path / "all.parquet").read_bytes() == plain[1]
    again = told_by(common, tmp_path / "again.parquet", store)
    assert again == plain[0] | {"tokens": 0}
    assert (tmp_path / "again.parquet").read_bytes() == plain[1]
    assert prune_store(tmp_path / "store")["parts_after"] == 1
    assert told_by(common, tmp_path / "pruned.parquet", store)["tokens"] == 0
    assert (tmp_path / "pruned.parquet").read_bytes() == plain[1]


def test_another_method_reads_no_old_scores(common, plain, tmp_path, monkeypatch):
    store = f"--store={tmp_path / 'store'}"
    told_by(common, tmp_path / "old.parquet", store)
    monkeypatch.setattr("dnagrinder.scoring.store.haplotypes.HAPLOTYPE_METHOD", "another/2")
    assert told_by(common, tmp_path / "new.parquet", store)["tokens"] == plain[0]["tokens"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_job_goes_on_where_it_was(common, plain, tmp_path, repository, seed):
    """kill -9 at a random forward pass, twice; what is on disk is not scored again."""
    store, out = tmp_path / "store", tmp_path / "h.parquet"
    chosen = random.Random(seed)
    for _ in range(2):
        passes = str(chosen.randint(2, 5))
        command = [sys.executable, "-P", "-c", PROCESS, passes, *common, f"--out={out}", f"--store={store}"]
        paths = {"PYTHONPATH": f"{repository / 'workflow'}:{repository / 'kernels'}"}
        done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
    (told,) = store_stats(store)
    assert told["haplotypes"]["rows"] == told["haplotypes"]["haplotypes"] > 0
    assert verify_store(store)[1] == []
    resumed = told_by(common, out, f"--store={store}")
    assert 0 < resumed["tokens"] < plain[0]["tokens"]
    assert out.read_bytes() == plain[1]
    assert verify_store(store)[0]["haplotypes"] == plain[0]["haplotypes"] == verify_store(store)[0]["rows"]


def test_a_killed_context_goes_on_where_it_was(common, tmp_path, repository):
    """Five variants in as many tiles; each tile is a piece."""
    rows = [
        {
            "contig": "20",
            "start": 1_002_655 + 3 * TILE * n,
            "ref": "G",
            "alt": "A",
            "kind": "snv",
            "score": -1.0 - n,
            "af": 0.5,
        }
        for n in range(5)
    ]
    write_parquet(pa.Table.from_pylist(rows), tmp_path / "scores.parquet")
    options = [option for option in common[2:] if "distance" not in option]
    command = ["score-context", str(tmp_path / "scores.parquet"), *options]
    plain = told_by(command, tmp_path / "plain.parquet")
    out, store = tmp_path / "out.parquet", tmp_path / "store"
    paths = {"PYTHONPATH": f"{repository / 'workflow'}:{repository / 'kernels'}"}
    killed = [sys.executable, "-P", "-c", PROCESS, "3", *command, f"--out={out}", f"--store={store}"]
    done = subprocess.run(killed, env=os.environ | paths, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = store_stats(store)[0]["bases"]["sites"]
    assert kept in (101, 202, 303)
    resumed = told_by(command, out, f"--store={store}")
    assert 0 < resumed["tokens"] < plain["tokens"]
    assert out.read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    assert store_stats(store)[0]["bases"]["rows"] == 505


def test_jobs_at_once_write_the_same(common, plain, tmp_path, repository):
    outs = [tmp_path / f"{number}.parquet" for number in range(2)]
    paths = {"PYTHONPATH": f"{repository / 'workflow'}:{repository / 'kernels'}"}
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", PROCESS, "1000", *common, f"--out={out}", f"--store={tmp_path / 'store'}"],
            env=os.environ | paths,
            stdout=subprocess.DEVNULL,
        )
        for out in outs
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert [out.read_bytes() for out in outs] == [plain[1]] * 2
    counts, problems = verify_store(tmp_path / "store")
    assert (problems, counts["conflicts"], counts["haplotypes"]) == ([], 0, plain[0]["haplotypes"])


def test_score_variants_takes_haplotypes_out_of_the_store(common, few, tmp_path, monkeypatch):
    command = ["score-variants", str(few), *common[2:], f"--store={tmp_path / 'store'}"]
    tables = [tmp_path / "first.parquet", tmp_path / "again.parquet"]
    for table in tables:
        result = CliRunner().invoke(app, [*command, f"--out={tmp_path / 'out.vcf.gz'}", f"--haplotypes={table}"])
        assert result.exit_code == 0, result.output
        monkeypatch.setattr("dnagrinder.scoring.packing.Engine._forward", None)
    assert json.loads(result.stdout)["haplotypes"] > 0
    assert tables[0].read_bytes() == tables[1].read_bytes()


@pytest.mark.parametrize("name", ["bases", "haplotypes"])
def test_a_store_that_cannot_be_written_is_told_before_work(common, tmp_path, monkeypatch, name):
    monkeypatch.setattr("os.access", lambda path, mode: not (mode == os.W_OK and Path(path).name == name))
    monkeypatch.setattr("dnagrinder.scoring.packing.Engine._forward", None)
    row = {"contig": "20", "start": 1_002_655, "ref": "G", "alt": "A", "kind": "snv", "score": -1.0, "af": 0.5}
    write_parquet(pa.Table.from_pylist([row]), tmp_path / "scores.parquet")
    context = [
        "score-context",
        str(tmp_path / "scores.parquet"),
        *(option for option in common[2:] if "distance" not in option),
    ]
    result = CliRunner().invoke(
        app, [*(context if name == "bases" else common), f"--out={tmp_path / 'out'}", f"--store={tmp_path / 'store'}"]
    )
    assert isinstance(result.exception, StoreError), result.output
    assert f"{name} cannot be written" in str(result.exception)


def test_a_damaged_part_ends_a_job_before_it_scores(common, tmp_path, monkeypatch):
    store = tmp_path / "store"
    told_by(common, tmp_path / "h.parquet", f"--store={store}", "--sample=HG00171")
    (context,) = store.iterdir()
    (part,) = list_parts(context / "haplotypes")
    part.write_bytes(part.read_bytes()[:-50])
    monkeypatch.setattr("dnagrinder.scoring.packing.Engine._forward", None)
    result = CliRunner().invoke(app, [*common, f"--out={tmp_path / 'again.parquet'}", f"--store={store}"])
    assert isinstance(result.exception, StoreError)
    assert part.name in str(result.exception)
    assert not (tmp_path / "again.parquet").exists()


def test_the_sites_of_a_context_are_clipped(reference):
    assert context_sites(reference, Allele("2", 3, "A", "G")) == [Site("2", start) for start in range(40)]
