"""The page of one sample: what was scored, what was not, and the alleles the model expects least."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.reports import charts
from dnagrinder.reports.brief import in_short
from dnagrinder.reports.comparison import TITLES, Comparison, compare
from dnagrinder.reports.distribution import KINDS, read_distribution, split_kinds
from dnagrinder.reports.families import CANDIDATES
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.findings import (
    family_warnings,
    frequency_warnings,
    het_hom,
    model_warnings,
    predictors,
    reason_text,
    sample_warnings,
    ts_tv,
)
from dnagrinder.reports.haplotypes import haplotype_section
from dnagrinder.reports.loci import browser_view
from dnagrinder.reports.page import count, write_page
from dnagrinder.reports.tables import read_json, read_summary
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_parquet, read_provenance

TOP, PLOTS, LEDGER_ROWS = 100, 20, 200
EVERYTHING = Filters()
#: Columns of the top table that are shown only where a row has a value.
_OPTIONAL = (
    "genotype",
    "gene",
    "consequence",
    "clinical_significance",
    "af",
    "region",
    "of_common",
    "evidence",
    "points",
)
_FILES = (
    ("scores.tsv", "Scores of all alleles, tab-separated text"),
    ("scores.parquet", "The same as Parquet"),
    ("haplotypes.tsv", "Scores of alleles on one chromosome copy, tab-separated text"),
    ("haplotypes.parquet", "The same as Parquet"),
    ("ledger.tsv", "Alleles without a score and why, tab-separated text"),
    ("ledger.parquet", "The same as Parquet"),
    ("sample.json", "Counts and provenance, JSON"),
)


@dataclass(frozen=True)
class ContextPlot:
    """Figure of one variant: ``row`` is its row of the top table, ``probabilities`` those at an SNV's own position."""

    anchor: str
    row: Mapping[str, Any]
    svg: str
    probabilities: tuple[tuple[str, float], ...]


def write_sample_report(
    folder: Path,
    destination: Path,
    *,
    card: Mapping[str, Any],
    annotated_vcf: str | None = None,
    regions: pd.DataFrame | None = None,
    distribution: Path | None = None,
    genome: ReferenceGenome | None = None,
    filters: Filters = EVERYTHING,
    family: Path | None = None,
) -> None:
    """Write the report of the sample whose tables lie in ``folder`` (context.parquet adds the context plots,
    haplotypes.parquet the section on haplotypes).

    Args:
        card: card.json of the checkpoint that made the scores.
        annotated_vcf: link to the annotated VCF as seen from the page, e.g. ``../../callsets/trio/scored.vcf.gz``.
        regions: columns contig, start, end (0-based half-open) and name; the top table names those a variant touches.
        distribution: scores of all samples of the run, to set the sample's beside.
        genome: the reference; with it the page holds a genome browser of the top loci.
        family: family.json of the family whose proband the sample is; its candidates get a section.
        filters: limit the lists of alleles; counts and distributions stay those of the whole sample.

    Raises:
        InputError: a table is missing or damaged, or ``card`` or ``distribution`` is of other scores.
        InvariantError: ``distribution`` does not hold the sample's scores.
    """
    summary = read_summary(folder)
    scores = folder / "scores.parquet"
    provenance = read_provenance(scores)
    check_card(card, provenance)
    table = read_parquet(scores, [*ALLELE_COLUMNS, "kind", "score", "af"])
    by_kind = split_kinds(table)
    run = read_distribution(distribution, folder) if distribution else None
    comparisons = compare(summary["sample"], by_kind, run) if run else []
    groups = [
        _ranked(_top_rows(scores, rows, regions), kind, comparisons)
        for kind, rows in zip(KINDS, filters.least_expected(table, TOP), strict=True)
    ]
    top = [row for rows in groups for row in rows]
    plots = _context_plots(top, folder / "context.parquet")
    anchors = {plot.row["key"]: plot.anchor for plot in plots}
    titles = titled([[{**row, "anchor": anchors.get(row["key"])} for row in rows] for rows in groups])
    plotted = [plot.row for plot in plots]
    view = browser_view(summary["sample"], plotted or _alternating(groups), folder, genome, regions) if genome else None
    kin = _family(family, summary["sample"], destination) if family else None
    limited = filters.words(len(filters.passing(table)), len(table))
    content = {
        "summary": summary,
        "warnings": [
            *sample_warnings(summary),
            *frequency_warnings(table["af"].to_numpy(), filters.max_af),
            *(family_warnings(kin) if kin else []),
            *model_warnings(card),
        ],
        "facts": {"ts_tv": ts_tv(summary), "het_hom": het_hom(summary)},
        "in_short": in_short(summary, scores, titles, comparisons, limited),
        "histogram": charts.histogram(kind_series(split_kinds(table), comparisons), "Score: log P(ALT) − log P(REF)"),
        "comparisons": comparisons,
        "compared": run is not None,
        "groups": titles,
        "limited": limited,
        "family": kin,
        "columns": {name for name in _OPTIONAL if any(row[name] is not None for row in top)},
        "view": view,
        "plots": plots,
        "shade_key": charts.shade_key(),
        "haplotypes": haplotype_section(folder),
        "kinds": _kind_words(summary["by_kind"]),
        "reasons": reason_rows(summary["rejected_by_reason"]),
        "ledger": _ledger_rows(folder / "ledger.parquet"),
        "files": _links(folder, destination, annotated_vcf),
        **model_content(card, provenance),
    }
    write_page("sample.html", destination, content)


