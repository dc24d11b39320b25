"""Samples that stand apart from the others of their run, by one stated rule.

The rule is the modified z-score of Iglewicz and Hoaglin (How to detect and handle outliers, 1993) with their limit:
z = (x - median) / (1.4826 · MAD), and a sample beyond 3.5 in a measure is an outlier in it. It supposes samples of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnagrinder.reports.findings import het_hom, ts_tv
from dnagrinder.reports.page import count, number

#: Distance from the median, in robust standard deviations, from which a sample is called an outlier.
LIMIT = 3.5
#: With fewer samples median and MAD are too uncertain to call any of them.
SAMPLES_NEEDED = 10
#: Of a normal distribution the standard deviation is this times the median absolute deviation.
MAD_TO_SD = 1.4826

_Value = Callable[[Mapping[str, Any]], float | None]
_MEASURES: tuple[tuple[str, _Value, Callable[[float], str]], ...] = (
    ("alleles", lambda summary: summary["alleles_in"], lambda value: count(round(value))),
    (
        "share of alleles not scored",
        lambda summary: _share(summary["rejected"], summary["alleles_in"]),
        lambda v: number(v, 4),
    ),
    ("Ts/Tv", ts_tv, number),
    ("het/hom", het_hom, number),
    (
        "share of REF that match",
        lambda summary: _share(summary["ref_matched"], summary["ref_checked"]),
        lambda v: number(v, 4),
    ),
    ("median SNV score", lambda summary: summary["median_snv_score"], lambda value: number(value, 3)),
)


@dataclass(frozen=True)
class Outlier:
    """A sample that stands apart in ``measure``; ``value`` and ``median`` are written for people."""

    sample: str
    measure: str
    value: str
    median: str
    z: float


@dataclass(frozen=True)
class Outliers:
    """What the rule says of a run.

    Attributes:
        found: outliers, farthest first.
        judged: measures that were looked at.
        flat: measures in which more than half of the samples are alike, so that no distance can be told.
        enough: whether there are samples enough to judge any.
    """

    found: tuple[Outlier, ...]
    judged: tuple[str, ...]
    flat: tuple[str, ...]
    enough: bool


def find_outliers(summaries: Sequence[Mapping[str, Any]]) -> Outliers:
    """Apply the rule to the samples' sample.json; a sample without a value in a measure takes no part in it."""
    if len(summaries) < SAMPLES_NEEDED:
        return Outliers((), (), (), enough=False)
    found: list[Outlier] = []
    judged, flat = [], []
    for measure, value_of, write in _MEASURES:
        known = [(summary["sample"], value) for summary in summaries if (value := value_of(summary)) is not None]
        if len(known) < SAMPLES_NEEDED:
            continue
        values = np.array([value for _, value in known], dtype=np.float64)
        median = float(np.median(values))
        spread = MAD_TO_SD * float(np.median(np.abs(values - median)))
        if spread == 0:
            flat.append(measure)
            continue
        judged.append(measure)
        found += [
            Outlier(sample, measure, write(value), write(median), (value - median) / spread)
            for sample, value in known
            if abs(value - median) > LIMIT * spread
        ]
    return Outliers(tuple(sorted(found, key=lambda one: (-abs(one.z), one.sample))), tuple(judged), tuple(flat), enough=True)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
