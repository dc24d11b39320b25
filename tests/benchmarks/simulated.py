"""Made-up input of any size, without a model: sites on a real sequence, cohorts of resampled genotypes, invented scores."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pysam
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.scoring.parameters import ScoringParameters, provenance
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, read_parquet, write_parquet

_LINES = 50_000  # records composed at a time
_LONGEST = 6  # bases deleted or inserted at most
_BLOCK = 500  # records that a simulated haplotype copies from one haplotype of the panel


def write_sites(path: Path, fasta: Path, contig: str, records: int, seed: int = 1) -> None:
    """Write a sorted bgzip VCF without samples: sites spread evenly over the known bases of ``contig``.

    Of 20 records 17 are SNVs, two deletions and one an insertion; every REF is the sequence's. Same arguments, same bytes.
    """
    with pysam.FastaFile(str(fasta)) as file:
        sequence = file.fetch(contig).upper()
    places = _spread(sequence, records)
    draw = np.random.default_rng(seed)
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(
            "##fileformat=VCFv4.2\n"
            '##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">\n'
            f"##contig=<ID={contig},length={len(sequence)}>\n"
            "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n".encode()
        )
        for first in range(0, records, _LINES):
            starts = places[first : first + _LINES]
            kinds, bases, lengths = (draw.integers(0, high, len(starts)) for high in (20, 3, _LONGEST))
            frequencies = draw.beta(0.2, 2, len(starts))
            rows = zip(starts.tolist(), kinds.tolist(), bases.tolist(), lengths.tolist(), frequencies.tolist(), strict=True)
            out.write("".join(_site(sequence, contig, *row) for row in rows).encode())


def _spread(sequence: str, records: int) -> NDArray[np.int64]:
    """Places (records,) whose next bases are all known."""
    known = np.isin(np.frombuffer(sequence.encode(), np.uint8), np.frombuffer(b"ACGT", np.uint8))
    unknown = np.concatenate([[0], np.cumsum(~known)])
    candidates = np.flatnonzero(unknown[_LONGEST + 2 :] == unknown[: -_LONGEST - 2])
    if len(candidates) < records:
        raise ValueError(f"{records} records asked for, the sequence has room for {len(candidates)}")
    return candidates[np.arange(records) * len(candidates) // records]


def _site(sequence: str, contig: str, start: int, kind: int, base: int, length: int, frequency: float) -> str:
    ref = sequence[start]
    if kind < 17:
        alt = "ACGT".replace(ref, "")[base]
    elif kind < 19:
        ref, alt = sequence[start : start + 2 + length], ref
    else:
        alt = ref + "ACGTAC"[base : base + 1 + length // 2]
    return f"{contig}\t{start + 1}\t.\t{ref}\t{alt}\t50\tPASS\tAF={frequency:.4g}\n"


@dataclass(frozen=True)
class Panel:
    """Phased genotypes of real people.

    Attributes:
        header: lines up to #CHROM, without it.
        sites: the first eight columns of each record, joined by tabs.
        haplotypes: allele numbers, (records, 2 * people) uint8.
    """

    header: list[str]
    sites: list[str]
    haplotypes: NDArray[np.uint8]

    @classmethod
    def read(cls, vcf: Path) -> Panel:
        """Read a bgzip VCF whose records are phased and complete and hold nothing but GT."""
        header, sites, rows = [], [], []
        with gzip.open(vcf, "rt") as lines:
            for line in lines:
                if line.startswith("##"):
                    header.append(line)
                elif not line.startswith("#"):
                    fields = line.rstrip("\n").split("\t", 9)
                    sites.append("\t".join(fields[:8]))
                    rows.append(np.frombuffer(fields[9].encode() + b"\t", np.uint8).reshape(-1, 4)[:, [0, 2]].ravel())
        return cls(header, sites, np.array(rows) - ord("0"))

    def resampled(self, people: int, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
        """Made-up people, one after another: allele numbers (records, 2), each haplotype a mosaic of the panel's."""
        draw = np.random.default_rng(seed)
        blocks = np.arange(len(self.sites)) // _BLOCK
        for _ in range(people):
            sources = draw.integers(0, self.haplotypes.shape[1], (blocks[-1] + 1, 2))
            yield np.take_along_axis(self.haplotypes, sources[blocks], axis=1)

    def write_single(self, folder: Path, people: int) -> list[Path]:
        """One VCF a person, with what that person carries."""
        paths = []
        for number, calls in enumerate(self.resampled(people)):
            carried = np.flatnonzero(calls.any(axis=1))
            text = [*self.header, _columns([f"S{number:05d}"])]
            text += [f"{self.sites[row]}\tGT\t{first}|{second}\n" for row, (first, second) in zip(carried, calls[carried])]  # noqa: B905
            paths.append(folder / f"S{number:05d}.vcf")
            paths[-1].write_text("".join(text))
        return paths

    def write_joint(self, path: Path, people: int) -> list[str]:
        """One bgzip VCF of all; returns the names of its samples."""
        names = [f"S{number:05d}" for number in range(people)]
        calls = np.stack(list(self.resampled(people)), axis=1)  # (records, people, 2)
        cells = np.full((len(self.sites), people, 4), ord("\t"), np.uint8)
        cells[:, :, [0, 2]] = calls + ord("0")
        cells[:, :, 1] = ord("|")
        with pysam.BGZFile(str(path), "wb", None) as out:
            out.write("".join([*self.header, _columns(names)]).encode())
            for site, row in zip(self.sites, cells, strict=True):
                out.write(f"{site}\tGT\t".encode() + row.tobytes()[:-1] + b"\n")
        return names


