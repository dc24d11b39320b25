"""Faults around a whole run: a second one in its folder, a polite end, lost files, clocks that disagree."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from workflow_run import Run

from tests.faults.conftest import Recorder, start
from tests.faults.processes import below, watch
from tests.faults.records import Fault

DAY = 86_400


def wait_for(run: Run, command: str) -> subprocess.Popen[bytes]:
    """A Snakemake that has just begun a job of ``command``."""
    snakemake = start(run)
    for processes in watch(snakemake):
        if any(process.command == command for process in processes):
            return snakemake
    raise AssertionError((run.folder / "snakemake.log").read_text())


def test_a_second_run_in_the_folder_is_refused(
    new_run: Callable[..., Run], wanted: dict[str, bytes], record: Recorder
) -> None:
    run = new_run()
    first = wait_for(run, "read-variants")
    second = start(run)
    assert second.wait() != 0
    assert first.poll() is None
    assert "Directory cannot be locked" in (run.folder / "snakemake.log").read_text()
    assert first.wait() == 0, (run.folder / "snakemake.log").read_text()
    record(Fault.TWO_RUNS, 1, wanted, run.outputs())


def test_sigterm_to_snakemake(new_run: Callable[..., Run], wanted: dict[str, bytes], record: Recorder) -> None:
    run = new_run()
    snakemake = wait_for(run, "score-alleles")
    snakemake.send_signal(signal.SIGTERM)
    assert snakemake.wait() != 0
    assert below(os.getpid()) == []
    assert not [path for path in (run.folder / "results").rglob("*") if path.name.startswith(".")]
    assert start(run).wait() == 0, (run.folder / "snakemake.log").read_text()
    record(Fault.STOPPED_RUN, 1, wanted, run.outputs())


def test_lost_files_are_made_again(copied: Run, wanted: dict[str, bytes], record: Recorder) -> None:
    """Intermediate ones too: Snakemake alone makes those again only if something that depends on them is to be made."""
    for first in (0, 1):
        for name in sorted(wanted)[first::2]:
            (copied.folder / "results" / name).unlink()
        assert start(copied).wait() == 0, (copied.folder / "snakemake.log").read_text()
        assert sorted(copied.outputs()) == sorted(wanted)
    record(Fault.LOST_FILES, 2, wanted, copied.outputs())


@pytest.mark.parametrize("shift", [-3650 * DAY, 2 * DAY], ids=["past", "future"])
def test_clock_skew_of_inputs_and_results(copied: Run, wanted: dict[str, bytes], record: Recorder, shift: int) -> None:
    """Inputs get other times as after a copy between machines; everything may be computed once more, but not twice."""
    now = time.time()
    inputs = [path for path in copied.folder.iterdir() if path.is_file()]
    results = [path for path in (copied.folder / "results").rglob("*") if path.is_file()]
    for path in inputs + (results if shift > 0 else []):
        os.utime(path, (now + shift, now + shift))
    assert start(copied).wait() == 0, (copied.folder / "snakemake.log").read_text()
    assert "Nothing to be done" in copied.snakemake("-n")
    if shift > 0:
        record(Fault.CLOCK_SKEW, 2, wanted, copied.outputs())
    else:
        assert copied.outputs() == wanted


def test_results_older_than_their_inputs_by_a_wrong_clock(copied: Run, wanted: dict[str, bytes]) -> None:
    """The machine that wrote a shard's scores was a day behind: they are made again, once, and are the same."""
    scores = copied.folder / "results" / "scores" / "scores-0001-of-0002.parquet"
    os.utime(scores, (time.time() - DAY, time.time() - DAY))
    target = str(scores.relative_to(copied.folder))
    assert start(copied, target).wait() == 0
    assert "Nothing to be done" in copied.snakemake("-n", target)
    assert Path(scores).read_bytes() == wanted["scores/scores-0001-of-0002.parquet"]
