"""What the embedded genome browser (igv.js) shows: the top loci with their sequence, variants, scores and contexts.

The page holds the data itself. Each locus brings a slice of the reference under its true coordinates: igv.js reads
``>contig:first-last @len=contig_length`` in a FASTA as such a slice.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dnagrinder.genome.records import read_genotype
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.reports.page import bases, number
from dnagrinder.scoring.tables import read_parquet

LOCI = 20
#: Bases of sequence on each side of a locus, and of those shown at first.
FLANK, SHOWN = 1000, 40
#: igv.js reads a colon or a blank in a slice's name as its end; contigs with such names are left out.
_CONTIG = re.compile(r"[\w.*|-]+", re.ASCII)
_UNSAFE = re.compile(r"[^\w.,|&/+*-]", re.ASCII)
_INFO = (("score", "DG_SCORE"), ("spread", "DG_SPREAD"), ("af", "AF"), ("gene", "GENE"), ("consequence", "CONSEQUENCE"))
_COLUMNS = ("contig", "start", "ref", "alt", "id", "filter", "af", "gene", "consequence", "score", "spread", "genotype")
_HEADER = """\
##fileformat=VCFv4.2
##INFO=<ID=DG_SCORE,Number=1,Type=Float,Description="Score">
##INFO=<ID=DG_SPREAD,Number=1,Type=Float,Description="Spread of the score">
##INFO=<ID=AF,Number=1,Type=Float,Description="Allele frequency as the input states it">
##INFO=<ID=GENE,Number=1,Type=String,Description="Gene as the input states it">
##INFO=<ID=CONSEQUENCE,Number=1,Type=String,Description="Consequence as the input states it">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
"""


@dataclass(frozen=True, order=True)
class Slice:
    """Part of a contig, 0-based half-open."""

    contig: str
    start: int
    end: int


def browser_view(
    sample: str, top: Sequence[Mapping[str, Any]], folder: Path, genome: ReferenceGenome, regions: pd.DataFrame | None = None
) -> dict[str, Any] | None:
    """Loci, sequence and tracks for the page's browser; None where there is no locus to show.

    Args:
        top: rows of the top tables, the most unexpected first of each kind; the first LOCI of them are shown.
        folder: the sample's folder with scores.parquet and, where it was made, context.parquet.
        regions: columns contig, start, end, name.

    Raises:
        InputError: a locus lies outside ``genome``, or a table is damaged.
    """
    shown = [row for row in top if _CONTIG.fullmatch(row["contig"])][:LOCI]
    if not shown:
        return None
    slices = merged([_around(row, FLANK, genome) for row in shown])
    variants = _variants(folder / "scores.parquet", slices)
    tracks = [
        {"name": plain(sample), "type": "variant", "format": "vcf", "indexed": False, "url": _data(_vcf(sample, variants)),
         "displayMode": "EXPANDED", "visibilityWindow": -1, "height": 90},
        _wig("Score", "#1b5e8c", [_feature(row, len(row["ref"]), row["score"]) for row in variants]),
        _wig("P(reference base)", "#8a4f9e", list(_contexts(folder / "context.parquet", slices)), {"min": 0, "max": 1}),
        {"name": "Regions", "type": "annotation", "features": list(_touched(regions, slices)), "height": 50},
    ]  # fmt: skip
    return {
        "loci": [_locus(row, genome) for row in shown],
        "reference": {"id": "reference", "name": "reference", "fastaURL": _data(_fasta(slices, genome)), "indexed": False},
        "tracks": [track for track in tracks if track.get("features", True)],
    }


def merged(slices: Sequence[Slice]) -> list[Slice]:
    """The same bases in slices that neither overlap nor touch, sorted."""
    done: list[Slice] = []
    for one in sorted(slices):
        if done and done[-1].contig == one.contig and one.start <= done[-1].end:
            done[-1] = Slice(one.contig, done[-1].start, max(done[-1].end, one.end))
        else:
            done.append(one)
    return done


def plain(text: str) -> str:
    """Text that can be no markup: igv.js puts what it shows into the page as HTML."""
    return _UNSAFE.sub("_", text)


def _around(row: Mapping[str, Any], flank: int, genome: ReferenceGenome) -> Slice:
    contig, start = row["contig"], row["start"]
    return Slice(contig, max(0, start - flank), min(genome.length(contig), start + len(row["ref"]) + flank))


def _locus(row: Mapping[str, Any], genome: ReferenceGenome) -> dict[str, str]:
    place = _around(row, SHOWN, genome)
    change = f"{bases(row['ref'])}>{bases(row['alt'])}"
    label = f"{row['contig']}:{row['position']} {change}, score {number(row['score'])}"
    return {"label": label, "place": f"{place.contig}:{place.start + 1}-{place.end}"}


def _fasta(slices: Sequence[Slice], genome: ReferenceGenome) -> str:
    return "".join(
        f">{one.contig}:{one.start + 1}-{one.end} @len={genome.length(one.contig)}\n"
        f"{genome.fetch(one.contig, one.start, one.end)}\n"
        for one in slices
    )


def _variants(path: Path, slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """The sample's scored alleles that begin in a slice; the file is read in pieces."""
    parts = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(_COLUMNS)):
            rows = pa.Table.from_batches([batch])
            inside = np.zeros(len(rows), dtype=bool)
            starts = rows["start"].to_numpy()
            for one in slices:
                on_contig = pc.equal(rows["contig"], one.contig).to_numpy()
                inside |= on_contig & (starts >= one.start) & (starts < one.end)
            parts += rows.filter(pa.array(inside)).to_pylist()
    parts = [row for row in parts if math.isfinite(row["score"])]
    return sorted(parts, key=lambda row: (row["contig"], row["start"], row["ref"], row["alt"]))


