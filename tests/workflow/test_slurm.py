"""The workflow on a real SLURM: the same bytes as on one machine, and a whole result after jobs were killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from slurm_cluster import Cluster, UnavailableError, running_cluster, wait_until
from workflow_run import Run

pytestmark = pytest.mark.slow
STATUS = ("--slurm-status-command=squeue", "--slurm-init-seconds-before-status-checks=6", "--latency-wait=10")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that is up; the tests are skipped where this machine cannot run one."""
    try:
        with running_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as up:
            yield up
    except UnavailableError as reason:
        pytest.skip(f"no SLURM for tests: {reason}")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Callable[[str], Path]:
    """Makes a folder with the embedded example, to run the clone's Snakefile in; shorter windows and lists save minutes."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(repository / "config", folder / "config")
        settings = folder / "config" / "config.yaml"
        text = settings.read_text().replace("window: 512", "window: 128").replace("top: 10", "top: 2")
        assert text.count("window: 128") == text.count("top: 2") == 1
        settings.write_text(text)
        return folder

    return make


@contextmanager
def snakemake(folder: Path, *arguments: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Snakemake at work in a folder, what it prints in ``printed.txt``; it is interrupted if the test ends before it."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    with (folder / "printed.txt").open("w") as out:
        command = [sys.executable, "-m", "snakemake", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=subprocess.STDOUT, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # cancels the jobs in the queue
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:  # a shell's background job ignores the signal
                    process.kill()


def printed(folder: Path) -> str:
    """What Snakemake has printed there so far."""
    return (folder / "printed.txt").read_text()


def results(folder: Path) -> dict[str, bytes]:
    """Content of every result by its path, less what provenance.json says of the run itself."""
    return Run(folder, folder, {}).outputs()


def on_slurm(repository: Path, snakefile: str) -> list[str]:
    """The options that a user of a cluster gives, and those for a cluster without accounting where jobs end soon."""
    profile = repository / "profiles" / "slurm"
    return [f"--snakefile={repository / snakefile}", f"--workflow-profile={profile}", *STATUS]


def test_example_gives_the_same_bytes_as_on_one_machine(
    cluster: Cluster, example: Callable[[str], Path], repository: Path, tmp_path: Path
) -> None:
    """Shards as a job array, and a GPU asked for in each of the ways that clusters know."""
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    here, there = example("here"), example("there")
    local = (f"--snakefile={repository / 'Snakefile'}", "--workflow-profile=none", "--cores=2")
    with snakemake(here, *local, environment=cache) as process:
        assert process.wait() == 0, printed(here)
    ways = [
        *("score_alleles:slurm_partition=gpu", "score_alleles:gpu=1"),
        *("score_context:slurm_partition=gpu", "score_context:gpu=1", "score_context:gpu_model=test"),
        *("score_regions:slurm_partition=gpu", "score_regions:gres=gpu:1"),
    ]
    options = [*on_slurm(repository, "Snakefile"), "--slurm-array-jobs=score_alleles", "--set-resources", *ways]
    with snakemake(there, *options, environment=cache | cluster.environment) as process:
        assert process.wait() == 0, printed(there)
    local_results, cluster_results = results(here), results(there)
    assert local_results.keys() == cluster_results.keys()
    assert [name for name in local_results if local_results[name] != cluster_results[name]] == []
    jobs = cluster.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    asked = {job["Comment"].split("_wildcards_")[0]: (job["Partition"], job.get("JOB_GRES")) for job in jobs}
    assert asked["rule_score_alleles"] == asked["rule_score_context"] == asked["rule_score_regions"] == ("gpu", "gpu:test:1")
    assert asked["rule_report_cohort"] == ("cpu", "(null)")
    shards = [job for job in jobs if "score_alleles" in job["Comment"]]
    assert len(shards) == len({job["ArrayTaskId"] for job in shards}) == 2
    assert len({job["ArrayJobId"] for job in shards}) == 1


def stopped(run: Run, word: str) -> bool:
    """Stop the dnagrinder command at work in the run's folder whose arguments hold ``word``; whether there is one."""
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if "dnagrinder" in words and any(word in each for each in words) and (folder / "cwd").readlink() == run.folder:
                os.kill(int(folder.name), signal.SIGSTOP)
                return True
        except (OSError, UnicodeDecodeError):  # no process, or one that has just ended
            continue
    return False


