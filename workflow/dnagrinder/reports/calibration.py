"""The page of a calibration: which levels of evidence are met, on what that rests, and what it may not be used for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from dnagrinder.reports import charts
from dnagrinder.reports.findings import Finding
from dnagrinder.reports.page import count, number, write_page
from dnagrinder.scoring.calibration.classes import UNANNOTATED
from dnagrinder.scoring.calibration.evidence import BY_CODE, LEVELS, VERY_STRONG_POINTS, Criterion
from dnagrinder.scoring.calibration.file import Calibration, ClassCalibration, usable
from dnagrinder.scoring.calibration.local_posterior import Method, Threshold
from dnagrinder.scoring.calibration.observations import FATES, ScoredVcf

FEW_GENES = 20  # below this many a calibration speaks of these genes rather than of genes
MOST_POINTS = 10.0  # where a window holds one label only, its ratio is 0 or infinite; drawn here


def write_calibration_page(calibration: Calibration, labelled: ScoredVcf, destination: Path) -> None:
    """Write the page of ``calibration``, with the scores of ``labelled``, the variants it was measured on."""
    measured = [one for one in calibration.classes if one.reason is None]
    content = {
        "calibration": calibration,
        "warnings": list(warnings(calibration)),
        "measured": measured,
        "levels": LEVELS,
        "labelled": sum(one.pathogenic + one.benign for one in calibration.classes),
        "fates": [(FATES[fate], number_of) for fate, number_of in calibration.fates.items() if number_of],
        "class_title": class_title,
        "begins": begins,
        "interval": interval,
        "status": lambda one: status(one, calibration.method),
        "codes_used": lambda one: [level.code for level in usable(one.thresholds, calibration.method)],
        "histogram": lambda one: histogram(one.name, labelled),
        "curve": lambda one: curve(one, calibration.method),
        "bounds": bounds,
        "needed": lambda code: BY_CODE[code].likelihood_ratio(calibration.method.odds) if code in BY_CODE else None,
        "provenance": {"tool_version": calibration.tool_version},
        "digest": calibration.digest,
    }
    write_page("calibration.html", destination, content)


def warnings(calibration: Calibration) -> Iterator[Finding]:
    """What speaks against relying on the calibration, worst first."""
    measured = [one for one in calibration.classes if one.reason is None]
    if not measured:
        yield Finding("No class could be calibrated", "Every class has a reason below; no score becomes evidence.")
    for one in measured:
        title = class_title(one.name)
        met = usable(one.thresholds, calibration.method)
        if not met:
            yield Finding(
                f"{title}: no level is met",
                f"On {count(one.pathogenic)} pathogenic and {count(one.benign)} benign variants no score is evidence, in "
                "either direction: every allele of this class stays indeterminate.",
            )
        yield from _class_warnings(one, calibration.method)
    if not any(one.role == "background" for one in calibration.data):
        yield Finding(
            "The background is the labelled file itself",
            "No file of variants as a population has them was given (--background), so the density of scores that widens "
            "the windows is that of variants chosen for being in this file.",
        )


def _class_warnings(one: ClassCalibration, method: Method) -> Iterator[Finding]:
    title = class_title(one.name)
    beyond = [row.level.code for row in one.thresholds if row.bound is not None and not method.resolves(row.level)]
    if beyond:
        yield Finding(
            f"{title}: {', '.join(beyond)} is reached but not used",
            f"A window of {method.points} variants without one of the other label cannot tell such a ratio from one of "
            f"about {method.points}. More labelled variants and larger windows (--points) could.",
        )
    if one.name == UNANNOTATED:
        yield Finding(
            "Variants without annotation share one class",
            "Consequence alone separates pathogenic from benign variants, and scores of different consequences are not "
            "comparable. Annotate the input with VEP, SnpEff or bcftools csq.",
        )
    if one.genes < FEW_GENES:
        largest = one.largest[0] if one.largest else None
        told = f"; {largest.gene} alone has {count(largest.pathogenic + largest.benign)} of them" if largest else ""
        yield Finding(
            f"{title}: {one.genes} {'gene' if one.genes == 1 else 'genes'}",
            f"{count(one.pathogenic + one.benign)} labelled variants{told}. What was measured may be a property of these "
            "genes.",
        )
    for row in one.hold_out.rows if one.hold_out else ():
        level = BY_CODE.get(row.code)
        if level and one.hold_out:
            ratio, low, high = one.hold_out.ratio(row)
            needed = level.likelihood_ratio(method.odds)
            if high < needed if level.criterion is Criterion.PP3 else low > needed:
                yield Finding(
                    f"{title}: held-out genes contradict {row.code}",
                    f"Their likelihood ratio is {number(ratio)} ({number(low)} to {number(high)}), needed is "
                    f"{number(needed)}.",
                )


def class_title(name: str) -> str:
    """``5_prime_utr`` -> ``5 prime UTR``."""
    text = name.replace("_", " ").replace("utr", "UTR")
    return text[:1].upper() + text[1:]


def begins(one: Threshold) -> str:
    """``≤ −3.21``: the scores that reach a level; a dash where it is not met."""
    if one.bound is None:
        return "–"
    return ("≤ " if one.level.criterion is Criterion.PP3 else "≥ ") + number(one.bound)


def interval(one: Threshold) -> str:
    """95 % interval of a threshold; an open end has a dash."""
    return "–" if one.low is None and one.high is None else f"{number(one.low)} to {number(one.high)}"


def status(one: Threshold, method: Method) -> str:
    """Whether a level is met and used, in words."""
    if one.bound is None:
        return f"not met: {100 * one.missed:.1f} % of the samples miss it"
    return "met" if method.resolves(one.level) else "reached, not used: windows too small to show it"


def histogram(name: str, labelled: ScoredVcf) -> Markup:
    """Scores of a class by label."""
    panels = [
        charts.Series(
            title,
            style,
            np.array([one.score for one in labelled.observations if one.group == name and one.pathogenic is label]),
        )
        for title, style, label in (("Pathogenic", "snv", True), ("Benign", "other", False))
    ]
    return charts.histogram(panels, "Score; left: the model expects ALT less")


def curve(one: ClassCalibration, method: Method) -> Markup:
    """Local likelihood ratio as ACMG/AMP points over the score."""

    def points(posterior: float) -> float:
        if not 0 < posterior < 1:
            return MOST_POINTS if posterior else -MOST_POINTS
        ratio = posterior / (1 - posterior) * (1 - method.prior) / method.prior
        return max(-MOST_POINTS, min(MOST_POINTS, VERY_STRONG_POINTS * math.log(ratio) / math.log(method.odds)))

    drawn = [charts.Point(at.score, points(at.posterior), points(at.low), points(at.high)) for at in one.curve]
    return charts.curve(drawn, "Score", "ACMG/AMP points", f"Evidence by score, {class_title(one.name)}", linear=True)


def bounds(thresholds: Sequence[Threshold]) -> Markup:
    """Thresholds that are met, each with its interval."""
    rows = [
        (one.level.code, one.bound, min(one.bound, _or(one.low, one.bound)), max(one.bound, _or(one.high, one.bound)))
        for one in thresholds
        if one.bound is not None
    ]
    return charts.intervals(rows, "Score where the level begins, 95 % interval", "Thresholds of the levels met")


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
