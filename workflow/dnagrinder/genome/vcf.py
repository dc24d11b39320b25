"""VCF and BCF in, through htslib: records one after another, each ALT judged exactly once."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pysam

from dnagrinder.errors import BuildMismatchError, ConfigError, InputError
from dnagrinder.genome.annotations import Annotator
from dnagrinder.genome.files import (
    UNWRITABLE,
    bounded_lines,
    compression,
    existing_file,
    open_text,
    scratch_folder,
    unwritable,
)
from dnagrinder.genome.records import Record, parse_record
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import DEFAULT_WINDOW, Allele, Reason, Verdict, judge
from dnagrinder.genome.vcf_lines import check_header_size, line_problems, record_problems

#: A file is taken for another build when at least this many REF alleles were compared and more than half differ.
_ENOUGH_TO_JUDGE_BUILD = 20
_HEADER_LINES_SEARCHED = 100_000
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Accepted:
    """ALT number ``alt_index`` (1-based) of ``record`` with its normalised allele."""

    record: Record
    alt_index: int
    allele: Allele


@dataclass(frozen=True, slots=True)
class Rejected:
    """ALT number ``alt_index`` of ``record`` (0 where it has none) with the reason why it is not scored."""

    record: Record
    alt_index: int
    reason: Reason
    detail: str


class Tally:
    """Counts over a file, and the verdict on its genome build that only the whole file allows."""

    def __init__(self) -> None:
        self.records = self.accepted = self.ref_checked = self.ref_matched = 0
        self.rejected: Counter[Reason] = Counter()

    def add(self, verdict: Verdict) -> None:
        """Count one judged record."""
        self.records += 1
        self.ref_checked += verdict.ref_matches is not None
        self.ref_matched += verdict.ref_matches is True
        for outcome in verdict.outcomes:
            if isinstance(outcome, Allele):
                self.accepted += 1
            else:
                self.rejected[outcome.reason] += 1

    def check_build(self, vcf: VcfFile, reference: ReferenceGenome) -> None:
        """Refuse a file whose contigs or bases are not those of ``reference``.

        Raises:
            BuildMismatchError: no contig in common, or more than half of at least 20 REF alleles differ.
        """
        if self.records and not any(reference.resolve(name) for name, _ in vcf.contigs):
            there = _listed([name for name, _ in vcf.contigs])
            here = _listed([contig.name for contig in reference.contigs])
            raise BuildMismatchError(
                f"VCF {vcf.path} and reference {reference.path.name} have no contig in common (VCF: {there}; "
                f"reference: {here}); give the FASTA of the build that the variants were called on"
            )
        if self.ref_checked >= _ENOUGH_TO_JUDGE_BUILD and 2 * self.ref_matched < self.ref_checked:
            raise BuildMismatchError(
                f"VCF {vcf.path} does not belong to reference {reference.path.name}: only {self.ref_matched:,} of "
                f"{self.ref_checked:,} REF alleles ({self.ref_matched / self.ref_checked:.1%}) equal the reference; "
                "give the FASTA of the build that the variants were called on"
            )


class VcfFile:
    """A VCF or BCF (plain, gzip or bgzip) opened for one pass. Use as a context manager.

    Args:
        path: the file.
        samples: sample columns whose genotypes are wanted; None for all of them, () for none.

    Raises:
        InputError: missing, a folder, empty, truncated or not a VCF.
        ConfigError: a sample that is no column of the file.
    """

    def __init__(self, path: Path | str, samples: Sequence[str] | None = None) -> None:
        self.path = existing_file(path, "VCF")
        self._resources = ExitStack()
        try:
            self._resources.enter_context(quiet_htslib())
            self._readable = self._seekable()
            check_header_size(self._readable, self.path)
            self._file = self._open(self._readable)
            self._resources.callback(_close, self._file)
            self.samples = tuple(self._file.header.samples)
            self.genotyped = self._select(samples)
        except BaseException:
            self._resources.close()
            raise
        infos = self._file.header.info
        af_is_text_or_decimal = "AF" in infos and infos["AF"].type in ("Float", "String")
        self._af_number = str(infos["AF"].number) if af_is_text_or_decimal else None
        self.annotator = Annotator.from_header(
            infos["CSQ"].description if "CSQ" in infos else None,
            str(infos["CLNSIG"].number) if "CLNSIG" in infos else None,
        )

    def __enter__(self) -> VcfFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._resources.close()

    @property
    def contigs(self) -> list[tuple[str, int | None]]:
        """Name and stated length (None where unstated) of the header's contigs and of those met in records so far."""
        try:
            return [(contig.name, contig.length or None) for contig in self._file.header.contigs.values()]
        except UnicodeDecodeError as error:
            raise InputError(f"VCF {self.path}: a contig's name is not UTF-8 text ({error.object!r})") from error

    def has_af_per_allele(self, alts: int) -> bool:
        """Whether by the header INFO/AF (a Float, or a String that holds one) can state a value for each of ``alts`` ALTs.

        Number=A does, Number=1 where there is one ALT; of Number=. the record's count of values must tell.
        """
        return self._af_number in ("A", ".") or (self._af_number == "1" and alts == 1)

    def declares(self, field: str) -> bool:
        """Whether the header declares INFO/``field``."""
        return field in self._file.header.info

    def header_line(self, key: str) -> dict[str, str] | None:
        """Fields of the header's first ``##key=<...>`` line, values as they stand there; None where there is none."""
        lines = (dict(line.items()) for line in self._file.header.records if line.key == key)
        return next((fields for fields in lines if fields), None)

    def records(self) -> Iterator[Record]:
        """Data lines in file order.

        Raises:
            InputError: a line that is no VCF record, a genotype that names an ALT its record lacks, or a damaged file;
                names the line or the last good record.
        """
        ordinal, contig, position = 0, "", 0
        problems = self._problems()
        while True:
            problem = next(problems, None)
            try:
                text = str(next(self._file, ""))
            except (OSError, ValueError) as error:
                raise InputError(self._broken_at(ordinal, contig, position, error)) from error
            if problem:
                raise problem
            if not text:
                return
            record = parse_record(ordinal, text, len(self.genotyped), self.path)
            yield record
            ordinal, contig, position = ordinal + 1, record.contig, record.position

    def fetch(self, contig: str, start: int, end: int) -> Iterator[Record]:
        """Data lines that overlap ``[start, end)`` of ``contig``, read through the index; ordinals count from 0 there.

        ``contig`` is the file's own name. Deletions and symbolic alleles that begin before ``start`` are found by their
        END. The file is opened anew: :meth:`records` and other regions go on undisturbed.

        Raises:
            InputError: the file has no index, or a line of the region is no VCF record or has a genotype of no ALT.
        """
        try:
            lines = self._file.fetch(contig, start, end, reopen=True)
        except (OSError, ValueError) as error:
            raise InputError(
                f"VCF {self.path} cannot be read at {contig}:[{start}, {end}): {error}; regions need a bgzip file with an "
                f"index, made with: bgzip {self.path.name} && tabix -p vcf {self.path.name.removesuffix('.gz')}.gz"
            ) from error
        ordinal, position = 0, start
        while True:
            try:
                text = str(next(lines))
            except StopIteration:
                return
            except (OSError, ValueError) as error:
                raise InputError(
                    f"VCF {self.path}: the line behind {contig}:{position} is no VCF record or the file is damaged: {error}"
                ) from error
            record = parse_record(ordinal, text, len(self.genotyped), self.path)
            yield record
            ordinal, position = ordinal + 1, record.position

    def _seekable(self) -> Path:
        """The path itself, or for plain gzip, which htslib cannot read as VCF, a decompressed copy that goes with us."""
        if compression(self.path) != "gzip":
            return self.path
        target = Path(tempfile.gettempdir()) / f"{self.path.name}-{os.getuid()}"
        copy = self._resources.enter_context(scratch_folder(target)) / "plain.vcf"
        try:
            with gzip.open(self.path) as packed, copy.open("wb") as plain:
                plain.writelines(line + b"\n" for line in bounded_lines(packed.read, f"VCF {self.path}"))
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise unwritable(copy, error) from error
            raise InputError(f"VCF {self.path} is truncated or damaged: {error}") from error
        return copy

    def _problems(self) -> Iterator[InputError | None]:
        """What htslib reads over in each data line; told before htslib reads the line, which may be endless."""
        if self._file.format == "BCF":
            return record_problems(self._readable, self.path)
        return line_problems(self._readable, len(self.samples), self.path)

    def _open(self, readable: Path) -> pysam.VariantFile:
        try:
            return pysam.VariantFile(str(readable))
        except (OSError, ValueError, NotImplementedError) as error:
            if "EOF marker" in str(error):
                raise InputError(
                    f"VCF {self.path} is truncated: its bgzip end marker is missing; transfer or write it again"
                ) from error
            raise InputError(f"VCF {self.path} {_why_no_header(self.path)}") from error

    def _select(self, samples: Sequence[str] | None) -> tuple[str, ...]:
        """Tell htslib to skip the columns nobody asked for; the columns kept, in file order."""
        if samples is None:
            return self.samples
        if absent := [name for name in samples if name not in self.samples]:
            raise ConfigError(
                f"VCF {self.path} has no sample {_listed(absent)}; its samples are: {_listed(list(self.samples))}"
            )
        if samples:
            self._file.subset_samples(list(dict.fromkeys(samples)))
        elif self.samples:
            self._file.close()
            self._file = pysam.VariantFile(str(self._readable), drop_samples=True)
            self._resources.callback(_close, self._file)
        return tuple(name for name in self.samples if name in set(samples))

    def _broken_at(self, ordinal: int, contig: str, position: int, error: Exception) -> str:
        """Where the file cannot be read on: the line, or damage where even its text cannot be read to the end."""
        after = f"after {ordinal:,} good records, the last at {contig}:{position}" if ordinal else "at its first record"
        found = ""
        try:
            with open_text(self.path) as lines:
                data = ((number, line) for number, line in enumerate(lines, start=1) if not line.startswith("#"))
                for place, (number, line) in enumerate(data):
                    if place == ordinal:
                        shown = line.rstrip("\r\n")[:60]
                        found = f"VCF {self.path}, line {number}: not a VCF record ({after}): {shown!r}"
        except (EOFError, OSError, zlib.error) as damage:
            found, error = "", damage
        return found or f"VCF {self.path} is truncated or damaged {after}: {error}"


