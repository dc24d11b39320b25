"""Runs that share a score store: the same cohort again needs no model, another sample only what is new in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from workflow_run import Run

KEY = ("contig", "start", "ref", "alt")
TARGETS = ["results/scores/scores-0001-of-0001.parquet", "results/shards/stored.parquet"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "scores"


def scored(new_run: Callable[..., Run], store: Path, samples: str) -> tuple[dict[str, int], set, set]:
    """(what score-alleles counted, alleles scored, alleles out of the store) of a new run up to its scores."""
    run = new_run(store=str(store), scoring={"shards": 1, "views": 1, "device": "cpu"}, regions=None)
    (run.folder / "config" / "samples.tsv").write_text("sample\tvcf\n" + samples)
    run.snakemake(*TARGETS)
    log = (run.folder / "logs" / "scores" / "scores-0001-of-0001.log").read_text()
    counts = {name: int(value) for name, value in re.findall(r"^(scored|tokens): (\d+)$", log, flags=re.MULTILINE)}
    new, stored = (
        set(map(tuple, (row.values() for row in pq.read_table(run.folder / path).select(KEY).to_pylist())))
        for path in TARGETS
    )
    return counts, new, stored


def test_a_store_spares_the_model(new_run: Callable[..., Run], store: Path) -> None:
    counts, first, stored = scored(new_run, store, "one\tone.vcf\n")
    assert (counts["scored"], len(stored)) == (len(first), 0)
    assert counts["tokens"] > 0
    assert first
    counts, new, stored = scored(new_run, store, "one\tone.vcf\n")
    assert (counts, new, stored) == ({"scored": 0, "tokens": 0}, set(), first)
    counts, new, stored = scored(new_run, store, "one\tone.vcf\nHG00171\tjoint.vcf\n")
    assert stored == first
    assert new
    assert not new & first
    assert counts["scored"] == len(new)
