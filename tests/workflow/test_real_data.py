"""The real thing: chromosome 20 of GRCh37 and 1000 Genomes calls, 2,000 records and 10 samples, through the workflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pysam
import pytest
import yaml

from dnagrinder.scoring.tables import read_parquet

RECORDS, SAMPLES = 2000, 10
WINDOW = 64  # bases; the promises tested here do not depend on it, the time does
TARGETS = ("results/cohort/scores.parquet", "results/callsets/calls/scored.vcf.gz")

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def calls(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """(VCF of the first records with the first samples of the panel, their names)."""
    path = tmp_path_factory.mktemp("calls") / "calls.vcf"
    with pysam.VariantFile(str(shared_data / "grch37" / "kgp3_chr20_1-4M.phased300.vcf.gz")) as source:
        names = list(source.header.samples)[:SAMPLES]
        source.subset_samples(names)
        with pysam.VariantFile(str(path), "w", header=source.header) as out:
            for _, record in zip(range(RECORDS), source, strict=False):
                out.write(record)
    return path, names


def run_workflow(folder: Path, repository: Path, shared_data: Path, calls: Path, samples: list[str], shards: int) -> Path:
    (folder / "samples.tsv").write_text("sample\tvcf\n" + "".join(f"{name}\t{calls}\n" for name in samples))
    config = {
        "samples": "samples.tsv",
        "reference": str(shared_data / "grch37" / "chr20.fa.gz"),
        "scoring": {"window": WINDOW, "shards": shards, "device": "cpu"},
    }
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(repository / "workflow" / "Snakefile"), *TARGETS],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder / "results"


@pytest.fixture(scope="module")
def first(repository, shared_data, calls, tmp_path_factory) -> Path:
    path, names = calls
    return run_workflow(tmp_path_factory.mktemp("first"), repository, shared_data, path, names, 1)


def test_every_allele_is_scored_or_in_the_ledger(first, calls):
    with pysam.VariantFile(str(calls[0])) as vcf:
        expected = sum(len(record.alts or ()) for record in vcf)
    summary = json.loads((first / "callsets" / "calls" / "summary.json").read_text())
    assert summary["alleles_in"] == expected >= RECORDS
    with pysam.VariantFile(str(first / "callsets" / "calls" / "scored.vcf.gz")) as vcf:
        statuses = [status for record in vcf for status in record.info["DG_STATUS"]]
    assert len(statuses) == expected
    assert statuses.count("scored") + summary["rejected"] == expected


def test_all_reference_bases_match(first):
    """PROVENANCE.md: REF 24,990/24,990 for this call set."""
    summary = json.loads((first / "callsets" / "calls" / "summary.json").read_text())
    assert summary["ref_checked"] == summary["ref_matched"] == RECORDS


def test_each_sample_adds_up(first, calls):
    for name in calls[1]:
        counts = json.loads((first / "samples" / name / "sample.json").read_text())
        assert counts["alleles_in_file"] == counts["not_carried"] + counts["alleles_in"]
        assert counts["alleles_in"] == counts["scored"] + counts["from_store"] + counts["rejected"]


def test_a_second_run_gives_the_same_bytes(first, repository, shared_data, calls, tmp_path):
    path, names = calls
    second = run_workflow(tmp_path, repository, shared_data, path, names, 1)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.parametrize(("shards", "turn"), [(3, 4), (7, -1)])
def test_shards_and_sample_order_change_no_score(first, shards, turn, repository, shared_data, calls, tmp_path):
    path, names = calls
    order = names[::-1] if turn < 0 else names[turn:] + names[:turn]
    other = run_workflow(tmp_path, repository, shared_data, path, order, shards)
    table = Path("cohort") / "scores.parquet"
    assert read_parquet(other / table).equals(read_parquet(first / table))
    vcf = Path("callsets") / "calls" / "scored.vcf.gz"
    assert (other / vcf).read_bytes() == (first / vcf).read_bytes()
