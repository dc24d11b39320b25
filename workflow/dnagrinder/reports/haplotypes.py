"""Haplotypes in what the user reads: the sample's table, the INFO field of the annotated VCF, the section of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.errors import InputError
from dnagrinder.genome.cis import JOINED, CisReason
from dnagrinder.genome.edits import EditReason
from dnagrinder.reports.findings import reason_text
from dnagrinder.reports.tables import write_tsv
from dnagrinder.scoring.haplotype_tables import HAPLOTYPE_SCHEMA
from dnagrinder.scoring.tables import read_parquet, read_provenance, write_parquet

NAME = "haplotypes"
ROWS = 50  # haplotypes on the page; the table has all
_OUTCOMES = {
    JOINED: "scored together with a neighbour",
    CisReason.ALONE: "no other allele of the copy within the distance",
    EditReason.UNPHASED: "heterozygous without phase: on which copy they lie is not known",
    CisReason.OTHER_PHASE_SET: "the neighbours belong to other phase sets",
    CisReason.TOO_WIDE: "the neighbours reach further than a quarter of the window",
    CisReason.PLOIDY: "the genotype has more than two alleles",
    EditReason.OVERLAP: "an allele further left on the copy covers their place",
}


def write_haplotypes_tsv(table: pa.Table, path: Path) -> None:
    """A table of haplotypes as text: 1-based position beside the start, lists joined by commas."""
    for place, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [",".join(map(str, values)) for values in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    place = table.schema.get_field_index("start")
    write_tsv(table.add_column(place, "position", pc.add(table["start"], 1)), path)


def write_sample_haplotypes(haplotypes: Path, column: str | None, folder: Path) -> None:
    """Write ``folder``/haplotypes.parquet and .tsv: the rows that one column of the VCF carries (None: a file of sites).

    ``copies`` are then the sample's own, ``copies_in_file`` those of all samples read, and ``carriers`` is left out.

    Raises:
        InputError: the table is missing, or was not written by score-haplotypes.
    """
    table, provenance, facts = _read(haplotypes)
    own = [names.count(column) for names in table["carriers"].to_pylist()]
    place = table.schema.get_field_index("copies")
    table = table.rename_columns(["copies_in_file" if name == "copies" else name for name in table.column_names])
    table = table.add_column(place, "copies", pa.array(own, pa.int32())).drop_columns(["carriers"])
    table = table.filter(pc.greater(table["copies"], 0)).replace_schema_metadata(None)
    outcomes = facts["outcomes"].get(column, {})
    write_parquet(table, folder / f"{NAME}.parquet", {**provenance, "haplotypes": {**facts, "outcomes": outcomes}})
    write_haplotypes_tsv(table, folder / f"{NAME}.tsv")


def remove_sample_haplotypes(folder: Path) -> None:
    """Remove the tables of an earlier run from a sample's folder, where the present one scores no haplotypes."""
    for suffix in (".parquet", ".tsv"):
        (folder / f"{NAME}{suffix}").unlink(missing_ok=True)


def haplotype_texts(haplotypes: Path) -> dict[str, str]:
    """For each allele's key its value of DG_HAP: its haplotypes joined by ``&``, those on most copies first.

    One haplotype is ``id|kind|joint|sum|difference|spread``.
    """
    table, _, _ = _read(haplotypes)
    names = ("joint", "singles_sum", "epistasis", "epistasis_spread")
    found: dict[str, list[str]] = {}
    for row in sorted(table.to_pylist(), key=lambda row: (-row["copies"], row["id"])):
        text = "|".join([row["id"], row["kind"], *(f"{row[name]:.6g}" for name in names)])
        for key in row["members"]:
            found.setdefault(key, []).append(text)
    return {key: "&".join(texts) for key, texts in found.items()}


def haplotype_section(folder: Path) -> dict[str, Any] | None:
    """What the sample's page says of its haplotypes; None where they were not scored.

    Rows come with 1-based positions; first those whose difference exceeds its spread, the largest difference first.
    """
    path = folder / f"{NAME}.parquet"
    if not path.is_file():
        return None
    table = read_parquet(path)
    facts = read_provenance(path)["haplotypes"]
    difference = np.abs(table["epistasis"].to_numpy())
    exceeds = difference > table["epistasis_spread"].to_numpy()
    order = np.lexsort([np.arange(len(table)), -difference, ~exceeds])
    rows = [{**row, "position": row["start"] + 1} for row in table.take(pa.array(order[:ROWS])).to_pylist()]
    kinds = Counter(table["kind"].to_pylist())
    return {
        "rows": [{**row, "places": [_place(key) for key in row["members"]]} for row in rows],
        "count": len(table),
        "mnvs": kinds["mnv"],
        "exceeding": int(exceeds.sum()),
        "distance": facts["distance"],
        "outcomes": _outcome_rows(facts["outcomes"]),
    }


def _read(path: Path) -> tuple[pa.Table, dict[str, Any], dict[str, Any]]:
    """(table, provenance, its part on haplotypes)."""
    table, provenance = read_parquet(path), read_provenance(path)
    if "haplotypes" not in provenance or table.column_names != HAPLOTYPE_SCHEMA.names:
        raise InputError(f"table {path} holds no haplotypes; it was not written by dnagrinder score-haplotypes")
    return table, provenance, provenance["haplotypes"]


def _place(key: str) -> dict[str, str]:
    """Position and letters of an allele's key."""
    _, position, ref, alt = key.rsplit(":", 3)
    return {"position": position, "ref": ref, "alt": alt}


def _outcome_rows(outcomes: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """Code, words and number of copies: joined first, then the commonest."""
    texts = {str(code): text for code, text in _OUTCOMES.items()}
    ordered = sorted(outcomes.items(), key=lambda item: (item[0] != JOINED, -item[1], item[0]))
    return [(code, texts.get(code) or reason_text(code), times) for code, times in ordered]
