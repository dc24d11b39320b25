"""What the fault tests tell of themselves: a row a fault, and the table of docs/reliability.md made of the rows.

python tests/faults/records.py     run the tests and write their table into the page
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"
ROWS = "DNAGRINDER_FAULT_ROWS"  # names the file that rows are added to; none are kept where it is not set
BEGIN, END = "<!-- table: tests/faults/records.py -->", "<!-- end of table -->"
HEADER = "| fault | what is done | times | seconds | files compared | files lost | bytes that differ |"


class Fault(StrEnum):
    """Everything that is tried; the value is what the page says is done."""

    KILLED_JOB = "a job of every rule is killed (`kill -9`) at random moments, the run is started again"
    KILLED_RUN = "Snakemake and all its jobs are killed at random moments (as by a power cut), unlocked, started again"
    TERMINATED = "SIGTERM in the middle of a shard: exit code 143, finished parts kept, no file half-written; started again"
    STOPPED_RUN = "SIGTERM to Snakemake: running jobs end, no lock stays; started again"
    KILLED_SHARD = "scoring of 100,000 alleles is killed at 90 %: at most one part of 2,000 is scored again"
    OUT_OF_MEMORY = "memory runs out in a shard: half the token budget from there on, the same scores"
    DISK_FULL = "every command that writes, on a disk with too little space: one line of error, exit code 10 (store: 7)"
    DISK_FULL_RUN = "the results' disk fills up during a run; space is freed, the run is started again"
    READ_ONLY = "all inputs lie in a read-only folder, without the reference's index"
    NO_CACHE = (
        "no cache or home can be written: the temporary folder serves, same scores; without it PyTorch, with a warning"
    )
    TWO_RUNS = "a second Snakemake in a folder that is in use: refused, and the first one is not disturbed"
    LOST_FILES = "every second file of the results is removed, then all the others; started again"
    CLOCK_SKEW = "inputs and results with times in the past and the future: nothing is computed twice"


@dataclass(frozen=True)
class Row:
    """How a fault went.

    Attributes:
        fault: name of the fault.
        times: how often it was done.
        seconds: what the test took, other work of the machine included.
        files: files compared with those of an undisturbed run.
        lost: of these, files that were absent.
        differ: bytes that differed in the others.
    """

    fault: str
    times: int
    seconds: float
    files: int
    lost: int
    differ: int


def compared(wanted: Mapping[str, bytes], found: Mapping[str, bytes]) -> tuple[int, int, int]:
    """(files wanted, files absent, bytes that differ in the others) of two sets of files by name."""
    both = [(wanted[name], found[name]) for name in wanted if name in found]
    differ = sum(abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b, strict=False)) for a, b in both if a != b)
    return len(wanted), len(wanted) - len(both), differ


def keep(row: Row) -> None:
    """Add a row to the file that the environment names."""
    if path := os.environ.get(ROWS):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def table(rows: list[Row]) -> str:
    """The rows in the order of Fault, as Markdown."""
    by_name = {row.fault: row for row in rows}
    lines = [HEADER, "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for fault in Fault:
        row = by_name[fault.name]
        cells = (
            fault.name.lower().replace("_", " "),
            fault.value,
            row.times,
            f"{row.seconds:.0f}",
            row.files,
            row.lost,
            row.differ,
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the fault tests and put their table into the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        command = [sys.executable, "-m", "pytest", "-q", "tests/faults", "--deselect", "tests/faults/test_page.py"]
        done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, ROWS: str(path)}, check=False)
        if done.returncode:
            return done.returncode
        rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()]
    if skipped := [fault.name for fault in Fault if fault.name not in {row.fault for row in rows}]:
        print(f"not tried on this machine: {', '.join(skipped)}; the page stays as it is", file=sys.stderr)
        return 1
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
