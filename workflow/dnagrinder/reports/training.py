"""The page of a training, finished or stopped: the curves of its log and what was trained with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dnagrinder import __version__
from dnagrinder.reports.charts import Point, curve
from dnagrinder.reports.findings import Finding
from dnagrinder.reports.page import write_page
from dnagrinder.training.log import read_log
from dnagrinder.training.pretrain import StepReport
from dnagrinder.training.state import newest_identity

PAGE = "training.html"
POINTS = 40  # of a curve
TICKS = 6
CLIPPED_OFTEN = 0.5  # share of steps with a clipped gradient from which the page warns


def write_training_page(folder: Path) -> None:
    """Write ``training.html`` into a training's folder, from its log and its newest state.

    Raises:
        CheckpointError: the folder holds no state.
    """
    rows, identity = read_log(folder), newest_identity(folder)
    recipe = identity["recipe"]
    content = {
        "title": folder.name,
        "rows": rows,
        "steps": recipe["steps"],
        "tokens": sum(row.tokens for row in rows),
        "seconds": sum(row.seconds for row in rows),
        "warnings": warnings(rows, recipe["clip"]),
        "loss": chart(rows, lambda row: row.loss, "Nats a target", "Loss by step"),
        "accuracy": chart(rows, lambda row: 100 * row.accuracy, "Targets found, %", "Accuracy by step"),
        "speed": chart(rows, lambda row: row.tokens / row.seconds, "Tokens a second", "Speed by step"),
        "norm": chart(rows, lambda row: row.gradient_norm, "Norm", "Norm of the gradient by step"),
        "provenance": {"tool_version": __version__},
        "settings": _flat(identity),
    }
    write_page("training.html", folder / PAGE, content)


def chart(rows: Sequence[StepReport], value: Callable[[StepReport], float], axis: str, title: str) -> Markup:
    """Means over runs of steps, growing with the logarithm of the step; whiskers hold the central 80 % of the steps.

    Steps whose value is no finite number are left out.
    """
    measured = [(row.step, value(row)) for row in rows]
    finite = [(step, number) for step, number in measured if np.isfinite(number)]
    if len(finite) < 2:
        return Markup("")
    edges = np.unique(np.concatenate([[0], np.geomspace(1, len(finite), POINTS).round().astype(int)]))
    points = []
    for place, (first, last) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        part = [number for _, number in finite[first:last]]
        low, high = np.quantile(part, [0.1, 0.9])
        step = finite[last - 1][0]
        label = f"{step:,}" if place % max(1, len(edges) // TICKS) == 0 else ""
        points.append(Point(step, float(np.mean(part)), float(low), float(high), label))
    return curve(points, "Step (logarithmic)", axis, title)


def warnings(rows: Sequence[StepReport], clip: float) -> list[Finding]:
    """What the log says against the training."""
    if not rows:
        return []
    found = []
    half = rows[len(rows) // 2 :]
    clipped = sum(row.gradient_norm > clip for row in half) / len(half)
    if clipped > CLIPPED_OFTEN:
        text = (
            f"{clipped:.0%} of the later half of the steps had a norm above {clip:g}; a lower learning rate may learn more."
        )
        found.append(Finding("Most gradients were clipped", text))
    if not np.isfinite([row.loss for row in rows]).all():
        found.append(
            Finding("The loss was not a number", "At least one step's loss is not finite: the weights are worthless.")
        )
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(name, text) of every setting, nested ones with their path."""
    rows: list[tuple[str, str]] = []
    for key, value in sorted(values.items()):
        name = f"{prefix}{key}".replace("_", " ")
        rows += _flat(value, f"{name}: ") if isinstance(value, dict) else [(name, "none" if value is None else str(value))]
    return rows
