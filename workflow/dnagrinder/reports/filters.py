"""Which alleles the lists of a page hold: those in a panel of genes, and those rare enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.reports.joining import least_expected
from dnagrinder.reports.page import count, significant

#: Columns of a table that a filter reads.
COLUMNS = ("contig", "start", "ref", "af")


@dataclass(frozen=True)
class Filters:
    """An allele passes when its REF touches the panel and its AF is not above ``max_af``; one without AF passes.

    Attributes:
        panel: columns contig, start, end (0-based half-open) and name; None for the whole genome.
        panel_name: how the panel is called to readers.
        max_af: between 0 and 1; None for any frequency.
    """

    panel: pd.DataFrame | None = None
    panel_name: str = ""
    max_af: float | None = None

    def __post_init__(self) -> None:
        if self.max_af is not None and not 0 <= self.max_af <= 1:
            raise ConfigError(f"max_af is {self.max_af}; an allele frequency lies between 0 and 1")

    @classmethod
    def open(cls, panel: Path | None, max_af: float | None, genome: ReferenceGenome | None) -> Filters:
        """With the panel read from a BED, whose contigs ``genome`` names. Raises ConfigError without a genome for it."""
        if panel is None:
            return cls(max_af=max_af)
        if genome is None:
            raise ConfigError("a panel needs the reference: the BED's contig names are those of the reference")
        return cls(read_bed(panel, genome).accepted, panel.name, max_af)

    @property
    def active(self) -> bool:
        """Whether anything is filtered."""
        return self.panel is not None or self.max_af is not None

    def passing(self, table: pa.Table) -> NDArray[np.int64]:
        """Rows of ``table`` (with COLUMNS) that pass, ascending."""
        keep = np.ones(len(table), dtype=bool)
        if self.max_af is not None:
            frequency = table["af"].to_numpy()
            keep &= ~(np.nan_to_num(frequency.astype(np.float64), nan=0.0) > self.max_af)
        if self.panel is not None:
            keep &= _touching(table, self.panel)
        return np.flatnonzero(keep)

    def least_expected(self, table: pa.Table, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the most unexpected SNVs and other alleles among those that pass (see joining.least_expected)."""
        rows = self.passing(table)
        snvs, others = least_expected(table.take(pa.array(rows)), number)
        return rows[snvs], rows[others]

    def genes(self, row: Mapping[str, Any]) -> str | None:
        """Names of the panel's regions that the allele of ``row`` touches; None where there are none."""
        if self.panel is None:
            return None
        start, end = row["start"], row["start"] + len(row["ref"])
        panel = self.panel
        touched = panel[(panel["contig"] == row["contig"]) & (panel["start"] < end) & (panel["end"] > start)]
        return ",".join(dict.fromkeys(str(name) for name in touched["name"].dropna())) or None

    def words(self, passed: int, alleles: int) -> str | None:
        """What the lists are limited to; None where nothing is filtered."""
        if not self.active:
            return None
        limits = [f"in the panel {self.panel_name}"] if self.panel is not None else []
        limits += [f"with an AF of at most {significant(self.max_af)} or none stated"] if self.max_af is not None else []
        return f"Only alleles {' and '.join(limits)}: {count(passed)} of {count(alleles)}."


def _touching(table: pa.Table, panel: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether the REF of each row shares a base with a region."""
    contigs = np.array(table["contig"].to_pylist(), dtype=object)
    starts = table["start"].to_numpy()
    ends = starts + np.array([len(ref) for ref in table["ref"].to_pylist()], dtype=np.int64)
    touched = np.zeros(len(table), dtype=bool)
    for contig, regions in panel.groupby("contig"):
        here = contigs == contig
        first = np.sort(regions["start"].to_numpy())
        last = np.sort(regions["end"].to_numpy())
        # as many regions begin before the allele's end as have ended by its start only where none touches it
        begun = np.searchsorted(first, ends[here], side="left")
        ended = np.searchsorted(last, starts[here], side="right")
        touched[here] = begun > ended
    return touched