def _columns(names: Sequence[str]) -> str:
    return "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names]) + "\n"


def invented_origin(fasta: Path) -> dict[str, Any]:
    """The provenance of scores that `mini` would give on this reference with the default parameters."""
    with ReferenceGenome.open(fasta) as genome:
        return provenance(open_checkpoint("mini"), genome.digest(), ScoringParameters())


def invent_scores(shards: Sequence[Path], folder: Path, origin: dict[str, Any], seed: int = 3) -> list[Path]:
    """A score table for each shard of unique alleles, as score-alleles would write it."""
    draw = np.random.default_rng(seed)
    paths = []
    for shard in shards:
        alleles = read_parquet(shard, ALLELE_COLUMNS)
        rows = len(alleles)
        columns: dict[str, Any] = {
            **{name: alleles[name] for name in ALLELE_COLUMNS},
            "score": draw.normal(-0.5, 1, rows),
            "spread": draw.gamma(2, 0.15, rows),
            "views": np.ones(rows, np.int32),
            "log_p_ref": -draw.gamma(2, 0.6, rows),
            "log_p_alt": -draw.gamma(2, 0.9, rows),
            "cosine_distance": draw.gamma(1.5, 0.004, rows),
            "l2_distance": draw.gamma(2, 0.4, rows),
            "method": pa.array(["snv_marginal"]).take(pa.array(np.zeros(rows, np.int8))),
            "status": pa.array(["scored"]).take(pa.array(np.zeros(rows, np.int8))),
        }
        paths.append(folder / shard.name.replace("shard", "scores"))
        write_parquet(pa.table(columns).cast(SCORE_SCHEMA), paths[-1], origin)
    return paths


def write_people(samples: Path, source: str, people: int, share: float = 0.8) -> list[str]:
    """Make folders of invented people, each with a random ``share`` of the scored alleles of ``source``; their names."""
    scores = read_parquet(samples / source / "scores.parquet")
    facts = json.loads((samples / source / "sample.json").read_text())
    names = [f"P{number:04d}" for number in range(people)]
    for number, name in enumerate(names):
        kept = scores.filter(pa.array(np.random.default_rng(number).random(len(scores)) < share))
        counts = {"sample": name, "scored": len(kept), "alleles_in": len(kept) + facts["from_store"] + facts["rejected"]}
        write_parquet(kept, samples / name / "scores.parquet")
        (samples / name / "sample.json").write_text(json.dumps(facts | counts))
    return names
