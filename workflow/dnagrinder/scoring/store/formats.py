"""The two file formats that scores travel in between stores: bgzip + tabix TSV, and BCF.

Both hold one row an allele, sorted by contig and position, 1-based as in VCF, and one header line ``##dnagrinder_scores=``
whose text ``store.exchange`` makes and reads. Numbers come back to the last bit: the TSV has the shortest decimal text of
each; BCF knows 32-bit floats only, so beside those, which serve filters, INFO/DG_EXACT keeps the texts.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pysam

from dnagrinder.errors import InputError
from dnagrinder.genome.files import LONGEST_TEXT_LINE, compression, scratch_folder, written_aside
from dnagrinder.genome.vcf import quiet_htslib
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA

HEADER = "dnagrinder_scores"
TSV_COLUMNS = ("#CHROM", "POS", "REF", "ALT", *SCORE_SCHEMA.names[len(ALLELE_COLUMNS) :])
#: INFO fields of the BCF: name, type, column, description.
INFO = (
    (
        "DG_SCORE",
        "Float",
        "score",
        "Score: log P(ALT) - log P(REF), natural log; below 0 the model expects ALT less than REF",
    ),
    ("DG_SPREAD", "Float", "spread", "Standard deviation of DG_SCORE over tokenisation views and strands"),
    ("DG_VIEWS", "Integer", "views", "Number of views times strands that DG_SCORE is a mean of"),
    ("DG_COS", "Float", "cosine_distance", "Cosine distance between the embeddings around REF and around ALT"),
    ("DG_L2", "Float", "l2_distance", "Euclidean distance between the embeddings around REF and around ALT"),
    ("DG_METHOD", "String", "method", "snv_marginal, snv_lattice or block_likelihood"),
    ("DG_STATUS", "String", "status", "scored by who wrote this file, or imported by them"),
)
EXACT = ("score", "spread", "log_p_ref", "log_p_alt", "cosine_distance", "l2_distance")
_BATCH = 65_536
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def write_tsv(out: Path, header: str, tables: Iterable[pa.Table]) -> int:
    """Write ``out`` and its index ``.tbi``; number of rows. ``tables`` (SCORE_SCHEMA) are sorted and one a contig."""
    with ExitStack() as stack:
        aside_index = stack.enter_context(written_aside(out.with_name(out.name + ".tbi")))
        aside = stack.enter_context(written_aside(out))
        rows = _write_text(aside, [f"##{HEADER}={header}", "\t".join(TSV_COLUMNS)], map(_tsv_columns, tables))
        pysam.tabix_index(
            str(aside), seq_col=0, start_col=1, end_col=1, meta_char="#", index=str(aside_index), keep_original=True
        )
    return rows


def write_bcf(out: Path, header: str, contigs: Sequence[tuple[str, int | None]], tables: Iterable[pa.Table]) -> int:
    """Write ``out`` and its index ``.csi``; number of rows. ``contigs``: name and length (None: unknown), in order.

    By way of VCF text in a temporary folder, since htslib is the one that knows how BCF is written.
    """
    lines = ["##fileformat=VCFv4.3", f"##{HEADER}={header}"]
    lines += [f"##contig=<ID={name}" + (f",length={length}>" if length else ">") for name, length in contigs]
    lines += [f'##INFO=<ID={name},Number=1,Type={kind},Description="{text}">' for name, kind, _, text in INFO]
    lines += [f'##INFO=<ID=DG_EXACT,Number=1,Type=String,Description="64-bit {", ".join(EXACT)} as text, joined by |">']
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    with ExitStack() as stack:
        aside_index = stack.enter_context(written_aside(out.with_name(out.name + ".csi")))
        aside = stack.enter_context(written_aside(out))
        spool = stack.enter_context(scratch_folder(out)) / "text"
        rows = _write_text(spool, lines, map(_vcf_columns, tables))
        stack.enter_context(quiet_htslib())
        with pysam.VariantFile(str(spool)) as source, pysam.VariantFile(str(aside), "wb", header=source.header) as bcf:
            for record in source:
                bcf.write(record)
        pysam.tabix_index(str(aside), preset="bcf", index=str(aside_index), keep_original=True)  # type: ignore[arg-type]
    return rows


def read_scores(file: Path) -> tuple[str, Iterator[pa.Table]]:
    """(text of the header line, tables of SCORE_SCHEMA) of either format.

    Raises:
        InputError: not bgzip, truncated, without our header line or columns; while reading, a row that is none of ours.
        EOFError, OSError, zlib.error, pyarrow.ArrowException: damage.
    """
    if compression(file) != "bgzip":
        raise InputError(f"score file {file} is no bgzip file; give the .tsv.gz or .bcf as `store export` wrote it")
    with file.open("rb") as handle:
        handle.seek(max(0, file.stat().st_size - len(_BGZF_END)))
        if handle.read() != _BGZF_END:
            raise InputError(f"score file {file} is truncated: its bgzip end marker is missing; transfer it again")
    with gzip.open(file, "rb") as content:
        is_bcf = content.read(3) == b"BCF"
    header = _bcf_header(file) if is_bcf else _tsv_header(file)
    if header is None:
        raise InputError(f"score file {file} has no line ##{HEADER}=; it was not written by `dnagrinder store export`")
    return header, _bcf_tables(file) if is_bcf else _tsv_tables(file)


def _write_text(path: Path, header: list[str], tables: Iterable[list[pa.Array]]) -> int:
    """Header lines and the rows of columns of text as bgzip; number of rows."""
    rows = 0
    with pysam.BGZFile(str(path), "wb", None) as file:
        file.write(("\n".join(header) + "\n").encode())
        for columns in tables:
            rows += len(columns[0])
            for first in range(0, len(columns[0]), _BATCH):
                batch = [column.slice(first, _BATCH) for column in columns]
                lines = pc.binary_join_element_wise(*batch, pa.scalar("\t", pa.large_string())).to_pylist()
                file.write(("\n".join(lines) + "\n").encode())
    return rows


def _tsv_columns(table: pa.Table) -> list[pa.Array]:
    return [_texts(column) for column in _one_based(table).columns]


def _tsv_header(file: Path) -> str | None:
    with gzip.open(file, "rt", encoding="utf-8", errors="replace", newline="\n") as lines:
        first, second = (lines.readline(LONGEST_TEXT_LINE).rstrip("\n") for _ in range(2))
    key, _, text = first.partition("=")
    if key != f"##{HEADER}":
        return None
    if tuple(second.split("\t")) != TSV_COLUMNS:
        raise InputError(f"score file {file}, line 2: columns must be {' '.join(TSV_COLUMNS)}, found {second[:200]!r}")
    return text


def _tsv_tables(file: Path) -> Iterator[pa.Table]:
    types = {field.name: field.type for field in SCORE_SCHEMA}
    with gzip.open(file, "rb") as handle:
        reader = pacsv.open_csv(
            handle,
            read_options=pacsv.ReadOptions(skip_rows=2, column_names=SCORE_SCHEMA.names, block_size=16 << 20),
            parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types=types, null_values=["."]),
        )
        for batch in reader:
            yield _zero_based(pa.Table.from_batches([batch]))


def _vcf_columns(table: pa.Table) -> list[pa.Array]:
    table = _one_based(table)
    joined = pa.scalar("", pa.large_string())
    exact = pc.binary_join_element_wise(*(_texts(table[name]) for name in EXACT), pa.scalar("|", pa.large_string()))
    fields = [(pa.scalar(f"{name}=", pa.large_string()), _texts(table[column])) for name, _, column, _ in INFO]
    parts = [part for field in fields for part in (*field, pa.scalar(";", pa.large_string()))]
    info = pc.binary_join_element_wise(*parts, pa.scalar("DG_EXACT=", pa.large_string()), exact, joined)
    contig, position, ref, alt = (_texts(table[name]) for name in ALLELE_COLUMNS)
    none = _texts(pa.chunked_array([pa.nulls(len(table), pa.string())]))
    return [contig, position, none, ref, alt, none, none, info]


def _bcf_header(file: Path) -> str | None:
    with quiet_htslib(), pysam.VariantFile(str(file)) as bcf:
        return next((str(record.value) for record in bcf.header.records if record.key == HEADER), None)


def _bcf_tables(file: Path) -> Iterator[pa.Table]:
    with quiet_htslib(), pysam.VariantFile(str(file)) as bcf:
        rows = []
        for record in bcf:
            rows.append(_bcf_row(record, file))
            if len(rows) == _BATCH:
                yield _bcf_table(rows)
                rows = []
        if rows:
            yield _bcf_table(rows)


def _bcf_row(record: pysam.VariantRecord, file: Path) -> tuple[Any, ...]:
    info = record.info
    try:
        (alt,) = record.alts or ()
        score, spread, log_p_ref, log_p_alt, cosine, l2 = info["DG_EXACT"].split("|")
        numbers = score, spread, info["DG_VIEWS"], log_p_ref, log_p_alt, cosine, l2
        return record.chrom, record.pos, record.ref, alt, *numbers, info["DG_METHOD"], info["DG_STATUS"]
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"score file {file}, {record.chrom}:{record.pos}: not a record as `store export` writes it ({error})"
        ) from error


def _bcf_table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = dict(zip(SCORE_SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True))
    texts = {name: pa.array([None if text == "." else text for text in columns[name]], pa.string()) for name in EXACT}
    return _zero_based(pa.table({**columns, **texts}))


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Shortest text that gives the value back, ``.`` where there is none."""
    return pc.fill_null(pc.cast(column.combine_chunks(), pa.large_string()), ".")


def _one_based(table: pa.Table) -> pa.Table:
    """The border out: a 0-based start becomes POS."""
    return table.set_column(table.schema.get_field_index("start"), "start", pc.add(table["start"], 1))


def _zero_based(table: pa.Table) -> pa.Table:
    """The border in: POS becomes a 0-based start; columns in the types of SCORE_SCHEMA."""
    start = pc.subtract(table["start"], 1)
    return table.set_column(table.schema.get_field_index("start"), "start", start).cast(SCORE_SCHEMA)
