"""The page of an evaluation: one self-contained HTML file drawn from the metrics alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnagrinder.evaluation.likelihood import MODEL
from dnagrinder.reports import charts
from dnagrinder.reports.findings import BASELINES, Finding
from dnagrinder.reports.page import number, write_page

LABELS = dict(BASELINES)
YARDSTICK = "order11"
CHANCE = 0.5
ROUND = 10_000  # lengths from here on are named in thousands
TICKS_APART = 1.3  # ratio of neighbouring lengths whose names do not run together
Estimate = Mapping[str, float]


def write_evaluation_page(metrics: Mapping[str, Any], card: Mapping[str, Any], destination: Path) -> None:
    """Write the page of ``metrics`` (``evaluate_checkpoint``) about the checkpoint whose card is given."""
    labels = {**LABELS, MODEL: f"This model ({card['name']})"}
    rows = metrics["loss_per_base"]
    predictors = predictor_rows(rows["all"], labels)
    content = {
        **metrics,
        "card": {"parameters": None, "description": "", "limits": [], **card},
        "labels": labels,
        "warnings": warnings(metrics),
        "predictors": predictors,
        "predictor_chart": predictor_chart(predictors),
        "groups": [name for name in rows if name != "all"],
        "group_predictors": [MODEL, *(name for name in LABELS if name in rows["all"]["predictors"] and name != "uniform")],
        "length_chart": length_chart(metrics["length"]),
        "reliability_chart": reliability_chart(metrics["reliability"]["bins"]),
        "interval": interval,
        "exp": math.exp,
    }
    write_page("evaluation.html", destination, content)


def warnings(metrics: Mapping[str, Any]) -> list[Finding]:
    """What the numbers say against the model; differences count where their interval excludes 0."""
    found = []
    against = metrics["loss_per_base"]["all"]["predictors"][YARDSTICK]["difference"]
    if against["high"] >= 0:
        text = f"Difference in nats per base: {interval(against)}; below 0 the model would be better."
        found.append(Finding("The model is not shown to beat an order-11 Markov model", text))
    length = metrics["length"]
    worse = [point for point in length["points"] if point["difference"]["low"] > 0]
    longer = [point for point in worse if point["length"] > length["reference_length"]]
    if longer:
        told = "; ".join(f"{point['length']:,} bases {interval(point['difference'])}" for point in longer)
        title = f"Inputs longer than {length['reference_length']:,} bases make it worse"
        found.append(Finding(title, f"Nats per base above those at the training length: {told}."))
    variants = metrics["zero_shot"]
    if variants is None:
        text = "The run file's evaluation names no VCF of known variants, so this part was left out."
        found.append(Finding("Nothing was asked about real variants", text))
    elif variants["common"]["predictors"][MODEL]["auroc"]["low"] <= CHANCE:
        told = interval(variants["common"]["predictors"][MODEL]["auroc"])
        text = f"AUROC {told} over {variants['common']['pairs']:,} matched pairs; 0.5 is chance."
        found.append(Finding("The model is not shown to tell common variants from matched random changes", text))
    return found


def predictor_rows(group: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The predictors of a group, best first."""
    rows = [
        {"label": labels[name], "is_model": name == MODEL, "difference": None, **values}
        for name, values in group["predictors"].items()
    ]
    return sorted(rows, key=lambda row: row["nats"]["value"])


def predictor_chart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Loss of every predictor with its interval."""
    drawn = [(row["label"], row["nats"]["value"], row["nats"]["low"], row["nats"]["high"]) for row in rows]
    axis = "Nats per base, 95 % interval; left is better"
    return charts.intervals(drawn, axis, "Loss of each predictor on held-out bases")


def length_chart(length: Mapping[str, Any]) -> str:
    """Difference to the training length over input length; where ticks would run together the longer one is named."""
    lengths = [point["length"] for point in length["points"]]
    named = {one for one, following in zip(lengths, [*lengths[1:], math.inf], strict=True) if following / one > TICKS_APART}
    points = [
        charts.Point(
            point["length"],
            point["difference"]["value"],
            point["difference"]["low"],
            point["difference"]["high"],
            _bases(point["length"]) if point["length"] in named else "",
        )
        for point in length["points"]
    ]
    against = f"Nats per base, minus those at {length['reference_length']:,} bases"
    return charts.curve(points, "Input length in bases (logarithmic)", against, "Loss by input length")


def _bases(length: int) -> str:
    return f"{length // 1000}k" if length >= ROUND and length % 1000 == 0 else f"{length:,}"


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> str:
    """Observed frequency over predicted probability, with the normal approximation's 95 % interval."""
    points = []
    for one in bins:
        observed = one["observed"]
        half = 1.96 * math.sqrt(observed * (1 - observed) / one["predictions"])
        points.append(charts.Point(one["predicted"], observed, max(0.0, observed - half), min(1.0, observed + half)))
    title = "Reliability of P(base)"
    return charts.curve(points, "Predicted probability of a base", "How often it was the base", title, identity=True)


def interval(estimate: Estimate, digits: int = 3) -> str:
    """``1.213 (1.197 to 1.227)``."""
    value, low, high = (number(estimate[name], digits) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
