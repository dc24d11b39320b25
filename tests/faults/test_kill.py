"""kill -9 of any rule at any time: the run started again ends with the same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest
from workflow_run import Run

from tests.faults.conftest import Recorder, start
from tests.faults.processes import kill, watch
from tests.faults.records import Fault

RULES = {  # by their commands, in the order in which they can run
    "prepare-reference": "prepare_reference",
    "read-variants": "read_variants",
    "unique-alleles": "unique_alleles",
    "score-regions": "score_regions",
    "score-alleles": "score_alleles",
    "score-haplotypes": "score_haplotypes",
    "annotate": "annotate_variants",
    "sample-tables": "annotate_sample",
    "score-context": "score_context",
    "report distribution": "cohort_distribution",
    "report sample": "report_sample",
    "report cohort": "report_cohort",
    "provenance": "write_provenance",
}


def killed(run: Run, command: str, seconds: float, *arguments: str, everything: bool) -> bool:
    """Go on with a run and kill the first job of ``command`` that has used so many CPU seconds.

    Args:
        everything: kill Snakemake and all other jobs with it.

    Returns:
        Whether there was such a job; without one, all that could be done was done.
    """
    snakemake = start(run, *arguments)
    for processes in watch(snakemake):
        jobs = [process.number for process in processes if process.command == command and process.seconds >= seconds]
        if jobs:
            kill([snakemake.pid, *(process.number for process in processes)] if everything else jobs[:1])
            snakemake.wait()
            return True
    return False


def kill_each_rule(run: Run, seconds: Mapping[str, float], each: int, seed: int, *, everything: bool) -> int:
    """Kill jobs of every rule ``each`` times, half of them late, when files are written."""
    moments = random.Random(seed)
    times = 0
    for command, rule in RULES.items():
        shares = [moments.uniform(0.8 if number % 2 else 0, 0.95) for number in range(each)]
        for share in shares:
            arguments: list[str] = []
            while not killed(run, command, share * seconds[command], *arguments, everything=everything):
                share *= 0.7  # it was done before; once more, and earlier
                arguments = ["--forcerun", rule]
            times += 1
            if everything:
                run.snakemake("--unlock")
    return times


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "each", "everything"), [(Fault.KILLED_JOB, 2, False), (Fault.KILLED_RUN, 2, True)], ids=["job", "run"]
)
def test_killed_at_random_moments(
    new_run: Callable[..., Run],
    undisturbed: tuple[Run, dict[str, float]],
    wanted: dict[str, bytes],
    record: Recorder,
    fault: Fault,
    each: int,
    everything: bool,
) -> None:
    run, seconds = new_run(), undisturbed[1]
    assert set(seconds) == set(RULES)
    times = kill_each_rule(run, seconds, each, seed=each, everything=everything)
    assert times == each * len(RULES)
    snakemake = start(run)
    assert snakemake.wait() == 0, (run.folder / "snakemake.log").read_text()
    record(fault, times, wanted, run.outputs())
    assert "Nothing to be done" in run.snakemake("-n")
