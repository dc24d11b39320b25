"""Runs that share a score store: the same cohort again needs no model, another sample only what is new in it.

The commands are those that the rules run (test_snakefile sees that they get the store), here without Snakemake's start-up.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner
from workflow_run import Run

from dnagrinder.cli import app

Alleles = set[tuple[str, int, str, str]]


def command(*arguments: object) -> dict[str, int]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    result: dict[str, int] = json.loads(done.stdout)
    return result


def alleles(table: Path) -> Alleles:
    return {tuple(row.values()) for row in pq.read_table(table, columns=["contig", "start", "ref", "alt"]).to_pylist()}


def score(run: Run, folder: Path, *callsets: str) -> tuple[dict[str, int], Alleles, Alleles]:
    """(what score-alleles counted, alleles scored, alleles out of the store) of a cohort of VCFs."""
    genome = ["--reference", run.folder / "reference.fa.gz"]
    tables = [folder / f"{name}.alleles" for name in callsets]
    for name, table in zip(callsets, tables, strict=True):
        others = [f"--{other}={folder}/{name}.{other}" for other in ("ledger", "genotypes", "summary")]
        command("read-variants", run.folder / f"{name}.vcf", *genome, "--alleles", table, *others)
    model = ["--checkpoint", run.folder / "model", "--store", run.folder / "store"]
    command("unique-alleles", *tables, *genome, *model, "--shards", 1, "--out-dir", folder)
    shard, out = folder / "shard-0001-of-0001.parquet", folder / "scores.parquet"
    counts = command("score-alleles", shard, *genome, *model, "--device", "cpu", "--threads", 1, "--out", out)
    return counts, alleles(out), alleles(folder / "stored.parquet")


def test_a_store_spares_the_model(new_run: Callable[..., Run], tmp_path: Path) -> None:
    run = new_run()
    counts, first, stored = score(run, tmp_path / "first", "one")
    assert counts["tokens"] > 0
    assert (counts["scored"], stored) == (len(first), set())
    assert first

    counts, new, stored = score(run, tmp_path / "again", "one")
    assert counts == {"scored": 0, "tokens": 0}
    assert (new, stored) == (set(), first)

    counts, new, stored = score(run, tmp_path / "more", "one", "joint")
    assert (counts["scored"], stored) == (len(new), first)
    assert new == alleles(tmp_path / "more" / "joint.alleles") - first
    assert new
