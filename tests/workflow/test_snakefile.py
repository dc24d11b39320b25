"""The workflow as Snakemake sees it: lint, format, the jobs it plans, how it is imported and which Python its jobs get."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from workflow_run import Run

SOURCES = ("workflow", "rules", "envs", "kernels")
EXPECTED_JOBS = {
    "prepare_reference": 1,
    "read_variants": 2,
    "unique_alleles": 1,
    "score_alleles": 2,
    "annotate_variants": 2,
    "annotate_sample": 3,
    "score_context": 3,
    "report_sample": 3,
    "report_cohort": 1,
    "score_regions": 1,
    "write_provenance": 1,
    "all": 1,
}
IMPORT = """\
configfile: "config/config.yaml"

module dnagrinder:
    snakefile: {snakefile}
    config: config

use rule * from dnagrinder as scores_*

rule mine:
    default_target: True
    input: rules.scores_all.input
"""
CONDA = """\
#!/usr/bin/env bash
# Answers what Snakemake asks of conda; an environment is a folder whose bin/python is the tests' own, marked as such.
case "$*" in
    "info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
    "--version") echo "conda 25.1.0" ;;
    config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    *env\\ create*)
        while [ "$1" != "--prefix" ]; do shift; done
        mkdir -p "$2/bin"
        printf '#!/bin/sh\\necho environment python >&2\\nexec {python} "$@"\\n' > "$2/bin/python"
        chmod +x "$2/bin/python" ;;
esac
"""


def planned(output: str) -> dict[str, int]:
    """Rule to number of jobs, from the table that a dry-run prints."""
    table = output.split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_lint_is_clean(new_run: Callable[..., Run], repository: Path, snakefile: str) -> None:
    new_run().snakemake("--lint", "--snakefile", str(repository / snakefile))


def test_format_is_snakefmts(repository: Path) -> None:
    files = [repository / "Snakefile", repository / "workflow" / "Snakefile", repository / "rules"]
    done = subprocess.run([sys.executable, "-m", "snakefmt", "--check", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_plan(new_run: Callable[..., Run]) -> None:
    assert planned(new_run().snakemake("-n")) == EXPECTED_JOBS


def test_plan_without_regions(new_run: Callable[..., Run]) -> None:
    jobs = planned(new_run(regions=None).snakemake("-n"))
    assert jobs == {name: count for name, count in EXPECTED_JOBS.items() if name != "score_regions"}


def test_gpu_is_asked_for_where_the_device_is_cuda(new_run: Callable[..., Run]) -> None:
    for device, gpus in (("cuda", 1), ("cpu", 0)):
        shown = new_run(scoring={"device": device, "shards": 1}).snakemake("-n", "-p")
        jobs = [job for job in shown.split("\nrule ") if job.startswith(("score_alleles", "score_context", "score_regions"))]
        assert len(jobs) == 5
        for job in jobs:
            assert ("gpu=1" in job.split("resources:")[1].splitlines()[0]) == (gpus == 1)
            assert f"--device={device}" in job


def test_results_go_where_the_settings_say(new_run: Callable[..., Run]) -> None:
    shown = new_run(results_dir="some where/else").snakemake("-n", "-p")
    assert "some where/else/cohort/report.html" in shown
    assert "--out 'some where/else/reference/genome.fa.gz'" in shown
    assert " results/" not in shown


def test_store_is_used_by_the_rules_that_know_it(new_run: Callable[..., Run]) -> None:
    shown = new_run(store="kept").snakemake("-n", "-p")
    commands = [line for line in shown.splitlines() if "-m dnagrinder" in line]
    assert {re.search(r"-m dnagrinder ([\w-]+)", line)[1] for line in commands if "--store=kept" in line} == {  # type: ignore[index]
        "unique-alleles",
        "score-alleles",
    }


def test_own_python_without_conda(new_run: Callable[..., Run], repository: Path) -> None:
    shown = new_run().snakemake("-n", "-p")
    commands = [line for line in shown.splitlines() if "-m dnagrinder" in line]
    assert len(commands) == sum(EXPECTED_JOBS.values()) - 1
    own = f"env PYTHONPATH={repository}/workflow:{repository}/kernels {sys.executable} -P -m dnagrinder "
    assert all(own in line for line in commands)


def test_jobs_run_in_the_conda_environment(new_run: Callable[..., Run], tmp_path: Path) -> None:
    base = tmp_path / "conda"
    (base / "bin").mkdir(parents=True)
    (base / "bin" / "conda").write_text(CONDA.format(base=base, python=sys.executable))
    (base / "bin" / "conda").chmod(0o755)
    (base / "bin" / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    run = new_run()
    environment = {"PATH": f"{base / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": "/nowhere"}
    run.snakemake("--use-conda", "--until", "prepare_reference", environment=environment)
    assert "environment python" in (run.folder / "logs" / "reference" / "genome.log").read_text()
    assert (run.folder / "results" / "reference" / "genome.fa.gz").is_file()


def test_import_into_another_workflow_by_path(new_run: Callable[..., Run], repository: Path) -> None:
    run = new_run()
    (run.folder / "Snakefile").write_text(IMPORT.format(snakefile=repr(str(repository / "workflow" / "Snakefile"))))
    jobs = planned(run.snakemake("-n", "--snakefile", "Snakefile"))
    assert jobs == {"mine": 1} | {f"scores_{name}": count for name, count in EXPECTED_JOBS.items() if name != "all"}


def test_import_from_a_remote_repository(new_run: Callable[..., Run], repository: Path, tmp_path: Path) -> None:
    """The rules run from Snakemake's cache of a tag: library by the manifest, embedded weights from the clone."""
    source = tmp_path / "source"
    for name in SOURCES:
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "checkpoints"))
    run = new_run(checkpoint="embedded")
    card = "workflow/dnagrinder/checkpoints/embedded/card.json"
    shutil.copytree(run.folder / "model", (source / card).parent)
    listed = [line for line in (source / "workflow" / "manifest.txt").read_text().split() if "/checkpoints/" not in line]
    (source / "workflow" / "manifest.txt").write_text("\n".join([card, *listed]) + "\n")
    shutil.rmtree(run.folder / "model")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(source)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "git" / "acme").mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, tmp_path / "git" / "acme" / "grinder"], check=True)
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/git/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    remote = 'github("acme/grinder", path="workflow/Snakefile", tag="v1")'
    (run.folder / "Snakefile").write_text(IMPORT.format(snakefile=remote))
    target = "results/scores/scores-0001-of-0002.parquet"
    run.snakemake(target, "--snakefile", "Snakefile", environment=environment)
    assert (run.folder / target).is_file()
    weights = (source / card).with_name("model.safetensors").read_bytes()
    assert (run.folder / "results/checkpoint/embedded/model.safetensors").read_bytes() == weights
    again = run.snakemake("-n", target, "--snakefile", "Snakefile", environment=environment)
    assert "Nothing to be done" in again


def test_reference_by_address_is_fetched_first(new_run: Callable[..., Run]) -> None:
    settings = {"url": "https://example.org/genome.fa.gz", "sha256": "0" * 64}
    jobs = planned(new_run(reference=settings).snakemake("-n"))
    assert jobs == EXPECTED_JOBS | {"fetch_reference": 1}


def test_embedded_configuration_and_catalog_run_plan_the_example(repository: Path) -> None:
    for config in ("config/config.yaml", ".test/config/config.yaml"):
        settings = yaml.safe_load((repository / config).read_text())
        folder = repository / Path(config).parents[1]
        for key in ("samples", "reference", "regions"):
            assert (folder / settings[key]).is_file()
