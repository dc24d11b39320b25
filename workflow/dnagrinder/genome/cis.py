"""Alleles that stand close together on one chromosome copy: which, on how many copies, and what could not be joined.

A VCF is read once, record after record, without an index. For every sample and copy the alleles known to lie there are
linked: neighbours with at most ``distance`` unchanged bases between them belong together::

    copy of one sample   ...A>G.........C>T......................................G>A..GT>G...
                            |-- 9 bases --|              more than ``distance``    |--------|
    cis haplotypes          (A>G, C>T)                                             (G>A, GT>G)

Known to lie on a copy are phased heterozygotes (``|``), homozygous and haploid alleles. An unphased heterozygote belongs
to neither copy. Where FORMAT has PS, heterozygotes of different phase sets are never joined; a homozygous allele joins any
set. Two or more SNVs with at most ``MNV_GAP`` bases between neighbours, as within a codon, are told by themselves besides,
recombined to the MNV they are.

Every carried copy of an ALT ends as ``joined`` or under one reason, counted by sample. Coordinates are 0-based half-open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dnagrinder.genome.edits import Edit, EditReason, Unusable, apply_edits, arrange, edit_of, sort_key
from dnagrinder.genome.haplotypes import ABSENT, read_call
from dnagrinder.genome.records import Record, read_genotype
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele, Reason, Refusal, judge
from dnagrinder.genome.vcf import Tally, VcfFile, judge_record

DEFAULT_DISTANCE = 50  # docs/haplotypes.md says why
MNV_GAP = 2  # unchanged bases between two SNVs that may share a codon
JOINED = "joined"  # the outcome of a copy that is part of a haplotype
_STRIDE = 10_000  # bases read before chains are closed again; memory, never a result


class CisReason(StrEnum):
    """Why a carried copy of an allele is not joined, beyond :class:`Reason` and :class:`EditReason`."""

    ALONE = "ALONE"  # no other allele of the copy lies within the distance
    OTHER_PHASE_SET = "OTHER_PHASE_SET"  # its neighbours belong to other phase sets
    TOO_WIDE = "TOO_WIDE"  # its neighbours reach further than a quarter of the window
    PLOIDY = "PLOIDY"  # GT has more than two alleles


@dataclass(frozen=True, slots=True)
class Member:
    """An allele in its normalised spelling, and the edit as its record spells it, which says where on the copy it lies."""

    allele: Allele
    edit: Edit

    @property
    def is_snv(self) -> bool:
        """One base for one."""
        return len(self.edit.replacement) == 1 == self.edit.end - self.edit.start


@dataclass(frozen=True)
class CisHaplotype:
    """Two or more alleles of one chromosome copy.

    Attributes:
        allele: the whole as one allele, from the first to the last changed base, normalised.
        members: left to right, not overlapping.
        carriers: sample of every copy that carries them, in the file's order; twice where both copies do.
    """

    allele: Allele
    members: tuple[Member, ...]
    carriers: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2 or not self.carriers:
            raise ValueError(f"a haplotype has at least two alleles and one carrier: {self}")

    @property
    def kind(self) -> str:
        """``mnv`` where all are SNVs with at most MNV_GAP bases between neighbours, else ``haplotype``."""
        return "mnv" if list(_snv_runs(self.members)) == [self.members] else "haplotype"


@dataclass(frozen=True, slots=True)
class _Carried:
    """A member on one copy; ``phase_set`` None where it is certain whatever the phase (homozygous, haploid)."""

    member: Member
    phase_set: str | None


class CisReader:
    """Reads the cis haplotypes of a VCF or BCF, sorted or not. Iterate once; then ask for ``outcomes``.

    Args:
        distance: most unchanged bases between neighbours.
        window: bases that scoring will read; a haplotype spans a quarter of it at most, as any allele that is scored. Where
            linked alleles reach further, the widest gap parts them, and again until all parts fit.
        samples: sample columns to read; None for all.

    Attributes:
        outcomes: for each sample the number of carried copies of ALTs by outcome: JOINED, or the reason.

    Memory follows from the samples and from how many haplotypes are open at one place; of an unsorted file all carried
    alleles are held.

    Raises:
        ValueError: ``distance`` below 1.
        InputError, BuildMismatchError: on iteration, as :func:`read_vcf`.
    """

    def __init__(
        self, vcf: Path, reference: ReferenceGenome, *, distance: int, window: int, samples: Sequence[str] | None = None
    ) -> None:
        if distance < 1:
            raise ValueError(f"haplotypes need a distance of at least 1 base, found {distance}")
        self._path, self._reference, self._samples = vcf, reference, samples
        self._distance, self._window = distance, window
        self._waiting: dict[tuple[str, int, int], list[_Carried]] = {}  # (contig, column, copy) -> alleles
        self._found: dict[tuple[Member, ...], set[tuple[int, int]]] = {}  # members -> (column, copy) of the carriers
        self._written: dict[tuple[Member, ...], Allele | Reason] = {}  # members -> the whole as one allele, or why not
        self._names: tuple[str, ...] = ()
        self.outcomes: dict[str, Counter[str]] = {}

    def __iter__(self) -> Iterator[CisHaplotype]:
        in_order, tally = self._in_order(), Tally()
        with VcfFile(self._path, self._samples) as file:
            self._reference.check_build(file.contigs, f"VCF {file.path}")
            self._names = file.genotyped
            self.outcomes = {name: Counter() for name in file.genotyped}
            contig, swept = "", 0
            for record in file.records():
                if in_order and (record.contig != contig or record.position > swept + _STRIDE):
                    yield from self._sweep(record.position - 1 if record.contig == contig else None)
                    contig, swept = record.contig, record.position
                verdict = judge_record(record, self._reference, self._window)
                tally.add(verdict)
                self._take(record, verdict.outcomes, file)
            tally.check_build(file, self._reference)
        yield from self._sweep(None)

    def _in_order(self) -> bool:
        """Whether every contig stands in one run, sorted by position."""
        seen: set[str] = set()
        contig, position = "", 0
        with VcfFile(self._path, ()) as file:
            for record in file.records():
                if record.contig != contig:
                    name = self._reference.resolve(record.contig) or record.contig
                    if name in seen:
                        return False
                    seen.add(name)
                    contig, position = record.contig, 0
                if record.position < position:
                    return False
                position = record.position
        return True

    def _take(self, record: Record, verdicts: Sequence[Allele | Refusal], file: VcfFile) -> None:
        """Put every copy of the record's ALTs where it waits for neighbours, or count why it cannot be joined."""
        members: dict[int, Member | str] = {}
        calls: dict[str, tuple[int, int, bool] | None] = {}
        for column, text in enumerate(record.genotypes):
            if text not in calls:
                calls[text] = None if len(read_genotype(text)[0]) > 2 else read_call(text, record, file)
            call = calls[text]
            counts = self.outcomes[self._names[column]]
            if call is None:
                counts[CisReason.PLOIDY] += sum(number not in (0, None) for number in read_genotype(text)[0])
                continue
            first, second, assigned = call
            if first <= 0 and second <= 0:
                continue
            certain = first == second or second == ABSENT
            phase_set = None if certain else (record.phase_sets[column] if record.phase_sets else ".")
            for copy, number in enumerate((first, second)):
                if number <= 0:
                    continue
                if number not in members:
                    members[number] = self._member(record, number, verdicts)
                member = members[number]
                if isinstance(member, str):
                    counts[member] += 1
                elif not assigned:
                    counts[EditReason.UNPHASED] += 1
                else:
                    place = (member.allele.contig, column, copy)
                    self._waiting.setdefault(place, []).append(_Carried(member, phase_set))

    def _member(self, record: Record, number: int, verdicts: Sequence[Allele | Refusal]) -> Member | str:
        """ALT ``number`` of the record, or the reason why it is no member of anything."""
        allele = verdicts[number - 1]
        if not isinstance(allele, Allele):
            return str(allele.reason)
        start, alt = record.position - 1, record.alts[number - 1]
        edit = edit_of(self._reference, allele.contig, start, record.ref, alt)
        return str(edit.reason) if isinstance(edit, Unusable) else Member(allele, edit)

    def _sweep(self, frontier: int | None) -> Iterator[CisHaplotype]:
        """Close what no allele at ``frontier`` or behind it can still join (None: everything); what is complete comes out.

        A record's edit begins at its POS or behind it, so a chain that ends ``distance`` before the frontier is complete.
        """
        still_open: list[int] = []
        for place in list(self._waiting):
            carried = sorted(self._waiting.pop(place), key=lambda item: sort_key(item.member.edit))
            for part in _linked([item.member.edit for item in carried], self._distance):
                chain = [carried[index] for index in part]
                if frontier is None or max(item.member.edit.end for item in chain) + self._distance < frontier:
                    self._close(place, chain)
                else:
                    self._waiting.setdefault(place, []).extend(chain)
                    still_open.append(chain[0].member.edit.start)
        for members in list(self._found):
            if frontier is None or members[-1].edit.end < min([frontier, *still_open]):
                carriers, allele = sorted(self._found.pop(members)), self._written.pop(members)
                if isinstance(allele, Allele):
                    yield CisHaplotype(allele, members, tuple(self._names[column] for column, _ in carriers))

    def _close(self, place: tuple[str, int, int], chain: Sequence[_Carried]) -> None:
        """Keep the haplotypes of one copy's complete chain, and count what became of each of its alleles."""
        contig, column, copy = place
        counts = self.outcomes[self._names[column]]
        if len(chain) == 1:
            counts[CisReason.ALONE] += 1
            return
        groups, outcomes = self._groups(contig, chain)
        for group in groups:
            members = tuple(chain[index].member for index in group)
            parts = dict.fromkeys([members, *_snv_runs(members)])
            for part in parts:
                self._found.setdefault(part, set()).add((column, copy))
            joined = {member for part in parts if isinstance(self._whole(part), Allele) for member in part}
            for index in group:
                if chain[index].member in joined:
                    outcomes[index] = JOINED
                else:
                    outcomes.setdefault(index, str(self._whole(members)))
        counts.update(outcomes.values())

    def _groups(self, contig: str, chain: Sequence[_Carried]) -> tuple[list[tuple[int, ...]], dict[int, str]]:
        """Indices of the alleles that are known to lie together, and for the others the reason.

        One phase set after another, each with the alleles that belong to any; a group within a larger one says nothing new.
        """
        sets = sorted({item.phase_set for item in chain if item.phase_set is not None})
        alone = CisReason.OTHER_PHASE_SET if len(sets) > 1 else CisReason.ALONE
        reasons: dict[int, str] = {}
        found: set[tuple[int, ...]] = set()
        for phase_set in sets or [""]:  # without any, all alleles belong to any
            own = [(i, item.member.edit) for i, item in enumerate(chain) if item.phase_set in (None, phase_set)]
            taken, left_out = arrange(own, 0, self._reference.length(contig))
            reasons |= {index: str(reason) for index, reason in left_out.items()}
            indices, edits = list(taken), list(taken.values())
            for linked in _linked(edits, self._distance):
                for part in _fitting(edits, linked, self._window // 4):
                    if len(part) > 1:
                        found.add(tuple(indices[place] for place in part))
                    else:
                        reasons.setdefault(indices[part[0]], CisReason.TOO_WIDE if len(linked) > 1 else alone)
        return sorted(group for group in found if not any(set(group) < set(other) for other in found)), reasons

    def _whole(self, members: tuple[Member, ...]) -> Allele | Reason:
        """The members written as one allele, judged as any other."""
        if members not in self._written:
            contig, start, end = members[0].allele.contig, members[0].edit.start, members[-1].edit.end
            edits = [member.edit for member in members]
            if not apply_edits(self._reference.fetch(contig, start, end), start, edits).bases:  # all of it is deleted
                start, end = max(0, start - 1), min(end + 1, self._reference.length(contig))
            ref = self._reference.fetch(contig, start, end)
            alt = apply_edits(ref, start, edits).bases
            (outcome,) = judge(self._reference, contig, start, ref, (alt,), self._window).outcomes
            self._written[members] = outcome if isinstance(outcome, Allele) else outcome.reason
        return self._written[members]


def compact_edits(reference: ReferenceGenome, alleles: Sequence[Allele]) -> list[Edit]:
    """Edits of a haplotype's alleles, left to right, as close together as they can lie.

    The last lies as far left as it goes, each other one as far right as the next allows. Within a repeat a deletion or
    insertion has many places. None is moved past another, so whichever alleles are taken together make the same sequence as
    in the records' spelling. That spelling has no say in where they lie, and they never span more bases than in it::

        reference  G C A C A C A C A C A T      records       deletions of [5, 7) and [9, 11), or [1, 3) and [7, 9), ...
                   0 1 2 3 4 5 6 7 8 9          compact       [1, 3) and [3, 5)
    """
    edits: list[Edit] = []
    for allele in alleles:
        edits.append(_leftmost(allele, edits[-1].end if edits else 0))
    for index in reversed(range(len(edits) - 1)):
        edits[index] = _rightmost(reference, alleles[index].contig, edits[index], edits[index + 1].start)
    return edits


def _leftmost(allele: Allele, limit: int) -> Edit:
    """The leftmost place of an allele's edit that does not begin before ``limit``."""
    start, ref, alt = allele.trimmed()
    return _moved(Edit(start, start + len(ref), alt), max(0, limit - start))


def _rightmost(reference: ReferenceGenome, contig: str, edit: Edit, limit: int) -> Edit:
    """The rightmost place of an edit that does not end behind ``limit``; a substitution has one place."""
    if not (edit.is_insertion or edit.is_deletion):
        return edit
    event = edit.replacement or reference.fetch(contig, edit.start, edit.end)
    behind = reference.fetch(contig, edit.end, limit)
    return _moved(edit, next((i for i, base in enumerate(behind) if base != event[i % len(event)]), len(behind)))


def _moved(edit: Edit, bases: int) -> Edit:
    """An insertion or deletion so many bases to the right, along a repeat of what it inserts or deletes."""
    turn = bases % len(edit.replacement) if edit.replacement else 0
    return Edit(edit.start + bases, edit.end + bases, edit.replacement[turn:] + edit.replacement[:turn])


def _linked(edits: Sequence[Edit], distance: int) -> Iterator[range]:
    """Runs of edits (left to right) with at most ``distance`` bases between one and what reached furthest before it."""
    first = furthest = 0
    for index, edit in enumerate(edits):
        if index > first and edit.start - furthest > distance:
            yield range(first, index)
            first = index
        furthest = edit.end if index == first else max(furthest, edit.end)
    if edits:
        yield range(first, len(edits))


def _fitting(edits: Sequence[Edit], part: range, limit: int) -> list[range]:
    """Parts of at most ``limit`` bases on reference and haplotype: cut at the widest gap, the leftmost of equals."""
    span = edits[part[-1]].end - edits[part[0]].start
    grown = span + sum(len(edits[i].replacement) - (edits[i].end - edits[i].start) for i in part)
    if len(part) == 1 or max(span, grown) <= limit:
        return [part]
    cut = max(part[1:], key=lambda i: (edits[i].start - edits[i - 1].end, -i))
    return [*_fitting(edits, range(part.start, cut), limit), *_fitting(edits, range(cut, part.stop), limit)]


def _snv_runs(members: tuple[Member, ...]) -> Iterator[tuple[Member, ...]]:
    """Longest runs of two or more SNVs with at most MNV_GAP bases between neighbours."""
    for part in _linked([member.edit for member in members], MNV_GAP):
        first = part.start
        for last in part:
            if not members[last].is_snv:
                if last - first > 1:
                    yield members[first:last]
                first = last + 1
        if part.stop - first > 1:
            yield members[first : part.stop]
