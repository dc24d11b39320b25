"""A finished, undisturbed run to compare with, runs that begin, and the rows of the page's table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from tiny_checkpoint import make_tiny_checkpoint
from workflow_run import Run, make_run

from tests.faults.processes import watch
from tests.faults.records import Fault, Row, compared, keep

KERNELS = Path(os.environ.get("DNAGRINDER_CACHE") or Path.home() / ".cache" / "dnagrinder")  # compiled once, not in each run
Recorder = Callable[[Fault, int, Mapping[str, bytes], Mapping[str, bytes]], None]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny checkpoint."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def new_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, tiny: Path) -> Callable[..., Run]:
    """Makes a run in a new folder; keyword arguments are keys of its configuration."""

    def make(**changes: Any) -> Run:
        return make_run(tmp_path_factory.mktemp("run"), repository, tiny, **changes)

    return make


def start(run: Run, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in the run's folder, with what profiles/default says, its output in snakemake.log."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete", *arguments]
    command += ["--snakefile", str(run.repository / "workflow" / "Snakefile")]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (run.folder / "snakemake.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=run.folder,
            env=variables | {"XDG_CACHE_HOME": str(run.folder / "cache"), "DNAGRINDER_CACHE": str(KERNELS)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def undisturbed(new_run: Callable[..., Run]) -> tuple[Run, dict[str, float]]:
    """A run that has ended, and the CPU seconds of each of our commands in it (the median of its jobs)."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("the system does not show in /proc which processes a process has")
    run = new_run()
    snakemake = start(run)
    last = {process.number: process for processes in watch(snakemake) for process in processes if process.command}
    assert snakemake.returncode == 0, (run.folder / "snakemake.log").read_text()
    seconds: dict[str, list[float]] = {}
    for job in last.values():
        seconds.setdefault(job.command, []).append(job.seconds)
    return run, {command: median(times) for command, times in seconds.items()}


@pytest.fixture(scope="session")
def wanted(undisturbed: tuple[Run, dict[str, float]]) -> dict[str, bytes]:
    """The results of the undisturbed run."""
    return undisturbed[0].outputs()


@pytest.fixture
def copied(undisturbed: tuple[Run, dict[str, float]], tmp_path: Path) -> Run:
    """A copy of the undisturbed run, with its times, to be disturbed."""
    run = undisturbed[0]
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("locks"))
    return Run(folder, run.repository, run.settings)


@pytest.fixture
def record() -> Recorder:
    """Compares files with those wanted, keeps the row for the page, and fails the test where anything is lost or differs."""
    started = time.monotonic()

    def compare(fault: Fault, times: int, wanted: Mapping[str, bytes], found: Mapping[str, bytes]) -> None:
        files, lost, differ = compared(wanted, found)
        keep(Row(fault.name, times, time.monotonic() - started, files, lost, differ))
        assert set(found) - set(wanted) == set(), "files that an undisturbed run does not leave"
        assert [name for name in wanted if found.get(name) != wanted[name]] == []

    return compare
