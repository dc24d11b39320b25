"""The calibration file: thresholds of every consequence class with all they rest on, as JSON.

Scores in it are those of the VCF (DG_SCORE, less the neutral mean where the file holds such): the lower, the more
pathogenic. PP3 levels reach from their threshold downwards, BP4 levels upwards.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dnagrinder.errors import DnaGrinderError, InputError
from dnagrinder.genome.files import existing_file, written_aside
from dnagrinder.scoring.calibration.evidence import BY_CODE, INDETERMINATE, LEVELS, Criterion, Evidence, Level
from dnagrinder.scoring.calibration.hold_out import HeldOut, HoldOut
from dnagrinder.scoring.calibration.local_posterior import CurvePoint, Method, Threshold
from dnagrinder.scoring.calibration.neutral import NeutralMeans
from dnagrinder.scoring.calibration.observations import Fate, LabelRules
from dnagrinder.scoring.calibration.origin import ScoreOrigin

FORMAT = "dnagrinder calibration 1"


@dataclass(frozen=True)
class GeneCount:
    """Labelled variants of a gene."""

    gene: str
    pathogenic: int
    benign: int


@dataclass(frozen=True)
class ClassCalibration:
    """The calibration of one consequence class, or why there is none.

    Attributes:
        name: the class.
        pathogenic, benign: labelled variants used.
        background: variants that give the density.
        dropped: benign variants left out because their gene has no pathogenic one here.
        contigs: plain names of the contigs that the labelled variants lie on; thresholds are applied on these only.
        genes: number of genes; ``largest`` those with most labelled variants.
        reason: why the class is not calibrated; None where it is.
        thresholds: of all levels in the order of LEVELS, empty where not calibrated; scores as in the VCF.
        curve: posterior by score, ascending.
        hold_out: the check on held-out genes; None where there are too few.

    Raises:
        InputError: contents that contradict each other.
    """

    name: str
    pathogenic: int
    benign: int
    background: int
    dropped: int
    contigs: tuple[str, ...]
    genes: int
    largest: tuple[GeneCount, ...]
    reason: str | None = None
    thresholds: tuple[Threshold, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    hold_out: HoldOut | None = None

    def __post_init__(self) -> None:
        where = f"calibration of class {self.name}"
        expected = () if self.reason else LEVELS
        if tuple(one.level for one in self.thresholds) != expected:
            raise InputError(f"{where}: it has either a reason or a threshold for each of the {len(LEVELS)} levels")
        numbers = [value for one in self.thresholds for value in (one.estimate, one.bound, one.low, one.high)]
        if not all(value is None or math.isfinite(value) for value in numbers):
            raise InputError(f"{where}: a threshold is not a number")
        for criterion, sign in ((Criterion.PP3, -1), (Criterion.BP4, 1)):
            bounds = [one.bound for one in self.thresholds if one.level.criterion is criterion]
            met = [bound * sign for bound in bounds if bound is not None]
            if met != sorted(met) or any(bound is not None for bound in bounds[len(met) :]):
                raise InputError(f"{where}: a stronger level of {criterion} is easier to reach than a weaker one")
        if self.weakest(Criterion.PP3) >= self.weakest(Criterion.BP4):
            raise InputError(f"{where}: scores that are both PP3 and BP4")

    def weakest(self, criterion: Criterion) -> float:
        """Where the criterion's supporting evidence begins; infinitely far where it is not met."""
        bounds = [one.bound for one in self.thresholds if one.level.criterion is criterion and one.bound is not None]
        return bounds[0] if bounds else (-math.inf if criterion is Criterion.PP3 else math.inf)


@dataclass(frozen=True)
class DataFile:
    """A file that was calibrated on, by role: labelled, background, neutral, neutral_regions."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Calibration:
    """Everything of a calibration.

    Attributes:
        origin: what the scores come from; scores of another origin are not judged.
        method, labels: parameters.
        data: the files, with checksums.
        fates: what became of the records of the labelled file.
        classes: in the order of their severity.
        neutral: means that were subtracted from the scores; None where none were.
        tool_version: of the program that wrote it.
    """

    tool_version: str
    origin: ScoreOrigin
    method: Method
    labels: LabelRules
    data: tuple[DataFile, ...]
    fates: Mapping[Fate, int]
    classes: tuple[ClassCalibration, ...]
    neutral: NeutralMeans | None = None

    def __post_init__(self) -> None:
        names = [one.name for one in self.classes]
        if len(set(names)) != len(names):
            raise InputError(f"calibration: a class stands twice among {', '.join(names)}")

    @property
    def digest(self) -> str:
        """sha256 of the file's text."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()

    def of_class(self, name: str) -> ClassCalibration | None:
        """The calibration of a class that was calibrated, else None."""
        return next((one for one in self.classes if one.name == name and one.reason is None), None)


