"""Windows of sequence around loci and tiles over regions, clipped at contig ends. Intervals are 0-based half-open."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pyranges as pr

from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome


def window_bounds(start: int, end: int, width: int, contig_length: int) -> tuple[int, int]:
    """Start and end of the ``width`` bases centred on the locus ``[start, end)``, clipped at the contig's ends.

    A window is clipped, not shifted: near an end it is shorter than ``width``::

        contig   |...........................
        locus      ##
        window   [---------)                  width 12 would begin 4 bases before the contig
    """
    left = (start + end) // 2 - width // 2
    return max(0, left), min(left + width, contig_length)


def windows_around(loci: pd.DataFrame, reference: ReferenceGenome, width: int) -> pd.DataFrame:
    """The :func:`window_bounds` of every row of ``loci`` (columns contig, start, end), in the same order and index.

    Other columns are carried along.

    Raises:
        InputError: a contig that the reference lacks, or a locus outside its contig.
    """
    _check_width(width)
    _check_loci(loci, reference)
    left = (loci["start"] + loci["end"]) // 2 - width // 2
    clipped = _clipped(loci["contig"], left, left + width, reference)
    return loci.assign(start=clipped["Start"].to_numpy(), end=clipped["End"].to_numpy())


def tile(regions: pd.DataFrame, width: int, reference: ReferenceGenome, *, flank: int | None = None) -> pd.DataFrame:
    """Cut ``regions`` (columns contig, start, end) into tiles of at most ``width`` core bases with flanks for context.

    The cores of one region follow each other without gap or overlap; the window of a tile is its core plus ``flank``
    bases on both sides (default ``width // 2``), clipped at contig ends.

    Returns:
        One row per tile in the order of the regions: region (index label in ``regions``), contig, core_start, core_end,
        start, end.

    Raises:
        InputError: a contig that the reference lacks, or a region outside its contig.
    """
    _check_width(width)
    _check_loci(regions, reference)
    flank = width // 2 if flank is None else flank
    numbered = pd.DataFrame(
        {
            "Chromosome": regions["contig"].to_numpy(),
            "Start": regions["start"].to_numpy(),
            "End": regions["end"].to_numpy(),
            "row": np.arange(len(regions)),
        }
    )
    numbered = numbered[numbered["End"] > numbered["Start"]]
    if numbered.empty:
        return pd.DataFrame(columns=["region", "contig", "core_start", "core_end", "start", "end"])
    with _quiet():
        cores = pr.PyRanges(numbered).window(width).df
    cores = cores.sort_values(["row", "Start"], ignore_index=True)
    contigs = cores["Chromosome"].astype("str")
    windows = _clipped(contigs, cores["Start"] - flank, cores["End"] + flank, reference)
    return pd.DataFrame(
        {
            "region": regions.index.to_numpy()[cores["row"].to_numpy()],
            "contig": contigs,
            "core_start": cores["Start"].to_numpy(dtype=np.int64),
            "core_end": cores["End"].to_numpy(dtype=np.int64),
            "start": windows["Start"].to_numpy(),
            "end": windows["End"].to_numpy(),
        }
    )


def merged(regions: pd.DataFrame) -> list[tuple[str, int, int]]:
    """(contig, start, end) of intervals that cover the bases of ``regions`` (columns contig, start, end) once, sorted."""
    if regions.empty:
        return []
    columns = {"Chromosome": regions["contig"], "Start": regions["start"], "End": regions["end"]}
    with _quiet():
        joined = pr.PyRanges(pd.DataFrame(columns)).merge().df
    contigs, starts, ends = (joined[name].tolist() for name in ("Chromosome", "Start", "End"))
    return sorted(zip(contigs, starts, ends, strict=True))


def _clipped(contigs: pd.Series, start: pd.Series, end: pd.Series, reference: ReferenceGenome) -> pd.DataFrame:
    """Intervals cut at the bounds of the genome by pyranges, back in the order they came in."""
    frame = pd.DataFrame(
        {
            "Chromosome": contigs.to_numpy(),
            "Start": start.to_numpy(),
            "End": end.to_numpy(),
            "row": np.arange(len(contigs)),
        }
    )
    if frame.empty:
        return frame
    lengths = {contig.name: contig.length for contig in reference.contigs}
    with _quiet():
        bounded = pr.gf.genome_bounds(pr.PyRanges(frame, int64=True), lengths, clip=True).df
    return bounded.sort_values("row", ignore_index=True).astype({"Start": np.int64, "End": np.int64})


def _check_width(width: int) -> None:
    if width < 1:
        raise ValueError(f"a window has at least one base, not {width}")


def _check_loci(loci: pd.DataFrame, reference: ReferenceGenome) -> None:
    lengths = loci["contig"].map({contig.name: contig.length for contig in reference.contigs}).astype("float64")
    inside = lengths.notna() & (loci["start"] >= 0) & (loci["start"] <= loci["end"]) & (loci["end"] <= lengths)
    if not inside.all():
        first = loci.loc[~inside.to_numpy()].iloc[0]
        raise InputError(
            f"{(~inside).sum()} interval(s) lie outside reference {reference.path.name}, "
            f"first {first['contig']}:[{first['start']}, {first['end']})"
        )


def _quiet() -> warnings.catch_warnings[None]:
    """pyranges 0.1 makes calls that pandas 3 has marked as old; users can do nothing about it."""
    return warnings.catch_warnings(action="ignore")
