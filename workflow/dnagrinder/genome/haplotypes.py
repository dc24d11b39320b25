"""Phased alleles applied to a window: who carries which ALT on which haplotype, and the distinct haplotypes there are.

A region of the VCF is read once for all samples; its windows are then answered from memory::

    with VcfFile("phased.vcf.gz") as vcf:
        region = read_region(vcf, reference, "20", 1_000_000, 1_500_000)
    window = region.window(1_200_000, 1_212_200)
    bases = reference.fetch_masked("20", window.start, window.end)
    for haplotype in window.haplotypes:
        if haplotype.edits:
            sequence = apply_edits(bases, window.start, haplotype.edits).bases

Coordinates are 0-based half-open. What is carried and not applied is listed with its reason and the number of copies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import InputError
from dnagrinder.genome.edits import Edit, EditReason, Unusable, arrange, edit_of, sort_key
from dnagrinder.genome.records import Record, read_genotype
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Reason
from dnagrinder.genome.vcf import VcfFile

MISSING, ABSENT = -1, -2  # in a genotype: no call; the second allele of a haploid call


@dataclass(frozen=True, slots=True)
class CarriedAllele:
    """ALT ``number`` (1-based) of a record, which some sample carries: its edit, or why it has none.

    ``record`` is the row of the region's genotypes, ``position`` the 1-based POS.
    """

    record: int
    position: int
    number: int
    alt: str
    effect: Edit | Unusable


@dataclass(frozen=True, slots=True)
class Skipped:
    """An ALT that is carried in the window and not applied on ``copies`` haplotypes, for ``reason``."""

    allele: CarriedAllele
    reason: Reason | EditReason
    copies: int


@dataclass(frozen=True, eq=False)
class Haplotype:
    """One distinct haplotype of a window.

    Attributes:
        edits: what differs from the reference, left to right, within the window; () for the reference itself.
        carriers: (copies, 2), index of the sample in the region's samples and haplotype (0 left of the bar, 1 right).
            A homozygous sample is there twice.
        phase_sets: (copies, edits), index into the region's phase sets, -1 for a homozygous or haploid allele, which
            belongs to any; None where the file has no PS and GT alone tells the phase.
    """

    edits: tuple[Edit, ...]
    carriers: NDArray[np.int64]
    phase_sets: NDArray[np.int32] | None

    @property
    def copies(self) -> int:
        """How many chromosomes carry it."""
        return len(self.carriers)

    @property
    def phase_known(self) -> NDArray[np.bool_]:
        """(copies,) false where the edits belong to several phase sets, so that they need not lie on one chromosome."""
        if self.phase_sets is None or not self.edits:
            return np.ones(self.copies, dtype=np.bool_)
        first = self.phase_sets.max(axis=1, keepdims=True)  # (copies, 1)
        return np.asarray(((self.phase_sets == first) | (self.phase_sets < 0)).all(axis=1))


@dataclass(frozen=True)
class WindowHaplotypes:
    """The distinct haplotypes of a window in the order of their first carriers, and what was not applied."""

    start: int
    end: int
    haplotypes: tuple[Haplotype, ...]
    skipped: tuple[Skipped, ...]

    @property
    def reasons(self) -> Counter[Reason | EditReason]:
        """Copies not applied, by reason."""
        counts: Counter[Reason | EditReason] = Counter()
        for skip in self.skipped:
            counts[skip.reason] += skip.copies
        return counts


@dataclass(frozen=True, eq=False)
class PhasedRegion:
    """The genotypes of a region and the edits of every ALT that is carried there; 5 bytes a genotype.

    Attributes:
        contig, start, end: the region, by the reference's name.
        samples: the sample columns.
        alleles: in the order in which edits are applied.
        positions: (records,) 1-based POS.
        genotypes: (records, samples, 2) allele numbers, MISSING or ABSENT.
        assigned: (records, samples) whether GT tells the haplotypes: phased (``|``), homozygous or haploid.
        phase_sets: (records, samples) index into ``phase_set_names``; None where the file has no PS.
        phase_set_names: PS texts; "." is the set of the genotypes without PS.
    """

    contig: str
    start: int
    end: int
    samples: tuple[str, ...]
    alleles: tuple[CarriedAllele, ...] = field(repr=False)
    positions: NDArray[np.int64] = field(repr=False)
    genotypes: NDArray[np.int16] = field(repr=False)
    assigned: NDArray[np.bool_] = field(repr=False)
    phase_sets: NDArray[np.int32] | None = field(repr=False)
    phase_set_names: tuple[str, ...] = field(repr=False)

    def window(self, start: int, end: int) -> WindowHaplotypes:
        """The distinct haplotypes of ``[start, end)``; equal are those of equal edits.

        What lies across the window's edges: a deletion is cut there (one that covers the window leaves no base); an
        insertion belongs to the window of the base before it, and so does a duplication with all its bases; of the rest
        nothing is applied and LEAVES_WINDOW counted, an inversion for one, whose inner alleles are then applied as on
        the reference's strand. A missing call leaves the reference's bases. A sample whose calls in the window are
        haploid has one haplotype.

        Raises:
            ValueError: the window leaves the region.
        """
        if not self.start <= start < end <= self.end:
            raise ValueError(f"window [{start}, {end}) does not lie in the region [{self.start}, {self.end})")
        rows = self._rows(start, end)
        records, numbers = self._index[3:, rows]
        carried = self.genotypes[records] == numbers[:, None, None]  # (rows, samples, 2)
        assigned = self.assigned[records][:, :, None]
        skipped: Counter[tuple[int, Reason | EditReason]] = Counter()
        for row, copies in zip(rows.tolist(), (carried & ~assigned).sum(axis=(1, 2)).tolist(), strict=True):
            if copies:
                skipped[row, EditReason.UNPHASED] = copies
        found: dict[tuple[Edit, ...], list[tuple[NDArray[np.int64], list[int]]]] = {}
        on_haplotype = (carried & assigned).reshape(len(rows), 2 * len(self.samples))
        for columns, own in _equal_columns(on_haplotype, self._existing(start, end)):
            edits = []
            for row in rows[own].tolist():
                effect = self.alleles[row].effect
                if isinstance(effect, Edit):
                    edits.append((row, effect))
                else:
                    skipped[row, effect.reason] += len(columns)
            taken, left_out = arrange(edits, start, end)
            for row, reason in left_out.items():
                skipped[row, reason] += len(columns)
            found.setdefault(tuple(taken.values()), []).append((columns, list(taken)))
        return WindowHaplotypes(
            start,
            end,
            tuple(self._haplotype(edits, groups) for edits, groups in found.items()),
            tuple(Skipped(self.alleles[row], reason, copies) for (row, reason), copies in sorted(skipped.items())),
        )

    @cached_property
    def _index(self) -> NDArray[np.int64]:
        """(5, alleles): start, end, furthest end so far, record, number."""
        table = np.array([(*_span(allele), 0, allele.record, allele.number) for allele in self.alleles], dtype=np.int64)
        table = np.ascontiguousarray(table.reshape(-1, 5).T)
        np.maximum.accumulate(table[1], out=table[2])
        return table

    def _rows(self, start: int, end: int) -> NDArray[np.int64]:
        """Alleles that change the window, in order."""
        starts, ends, furthest = self._index[:3]
        first, last = np.searchsorted(furthest, start), np.searchsorted(starts, end, side="right")
        starts, ends = starts[first:last], ends[first:last]
        anchored = starts > (start if start else -1)  # no base stands before the contig's first insertion
        return first + np.flatnonzero(np.where(starts == ends, anchored, (start < ends) & (starts < end)))

    def _existing(self, start: int, end: int) -> NDArray[np.int64]:
        """Haplotypes (2 x sample + side) that are there: not the second one of samples with haploid calls alone."""
        second = self.genotypes[(start < self.positions) & (self.positions <= end), :, 1]
        haploid = (second == ABSENT).any(axis=0) & ~(second >= 0).any(axis=0)
        return np.flatnonzero(np.column_stack([np.ones_like(haploid), ~haploid]))

    def _haplotype(self, edits: tuple[Edit, ...], groups: list[tuple[NDArray[np.int64], list[int]]]) -> Haplotype:
        """The groups that came to the same edits, from whichever alleles, as one."""
        columns = np.concatenate([columns for columns, _ in groups])
        order = np.argsort(columns)
        carriers = np.stack(np.divmod(columns[order], 2), axis=1)
        if self.phase_sets is None:
            return Haplotype(edits, carriers, None)
        phases = []
        for columns, rows in groups:
            cells = self._index[3, rows], columns[:, None] // 2  # records, samples of (copies, edits)
            first, second = np.moveaxis(self.genotypes[cells], -1, 0)
            certain = (first == second) | (second == ABSENT)
            phases.append(np.where(certain, np.int32(-1), self.phase_sets[cells]))
        return Haplotype(edits, carriers, np.concatenate(phases)[order])


def read_region(vcf: VcfFile, reference: ReferenceGenome, contig: str, start: int, end: int) -> PhasedRegion:
    """Every genotype of ``vcf`` that overlaps ``[start, end)`` of ``contig`` (the reference's name).

    The samples are those ``vcf`` was opened for. Whether the file belongs to the reference at all is for the caller to
    ask (``reference.check_build(vcf.contigs, ...)``); here an ALT whose REF differs is kept with that reason.

    Raises:
        InputError: an interval outside the contig, no samples, no index, a genotype of more than two alleles or with the
            number of an ALT that the record does not have, or errors as :meth:`VcfFile.fetch`.
    """
    if not 0 <= start < end <= reference.length(contig):
        raise InputError(f"{contig}:[{start}, {end}) is no interval of a contig of {reference.length(contig):,} bases")
    if not vcf.genotyped:
        raise InputError(f"VCF {vcf.path} has no genotypes to read: no sample column, or none was asked for")
    samples = len(vcf.genotyped)
    codes: dict[str, int] = {}  # GT text -> row of calls
    calls: list[tuple[int, int, bool]] = []
    phase_codes = {".": 0}
    coded: list[NDArray[np.int32]] = []  # (samples,) per record
    phases: list[NDArray[np.int32]] = []
    positions: list[int] = []
    alleles: list[CarriedAllele] = []
    for name in (name for name, _ in vcf.contigs if reference.resolve(name) == contig):
        for record in vcf.fetch(name, start, end):
            distinct = set(record.genotypes)
            for text in distinct - codes.keys():
                codes[text] = len(calls)
                calls.append(read_call(text, record, vcf))
            numbers = {number for text in distinct for number in calls[codes[text]][:2] if number > 0}
            alleles += _carried(record, len(coded), sorted(numbers), reference, contig)
            coded.append(np.array([codes[text] for text in record.genotypes], dtype=np.int32))
            sets = [phase_codes.setdefault(text, len(phase_codes)) for text in record.phase_sets]
            phases.append(np.array(sets or [0] * samples, dtype=np.int32))
            positions.append(record.position)
    table = np.array(calls, dtype=np.int16).reshape(-1, 3)
    code = np.array(coded, dtype=np.int32).reshape(-1, samples)
    return PhasedRegion(
        contig,
        start,
        end,
        vcf.genotyped,
        tuple(sorted(alleles, key=_order)),
        np.array(positions, dtype=np.int64),
        table[:, :2][code],
        table[:, 2].astype(np.bool_)[code],
        np.array(phases) if len(phase_codes) > 1 else None,
        tuple(phase_codes),
    )


def read_call(text: str, record: Record, vcf: VcfFile) -> tuple[int, int, bool]:
    """Allele numbers of a GT text (MISSING, ABSENT), and whether it tells which haplotype each lies on.

    Raises:
        InputError: more than two alleles.
    """
    alleles, phased = read_genotype(text)
    numbers = [MISSING if number is None else number for number in alleles]
    if len(numbers) == 1:
        return numbers[0], MISSING if numbers[0] == MISSING else ABSENT, True
    if len(numbers) > 2:
        raise InputError(
            f"VCF {vcf.path}, {record.contig}:{record.position}: genotype {text} has {len(numbers)} alleles; haplotypes "
            "are read from haploid and diploid genotypes"
        )
    return numbers[0], numbers[1], phased or numbers[0] == numbers[1]


def _carried(record: Record, row: int, numbers: list[int], reference: ReferenceGenome, contig: str) -> list[CarriedAllele]:
    """The ALTs of one record that some sample carries."""
    start, found = record.position - 1, []
    for number in numbers:
        alt = record.alts[number - 1]
        effect = edit_of(reference, contig, start, record.ref, alt, info=record.info, number=number)
        found.append(CarriedAllele(row, record.position, number, alt, effect))
    return found


def _equal_columns(
    carried: NDArray[np.bool_], columns: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The given columns of ``carried`` (rows, columns) in groups of equal content: (columns, rows that are true)."""
    packed = np.packbits(carried, axis=0).T.copy()  # (columns, bytes)
    groups: dict[bytes, list[int]] = {}
    for column in columns.tolist():
        groups.setdefault(packed[column].tobytes(), []).append(column)
    return [(np.array(group), np.flatnonzero(carried[:, group[0]])) for group in groups.values()]


def _span(allele: CarriedAllele) -> tuple[int, int]:
    """Where it changes the reference; of an ALT without edit, the base at POS."""
    if isinstance(allele.effect, Edit):
        return allele.effect.start, allele.effect.end
    return allele.position - 1, allele.position


def _order(allele: CarriedAllele) -> tuple[int, bool]:
    return sort_key(allele.effect) if isinstance(allele.effect, Edit) else (allele.position - 1, True)