def read_vcf(
    path: Path | str, reference: ReferenceGenome, *, window: int = DEFAULT_WINDOW, samples: Sequence[str] | None = ()
) -> Iterator[Accepted | Rejected]:
    """Every (record, ALT) of the file in file order, exactly once; a record without ALT gives one Rejected.

    The header is checked at the call, before any record; the whole file's verdict on the build comes at the end.

    Raises:
        InputError, ConfigError: as :class:`VcfFile`.
        BuildMismatchError: contig lengths, contig names or REF alleles of another genome build.
    """
    vcf = VcfFile(path, samples)
    try:
        reference.check_build(vcf.contigs, f"VCF {vcf.path}")
    except BuildMismatchError:
        vcf.__exit__(None, None, None)
        raise
    return _outcomes(vcf, reference, window)


def judge_record(record: Record, reference: ReferenceGenome, window: int) -> Verdict:
    """The judgement of one data line; the border where 1-based POS becomes a 0-based start."""
    return judge(reference, record.contig, record.position - 1, record.ref, record.alts, window)


def outcomes(record: Record, verdict: Verdict) -> Iterator[Accepted | Rejected]:
    """One outcome per ALT of ``record``."""
    for alt_index, outcome in enumerate(verdict.outcomes, start=1 if record.alts else 0):
        if isinstance(outcome, Allele):
            yield Accepted(record, alt_index, outcome)
        else:
            yield Rejected(record, alt_index, outcome.reason, outcome.detail)


