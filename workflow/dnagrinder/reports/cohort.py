"""The page of a cohort: its samples side by side, and of all its alleles those least expected."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dnagrinder.errors import InputError, InvariantError
from dnagrinder.reports import charts
from dnagrinder.reports.carriers import COHORT_SCHEMA, cohort_tiles
from dnagrinder.reports.distribution import KINDS, split_kinds
from dnagrinder.reports.findings import Finding, het_hom, model_warnings, sample_warnings, ts_tv
from dnagrinder.reports.joining import common_provenance, least_expected
from dnagrinder.reports.outliers import LIMIT, MAD_TO_SD, SAMPLES_NEEDED, Outliers, find_outliers
from dnagrinder.reports.page import count, number, write_page
from dnagrinder.reports.sample import check_card, describe_rows, kind_series, model_content, reason_rows, titled
from dnagrinder.reports.tables import read_summary
from dnagrinder.scoring.tables import read_parquet, rows_written

TOP, SAMPLES_DRAWN = 100, 60
_SUMMED = ("alleles_in", "scored", "from_store", "rejected")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_OPTIONAL = ("gene", "consequence", "clinical_significance")


def write_cohort_report(
    folders: Sequence[Path],
    destination: Path,
    *,
    scores: Path,
    card: Mapping[str, Any] | None = None,
    provenance_file: str | None = None,
) -> None:
    """Write the cohort's page and ``scores``, the table of its alleles (Parquet, COHORT_SCHEMA), from the samples' folders.

    ``card`` is the card.json of the checkpoint that made the scores; without it the page says nothing of its quality.
    ``provenance_file`` is a link to the run's provenance.json as seen from the page.

    Raises:
        InputError: no sample, a sample twice, a table missing, or samples scored with different models or parameters.
        InvariantError: counts that do not add up, or one allele with two scores.
    """
    summaries = _summaries(folders)
    tables = [folder / "scores.parquet" for folder in folders]
    provenance = common_provenance(tables)
    if card is not None:
        check_card(card, provenance)
    totals = {name: sum(summary[name] for summary in summaries) for name in _SUMMED}
    if totals["alleles_in"] != totals["scored"] + totals["from_store"] + totals["rejected"]:
        raise InvariantError(f"cohort: alleles do not add up: {totals}")
    alleles = _write_alleles(folders, scores, provenance)
    groups = [describe_rows(rows) for rows in alleles.least_expected]
    outliers = find_outliers(summaries)
    by_reason = sum((Counter(summary["rejected_by_reason"]) for summary in summaries), Counter())
    content = {
        "rows": [_row(summary, folder, destination) for summary, folder in zip(summaries, folders, strict=True)],
        "totals": totals,
        "unique": alleles.unique,
        "shared": alleles.shared,
        "warnings": [*cohort_warnings(summaries, outliers), *(model_warnings(card) if card is not None else [])],
        "outliers": outliers,
        "rule": {"limit": LIMIT, "needed": SAMPLES_NEEDED, "mad_to_sd": MAD_TO_SD},
        "apart": {(one.sample, one.measure) for one in outliers.found},
        "histogram": charts.histogram(kind_series(alleles.scores), "Score: log P(ALT) − log P(REF)"),
        "ranges": _ranges(summaries, tables),
        "drawn": min(len(folders), SAMPLES_DRAWN),
        "groups": titled(groups),
        "columns": {name for name in _OPTIONAL if any(row[name] is not None for rows in groups for row in rows)},
        "reasons": [
            (code, text, times, sum(code in summary["rejected_by_reason"] for summary in summaries))
            for code, text, times in reason_rows(by_reason)
        ],
        "provenance_file": provenance_file,
        "scores_file": Path(os.path.relpath(scores, destination.parent)).as_posix(),
        **model_content(card if card is not None else {"name": provenance["checkpoint"]["name"]}, provenance),
    }
    write_page("cohort.html", destination, content)


@dataclass(frozen=True)
class _Alleles:
    """What the page tells of the cohort's alleles.

    Attributes:
        unique, shared: alleles, and those that more than one sample carries.
        scores: of each allele once, by kind (n,), float64.
        least_expected: the shared SNVs and other alleles with the lowest scores, TOP in all (COHORT_SCHEMA).
    """

    unique: int
    shared: int
    scores: Mapping[str, NDArray[np.float64]]
    least_expected: tuple[pa.Table, pa.Table]


def _write_alleles(folders: Sequence[Path], path: Path, provenance: dict[str, Any]) -> _Alleles:
    """Write the table of all alleles with their carriers, tile by tile, and keep what the page needs."""
    unique = shared = 0
    scores: dict[str, list[NDArray[np.float64]]] = {kind: [np.empty(0)] for kind in KINDS}
    lowest = COHORT_SCHEMA.empty_table()
    with rows_written(path, COHORT_SCHEMA, provenance) as add:
        for tile in cohort_tiles(folders):
            add(tile)
            unique += len(tile)
            for kind, values in split_kinds(tile).items():
                scores[kind].append(values)
            several = tile.filter(pc.greater(tile["carriers"], 1))
            shared += len(several)
            rivals = pa.concat_tables([lowest, several])
            lowest = rivals.take(pa.array(np.concatenate(least_expected(rivals, 2 * TOP)))).combine_chunks()
    snvs, others = (lowest.take(pa.array(rows)) for rows in least_expected(lowest, TOP))
    return _Alleles(unique, shared, {kind: np.concatenate(parts) for kind, parts in scores.items()}, (snvs, others))


def cohort_warnings(summaries: Sequence[Mapping[str, Any]], outliers: Outliers) -> list[Finding]:
    """The findings of each sample, under its name, samples that stand apart, and, of few, those twice or half as large."""
    found = [
        Finding(f"{summary['sample']}: {finding.title}", finding.text)
        for summary in summaries
        for finding in sample_warnings(summary)
    ]
    for sample in dict.fromkeys(one.sample for one in outliers.found):
        told = (
            f"{one.measure} {one.value} (median {one.median}, z {number(one.z, 1)})"
            for one in outliers.found
            if one.sample == sample
        )
        found.append(Finding(f"{sample}: stands apart from the other samples", "; ".join(told) + "."))
    typical = float(np.median([summary["alleles_in"] for summary in summaries]))
    for summary in summaries if len(summaries) >= 3 and not outliers.enough else ():
        own = summary["alleles_in"]
        if own and not typical / 2 <= own <= 2 * typical:
            text = f"{count(own)} alleles; the median of the samples is {count(round(typical))}."
            size = "fewer than half" if own < typical else "more than twice"
            found.append(Finding(f"{summary['sample']}: {size} the alleles of a typical sample here", text))
    return found


def _summaries(folders: Sequence[Path]) -> list[dict[str, Any]]:
    if not folders:
        raise InputError("a cohort needs at least one sample folder")
    summaries = [read_summary(folder) for folder in folders]
    twice = [name for name, times in Counter(summary["sample"] for summary in summaries).items() if times > 1]
    if twice:
        raise InputError(f"sample named more than once in the cohort: {', '.join(twice)}")
    return summaries


def _row(summary: Mapping[str, Any], folder: Path, destination: Path) -> dict[str, Any]:
    """One line of the table of samples."""
    report = Path(os.path.relpath(folder, destination.parent)) / "report.html"
    kinds = Counter(summary["by_kind"])
    return {
        **summary,
        "href": report.as_posix(),
        "snvs": kinds["snv"],
        "others": kinds.total() - kinds["snv"],
        "ts_tv": ts_tv(summary),
        "het_hom": het_hom(summary),
    }


def _ranges(summaries: Sequence[Mapping[str, Any]], tables: Sequence[Path]) -> str:
    """Spread of the SNV scores of the first samples."""
    rows = []
    for summary, path in list(zip(summaries, tables, strict=True))[:SAMPLES_DRAWN]:
        snvs, _ = kind_series(split_kinds(read_parquet(path, ["kind", "score"])))
        if len(snvs.values):
            rows.append((summary["sample"], tuple(float(v) for v in np.quantile(snvs.values, _QUANTILES))))
    return charts.ranges(rows, "Score of single-nucleotide variants")
