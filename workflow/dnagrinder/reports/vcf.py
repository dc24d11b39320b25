"""Annotated VCF out: the input's own bytes and our INFO fields.

Records are handled as lines of bytes, never parsed and printed again, so everything but INFO stays as it was: spelling
of numbers, order of fields, encoding. BCF has no text of its own; htslib's is taken.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pysam
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.files import bounded_lines, compression, existing_file, written_aside
from dnagrinder.genome.tables import READ_AGAIN, same_spelling
from dnagrinder.reports.outcomes import AnnotationCounts, Outcome, Outcomes, Spelling, contigs_met, sorted_order
from dnagrinder.scoring.calibration.applying import Judge

#: The fields, in the order written: name, type, description. All are Number=A.
INFO_FIELDS = (
    (
        "DG_SCORE",
        "Float",
        "Score: log P(ALT) - log P(REF) under the model, natural log, for SNVs; difference of block "
        "pseudo-log-likelihoods for other alleles; below 0 the model expects ALT less than REF",
    ),
    ("DG_SPREAD", "Float", "Standard deviation of DG_SCORE over tokenisation views and strands"),
    ("DG_COS", "Float", "Cosine distance between the embeddings of the sequence around REF and around ALT"),
    ("DG_L2", "Float", "Euclidean distance between the embeddings of the sequence around REF and around ALT"),
    ("DG_STATUS", "String", "scored, from_store (scored in an earlier run), or the reason why the allele was not scored"),
)
#: Written besides where a calibration is given.
EVIDENCE_FIELDS = (
    (
        "DG_EVIDENCE",
        "String",
        "Computational evidence by the calibration named above: PP3_ or BP4_ with its strength, indeterminate, or "
        "no_calibration: with the reason why none applies",
    ),
    ("DG_POINTS", "Integer", "ACMG/AMP points of DG_EVIDENCE, below 0 for BP4, 0 for indeterminate"),
)
#: Written besides where scored haplotypes are given. Number=A, so that tools which split or drop ALTs keep it right; an ALT
#: may belong to several haplotypes, which & joins.
HAPLOTYPE_FIELDS = (
    (
        "DG_HAP",
        "String",
        "Haplotypes of this ALT with other ALTs of the same chromosome copy, joined by &, each "
        "id|kind|joint score|sum of single scores|difference|spread of the difference; . where there is none",
    ),
)
_OURS = tuple(name.encode() for name, _, _ in (*INFO_FIELDS, *EVIDENCE_FIELDS, *HAPLOTYPE_FIELDS))
_OUR_HEADER = re.compile(rb"##dnagrinder(_calibration)?=|##INFO=<ID=(" + b"|".join(_OURS) + rb")[,>]")
_CONTIG = re.compile(rb"##contig=<(?:.*,)?ID=([^,>]+)")
_PLAIN = re.compile(r"[\w.+-]+", re.ASCII).fullmatch


def annotate_vcf(
    source: Path,
    destination: Path,
    *,
    alleles: Path,
    ledger: Path,
    scores: list[Path],
    provenance: dict[str, Any],
    tool_version: str,
    judge: Judge | None = None,
    haplotypes: Path | None = None,
) -> AnnotationCounts:
    """Write ``source`` with the scores of its alleles as bgzip VCF, and its tabix index (``.tbi``) beside it.

    ``alleles`` and ``ledger`` are the tables of this very file. Sorted records keep their order, and memory does not grow
    with their number; unsorted ones are stably sorted by contig (header's order, then first seen) and position, by way of a
    temporary file, with some 80 bytes of memory a record. DG_ fields of an earlier run are replaced,
    missing ``##contig`` lines added, line ends are LF. With ``judge`` every ALT also gets its evidence and points,
    with ``haplotypes`` (a table of score-haplotypes) those it belongs to. Same input, same bytes; both files are written
    aside first.

    Raises:
        InputError: ``source`` is damaged, or the tables belong to another file: other places or other alleles.
        ConfigError: ``destination`` is ``source`` or is not called ``….gz``.
        InvariantError: an accepted allele has no score.
    """
    check_destination(source, destination)
    existing_file(source, "VCF")
    outcomes = Outcomes(alleles, ledger, scores, judge, haplotypes)
    fields = (*INFO_FIELDS, *(EVIDENCE_FIELDS if judge else ()), *(HAPLOTYPE_FIELDS if haplotypes else ()))
    names = [name.encode() for name, _, _ in fields]
    index = destination.with_name(destination.name + ".tbi")
    with ExitStack() as stack:
        aside_index = stack.enter_context(written_aside(index))
        aside = stack.enter_context(written_aside(destination))
        header, body = _read(source)
        known = [match[1].decode() for line in header if (match := _CONTIG.match(line))]
        absent = [name for name in contigs_met(alleles, ledger) if name not in known]
        new_header = _new_header(header, absent, provenance, tool_version, judge, fields)
        try:
            _write(aside, new_header, _in_order(_annotated(body, outcomes, names, source)))
        except _OutOfOrderError:
            order = sorted_order(alleles, ledger, known)
            _write(aside, new_header, _reordered(_annotated(_read(source)[1], outcomes, names, source), order))
        try:
            pysam.tabix_index(str(aside), preset="vcf", index=str(aside_index), keep_original=True)
        except OSError as error:
            raise InputError(f"VCF {source} cannot be indexed: {error}") from error
    return outcomes.counts


def _write(path: Path, header: list[bytes], lines: Iterable[bytes]) -> None:
    with pysam.BGZFile(str(path), "wb", None) as out:
        for line in header:
            out.write(line + b"\n")
        for line in lines:
            out.write(line)


def check_destination(source: Path, destination: Path) -> None:
    """Refuse to write over the input, or bgzip into a file not called so. Raises ConfigError."""
    plain = destination.stem if destination.suffix in (".gz", ".bgz") else destination.name
    if plain == destination.name or plain.endswith(".bcf"):
        stem = plain.removesuffix(".bcf").removesuffix(".vcf")
        raise ConfigError(f"output {destination}: the annotated VCF is bgzip text, call it {stem}.vcf.gz")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ConfigError(f"output {destination} is the input itself; give another name")


def _read(source: Path) -> tuple[list[bytes], Iterator[bytes]]:
    """Header lines (the last is #CHROM) and the data lines, both without line ends."""
    lines = _lines(source)
    header = []
    for line in lines:
        header.append(line)
        if line.startswith(b"#CHROM"):
            return header, (line for line in lines if line)
        if not line.startswith(b"##"):
            break
    raise InputError(f"VCF {source} has no #CHROM line before its first record")


def _lines(source: Path) -> Iterator[bytes]:
    try:
        with _opened(source) as handle:
            if handle.peek(3)[:3] == b"BCF":  # type: ignore[attr-defined]
                yield from _bcf_lines(source)
                return
            for line in bounded_lines(handle.read, f"VCF {source}"):
                yield line.rstrip(b"\r")
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"VCF {source} is truncated or damaged: {error}") from error


def _opened(source: Path) -> BinaryIO:
    return source.open("rb") if compression(source) == "none" else gzip.open(source, "rb")  # type: ignore[return-value]


def _bcf_lines(source: Path) -> Iterator[bytes]:
    with pysam.VariantFile(str(source)) as bcf:
        yield from str(bcf.header).encode().splitlines()
        for record in bcf:
            yield str(record).rstrip("\n").encode()


def _new_header(
    header: list[bytes],
    missing_contigs: list[str],
    provenance: dict[str, Any],
    tool_version: str,
    judge: Judge | None,
    fields: Sequence[tuple[str, str, str]],
) -> list[bytes]:
    """The input's header with our lines before #CHROM, in place of those of an earlier run."""
    checkpoint = provenance["checkpoint"]
    facts = {
        "Version": tool_version,
        "Checkpoint": checkpoint["name"],
        "CheckpointSha256": checkpoint["sha256"],
        "TokenizerSha256": provenance["tokenizer_sha256"],
        "ReferenceSha256": provenance["reference_sha256"],
        "ParametersSha256": provenance["parameters_sha256"],
    }
    ours = [f"##contig=<ID={name}>" for name in missing_contigs]
    ours.append("##dnagrinder=<" + ",".join(f"{key}={_header_value(value)}" for key, value in facts.items()) + ">")
    if judge:
        applied = f"no: another {judge.mismatch}" if judge.mismatch else "within its scope"
        ours.append(f'##dnagrinder_calibration=<Sha256={judge.calibration.digest},Applied="{applied}">')
    ours += [f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">' for name, kind, text in fields]
    kept = [line for line in header[:-1] if not _OUR_HEADER.match(line)]
    return [*kept, *(line.encode() for line in ours), header[-1]]


def _header_value(text: str) -> str:
    return text if _PLAIN(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _annotated(lines: Iterable[bytes], outcomes: Outcomes, names: Sequence[bytes], source: Path) -> Iterator[bytes]:
    """Data lines (with LF) with our fields ``names``; every line must meet the tables' next record."""
    records = iter(outcomes)
    for ordinal, line in enumerate(lines):
        fields = line.split(b"\t", 8)
        if len(fields) < 8:
            raise InputError(f"VCF {source}, record {ordinal + 1}: {len(fields)} columns where 8 are needed: {line[:60]!r}")
        alts = 0 if fields[4] in (b".", b"") else fields[4].count(b",") + 1
        number, place, held, found = next(records, (None, None, [], []))
        expected = list(range(1, alts + 1)) if alts else [0]
        is_met = (number, place) == (ordinal, (fields[0], fields[1])) and [index for index, _ in found] == expected
        if not is_met or not _same_alleles(held, fields[3], fields[4]):
            where = f"{fields[0].decode(errors='replace')}:{fields[1].decode(errors='replace')}"
            raise InputError(
                f"VCF {source}, record {ordinal + 1} ({where}): the tables of alleles and rejected alleles were made "
                f"from another file; {READ_AGAIN}"
            )
        fields[7] = _new_info(fields[7], found if alts else [], names)
        yield b"\t".join(fields) + b"\n"
    if next(records, None) is not None:
        raise InputError(
            f"VCF {source}: the tables of alleles hold more records than the file; they are of another file; {READ_AGAIN}"
        )


def _same_alleles(held: Sequence[Spelling], ref: bytes, alts: bytes) -> bool:
    """Whether the tables' REF and ALT of each ALT are those of a line; what htslib reads in an empty one is ``.``."""
    texts = [text.decode(errors="replace") or "." for text in (ref, *alts.split(b","))]
    return all(
        same_spelling(theirs[0], texts[0]) and same_spelling(theirs[1], alt)
        for theirs, alt in zip(held, texts[1:], strict=True)
    )


def _new_info(info: bytes, outcomes: list[Outcome], names: Sequence[bytes]) -> bytes:
    """INFO without our fields of an earlier run and, where there is an ALT, with ours at the end."""
    if b"DG_" in info:
        info = b";".join(field for field in info.split(b";") if field.partition(b"=")[0] not in _OURS) or b"."
    if not outcomes:
        return info
    values = zip(*(texts for _, texts in outcomes), strict=True)
    ours = b";".join(name + b"=" + b",".join(texts) for name, texts in zip(names, values, strict=True))
    if info in (b".", b""):
        return ours
    return info + ours if info.endswith(b";") else info + b";" + ours


class _OutOfOrderError(Exception):
    """A record that no index could find behind the one before."""


def _in_order(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines as they come, as long as every contig is one run and positions do not fall. Raises _OutOfOrderError."""
    met: set[bytes] = set()
    contig, position = b"", 0
    for line in lines:
        now, text, _ = line.split(b"\t", 2)
        if now != contig:
            if now in met:
                raise _OutOfOrderError
            met.add(now)
            contig, position = now, 0
        if int(text) < position:
            raise _OutOfOrderError
        position = int(text)
        yield line


def _reordered(lines: Iterable[bytes], order: NDArray[np.int64]) -> Iterator[bytes]:
    """Lines in another order, by way of a temporary file: memory holds one number a line."""
    with tempfile.TemporaryFile() as spool:
        ends = []
        for line in lines:
            spool.write(line)
            ends.append(spool.tell())
        for row in order:
            start = ends[row - 1] if row else 0
            spool.seek(start)
            yield spool.read(ends[row] - start)