def _outcomes(vcf: VcfFile, reference: ReferenceGenome, window: int) -> Iterator[Accepted | Rejected]:
    tally = Tally()
    with vcf:
        for record in vcf.records():
            verdict = judge_record(record, reference, window)
            tally.add(verdict)
            yield from outcomes(record, verdict)
        tally.check_build(vcf, reference)


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more if names else "none"


def _why_no_header(path: Path) -> str:
    """What is wrong with a file that htslib does not take for a VCF, as the end of a sentence."""
    try:
        with open_text(path) as lines:
            for number, raw in zip(range(1, _HEADER_LINES_SEARCHED), lines, strict=False):
                line = str(raw).rstrip("\r\n")
                if number == 1 and not line.startswith("##fileformat=VCF"):
                    return f"is not a VCF: line 1 should begin with ##fileformat=VCF, found {line[:40]!r}"
                if line.startswith("#CHROM"):
                    names = Counter(line.split("\t")[9:])
                    twice = [name for name, times in names.items() if times > 1]
                    return f"names a sample twice: {_listed(twice)}" if twice else "has a damaged header"
                if not line.startswith("##"):
                    return f"has no #CHROM line before its first record (line {number})"
    except (EOFError, OSError, zlib.error) as error:
        return f"is truncated or damaged: {error}"
    return "has no #CHROM line"


def _close(file: pysam.VariantFile) -> None:
    """Close; htslib reports damage again on closing, and by then it has been told."""
    with suppress(OSError):
        file.close()


@contextmanager
def quiet_htslib() -> Iterator[None]:
    """htslib's warnings on stderr name tags our users did not write; text outside UTF-8 is replaced, not fatal."""
    verbosity = pysam.set_verbosity(0)
    handler = pysam.set_encoding_error_handler("replace")
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)
        pysam.set_encoding_error_handler(handler)
