"""From scored, labelled variants to a calibration: one measurement a consequence class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dnagrinder import __version__
from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.scoring.calibration.classes import CLASSES, OTHER, UNANNOTATED, why_never
from dnagrinder.scoring.calibration.file import Calibration, ClassCalibration, DataFile, GeneCount, judge
from dnagrinder.scoring.calibration.hold_out import FOLDS, HoldOut, gene_folds, rows_of
from dnagrinder.scoring.calibration.local_posterior import Fit, Method, fit
from dnagrinder.scoring.calibration.neutral import NeutralMeans, neutral_means, pentanucleotide
from dnagrinder.scoring.calibration.observations import FATES, Fate, LabelRules, Observation, ScoredVcf
from dnagrinder.scoring.calibration.origin import plain_contig

LEAST_EACH = 10  # labelled variants of each kind, as acmgscaler asks for
GENES_NAMED = 10
Progress = Callable[[int, int], None]


def calibrate(
    labelled: ScoredVcf,
    labels: LabelRules,
    method: Method,
    *,
    background: ScoredVcf | None = None,
    neutral: NeutralMeans | None = None,
    neutral_files: Sequence[DataFile] = (),
    on_progress: Progress | None = None,
) -> Calibration:
    """Calibrate every consequence class of ``labelled`` that has enough variants.

    Args:
        background: scored variants as they come in a population; without it all variants of ``labelled``, those without
            a label that counts among them.
        neutral: the means that were subtracted from the scores of both.
        neutral_files: what these were made from.

    Raises:
        InputError: no variant has a label, or the files were scored differently.
    """
    if background:
        check_origin(labelled, background)
    if not labelled.fates[Fate.PATHOGENIC] + labelled.fates[Fate.BENIGN]:
        told = "; ".join(f"{count:,} {FATES[fate]}" for fate, count in labelled.fates.items() if count)
        raise InputError(f"VCF {labelled.name}: no scored variant has a label that counts ({told or 'no record'})")
    crowd = (background or labelled).observations
    names = [name for name in (*CLASSES, OTHER, UNANNOTATED) if any(one.group == name for one in labelled.observations)]
    classes = []
    for number, name in enumerate(names):
        members = [one for one in labelled.observations if one.group == name and one.pathogenic is not None]
        classes.append(_class(name, members, [one.score for one in crowd if one.group == name], method))
        if on_progress:
            on_progress(number + 1, len(names))
    files = [DataFile("labelled", labelled.name, labelled.sha256)]
    if background:
        files.append(DataFile("background", background.name, background.sha256))
    return Calibration(
        __version__,
        labelled.origin,
        method,
        labels,
        (*files, *neutral_files),
        labelled.fates,
        tuple(classes),
        neutral,
    )


def means_at(scored: ScoredVcf, reference: ReferenceGenome, regions: pd.DataFrame | None = None) -> NeutralMeans:
    """Neutral means over the changes of a scored VCF: all of them, or those within ``regions`` (``read_bed``'s accepted).

    Raises:
        InputError: none is left. BuildMismatchError: the VCF belongs to another reference.
    """
    places = _Places(regions) if regions is not None else None
    changes = []
    for one in scored.observations:
        context = pentanucleotide(reference, one.contig, one.start, one.ref)
        if context and (places is None or places.hold(reference.resolve(one.contig), one.start)):
            changes.append((context, one.alt, one.score))
    return neutral_means(changes)


def check_origin(first: ScoredVcf, second: ScoredVcf) -> None:
    """Refuse files whose scores differ in model, reference or parameters. Raises InputError."""
    if part := first.origin.difference(second.origin):
        raise InputError(f"VCF {second.name} and VCF {first.name} were scored with different {part}; score them alike first")


def _class(name: str, members: list[Observation], crowd: list[float], method: Method) -> ClassCalibration:
    with_pathogenic = {one.gene for one in members if one.pathogenic}
    used = [one for one in members if one.gene is None or one.gene in with_pathogenic]
    positive = sum(bool(one.pathogenic) for one in used)
    genes = Counter(one.gene for one in used if one.gene)
    kinds = Counter((one.gene, one.pathogenic) for one in used)
    largest = sorted(genes, key=lambda gene: (-genes[gene], gene))[:GENES_NAMED]
    reason = why_never(name) or _too_few(used, crowd, method)
    if reason and len(members) > len(used):
        reason += f"; {len(members) - len(used)} benign ones of genes without a pathogenic one here do not count"
    measured = Fit((), ()) if reason else _fit(used, crowd, method)
    return ClassCalibration(
        name,
        positive,
        len(used) - positive,
        len(crowd),
        len(members) - len(used),
        tuple(sorted({plain_contig(one.contig) for one in used})),
        len(genes),
        tuple(GeneCount(gene, kinds[gene, True], kinds[gene, False]) for gene in largest),
        reason,
        measured.thresholds,
        measured.curve,
        None if reason else _hold_out(used, crowd, method),
    )


def _too_few(used: Sequence[Observation], crowd: Sequence[float], method: Method) -> str | None:
    positive = sum(bool(one.pathogenic) for one in used)
    negative = len(used) - positive
    if min(positive, negative) >= LEAST_EACH and len(used) >= method.points and crowd:
        return None
    return (
        f"too few variants: {positive} pathogenic and {negative} benign, needed are {LEAST_EACH} of each and "
        f"{method.points} together" + ("" if crowd else ", and a background")
    )


def _fit(used: Sequence[Observation], crowd: Sequence[float], method: Method) -> Fit:
    """Thresholds and curve in the direction of the VCF's scores: the model's surprise, -score, is what points upwards."""
    pathogenic, benign = (np.array([-one.score for one in used if one.pathogenic is kind]) for kind in (True, False))
    upwards = fit(pathogenic, benign, -np.array(crowd), method)
    return Fit(
        tuple(
            replace(one, estimate=_minus(one.estimate), bound=_minus(one.bound), low=_minus(one.high), high=_minus(one.low))
            for one in upwards.thresholds
        ),
        tuple(replace(point, score=0.0 - point.score) for point in reversed(upwards.curve)),
    )


def _minus(value: float | None) -> float | None:
    return None if value is None else 0.0 - value


def _hold_out(used: Sequence[Observation], crowd: Sequence[float], method: Method) -> HoldOut | None:
    """Judge each fold of genes by thresholds measured on the others; None for fewer than two genes."""
    named = [one for one in used if one.gene]
    places = gene_folds([one.gene or "" for one in named])
    codes: list[str] = []
    truth: list[bool] = []
    for fold in range(FOLDS):
        inside = [one for one in named if places[one.gene or ""] == fold]
        others = [one for one in used if one.gene and places[one.gene] != fold]
        if inside and _too_few(others, crowd, method) is None:
            thresholds = _fit(others, crowd, method).thresholds
            codes += [judge(thresholds, one.score, method).code for one in inside]
            truth += [bool(one.pathogenic) for one in inside]
    if not codes:
        return None
    return HoldOut(min(FOLDS, len(places)), rows_of(codes, truth), len(used) - len(codes))


class _Places:
    """Regions by contig, for asking whether a base lies in one."""

    def __init__(self, regions: pd.DataFrame) -> None:
        self._sorted = {}
        for contig, rows in regions.sort_values("start").groupby("contig"):
            self._sorted[str(contig)] = (rows["start"].to_numpy(), np.maximum.accumulate(rows["end"].to_numpy()))

    def hold(self, contig: str | None, start: int) -> bool:
        """Whether a region holds the 0-based position."""
        if contig not in self._sorted:
            return False
        starts, reach = self._sorted[contig]
        before = int(np.searchsorted(starts, start, side="right")) - 1
        return before >= 0 and bool(reach[before] > start)
