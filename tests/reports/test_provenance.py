"""The description of a finished run: its shape, what of it depends on the run, and what it must not tell."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import InputError, without_secrets
from dnagrinder.genome.files import file_sha256
from dnagrinder.reports.provenance import RULES, without_run, write_provenance
from dnagrinder.scoring.tables import SCORE_SCHEMA, write_parquet
from tests.reports.conftest import PROVENANCE, Cohort

BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tcpu_time\n{s}\t0:00:01\t{rss}\t9\t{cpu}\n"


@pytest.fixture
def results(cohort: Cohort, tmp_path: Path) -> Path:
    """The folders of a finished run, with some of their files."""
    folder = tmp_path / "results"
    write_parquet(SCORE_SCHEMA.empty_table(), folder / "shards" / "stored.parquet", PROVENANCE)
    (folder / "callsets" / "trio").mkdir(parents=True)
    shutil.copy(cohort.callset.summary, folder / "callsets" / "trio")
    (folder / "reference").mkdir()
    (folder / "reference" / "genome.json").write_text(json.dumps({"sha256": "0", "contigs": [], "source": "hg.fa"}))
    (folder / "callsets" / "trio" / ".half-written.tmp").write_text("x")
    (folder / "shards" / ".scores.parquet.parts").mkdir()
    (folder / "shards" / ".scores.parquet.parts" / "0.parquet").write_text("x")
    (folder / "families" / "ours").mkdir(parents=True)
    (folder / "families" / "ours" / "candidates.tsv").write_text("x")
    return folder


def test_files_of_earlier_runs_are_left_out_where_those_of_the_run_are_named(results: Path, tmp_path: Path) -> None:
    (results / "samples" / "withdrawn").mkdir(parents=True)
    (results / "samples" / "withdrawn" / "report.html").write_text("x")
    shutil.copytree(results / "callsets" / "trio", results / "callsets" / "withdrawn")
    files = [results / "shards" / "stored.parquet", results / "callsets" / "trio" / "summary.json"]
    (tmp_path / "files").write_text("\n".join(map(str, files)) + "\n")
    options = [f"--files-from={tmp_path / 'files'}", f"--out={results / 'provenance.json'}"]
    result = CliRunner().invoke(app, ["provenance", str(results), *options])
    assert result.exit_code == 0, result.output
    text = (results / "provenance.json").read_text()
    assert {part["@id"] for part in json.loads(text)["@graph"][1]["hasPart"]} == {
        "callsets/trio/summary.json",
        "shards/stored.parquet",
    }
    assert "withdrawn" not in text
    with pytest.raises(InputError, match="does not lie below"):
        write_provenance(results, tmp_path / "x.json", config={}, files=[tmp_path / "files"])
    with pytest.raises(InputError, match="is missing"):
        write_provenance(results, tmp_path / "x.json", config={}, files=[results / "samples" / "gone.tsv"])


def test_graph_is_flat_and_every_reference_is_answered(results: Path, tmp_path: Path) -> None:
    (tmp_path / "benchmarks" / "scores").mkdir(parents=True)
    for number, values in enumerate([("2.5", "100.0", "2.0"), ("1.5", "-", "NA")]):
        text = BENCHMARK.format(**dict(zip(("s", "rss", "cpu"), values, strict=True)))
        (tmp_path / "benchmarks" / "scores" / f"scores-{number}.tsv").write_text(text)
    content = write_provenance(results, results / "provenance.json", config={}, benchmarks=tmp_path / "benchmarks")
    assert content == json.loads((results / "provenance.json").read_text())
    graph = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(graph) == len(content["@graph"])
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert graph["./"]["datePublished"] == graph["#run"]["endTime"]
    named = set(re.findall(r'"@id": "([^"]*)"', json.dumps([list(entity.values()) for entity in graph.values()])))
    assert named - {"https://w3id.org/ro/crate/1.1"} <= set(graph)
    assert {part["@id"] for part in graph["./"]["hasPart"]} == {
        "callsets/trio/summary.json",
        "families/ours/candidates.tsv",
        "reference/genome.json",
        "shards/stored.parquet",
    }
    assert graph["reference/genome.json"]["sha256"] == file_sha256(results / "reference" / "genome.json")
    assert graph["#checkpoint"]["sha256"] == PROVENANCE["checkpoint"]["sha256"]
    assert graph["#reference"]["name"] == "hg.fa"
    measures = {name: graph[f"#run/rule/score_alleles/{name}"]["value"] for name in ("jobs", "wall_seconds", "CPU_seconds")}
    assert measures == {"jobs": 2, "wall_seconds": 4.0, "CPU_seconds": 2.0}
    assert graph["#run/rule/score_alleles/memory_of_the_largest_job,_MiB"]["value"] == 100.0


def test_without_the_run_equal_results_have_equal_descriptions(results: Path, tmp_path: Path) -> None:
    first = write_provenance(results, tmp_path / "a.json", config={"x": 1}, command="snakemake -c1")
    second = write_provenance(results, tmp_path / "b.json", config={"x": 1}, command="snakemake -c2", benchmarks=tmp_path)
    assert without_run(first) == without_run(second)
    assert first != second
    assert "snakemake" not in json.dumps(without_run(first))


def test_passwords_and_tokens_stay_out(results: Path) -> None:
    config = {"reference": {"url": "https://me:hush@example.org/a.fa?token=hush", "sha256": "0" * 64}}
    command = "snakemake --config 'reference={url: ftp://me:hush@example.org/a.fa}'"
    result = CliRunner().invoke(
        app,
        ["provenance", str(results), f"--config={json.dumps(config)}", f"--out={results}/provenance.json"],
        env={"DNAGRINDER_COMMAND": command},
    )
    assert result.exit_code == 0, result.output
    text = (results / "provenance.json").read_text()
    assert "hush" not in text
    assert "https://***@example.org/a.fa?***" in text
    assert without_secrets("see ftp://me:hush@example.org/a") == "see ftp://***@example.org/a"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        write_provenance(tmp_path, tmp_path / "x.json", config={})


def test_every_benchmark_has_its_rule(repository: Path) -> None:
    found = {}
    for path in (repository / "rules").glob("*.smk"):
        for text in path.read_text().split("\nrule ")[1:]:
            if match := re.search(r'"<benchmarks>/(.*)\.tsv"', text):
                found[re.sub(r"\{\w+\}", "*", match[1]).replace("scores-*", "*")] = text.split(":")[0]
    assert {name: rule for name, rule in found.items() if not name.startswith("pretraining/")} == RULES
