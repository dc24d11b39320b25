"""The page of a sample in a few sentences, for a reader with two minutes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnagrinder.reports.comparison import Comparison
from dnagrinder.reports.page import bases, count, significant, words
from dnagrinder.reports.page import number as written
from dnagrinder.scoring.tables import read_parquet

#: Columns that come from the input's INFO, and what they are called.
_STATED = {
    "gene": "a gene",
    "consequence": "a consequence",
    "clinical_significance": "a clinical significance",
    "af": "a frequency",
}
#: Significances in lower case; ClinVar's old VCFs have 4 for likely pathogenic, 5 for pathogenic.
_PATHOGENIC = frozenset(("pathogenic", "likely_pathogenic", "5", "4"))
_NAMES = {"snvs": "single-nucleotide variant", "others": "other change"}


def in_short(
    summary: Mapping[str, Any],
    scores: Path,
    groups: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]],
    comparisons: Sequence[Comparison],
    limited: str | None = None,
) -> list[tuple[str, str]]:
    """Heading and text of each finding.

    Args:
        summary: sample.json. scores: scores.parquet of the sample.
        groups: identifier, title and rows of the top tables, the most unexpected first.
        comparisons: the sample beside the rest of the run; empty where that is not known.
        limited: what the tables are limited to, if they are.
    """
    with_score = summary["scored"] + summary["from_store"]
    said = [
        ("Scored", f"{count(with_score)} of {count(summary['alleles_in'])} alleles; {count(summary['rejected'])} set aside.")
    ]
    said += [("Lists", limited)] if limited else []
    said += [(f"Least expected {_NAMES[name]}", _allele(name, rows[0])) for name, _, rows in groups]
    said += [(f"{one.title} against the run", " ".join(one.words)) for one in comparisons[:1]]
    if with_score:
        said.append(("Annotations in the input", _annotations(scores)))
    return said


def _allele(group: str, row: Mapping[str, Any]) -> str:
    """The allele, its score and what the input says of it."""
    text = f"{row['contig']}:{row['position']} {bases(row['ref'])}>{bases(row['alt'])}, score {written(row['score'])}"
    if group == "snvs" and row["score"] < 0:
        text += f" ({significant(math.exp(-row['score']))} times less expected than REF)"
    parts = [words(row[name]) for name in ("gene", "consequence", "clinical_significance") if row[name]]
    parts += [f"AF {significant(row['af'])}"] if row["af"] is not None else []
    if row.get("of_common") is not None:
        parts.append(f"{100 * row['of_common']:.1f} % of the common alleles score as low or lower")
    return "; ".join([text, *parts]) + "."


def _annotations(scores: Path) -> str:
    table = read_parquet(scores, list(_STATED))
    stated = {text: len(table) - table[name].null_count for name, text in _STATED.items()}
    held = [f"{text} for {count(times)}" for text, times in stated.items() if times]
    lacking = [text.partition(" ")[2] for text, times in stated.items() if not times]
    said = [f"Of {count(len(table))} scored alleles: {', '.join(held)}."] if held else []
    said += [f"None has {_listed(lacking)}: the input does not state it."] if lacking else []
    if stated["a clinical significance"]:
        times = sum(map(called_pathogenic, table["clinical_significance"].drop_null().to_pylist()))
        said.append(f"The input calls {count(times)} of them pathogenic or likely pathogenic; this tool does not.")
    return " ".join(said)


def called_pathogenic(significance: str) -> bool:
    """Whether one of the significances is pathogenic or likely pathogenic, in words or in ClinVar's old codes.

    One is enough: ``Pathogenic|Likely_benign`` and ``5,255,2`` count. A summary of a conflict in words of its own
    (``Conflicting_classifications_of_pathogenicity``) does not.
    """
    return not _PATHOGENIC.isdisjoint(re.split(r"[/|,&]", significance.lower()))


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
