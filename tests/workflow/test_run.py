"""The whole workflow on a few real sites: everything is there, adds up, and is the same however the work is divided."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pytest
from workflow_run import JOINT_SAMPLES, SITES, Run

from dnagrinder.cli import main
from dnagrinder.genome.files import file_sha256
from dnagrinder.reports.explain import explain
from dnagrinder.reports.provenance import RULES

SAMPLES = ("one", *JOINT_SAMPLES)
RESULTS = {
    "reference/genome.fa.gz",
    "reference/genome.fa.gz.fai",
    "reference/genome.fa.gz.gzi",
    "reference/genome.json",
    *(
        f"callsets/{callset}/{name}"
        for callset in ("one", "joint")
        for name in (
            "alleles.parquet",
            "ledger.parquet",
            "genotypes.parquet",
            "summary.json",
            "haplotypes.parquet",
            "scored.vcf.gz",
            "scored.vcf.gz.tbi",
        )
    ),
    "shards/shard-0001-of-0002.parquet",
    "shards/shard-0002-of-0002.parquet",
    "shards/stored.parquet",
    "scores/scores-0001-of-0002.parquet",
    "scores/scores-0002-of-0002.parquet",
    *(
        f"samples/{sample}/{name}"
        for sample in SAMPLES
        for name in (
            "scores.parquet",
            "scores.tsv",
            "ledger.parquet",
            "ledger.tsv",
            "haplotypes.parquet",
            "haplotypes.tsv",
            "sample.json",
            "context.parquet",
            "report.html",
        )
    ),
    "cohort/distribution.json",
    "cohort/report.html",
    "cohort/scores.parquet",
    "cohort/dnagrinder_mqc.json",
    "regions/ledger.tsv",
    "regions/regions.parquet",
    "regions/regions.bedgraph",
    "provenance.json",
}


@pytest.fixture(scope="module")
def finished(new_run: Callable[..., Run]) -> Run:
    """A run that has ended."""
    run = new_run()
    run.snakemake()
    return run


def test_results_are_those_promised(finished: Run) -> None:
    assert set(finished.outputs()) == RESULTS


def test_logs_mirror_outputs_and_benchmarks_are_kept(finished: Run) -> None:
    logs = {name.removesuffix(".log") for name in finished.outputs("logs")}
    benchmarks = {name.removesuffix(".tsv") for name in finished.outputs("benchmarks")}
    assert {"reference/genome", "callsets/joint/scored", "scores/scores-0001-of-0002", "samples/one/report"} <= logs
    assert {"reference/genome", "callsets/joint/alleles", "scores/scores-0002-of-0002", "regions/regions"} <= benchmarks
    assert benchmarks <= logs


def test_every_allele_is_accounted_for(finished: Run) -> None:
    for sample in SAMPLES:
        told = json.loads((finished.folder / "results" / "samples" / sample / "sample.json").read_text())
        assert told["alleles_in_file"] == SITES == told["not_carried"] + told["alleles_in"]
        assert told["alleles_in"] == told["scored"] + told["from_store"] + told["rejected"]
        assert told["ref_checked"] == told["ref_matched"] == SITES
    single = json.loads((finished.folder / "results" / "samples" / "one" / "sample.json").read_text())
    assert single["not_carried"] == 0


def test_what_happened_to_an_allele_can_be_asked(finished: Run) -> None:
    results = finished.folder / "results"
    for sample in SAMPLES:
        (row, *_) = pq.read_table(results / "samples" / sample / "scores.parquet").to_pylist()
        facts = explain(results, sample, f"chr{row['contig']}:{row['start'] + 1}:{row['ref']}:{row['alt']}")
        assert (facts["outcome"], facts["score"]["score"]) == ("scored", row["score"])
        assert (facts["records"][0]["record"], facts["records"][0]["genotype"]) == (row["record"], row["genotype"])


def test_haplotypes_reach_vcf_table_and_page(finished: Run) -> None:
    """20:1002656 and 1002679, 22 bases between: 0|1 and 0|1 in HG00171 and HG01500, phased in HG00096 too."""
    results = finished.folder / "results"
    (row,) = pq.read_table(results / "callsets" / "joint" / "haplotypes.parquet").to_pylist()
    assert row["members"] == ["20:1002656:G:A", "20:1002679:A:G"]
    assert row["carriers"] == list(JOINT_SAMPLES)
    for callset in ("one", "joint"):
        with pysam.VariantFile(str(results / "callsets" / callset / "scored.vcf.gz")) as vcf:
            told = {record.pos: record.info["DG_HAP"][0] for record in vcf}
        assert told[1002656] == told[1002679]
        assert told[1002656].startswith(f"{row['id']}|haplotype|")
        assert {value for place, value in told.items() if place not in (1002656, 1002679)} == {"."}
    for sample in SAMPLES:
        folder = results / "samples" / sample
        (line,) = (folder / "haplotypes.tsv").read_text().splitlines()[1:]
        assert line.split("\t")[0] == row["id"]
        assert row["id"] in (folder / "report.html").read_text()


def test_each_allele_is_scored_once_in_the_cohort(finished: Run) -> None:
    scores = pa.concat_tables(
        [pq.read_table(path) for path in sorted((finished.folder / "results" / "scores").glob("*.parquet"))]
    )
    keys = set(zip(*(scores[name].to_pylist() for name in ("contig", "start", "ref", "alt")), strict=True))
    assert len(scores) == len(keys)
    sites = set()
    for name in ("one.vcf", "joint.vcf"):
        sites |= {(r.chrom, r.start, r.ref, r.alts[0]) for r in pysam.VariantFile(str(finished.folder / name)) if r.alts}
    assert keys == sites  # the sites kept are normalised as they stand


def test_second_run_elsewhere_gives_the_same_bytes(finished: Run, new_run: Callable[..., Run]) -> None:
    again = new_run()
    again.snakemake()
    first, second = finished.outputs(), again.outputs()
    assert [name for name in first if first[name] != second[name]] == []


def test_finished_run_has_nothing_to_do(finished: Run) -> None:
    assert "Nothing to be done" in finished.snakemake("-n")


def test_deleted_result_is_made_again_the_same(finished: Run) -> None:
    lost = finished.folder / "results" / "scores" / "scores-0001-of-0002.parquet"
    before = lost.read_bytes()
    lost.unlink()
    finished.snakemake("results/scores/scores-0001-of-0002.parquet")
    assert lost.read_bytes() == before


@pytest.mark.parametrize(("shards", "order"), [(1, 1), (3, -1), (7, 1)])
def test_scores_do_not_depend_on_shards_and_order(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, order: int
) -> None:
    results = finished.folder / "results"
    tables = sorted(str(path) for path in results.glob("callsets/*/alleles.parquet"))[::order]
    common = [f"--reference={results}/reference/genome.fa.gz", f"--checkpoint={finished.folder}/model", "--views=1"]

    def command(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["dnagrinder", *arguments, *common])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code in (0, None)

    command("unique-alleles", *tables, f"--shards={shards}", f"--out-dir={tmp_path}")
    parts = sorted(tmp_path.glob("shard-*.parquet"))
    assert len(parts) == shards
    for part in parts:
        command("score-alleles", str(part), f"--out={part.with_name('scores-' + part.name)}", "--device=cpu")
    got = pa.concat_tables([pq.read_table(path) for path in sorted(tmp_path.glob("scores-*.parquet"))])
    wanted = pa.concat_tables([pq.read_table(path) for path in sorted(results.glob("scores/*.parquet"))])
    assert got.equals(wanted)


def test_report_of_the_workflow_needs_no_network_and_holds_what_is_declared(finished: Run) -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    alone = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    launcher = ["unshare", "--net"] if alone else []
    finished.snakemake("--report", "report.zip", environment=nowhere | {"no_proxy": "", "NO_PROXY": ""}, launcher=launcher)
    results = finished.folder / "results"
    declared = [
        *(f"callsets/{callset}/scored.vcf.gz" for callset in ("one", "joint")),
        *(f"samples/{sample}/{name}" for sample in SAMPLES for name in ("scores.tsv", "ledger.tsv", "report.html")),
        "cohort/report.html",
        "regions/regions.parquet",
        "regions/regions.bedgraph",
        "provenance.json",
    ]
    with zipfile.ZipFile(finished.folder / "report.zip") as packed:
        assert packed.testzip() is None
        held = sorted((Path(name).name, packed.read(name)) for name in packed.namelist() if "/data/raw/" in name)
        page = packed.read("report/report.html").decode()
    assert held == sorted((Path(name).name, (results / name).read_bytes()) for name in declared)
    for category in ("Scored variants", "Not scored, and why", "Reports", "Regions", "Provenance"):
        assert category in page


def test_provenance_names_every_file_and_the_cost_of_every_rule(finished: Run) -> None:
    results = finished.folder / "results"
    graph = {entity["@id"]: entity for entity in json.loads((results / "provenance.json").read_text())["@graph"]}
    files = {name: entity["sha256"] for name, entity in graph.items() if entity["@type"] == "File"}
    assert files == {name: file_sha256(results / name) for name in RESULTS - {"provenance.json"}}
    assert json.loads(graph["#config"]["value"]) == finished.settings
    assert "--cores 2" in graph["#run"]["description"]
    costs = {name.removeprefix("#run/rule/") for name in graph if name.startswith("#run/rule/") and name.count("/") == 2}
    assert costs == {*RULES.values()}
    assert graph["#run/rule/report_sample/jobs"]["value"] == len(SAMPLES)
    assert graph["#run/rule/score_alleles/CPU_seconds"]["value"] > 0
    assert 'href="../provenance.json"' in (results / "cohort" / "report.html").read_text()
