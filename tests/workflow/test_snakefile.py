"""The workflow as Snakemake sees it: lint, format, the jobs it plans and which Python its jobs get."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow_run import Run

EXPECTED_JOBS = {
    "prepare_reference": 1,
    "read_variants": 2,
    "unique_alleles": 1,
    "score_alleles": 2,
    "score_haplotypes": 2,
    "annotate_variants": 2,
    "annotate_sample": 3,
    "score_context": 3,
    "cohort_distribution": 1,
    "report_sample": 3,
    "report_cohort": 1,
    "score_regions": 1,
    "write_provenance": 1,
    "all": 1,
}
MODEL_RULES = ("score_alleles", "score_haplotypes", "score_context", "score_regions")
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


def test_plan_without_haplotypes(new_run: Callable[..., Run]) -> None:
    shown = new_run(scoring={"haplotype_distance": 0, "shards": 2}).snakemake("-n", "-p")
    assert planned(shown) == {name: count for name, count in EXPECTED_JOBS.items() if name != "score_haplotypes"}
    assert "haplotypes" not in shown.split("Job stats:")[1]


def test_gpu_is_asked_for_where_the_device_is_cuda(new_run: Callable[..., Run]) -> None:
    for device, gpus in (("cuda", 1), ("cpu", 0)):
        shown = new_run(scoring={"device": device, "shards": 1}).snakemake("-n", "-p")
        jobs = [job for job in shown.split("\nrule ") if job.startswith(MODEL_RULES)]
        assert len(jobs) == 7
        for job in jobs:
            assert ("gpu=1" in job.split("resources:")[1].splitlines()[0]) == (gpus == 1)
            assert f"--device={device}" in job


def test_limits_of_the_lists_reach_contexts_and_pages(new_run: Callable[..., Run]) -> None:
    limits = {"panel": "exon.bed", "max_af": 0.01}
    for job in new_run(report=limits).snakemake("-n", "-p").split("\nrule ")[1:]:
        limited = "--panel=exon.bed --max-af=0.01" in job
        assert limited == job.startswith(("score_context", "report_sample")), job


FAMILY = [
    "sample\tvcf\tfamily\trole\tsex",
    "one\tone.vcf\tF\tfather\t",
    "HG00171\tjoint.vcf\tF\tmother\tfemale",
    "HG01500\tjoint.vcf\tF\tproband\tmale",
]


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": "family.tsv", "report": {"tracks": True}},
        {"regions": None, "scoring": {"haplotype_distance": 0, "shards": 1}, "store": "kept"},
    ],
    ids=["most", "least"],
)
def test_every_result_is_asked_for(new_run: Callable[..., Run], settings: dict[str, Any]) -> None:
    """What is made and not asked for would not be made again once it is lost."""
    run = new_run(**settings)
    (run.folder / "family.tsv").write_text("\n".join(FAMILY) + "\n")
    jobs = run.snakemake("-n").split("\nrule ")
    made = {
        name for job in jobs for names in re.findall(r"^    output: (.*)$", job, re.MULTILINE) for name in names.split(", ")
    }
    (asked,) = (re.findall(r"^    input: (.*)$", job, re.MULTILINE) for job in jobs if job.startswith("all:"))
    assert set(asked[0].split(", ")) == made


def test_family_is_judged_once_and_shown_on_the_page_of_its_proband(new_run: Callable[..., Run]) -> None:
    run = new_run(samples="family.tsv")
    (run.folder / "family.tsv").write_text("\n".join(FAMILY) + "\n")
    shown = run.snakemake("-n", "-p")
    assert planned(shown) == EXPECTED_JOBS | {"family_candidates": 1}
    judged = next(job for job in shown.split("\nrule ") if job.startswith("family_candidates"))
    assert "family-candidates joint.vcf --family F --member=HG01500:proband:male: --member=one:father::" in judged
    pages = [job for job in shown.split("\nrule ") if job.startswith("report_sample")]
    assert [" --family=results/families/F/family.json" in job for job in pages].count(True) == 1
    assert all(("--family=" in job) == ("samples/HG01500" in job) for job in pages)


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
        "score-haplotypes",
        "score-context",
    }


def test_lattice_and_tracks_reach_their_commands(new_run: Callable[..., Run]) -> None:
    shown = new_run(scoring={"lattice": 32}, report={"tracks": True}).snakemake("-n", "-p")
    commands = [line for line in shown.splitlines() if "-m dnagrinder" in line]
    assert {re.search(r"-m dnagrinder ([\w-]+)", line)[1] for line in commands if "--lattice=32" in line} == {  # type: ignore[index]
        "unique-alleles",
        "score-alleles",
        "score-haplotypes",
        "score-context",
    }
    assert "/mutagenesis/mean.bedgraph" in shown
    assert all("--tracks=" in line for line in commands if "score-context" in line)


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


def test_reference_by_address_is_fetched_first(new_run: Callable[..., Run]) -> None:
    settings = {"url": "https://example.org/genome.fa.gz", "sha256": "0" * 64}
    jobs = planned(new_run(reference=settings).snakemake("-n"))
    assert jobs == EXPECTED_JOBS | {"fetch_reference": 1}
