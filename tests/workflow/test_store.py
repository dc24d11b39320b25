"""Runs that share a score store: the same cohort again needs no model, another sample only what is new in it.

The commands are those that the rules run (test_snakefile sees that they get the store), here without Snakemake's start-up.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from workflow_run import JOINT_SAMPLES, Run

from dnagrinder.cli import app
from dnagrinder.scoring.packing import Engine

Alleles = set[tuple[str, int, str, str]]
COLUMNS = {"one": ("HG00096",), "joint": JOINT_SAMPLES}  # samples of each call set


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def command(*arguments: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(invoke(*arguments, "--json"))
    return result


def alleles(table: Path) -> Alleles:
    return {tuple(row.values()) for row in pq.read_table(table, columns=["contig", "start", "ref", "alt"]).to_pylist()}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of sequences of every forward pass."""
    seen: list[int] = []
    forward = Engine._forward

    def counted(engine: Engine, parts: list[Any], *rest: Any) -> Any:
        seen.append(len(parts))
        return forward(engine, parts, *rest)

    monkeypatch.setattr(Engine, "_forward", counted)
    return seen


def score(run: Run, folder: Path, *callsets: str) -> tuple[dict[str, int], Alleles, Alleles]:
    """(what score-alleles counted, alleles scored, alleles out of the store) of a cohort of VCFs."""
    genome = ["--reference", run.folder / "reference.fa.gz"]
    tables = [folder / f"{name}.alleles" for name in callsets]
    for name, table in zip(callsets, tables, strict=True):
        others = [f"--{other}={folder}/{name}.{other}" for other in ("ledger", "genotypes", "summary")]
        columns = [f"--sample={sample}" for sample in COLUMNS[name]]
        command("read-variants", run.folder / f"{name}.vcf", *genome, *columns, "--alleles", table, *others)
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


def rest(run: Run, folder: Path, *callsets: str, with_store: bool = True) -> dict[str, bytes]:
    """What the model makes of a cohort beside the scores of alleles: haplotypes of call sets, contexts of samples."""
    model = ["--reference", run.folder / "reference.fa.gz", "--checkpoint", run.folder / "model", "--device", "cpu"]
    model += ["--threads", 1, *(["--store", run.folder / "store"] if with_store else [])]
    made = {}
    for name in callsets:
        columns = [f"--sample={sample}" for sample in COLUMNS[name]]
        made[name] = folder / f"{name}.haplotypes"
        command("score-haplotypes", run.folder / f"{name}.vcf", *columns, *model, "--out", made[name])
        tables = [f"--{table}={folder}/{name}.{table}" for table in ("alleles", "ledger", "genotypes", "summary")]
        scores = [folder / "scores.parquet", folder / "stored.parquet"]
        for sample in COLUMNS[name]:
            invoke("sample-tables", *scores, *tables, f"--sample={sample}", "--out-dir", folder)
            made[sample] = folder / sample / "context.parquet"
            command("score-context", folder / sample / "scores.parquet", *model, "--top", 4, "--out", made[sample])
    return {name: path.read_bytes() for name, path in made.items()}


def without_status(table: Path) -> list[dict[str, object]]:
    return pq.read_table(table).drop_columns("status").to_pylist()


def test_the_same_cohort_needs_no_forward_pass(new_run: Callable[..., Run], tmp_path: Path, passes: list[int]) -> None:
    run = new_run()
    score(run, tmp_path / "first", "one")
    plain = rest(run, tmp_path / "first", "one", with_store=False)
    passes.clear()
    assert rest(run, tmp_path / "first", "one") == plain
    for_one = sum(passes)
    assert for_one > 0
    passes.clear()

    score(run, tmp_path / "again", "one")
    assert rest(run, tmp_path / "again", "one") == plain
    assert passes == []
    tables = [tmp_path / name / "HG00096" / "scores.parquet" for name in ("first", "again")]
    assert without_status(tables[0]) == without_status(tables[1])

    score(run, tmp_path / "more", "one", "joint")
    passes.clear()
    more = rest(run, tmp_path / "more", "one", "joint")
    for_more = sum(passes)
    passes.clear()
    assert rest(run, tmp_path / "more", "one", "joint", with_store=False) == more
    assert 0 < for_more < sum(passes) - for_one
    assert {name: more[name] for name in plain} == plain
    (told,) = command("store", "stats", "--store", run.folder / "store")["contexts"]
    for name, unit in (("bases", "sites"), ("haplotypes", "haplotypes")):
        assert told[name]["rows"] == told[name][unit] > 0
