"""Progress for people: a live bar with rate and time left on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LOG_INTERVAL = 10.0  # seconds between lines where stderr is no terminal


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f} {self._unit}/s" if task.speed else f"- {self._unit}/s")


@contextmanager
def track(label: str, unit: str) -> Iterator[Callable[..., None]]:
    """A callback ``(done, total, note="")`` that shows progress on stderr; stdout stays free for results."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _log_lines(label, unit)
        return
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn(), note)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            if bar.tasks[task].total is None:
                bar.reset(task, total=total, completed=done - 1, note=note)
            bar.update(task, completed=done, note=note)

        yield report


def _log_lines(label: str, unit: str) -> Callable[..., None]:
    started = time.monotonic()
    last = started
    first: int | None = None  # done before this process began: a run that goes on where another was stopped

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal first, last
        first = done - 1 if first is None else first
        now = time.monotonic()
        if done < total and now - last < LOG_INTERVAL:
            return
        last = now
        rate = (done - first) / (now - started) if now > started else 0.0
        left = f", {(total - done) / rate:,.0f} s left" if rate and done < total else ""
        print(
            f"{label}: {done:,} of {total:,} {unit}, {rate:,.1f} {unit}/s{left}{note and f', {note}'}",
            file=sys.stderr,
            flush=True,
        )

    return report
