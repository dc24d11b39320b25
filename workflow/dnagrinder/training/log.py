"""The log of a training: one tab-separated row a step, which a resumed run continues where its state stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import TextIO

from dnagrinder.genome.files import written_aside
from dnagrinder.training.pretrain import StepReport

LOG = "log.tsv"
COLUMNS = tuple(field.name for field in fields(StepReport))


@contextmanager
def open_log(folder: Path, step: int) -> Iterator[TextIO]:
    """The log, opened for appending; rows behind ``step``, which the resumed run will write again, are dropped."""
    path = folder / LOG
    rows = read_log(folder) if path.is_file() else []
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for row in rows:
            if row.step <= step:
                write_row(file, row)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        yield file


def write_row(file: TextIO, report: StepReport) -> None:
    """Add one step."""
    file.write("\t".join(f"{value:.8g}" if isinstance(value, float) else str(value) for value in astuple(report)) + "\n")


def read_log(folder: Path) -> list[StepReport]:
    """All whole rows of a log; a row that a kill cut short is left out."""
    rows = []
    for line in (folder / LOG).read_text(encoding="utf-8").split("\n")[1:-1]:
        values = line.split("\t")
        if len(values) == len(COLUMNS):
            step, loss, accuracy, tokens, rate, norm, seconds = values
            rows.append(
                StepReport(int(step), float(loss), float(accuracy), int(tokens), float(rate), float(norm), float(seconds))
            )
    return rows


def curve(rows: list[StepReport], points: int = 60) -> list[dict[str, float]]:
    """About ``points`` means over equal runs of steps: step (of the last), loss, accuracy."""
    size = max(1, len(rows) // points)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [
        {
            "step": part[-1].step,
            "loss": round(sum(row.loss for row in part) / len(part), 4),
            "accuracy": round(sum(row.accuracy for row in part) / len(part), 4),
        }
        for part in parts
    ]