def test_killed_jobs_are_tried_again_with_more_and_the_workflow_completes(
    cluster: Cluster, new_run: Callable[..., Run], repository: Path
) -> None:
    """One shard is cancelled, one hangs beyond its time, the regions need more memory than they asked for."""
    run = new_run(scoring={"shards": 2, "views": 1, "device": "cpu"})
    rows = (run.folder / "config" / "samples.tsv").read_text().splitlines()
    (run.folder / "config" / "samples.tsv").write_text("\n".join(rows[:2]) + "\n")
    cancelled, hung = (f"rule_score_alleles_wildcards_000{number}-of-0002" for number in (1, 2))
    tight = ["score_alleles:runtime=1 if attempt == 1 else 60", "score_regions:mem_mb=4000 if attempt > 1 else 320"]
    options = [*on_slurm(repository, "workflow/Snakefile"), "--set-resources", *tight]
    environment = {"XDG_CACHE_HOME": str(run.folder / "cache")} | cluster.environment
    before = len(cluster.jobs())

    def attempts(comment: str) -> list[dict[str, str]]:
        return [job for job in cluster.jobs()[before:] if job["Comment"] == comment]

    def running(comment: str) -> bool:
        return process.poll() is not None or "RUNNING" in [job["JobState"] for job in attempts(comment)]

    with snakemake(run.folder, *options, environment=environment) as process:
        wait_until("a shard's job", lambda: running(cancelled), seconds=600)
        cluster.command("scancel", attempts(cancelled)[0]["JobId"])
        wait_until("the other's end", lambda: len(attempts(hung)) > 1 or stopped(run, "shard-0002"), seconds=600)
        assert process.wait() == 0, printed(run.folder)
    shown = printed(run.folder)
    for comment, state, grown, said in (
        (cancelled, "CANCELLED", "TimeLimit", "CANCELLED AT"),
        (hung, "TIMEOUT", "TimeLimit", "DUE TO TIME LIMIT"),
        ("rule_score_regions", "FAILED", "MinMemoryNode", "exceeded memory limit"),
    ):
        first, second = attempts(comment)
        assert (first["JobState"], second["JobState"]) == (state, "COMPLETED"), comment
        assert first[grown] != second[grown], comment
        assert f"SLURM-job '{first['JobId']}' failed, SLURM status is: '{state}'" in shown
        (log,) = (run.folder / ".snakemake" / "slurm_logs").rglob(f"{first['JobId']}.log")
        assert str(log) in shown
        assert said in log.read_text()
    assert len(cluster.jobs()) - before == 14 + 3
    assert {"cohort/report.html", "samples/one/report.html", "regions/regions.parquet"} <= results(run.folder).keys()


def test_profile_does_not_hold_back_gpu_jobs(new_run: Callable[..., Run], repository: Path) -> None:
    """The cap of one GPU belongs to the profile for one machine; the one for clusters replaces it."""
    run = new_run(scoring={"device": "cuda", "shards": 2})
    shown = run.snakemake("-n", f"--workflow-profile={repository / 'profiles' / 'slurm'}")
    assert "gpu=1" in shown
    assert "Provided resources" not in shown


def test_what_the_profile_keeps_ready_is_understood(new_run: Callable[..., Run], repository: Path, tmp_path: Path) -> None:
    """The lines that a user of a cluster takes out of their comments."""
    text = (repository / "profiles" / "slurm" / "config.yaml").read_text()
    head, ready = text.split("# set-resources:\n")
    filled = (
        head.replace("#  - ", "  - ") + "set-resources:\n" + "".join(line[2:] for line in ready.splitlines(keepends=True))
    )
    (tmp_path / "config.yaml").write_text(filled)
    run = new_run(scoring={"device": "cuda", "shards": 2})
    shown = run.snakemake("-n", f"--workflow-profile={tmp_path}")
    asked = {job.split(":")[0]: job.split("resources:")[1].splitlines()[0] for job in shown.split("\nrule ")[1:]}
    assert "slurm_account=ACCOUNT, slurm_partition=PARTITION" in asked["read_variants"]
    assert "slurm_partition=GPU_PARTITION" in asked["score_alleles"]
    assert "gpu=1" in asked["score_alleles"]
    assert "gpu_model=a100" in asked["score_alleles"]
    assert "gres=gpu:1" in asked["score_regions"]
    assert "gpu=0" in asked["score_regions"]