def usable(thresholds: Sequence[Threshold], method: Method) -> dict[Level, float]:
    """Where the levels begin that evidence may rest on: met, and within what the windows can resolve."""
    return {one.level: one.bound for one in thresholds if one.bound is not None and method.resolves(one.level)}


def judge(thresholds: Sequence[Threshold], score: float, method: Method) -> Evidence:
    """The strongest level that ``score`` (to the method's increment) reaches, or indeterminate with 0 points.

    Only :func:`usable` levels count.
    """
    cell = method.cell(score)
    begins = {level: method.cell(bound) for level, bound in usable(thresholds, method).items()}
    reached = [level for level, at in begins.items() if (cell <= at if level.criterion is Criterion.PP3 else cell >= at)]
    strongest = max(reached, key=lambda level: abs(level.points), default=None)
    return Evidence(strongest.code, strongest.points) if strongest else Evidence(INDETERMINATE, 0)


def to_json(calibration: Calibration) -> str:
    """The file's text; equal calibrations give equal text."""
    stated = asdict(calibration)
    for one in stated["classes"]:
        for threshold in one["thresholds"]:
            level = Level(**threshold.pop("level"))
            threshold["code"], threshold["points"] = level.code, level.points
    return json.dumps({"format": FORMAT, **stated}, indent=1, allow_nan=False) + "\n"


def of_json(text: str) -> Calibration:
    """A calibration from :func:`to_json`'s text.

    Raises:
        InputError: another format, or contents that contradict each other.
    """
    try:
        stated = json.loads(text)
        if not isinstance(stated, dict) or stated.pop("format", None) != FORMAT:
            raise InputError(f"it is no {FORMAT!r} file")
        return Calibration(
            tool_version=stated.pop("tool_version"),
            origin=ScoreOrigin(**stated.pop("origin")),
            method=Method(**stated.pop("method")),
            labels=LabelRules(**stated.pop("labels")),
            data=tuple(DataFile(**one) for one in stated.pop("data")),
            fates={Fate(code): count for code, count in stated.pop("fates").items()},
            classes=tuple(_class(**one) for one in stated.pop("classes")),
            neutral=_optional(stated.pop("neutral"), NeutralMeans),
            **stated,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"its contents are not those of a calibration: {error!r}") from error


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write the file, aside first."""
    with written_aside(path) as aside:
        aside.write_text(to_json(calibration), encoding="utf-8", newline="\n")


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file. Raises InputError."""
    try:
        return of_json(existing_file(path, "calibration").read_text(encoding="utf-8"))
    except (DnaGrinderError, UnicodeDecodeError) as error:
        raise InputError(f"calibration {path} cannot be used: {error}; make it with dnagrinder calibrate") from error


def _class(**stated: Any) -> ClassCalibration:
    makers: dict[str, Callable[..., Any]] = {"largest": GeneCount, "thresholds": _threshold, "curve": CurvePoint}
    for key, make in makers.items():
        stated[key] = tuple(make(**one) for one in stated[key])
    stated["contigs"] = tuple(stated["contigs"])
    stated["hold_out"] = _optional(stated["hold_out"], _hold_out)
    return ClassCalibration(**stated)


def _threshold(code: str, points: int, **stated: Any) -> Threshold:
    level = BY_CODE[code]
    if points != level.points:
        raise ValueError(f"{code} has {level.points} points, found {points}")
    return Threshold(level, **stated)


def _hold_out(rows: list[dict[str, Any]], **stated: Any) -> HoldOut:
    return HoldOut(rows=tuple(HeldOut(**row) for row in rows), **stated)


def _optional(stated: dict[str, Any] | None, make: Callable[..., Any]) -> Any:
    return None if stated is None else make(**stated)
