"""Annotated VCF out: the input's own bytes and our INFO fields.

Records are handled as lines of bytes, never parsed and printed again, so everything but INFO stays as it was: spelling
of numbers, order of fields, encoding. BCF has no text of its own; htslib's is taken.
"""

from __future__ import annotations

import gzip
import math
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pysam

from dnagrinder.errors import ConfigError, InputError, InvariantError
from dnagrinder.genome.files import compression, existing_file, written_aside
from dnagrinder.reports.haplotypes import haplotype_texts
from dnagrinder.reports.joining import attach_scores
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.evidence import Evidence, no_calibration
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_parquet, table_alleles

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
_NUMBERS = ("score", "spread", "cosine_distance", "l2_distance")
_WORDS = ("status", "evidence", "points", "haplotypes")  # in the order of the fields
_OURS = tuple(name.encode() for name, _, _ in (*INFO_FIELDS, *EVIDENCE_FIELDS, *HAPLOTYPE_FIELDS))
_OUR_HEADER = re.compile(rb"##dnagrinder(_calibration)?=|##INFO=<ID=(" + b"|".join(_OURS) + rb")[,>]")
_CONTIG = re.compile(rb"##contig=<(?:.*,)?ID=([^,>]+)")
_PLAIN = re.compile(r"[\w.+-]+", re.ASCII).fullmatch
_BATCH = 65_536
#: What is written for one ALT: its number, then the texts of the fields.
_Outcome = tuple[int, tuple[bytes, ...]]


