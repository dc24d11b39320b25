"""A call set as tables: accepted alleles, ledger of the rest, genotypes, and the counts that must add up."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dnagrinder.errors import InvariantError
from dnagrinder.genome.annotations import NOTHING
from dnagrinder.genome.files import file_sha256, written_aside
from dnagrinder.genome.inheritance import read_call
from dnagrinder.genome.records import Record, info_fields, read_genotype
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import DEFAULT_WINDOW
from dnagrinder.genome.vcf import Accepted, Rejected, Tally, VcfFile, judge_record, outcomes

_ROWS_PER_GROUP = 65_536
_GROUPS_SORTED = 16  # row groups of genotypes that are brought into the order of samples together
_LEDGER_BASES = 200
#: What to do where tables are met that are not of the file at hand; Snakemake sees no change in a file of the same time.
READ_AGAIN = (
    "if the VCF was replaced, have it read again: dnagrinder read-variants, in the workflow snakemake --forcerun "
    "read_variants, or remove the call set's folder under callsets/ and run again"
)

ALLELES = pa.schema(
    [
        ("record", pa.int64()),  # ordinal of the data line in the file, from 0
        ("alt_index", pa.int32()),  # from 1
        ("contig", pa.string()),  # the reference's name
        ("start", pa.int64()),  # 0-based
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("kind", pa.string()),
        ("input_contig", pa.string()),
        ("input_position", pa.int64()),  # POS, 1-based
        ("input_ref", pa.string()),
        ("input_alt", pa.string()),
        ("id", pa.string()),
        ("filter", pa.string()),
        ("af", pa.float64()),
        ("gene", pa.string()),
        ("consequence", pa.string()),
        ("clinical_significance", pa.string()),
    ]
)
LEDGER = pa.schema(
    [
        ("record", pa.int64()),
        ("alt_index", pa.int32()),  # 0 where the record has no ALT
        ("input_contig", pa.string()),
        ("input_position", pa.int64()),
        ("input_ref", pa.string()),
        ("input_alt", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
GENOTYPES = pa.schema(
    [
        ("record", pa.int64()),
        ("alt_index", pa.int32()),
        ("sample", pa.string()),
        ("genotype", pa.string()),
        ("copies", pa.int16()),  # null where the genotype, missing or partly so, neither holds nor excludes the ALT
        ("phased", pa.bool_()),
    ]
)


def write_variant_tables(
    vcf: Path | str,
    reference: ReferenceGenome,
    *,
    alleles: Path | str,
    ledger: Path | str,
    genotypes: Path | str,
    summary: Path | str,
    samples: Sequence[str] | None = None,
    window: int = DEFAULT_WINDOW,
) -> dict[str, Any]:
    """Read ``vcf`` once and write its tables (zstd Parquet, schemas above) and the summary (JSON), all or none.

    ``genotypes`` holds a row for every ALT, scored or not, that one of ``samples`` carries (None: all samples of the
    file), and of a file with one sample column also for those that its genotype leaves open. A record without ALT counts as
    one, of alt_index 0. The rows of a sample are in file order; every million rows are sorted by sample, so who reads one
    sample of many may pass over most row groups. Memory stays constant in the number of records.

    Returns:
        The summary: vcf (file name), vcf_sha256, samples (all columns of the file), samples_read, records, alleles_in,
        accepted, rejected, rejected_by_reason, ref_checked, ref_matched.

    Raises:
        InputError, ConfigError, BuildMismatchError: as :func:`dnagrinder.genome.vcf.read_vcf`.
    """
    tally = Tally()
    alleles_in = 0
    with ExitStack() as stack:
        file = stack.enter_context(VcfFile(vcf, samples))
        reference.check_build(file.contigs, f"VCF {file.path}")
        asides = {path: stack.enter_context(written_aside(path)) for path in (alleles, ledger, genotypes, summary)}
        with (
            _Table(asides[alleles], ALLELES) as allele_rows,
            _Table(asides[ledger], LEDGER) as ledger_rows,
            _Table(asides[genotypes], GENOTYPES, by="sample") as genotype_rows,
        ):
            genotype_rows_of = _rows_of_lone_sample if len(file.samples) == 1 else _genotype_rows
            for record in file.records():
                verdict = judge_record(record, reference, window)
                tally.add(verdict)
                alleles_in += max(1, len(record.alts))
                info = info_fields(record.info)
                for outcome in outcomes(record, verdict):
                    if isinstance(outcome, Accepted):
                        allele_rows.add(_allele_row(outcome, info, file))
                    else:
                        ledger_rows.add(_ledger_row(outcome))
                for row in genotype_rows_of(record, file.genotyped):
                    genotype_rows.add(row)
        tally.check_build(file, reference)
        facts = {
            "vcf": file.path.name,
            "vcf_sha256": file_sha256(file.path),
            "samples": list(file.samples),
            "samples_read": list(file.genotyped),
            "records": tally.records,
            "alleles_in": alleles_in,
            "accepted": tally.accepted,
            "rejected": tally.rejected.total(),
            "rejected_by_reason": {reason.value: tally.rejected[reason] for reason in sorted(tally.rejected)},
            "ref_checked": tally.ref_checked,
            "ref_matched": tally.ref_matched,
        }
        if alleles_in != tally.accepted + tally.rejected.total():
            raise InvariantError(
                f"VCF {file.path}: {alleles_in} alleles in, but {facts['accepted']} accepted and "
                f"{facts['rejected']} rejected"
            )
        asides[summary].write_text(json.dumps(facts, indent=1) + "\n")
    return facts


class _Table:
    """A Parquet file written in row groups; with ``by`` every _GROUPS_SORTED of them are sorted by that column, stably.

    Bytes depend on the rows alone.
    """

    def __init__(self, path: Path, schema: pa.Schema, by: str | None = None) -> None:
        self._schema, self._by = schema, by
        self._rows: list[tuple[object, ...]] = []
        self._tables: list[pa.Table] = []
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pack()
        self._flush()
        self._writer.close()

    def add(self, row: tuple[object, ...]) -> None:
        """Append one row, its values in the order of the schema."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._pack()
            if self._by is None or len(self._tables) >= _GROUPS_SORTED:
                self._flush()

    def _pack(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._tables.append(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows.clear()

    def _flush(self) -> None:
        if self._tables:
            table = pa.concat_tables(self._tables)
            if self._by:
                table = table.take(pc.sort_indices(table, [(self._by, "ascending")]))
            self._writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
            self._tables.clear()


def _allele_row(accepted: Accepted, info: dict[str, str], file: VcfFile) -> tuple[object, ...]:
    record, allele = accepted.record, accepted.allele
    index = accepted.alt_index - 1
    note = file.annotator.read(info, record.position, record.ref, record.alts, index) if info else NOTHING
    return (
        record.ordinal,
        accepted.alt_index,
        allele.contig,
        allele.start,
        allele.ref,
        allele.alt,
        allele.kind,
        record.contig,
        record.position,
        record.ref,
        record.alts[index],
        record.id,
        record.filter,
        _frequency(info.get("AF"), len(record.alts), index) if file.has_af_per_allele(len(record.alts)) else None,
        note.gene,
        note.consequence,
        note.clinical_significance,
    )


def _ledger_row(rejected: Rejected) -> tuple[object, ...]:
    record = rejected.record
    return (
        record.ordinal,
        rejected.alt_index,
        record.contig,
        record.position,
        cut(record.ref),
        cut(record.alts[rejected.alt_index - 1]) if rejected.alt_index else ".",
        rejected.reason.value,
        rejected.detail,
    )


def _genotype_rows(record: Record, samples: Sequence[str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for sample, genotype in zip(samples, record.genotypes, strict=True):
        phased, carried = _carried(genotype)
        rows.extend((record.ordinal, alt_index, sample, genotype, copies, phased) for alt_index, copies in carried)
    return rows


def _rows_of_lone_sample(record: Record, samples: Sequence[str]) -> list[tuple[object, ...]]:
    """Rows of the ALTs that the only sample of a file carries, and of all others too where its call is not complete.

    What such a file lists is the sample's unless a complete call, 0/0 say, excludes it.
    """
    if not samples:
        return []
    (sample,), (genotype,) = samples, record.genotypes
    phased, carried = _carried(genotype)
    copies, text = dict(carried), None if genotype == "." else genotype
    listed = copies if read_call(genotype).complete else range(1, 1 + len(record.alts)) if record.alts else (0,)
    return [(record.ordinal, alt_index, sample, text, copies.get(alt_index), phased) for alt_index in listed]


@lru_cache(maxsize=4096)
def _carried(genotype: str) -> tuple[bool, tuple[tuple[int, int], ...]]:
    """Whether a GT text is phased throughout, and (ALT index, copies) of the ALT alleles it holds."""
    calls, phased = read_genotype(genotype)
    return phased, tuple((alt, calls.count(alt)) for alt in sorted({call for call in calls if call}))


def _frequency(text: str | None, alts: int, index: int) -> float | None:
    values = (text or "").split(",")
    if len(values) != alts:
        return None
    try:
        frequency = float(values[index])
    except ValueError:
        return None
    return frequency if math.isfinite(frequency) else None


def cut(bases: str) -> str:
    """An allele as the ledger has it: a long one cut to its first 200 characters and its length."""
    return bases if len(bases) <= _LEDGER_BASES else f"{bases[:_LEDGER_BASES]}...({len(bases)} bp)"


def same_spelling(held: str, text: str) -> bool:
    """Whether a table's REF or ALT is ``text`` of a file: letter case makes no other allele, and a long one may be cut."""
    return held == text or held.upper() in (text.upper(), cut(text).upper())
