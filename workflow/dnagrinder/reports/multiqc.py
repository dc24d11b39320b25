"""A section for MultiQC: one row of counts a sample, as custom content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnagrinder.errors import InputError
from dnagrinder.genome.files import written_aside
from dnagrinder.reports.findings import het_hom, ts_tv
from dnagrinder.reports.tables import read_summary

_WHOLE = {"format": "{:,.0f}", "min": 0}
_HEADERS: dict[str, dict[str, Any]] = {
    "alleles_in": {"title": "Alleles", "description": "Alternative alleles of the sample", "scale": "Blues", **_WHOLE},
    "scored": {"title": "Scored", "description": "Alleles scored in this run", "scale": "Greens", **_WHOLE},
    "from_store": {"title": "From store", "description": "Alleles scored in an earlier run", "scale": "Greens", **_WHOLE},
    "rejected": {
        "title": "Not scored",
        "description": "Alleles without a score; the ledger says why",
        "scale": "Reds",
        **_WHOLE,
    },
    "ref_match": {
        "title": "REF match",
        "description": "Share of compared records whose REF equals the reference",
        "suffix": "%",
        "min": 0,
        "max": 100,
        "scale": "RdYlGn",
        "format": "{:,.2f}",
    },
    "ts_tv": {"title": "Ts/Tv", "description": "Transitions per transversion", "scale": "Purples", "format": "{:,.2f}"},
    "het_hom": {
        "title": "Het/hom",
        "description": "Heterozygous per homozygous alternative alleles",
        "scale": "Purples",
        "format": "{:,.2f}",
    },
    "median_snv_score": {
        "title": "Median SNV score",
        "description": "Median over SNVs of log P(ALT) − log P(REF), natural log",
        "scale": "RdBu",
        "format": "{:,.3f}",
    },
}


def write_multiqc(folders: Sequence[Path], destination: Path) -> None:
    """Write ``dnagrinder_mqc.json`` for the samples in ``folders``; MultiQC finds it by the end of its name.

    Raises:
        InputError: ``destination`` is not named so, or a sample.json is missing.
    """
    if not destination.name.endswith("_mqc.json"):
        raise InputError(f"MultiQC finds custom content by its name: {destination.name} must end in _mqc.json")
    content = {
        "id": "dnagrinder",
        "section_name": "dnaGrinder",
        "description": "Alleles scored by a genomic language model, and those not scored. A score is no classification.",
        "plot_type": "table",
        "pconfig": {"id": "dnagrinder_table", "title": "dnaGrinder: alleles", "namespace": "dnaGrinder"},
        "headers": _HEADERS,
        "data": {summary["sample"]: _row(summary) for summary in map(read_summary, folders)},
    }
    with written_aside(destination) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _row(summary: dict[str, Any]) -> dict[str, float]:
    """Values of _HEADERS; those that do not exist for the sample are left out."""
    checked = summary["ref_checked"]
    row = {
        **{name: summary[name] for name in ("alleles_in", "scored", "from_store", "rejected", "median_snv_score")},
        "ref_match": 100 * summary["ref_matched"] / checked if checked else None,
        "ts_tv": ts_tv(summary),
        "het_hom": het_hom(summary),
    }
    return {name: row[name] for name in _HEADERS if row[name] is not None}