def check_card(card: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Refuse to describe scores by the card of another model. Raises InputError."""
    stated, used = card.get("sha256", {}).get("model.safetensors"), provenance["checkpoint"]["sha256"]
    if stated != used:
        raise InputError(
            f"the scores were made by checkpoint {provenance['checkpoint']['name']} (sha256 {used}), the card given is of "
            f"{card.get('name')} ({stated}); give the checkpoint that made the scores"
        )


def model_content(card: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What every page says of its model."""
    metrics = card.get("metrics", {})
    return {
        "card": {"description": None, "parameters": None, "limits": [], "license": None, **card},
        "predictors": predictors(card),
        "bases_measured": metrics.get("scoring_cross_entropy_nats", {}).get("bases"),
        "other_metrics": {name: value for name, value in metrics.items() if isinstance(value, float)},
        "provenance": provenance,
    }


def kind_series(scores: Mapping[str, NDArray[np.float64]], comparisons: Sequence[Comparison] = ()) -> list[charts.Series]:
    """Scores of SNVs and of all other alleles, which are scored by another method and are not comparable."""
    outlines = {one.kind: one.outlines() for one in comparisons}
    return [charts.Series(TITLES[kind], kind, values, outlines.get(kind, ())) for kind, values in scores.items()]


def reason_rows(by_reason: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Code, description and number of each reason, commonest first."""
    rows = [(code, reason_text(code), times) for code, times in by_reason.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def describe_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as dicts with key and 1-based position; columns that the table lacks and non-numbers are None."""
    rows = []
    for row in table.to_pylist():
        key = f"{row['contig']}:{row['start'] + 1}:{row['ref']}:{row['alt']}"
        clean = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        rows.append({**dict.fromkeys(_OPTIONAL), **clean, "position": row["start"] + 1, "key": key})
    return rows


def titled(groups: Sequence[list[dict[str, Any]]]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Identifier, heading and rows of the groups (SNVs, others) that have rows."""
    names = zip(("snvs", "others"), TITLES.values(), strict=True)
    return [(anchor, title, rows) for (anchor, title), rows in zip(names, groups, strict=True) if rows]


def _top_rows(path: Path, numbers: NDArray[np.int64], regions: pd.DataFrame | None) -> list[dict[str, Any]]:
    rows = describe_rows(_rows_at(path, numbers))
    return rows if regions is None else [{**row, "region": _region_names(row, regions)} for row in rows]


def _ranked(rows: list[dict[str, Any]], kind: str, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The rows with their place among the common alleles of their kind, where that is known."""
    compared = next((one for one in comparisons if one.kind == kind), None)
    return [{**row, "of_common": compared.share_of_common(row["score"])} for row in rows] if compared else rows


def _alternating(groups: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The first of each group, then the second of each, and so on."""
    return [row for rows in zip_longest(*groups) for row in rows if row]


def _rows_at(path: Path, rows: NDArray[np.int64]) -> pa.Table:
    """These rows with all their columns, in the order asked for; the file is read in pieces."""
    parts, first = [], 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            inside = rows[(rows >= first) & (rows < first + len(batch))]
            parts.append(batch.take(pa.array(np.sort(inside) - first)))
            first += len(batch)
        table = pa.Table.from_batches(parts, file.schema_arrow)
    return table.take(pa.array(np.argsort(np.argsort(rows))))


def _kind_words(by_kind: Mapping[str, int]) -> str:
    """``224 SNVs, 33 deletions``, commonest first."""
    names = {"snv": "SNV", "mnv": "MNV", "delins": "deletion-insertion"}
    ordered = sorted(by_kind.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count(times)} {names.get(kind, kind)}{'' if times == 1 else 's'}" for kind, times in ordered)


def _region_names(row: Mapping[str, Any], regions: pd.DataFrame) -> str | None:
    start, end = row["start"], row["start"] + len(row["ref"])
    touched = regions[(regions["contig"] == row["contig"]) & (regions["start"] < end) & (regions["end"] > start)]
    return ", ".join(dict.fromkeys(str(name) for name in touched["name"].dropna())) or ("yes" if len(touched) else None)


def _context_plots(top: list[dict[str, Any]], path: Path) -> list[ContextPlot]:
    if not path.is_file():
        return []
    around: dict[str, list[charts.BaseContext]] = {}
    for row in read_parquet(path).to_pylist():
        logs = (row["log_p_a"], row["log_p_c"], row["log_p_g"], row["log_p_t"])
        a, c, g, t = (math.nan if value is None else math.exp(value) for value in logs)
        around.setdefault(row["key"], []).append(charts.BaseContext(row["position"], row["ref"], (a, c, g, t)))
    shown = [row for row in top if row["key"] in around][:PLOTS]
    return [_context_plot(f"context-{n}", row, around[row["key"]]) for n, row in enumerate(shown, start=1)]


def _context_plot(anchor: str, row: Mapping[str, Any], context: list[charts.BaseContext]) -> ContextPlot:
    context = sorted(context, key=lambda site: site.position)
    allele = Allele.from_key(row["key"])
    here = next((site for site in context if site.position == allele.position and allele.kind == "snv"), None)
    probabilities = tuple(zip(charts.BASES, here.probabilities, strict=True)) if here else ()
    said = ", ".join(f"{base} {probability:.0%}" for base, probability in probabilities)
    title = f"Probability of each base around {row['contig']}:{row['position']}" + (
        f"; at the variant {said}" if said else ""
    )
    return ContextPlot(anchor, row, charts.context_map(context, *allele.trimmed(), title), probabilities)


def _family(path: Path, sample: str, destination: Path) -> dict[str, Any]:
    """The content of family.json, with the place of the candidates as seen from the page."""
    content = read_json(path)
    if not any(member["name"] == sample and member["role"] == "proband" for member in content.get("members", ())):
        raise InputError(f"{path} is not of a family whose proband is {sample}")
    table = Path(os.path.relpath(path.parent / CANDIDATES, destination.parent)).as_posix()
    return {**content, "table": table}


def _ledger_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"table {path} is missing")
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(LEDGER_ROWS), None)
    return [] if batch is None else batch.to_pylist()


def _links(folder: Path, destination: Path, annotated_vcf: str | None) -> list[tuple[str, str]]:
    """Files of the sample with their place as seen from the page."""
    place = Path(os.path.relpath(folder, destination.parent))
    files = [((place / name).as_posix(), text) for name, text in _FILES if (folder / name).is_file()]
    return [(annotated_vcf, "The input VCF with DG_ fields in INFO"), *files] if annotated_vcf else files