@dataclass(frozen=True)
class AnnotationCounts:
    """What became of the alleles of a file: ``alleles_in = scored + from_store + rejected``.

    Raises:
        InvariantError: the counts do not add up.
    """

    records: int
    alleles_in: int
    scored: int
    from_store: int
    rejected: int
    rejected_by_reason: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.alleles_in != self.scored + self.from_store + self.rejected:
            raise InvariantError(f"alleles in, scored, from store and rejected do not add up: {self}")
        if self.rejected != sum(self.rejected_by_reason.values()):
            raise InvariantError(f"rejected alleles and their reasons do not add up: {self}")


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

    ``alleles`` and ``ledger`` are the tables of this very file. Sorted records keep their order; unsorted ones are
    stably sorted by contig (header's order, then first seen) and position. DG_ fields of an earlier run are replaced,
    missing ``##contig`` lines added, line ends are LF. With ``judge`` every ALT also gets its evidence and points, with
    ``haplotypes`` (a table of score-haplotypes) those it belongs to. Same input, same bytes; both files are written aside
    first.

    Raises:
        InputError: ``source`` is damaged, or the tables belong to another file.
        ConfigError: ``destination`` is ``source`` or is not called ``….gz``.
        InvariantError: an accepted allele has no score.
    """
    check_destination(source, destination)
    existing_file(source, "VCF")
    rows = _outcome_table(alleles, ledger, scores, judge, haplotypes)
    fields = (*INFO_FIELDS, *(EVIDENCE_FIELDS if judge else ()), *(HAPLOTYPE_FIELDS if haplotypes else ()))
    header, body = _read(source)
    contigs = pc.unique(rows["input_contig"]).to_pylist()
    known = [match[1].decode() for line in header if (match := _CONTIG.match(line))]
    annotated = _annotated(body, rows, [name.encode() for name, _, _ in fields], source)
    index = destination.with_name(destination.name + ".tbi")
    with ExitStack() as stack:
        aside_index = stack.enter_context(written_aside(index))
        aside = stack.enter_context(written_aside(destination))
        with pysam.BGZFile(str(aside), "wb", None) as out:
            absent = [name for name in contigs if name not in known]
            for line in _new_header(header, absent, provenance, tool_version, judge, fields):
                out.write(line + b"\n")
            order = _sorted_order(rows, known)
            for line in annotated if order is None else _reordered(annotated, order):
                out.write(line)
        try:
            pysam.tabix_index(str(aside), preset="vcf", index=str(aside_index), keep_original=True)
        except OSError as error:
            raise InputError(f"VCF {source} cannot be indexed: {error}") from error
    return _counts(rows)


def check_destination(source: Path, destination: Path) -> None:
    """Refuse to write over the input, or bgzip into a file not called so. Raises ConfigError."""
    if destination.suffix not in (".gz", ".bgz"):
        raise ConfigError(f"output {destination}: the annotated VCF is bgzip, call it {destination.name}.gz")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ConfigError(f"output {destination} is the input itself; give another name")


def _outcome_table(
    alleles: Path, ledger: Path, scores: list[Path], judge: Judge | None, haplotypes: Path | None
) -> pa.Table:
    """One row per (record, ALT) of the file, in its order: record, alt_index, input place, four numbers, status, reason,
    with ``judge`` evidence and points, with ``haplotypes`` their text."""
    place = ["record", "alt_index", "input_contig", "input_position"]
    accepted = attach_scores(read_parquet(alleles, [*place, *ALLELE_COLUMNS, "consequence"]), scores, [*_NUMBERS, "status"])
    rejected = read_parquet(ledger, [*place, "reason"]).rename_columns([*place, "status"])
    rejected = rejected.append_column("rejected", pa.array(np.ones(len(rejected), dtype=bool)))
    if judge:
        given = [
            judge.evidence(allele, consequence, score)
            for allele, consequence, score in zip(
                table_alleles(accepted), accepted["consequence"].to_pylist(), accepted["score"].to_pylist(), strict=True
            )
        ]
        accepted = _with_evidence(accepted, given)
        rejected = _with_evidence(rejected, [no_calibration("not_scored")] * len(rejected))
    if haplotypes:
        texts = haplotype_texts(haplotypes)
        values = [texts.get(allele.key, ".") for allele in table_alleles(accepted)]
        accepted = accepted.append_column("haplotypes", pa.array(values, pa.string()))
        rejected = rejected.append_column("haplotypes", pa.array(["."] * len(rejected), pa.string()))
    accepted = accepted.drop_columns([*ALLELE_COLUMNS, "consequence"])
    rows = pa.concat_tables([accepted, rejected], promote_options="default")
    return rows.take(np.lexsort([rows["alt_index"].to_numpy(), rows["record"].to_numpy()]))


def _with_evidence(table: pa.Table, given: list[Evidence]) -> pa.Table:
    table = table.append_column("evidence", pa.array([one.code for one in given], pa.string()))
    points = ["." if one.points is None else str(one.points) for one in given]
    return table.append_column("points", pa.array(points, pa.string()))


def _counts(rows: pa.Table) -> AnnotationCounts:
    is_rejected = pc.fill_null(rows["rejected"], False)
    reasons = Counter(rows["status"].filter(is_rejected).to_pylist())
    statuses = Counter(rows["status"].filter(pc.invert(is_rejected)).to_pylist())
    return AnnotationCounts(
        records=pc.count_distinct(rows["record"]).as_py(),
        alleles_in=len(rows),
        scored=statuses["scored"],
        from_store=statuses["from_store"],
        rejected=reasons.total(),
        rejected_by_reason=dict(sorted(reasons.items())),
    )


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
            for line in handle:
                yield line.rstrip(b"\r\n")
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


def _annotated(lines: Iterable[bytes], rows: pa.Table, names: Sequence[bytes], source: Path) -> Iterator[bytes]:
    """Data lines (with LF) with our fields ``names``; every line must meet the table's next record."""
    records = _records(rows)
    for ordinal, line in enumerate(lines):
        fields = line.split(b"\t", 8)
        if len(fields) < 8:
            raise InputError(f"VCF {source}, record {ordinal + 1}: {len(fields)} columns where 8 are needed: {line[:60]!r}")
        alts = 0 if fields[4] == b"." else fields[4].count(b",") + 1
        number, place, outcomes = next(records, (None, None, []))
        expected = list(range(1, alts + 1)) if alts else [0]
        if (number, place) != (ordinal, (fields[0], fields[1])) or [index for index, _ in outcomes] != expected:
            where = f"{fields[0].decode(errors='replace')}:{fields[1].decode(errors='replace')}"
            raise InputError(
                f"VCF {source}, record {ordinal + 1} ({where}): the tables of alleles and rejected alleles were made "
                "from another file"
            )
        fields[7] = _new_info(fields[7], outcomes if alts else [], names)
        yield b"\t".join(fields) + b"\n"
    if next(records, None) is not None:
        raise InputError(f"VCF {source}: the tables of alleles hold more records than the file; they are of another file")


def _records(rows: pa.Table) -> Iterator[tuple[int, tuple[bytes, bytes], list[_Outcome]]]:
    """Record number, (CHROM, POS) and the outcomes of its ALTs, record after record."""
    for number, group in groupby(_row_texts(rows), key=itemgetter(0)):
        members = list(group)
        yield number, members[0][1], [outcome for _, _, outcome in members]


def _row_texts(rows: pa.Table) -> Iterator[tuple[int, tuple[bytes, bytes], _Outcome]]:
    words = [name for name in _WORDS if name in rows.column_names]
    names = ("record", "alt_index", "input_contig", "input_position", *_NUMBERS, *words)
    for first in range(0, len(rows), _BATCH):
        batch = rows.slice(first, _BATCH)
        columns = [batch[name].to_pylist() for name in names]
        for record, alt_index, contig, position, *values in zip(*columns, strict=True):
            numbers, texts = values[: len(_NUMBERS)], values[len(_NUMBERS) :]
            outcome = (*map(_number, numbers), *(text.encode() for text in texts))
            yield record, (contig.encode(), b"%d" % position), (alt_index, outcome)


def _number(value: float | None) -> bytes:
    """Up to 6 significant digits; ``.`` where there is no number."""
    if value is None or not math.isfinite(value):
        return b"."
    return b"0" if value == 0 else f"{value:.6g}".encode()


def _new_info(info: bytes, outcomes: list[_Outcome], names: Sequence[bytes]) -> bytes:
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


def _sorted_order(rows: pa.Table, header_contigs: list[str]) -> np.ndarray | None:
    """Order of records that an index can serve, or None where the file's own will do: every contig in one run, sorted."""
    _, first_rows = np.unique(rows["record"].to_numpy(), return_index=True)
    sites = rows.select(["input_contig", "input_position"]).take(first_rows)
    if not len(sites):
        return None
    encoded = sites["input_contig"].combine_chunks().dictionary_encode()
    codes, positions = encoded.indices.to_numpy(), sites["input_position"].to_numpy()
    same_contig = codes[1:] == codes[:-1]
    runs = 1 + np.count_nonzero(~same_contig)
    if runs == len(encoded.dictionary) and np.all(np.diff(positions)[same_contig] >= 0):
        return None
    place = {name: rank for rank, name in reversed(list(enumerate(header_contigs)))}
    ranks = [place.get(name, len(header_contigs) + code) for code, name in enumerate(encoded.dictionary.to_pylist())]
    return np.lexsort([positions, np.array(ranks)[codes]])


def _reordered(lines: Iterable[bytes], order: np.ndarray) -> Iterator[bytes]:
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
