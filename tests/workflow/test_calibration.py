"""A calibration that the configuration or the command line names reaches VCFs, tables and page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pysam
import pytest
import yaml
from workflow_run import Run

from dnagrinder.cli import main
from dnagrinder.scoring.calibration.calibrate import calibrate
from dnagrinder.scoring.calibration.file import Calibration, write_calibration
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.observations import LabelRules, read_scored
from dnagrinder.scoring.calibration.origin import ScoreOrigin
from dnagrinder.scoring.tables import read_provenance
from tests.scoring.calibration_inputs import separated, write_scored


@pytest.fixture(scope="module")
def scored(new_run: Callable[..., Run]) -> Run:
    """A run that has its scores, and no calibration yet."""
    run = new_run(scoring={"shards": 2, "views": 1, "device": "cpu", "haplotype_distance": 0})
    run.snakemake("results/shards/stored.parquet", "results/scores/scores-0001-of-0002.parquet")
    return run


@pytest.fixture(scope="module")
def calibration(scored: Run) -> Calibration:
    """One of the run's own scores: SNVs without annotation on contig 20."""
    rows = [row.rsplit(";MC=", 1)[0] for row in separated(300)]
    made = calibrate(read_scored(write_scored(scored.folder / "l.vcf", rows), LabelRules()), LabelRules(), Method(draws=100))
    (one,) = made.classes
    assert one.reason is None
    origin = ScoreOrigin.of_provenance(read_provenance(scored.folder / "results" / "shards" / "stored.parquet"))
    fitting = replace(made, origin=origin, classes=(replace(one, contigs=("20",)),))
    write_calibration(fitting, scored.folder / "calibration.json")
    settings = scored.settings | {"calibration": "calibration.json"}
    (scored.folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    return fitting


def test_the_workflow_states_evidence(scored: Run, calibration: Calibration) -> None:
    scored.snakemake("results/samples/one/report.html", "results/callsets/one/scored.vcf.gz")
    results = scored.folder / "results"
    table = pq.read_table(results / "samples" / "one" / "scores.parquet")
    snvs = table.filter(pc.equal(table["kind"], "snv"))["evidence"].to_pylist()
    assert snvs
    assert not any(code.startswith("no_calibration") for code in snvs)
    told = json.loads((results / "samples" / "one" / "sample.json").read_text())
    assert told["calibration"] == {"sha256": calibration.digest, "mismatch": None}
    assert calibration.digest[:12] in (results / "samples" / "one" / "report.html").read_text()
    with pysam.VariantFile(str(results / "callsets" / "one" / "scored.vcf.gz")) as vcf:
        assert calibration.digest in str(vcf.header)
        assert [code for record in vcf for code in record.info["DG_EVIDENCE"]] == table["evidence"].to_pylist()


def test_the_command_states_the_same_evidence(
    scored: Run, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = tmp_path / "out.vcf.gz", scored.folder
    arguments = ["score-variants", folder / "one.vcf", "-r", folder / "reference.fa.gz", "-o", out]
    arguments += ["--checkpoint", folder / "model", "--device", "cpu", "--calibration", folder / "calibration.json"]
    monkeypatch.setattr(sys, "argv", ["dnagrinder", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    workflow = folder / "results" / "callsets" / "one" / "scored.vcf.gz"
    assert out.read_bytes() == workflow.read_bytes()
    assert calibration.digest


def test_a_calibration_that_is_not_there_is_told(new_run: Callable[..., Run]) -> None:
    with pytest.raises(AssertionError, match=r"calibration: file not found: absent\.json"):
        new_run(calibration="absent.json").snakemake("-n")
