"""Annotation in pieces: the pieces do not show, and memory does not grow with the records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dnagrinder.genome.tables import ALLELES, LEDGER
from dnagrinder.reports.vcf import annotate_vcf
from dnagrinder.scoring import tables
from dnagrinder.scoring.tables import SCORE_SCHEMA, write_parquet
from tests.reports.conftest import PROVENANCE, Callset, Cohort

MEASURED = Path(__file__).parent.parent / "benchmarks" / "measured.py"
HEADER = "##fileformat=VCFv4.2\n##contig=<ID=20>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def annotated(callset: Callset, folder: Path) -> tuple[bytes, bytes]:
    """The annotated VCF and its index."""
    out = folder / "out.vcf.gz"
    annotate_vcf(
        callset.vcf,
        out,
        alleles=callset.alleles,
        ledger=callset.ledger,
        scores=callset.scores,
        provenance=PROVENANCE,
        tool_version="0.1.0",
    )
    return out.read_bytes(), out.with_name("out.vcf.gz.tbi").read_bytes()


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_pieces_do_not_show(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    expected = annotated(cohort.callset, tmp_path)
    scores = [tmp_path / path.name for path in cohort.callset.scores]
    for source, path in zip(cohort.callset.scores, scores, strict=True):
        pq.write_table(pq.read_table(source), path, row_group_size=2 * rows)
    monkeypatch.setattr(tables, "ROW_GROUP", rows)
    assert annotated(replace(cohort.callset, scores=scores[::-1]), tmp_path) == expected


@pytest.mark.parametrize("rows", [1, 50])
def test_shuffled_records_come_out_as_sorted_ones(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    lines = cohort.callset.vcf.read_bytes().splitlines(keepends=True)
    header, records = ([line for line in lines if line.startswith(b"#") is wanted] for wanted in (True, False))
    order = np.random.default_rng(4).permutation(len(records))
    shuffled = replace(
        cohort.callset,
        vcf=tmp_path / "shuffled.vcf",
        alleles=tmp_path / "alleles.parquet",
        ledger=tmp_path / "ledger.parquet",
    )
    shuffled.vcf.write_bytes(b"".join([*header, *(records[row] for row in order)]))
    for source, path in ((cohort.callset.alleles, shuffled.alleles), (cohort.callset.ledger, shuffled.ledger)):
        table = pq.read_table(source)
        now = np.argsort(order)[table["record"].to_numpy()]
        table = table.set_column(0, "record", pa.array(now))
        write_parquet(table.sort_by([("record", "ascending"), ("alt_index", "ascending")]), path)
    (tmp_path / "in_order").mkdir()
    expected = annotated(cohort.callset, tmp_path / "in_order")
    monkeypatch.setattr(tables, "ROW_GROUP", rows)
    assert annotated(shuffled, tmp_path) == expected


def invented(folder: Path, records: int) -> list[str]:
    """Arguments of ``annotate`` for a call set of that many SNVs, every tenth of them rejected."""
    folder.mkdir()
    record = np.arange(records)
    start = 1_000 + 10 * record
    (folder / "in.vcf").write_text(HEADER + "".join(f"20\t{n + 1}\t.\tA\tC\t.\tPASS\tDP=7\n" for n in start.tolist()))
    place = {
        "record": record,
        "alt_index": np.ones(records, np.int32),
        "input_contig": np.full(records, "20"),
        "input_position": start + 1,
        "input_ref": np.full(records, "A"),
        "input_alt": np.full(records, "C"),
    }
    allele = {"contig": place["input_contig"], "start": start, "ref": np.full(records, "A"), "alt": np.full(records, "C")}
    refused = record % 10 == 5
    for name, schema, columns, rows in (
        ("alleles", ALLELES, {**place, **allele}, ~refused),
        ("ledger", LEDGER, {**place, "reason": np.full(records, "IUPAC")}, refused),
        ("scores", SCORE_SCHEMA, {**allele, "score": record / 7, "status": np.full(records, "scored")}, ~refused),
    ):
        present = {key: pa.array(values[rows]) for key, values in columns.items()}
        absent = {key: pa.nulls(rows.sum(), schema.field(key).type) for key in schema.names if key not in present}
        table = pa.table({key: {**present, **absent}[key] for key in schema.names}).cast(schema)
        write_parquet(table, folder / f"{name}.parquet", PROVENANCE)
    paths = {name: str(folder / f"{name}.parquet") for name in ("alleles", "ledger", "scores")}
    options = [f"--alleles={paths['alleles']}", f"--ledger={paths['ledger']}", f"--out={folder}/out.vcf.gz"]
    return ["annotate", f"{folder}/in.vcf", paths["scores"], *options]


def test_memory_does_not_grow_with_the_records(tmp_path: Path, repository: Path) -> None:
    """Held in memory whole, the tables of the second file would take 110 MiB more than those of the first."""
    peaks = []
    for records in (150_000, 450_000):
        command = invented(tmp_path / str(records), records)
        path = os.pathsep.join(str(repository / folder) for folder in ("workflow", "kernels"))
        facts = tmp_path / "facts.json"
        subprocess.run(
            [sys.executable, str(MEASURED), str(facts), *command],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        peaks.append(json.loads(facts.read_text())["memory"])
    assert peaks[1] - peaks[0] < 45
