"""Processes below a Snakemake, as Linux shows them in /proc: which command of ours each runs, and how far it is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_GROUPS = ("report", "store")  # commands of two words


@dataclass(frozen=True)
class Process:
    """A running process.

    Attributes:
        number: its process id.
        command: our command that it runs ("score-alleles", "report cohort"); empty for any other program.
        seconds: CPU time that it used.
    """

    number: int
    command: str
    seconds: float


def below(root: int) -> list[Process]:
    """All processes that descend from ``root``, which is not among them."""
    found, waiting = [], [root]
    while waiting:
        for number in _children(waiting.pop()):
            waiting.append(number)
            with suppress(OSError):
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                found.append(Process(number, _command(number), (int(fields[11]) + int(fields[12])) / _TICK))
    return found


def watch(snakemake: subprocess.Popen[bytes], every: float = 0.02) -> Iterator[list[Process]]:
    """The processes below a Snakemake, time after time until it has ended."""
    while snakemake.poll() is None:
        yield below(snakemake.pid)
        time.sleep(every)


def kill(numbers: list[int]) -> None:
    """kill -9 of all these processes; stopped first, so that none sees another one die."""
    for sent in (signal.SIGSTOP, signal.SIGKILL):
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(number, sent)


def _children(number: int) -> list[int]:
    children = []
    with suppress(OSError):
        for thread in Path(f"/proc/{number}/task").iterdir():
            children += [int(child) for child in (thread / "children").read_text().split()]
    return children


def _command(number: int) -> str:
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if "python" not in Path(words[0]).name or words[2:4] != ["-m", "dnagrinder"]:
        return ""
    return " ".join(words[4:6]) if words[4] in _GROUPS else words[4]