def _vcf(sample: str, rows: Sequence[Mapping[str, Any]]) -> str:
    head = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", plain(sample)])
    return "\n".join([_HEADER + head, *map(_record, rows)]) + "\n"


def _record(row: Mapping[str, Any]) -> str:
    info = [f"{name}={plain(_short(row[column]))}" for column, name in _INFO if row[column] is not None]
    fixed = [row["contig"], str(row["start"] + 1), plain(row["id"] or "."), row["ref"], row["alt"]]
    return "\t".join([*fixed, ".", plain(row["filter"] or "."), ";".join(info) or ".", "GT", _zygosity(row["genotype"])])


def _zygosity(genotype: str | None) -> str:
    """The genotype with every ALT as 1: the record names one ALT. Without a phase in front, which VCF 4.2 does not know."""
    alleles, phased = read_genotype(genotype or "./.")
    return ("|" if phased else "/").join("." if number is None else str(min(number, 1)) for number in alleles)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _wig(name: str, colour: str, features: list[dict[str, Any]], scale: Mapping[str, float] | None = None) -> dict[str, Any]:
    fixed = {"autoscale": False, **scale} if scale else {"autoscale": True}
    colours = {"color": colour, "altColor": colour}  # above and below zero
    return {"name": name, "type": "wig", "features": features, "height": 70, **colours, **fixed}


def _feature(row: Mapping[str, Any], length: int, value: float) -> dict[str, Any]:
    return {"chr": row["contig"], "start": row["start"], "end": row["start"] + length, "value": round(value, 4)}


def _contexts(path: Path, slices: Sequence[Slice]) -> Iterator[dict[str, Any]]:
    """Probability of the reference base at each position of the contexts that lie in a slice, each position once."""
    seen: dict[tuple[str, int], float] = {}
    for row in read_parquet(path).to_pylist() if path.is_file() else ():
        contig, start = row["key"].rsplit(":", 3)[0], row["position"] - 1
        log = row.get(f"log_p_{row['ref'].lower()}")
        if log is not None and any(one.contig == contig and one.start <= start < one.end for one in slices):
            seen.setdefault((contig, start), math.exp(log))
    for (contig, start), value in sorted(seen.items()):
        yield _feature({"contig": contig, "start": start}, 1, value)


def _touched(regions: pd.DataFrame | None, slices: Sequence[Slice]) -> Iterator[dict[str, Any]]:
    for row in regions.to_dict("records") if regions is not None else ():
        if any(one.contig == row["contig"] and row["start"] < one.end and row["end"] > one.start for one in slices):
            name = plain(row["name"]) if isinstance(row["name"], str) else ""
            yield {"chr": row["contig"], "start": row["start"], "end": row["end"], "name": name}


def _data(text: str) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(text.encode()).decode()
