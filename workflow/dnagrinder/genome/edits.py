"""What an ALT does to the reference: edits, which of them can stand together, and the sequence they make.

Coordinates are 0-based half-open on the contig. An insertion is an edit of the empty interval ``[p, p)``: its bases stand
before base ``p``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Reason, form_refusal, site_refusal
from dnagrinder.sequence import reverse_complement

_BASES = re.compile("[ACGT]+").fullmatch
_CODES = re.compile("[ACGTUNRYKMSWBDHV]*").fullmatch
_SYMBOL = re.compile(r"<(DEL)(?::[^>]*)?>|<(INV)>|<(DUP)(?::TANDEM)?>|<CN(\d+)>").fullmatch
_INFO_END = re.compile(r"(?:^|;)END=([^;]*)").search
_INFO_LENGTHS = re.compile(r"(?:^|;)SVLEN=([^;]*)").search


class EditReason(StrEnum):
    """Why a carried ALT is not applied, beyond what :class:`Reason` says of the ALT itself."""

    BAD_END = "BAD_END"  # symbolic ALT whose END (or SVLEN) is absent, no number, before POS or beyond the contig
    UNPHASED = "UNPHASED"  # heterozygous without phase: which haplotype carries it is not known
    OVERLAP = "OVERLAP"  # an edit further left on the haplotype already covers its place
    LEAVES_WINDOW = "LEAVES_WINDOW"  # other than a deletion, and only partly inside the window


@dataclass(frozen=True, slots=True)
class Edit:
    """The bases of ``[start, end)`` give way to ``replacement`` (upper case; empty for a deletion).

    ``inverted`` says that ``replacement`` is the reverse complement of those bases.

    Raises:
        ValueError: a reversed interval, an edit that changes nothing, other letters, or an inversion of another length.
    """

    start: int
    end: int
    replacement: str
    inverted: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end or not _CODES(self.replacement):
            raise ValueError(f"no edit: {self}")
        if self.start == self.end and not self.replacement:
            raise ValueError(f"an edit of no base by no base: {self}")
        if self.inverted and len(self.replacement) != self.end - self.start:
            raise ValueError(f"an inversion keeps the length: {self}")

    @property
    def is_insertion(self) -> bool:
        """Bases come in, none goes."""
        return self.start == self.end

    @property
    def is_deletion(self) -> bool:
        """Bases go, none comes in."""
        return not self.replacement

    def within(self, start: int, end: int) -> Edit | None:
        """The part of this edit that belongs to the window ``[start, end)``, None where there is no such part.

        A deletion is cut at the window's edges. Of any other edit that reaches across an edge it is not known which of
        the new bases belong inside: None.
        """
        if start <= self.start and self.end <= end:
            return self
        if self.is_deletion and self.start < end and start < self.end:
            return Edit(max(start, self.start), min(end, self.end), "")
        return None


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why an ALT gives no edit."""

    reason: Reason | EditReason
    detail: str


def edit_of(
    reference: ReferenceGenome, contig: str, start: int, ref: str, alt: str, *, info: str = "", number: int = 1
) -> Edit | Unusable:
    """The edit of one ALT, or why there is none.

    Args:
        contig: the reference's own name.
        start: 0-based position of the record (POS - 1).
        ref, alt: as in the record; any case.
        info: INFO text of the record; END (1-based, inclusive), else the SVLEN of this ALT, ends a symbolic allele.
        number: 1-based number of the ALT, which tells its SVLEN.

    Bases that ``alt`` shares with ``ref`` are cut, first in front (VCF's anchor base), then behind. Symbolic alleles
    change ``[POS, END)``, as the base at POS stands before the event::

        <DEL> <DEL:...> <CN0>      the interval goes
        <INV>                      its reverse complement takes its place
        <DUP> <DUP:TANDEM> <CN2>   one more copy is inserted before it, where a left-aligned insertion stands
        <CNn>                      n - 1 more copies (1000 Genomes phase 3: n copies on this one haplotype)

    New copies are the reference's: other alleles inside the interval change the old copy alone. Breakpoints are taken as
    stated: CIPOS, CIEND and IMPRECISE are not consulted. REF is compared with the reference, for symbolic alleles unless
    it is N.
    """
    symbol = _SYMBOL(alt.upper())
    refused = None if symbol else form_refusal(alt)
    if refused is None and not (symbol and set(ref.upper()) == {"N"}):
        site = site_refusal(reference, contig, start, ref)
        refused = site[0] if site else None
    if refused is not None:
        return Unusable(refused.reason, refused.detail)
    if symbol is None:
        return _spelled_edit(start, ref.upper(), alt.upper())
    end = _symbolic_end(start, info, number, reference.length(contig))
    if isinstance(end, Unusable):
        return end
    return _symbolic_edit(reference, contig, start + 1, end, symbol)


def arrange(edits: Iterable[tuple[int, Edit]], start: int, end: int) -> tuple[dict[int, Edit], dict[int, EditReason]]:
    """The edits of one haplotype that are applied to the window ``[start, end)``, and why the others are not.

    Args:
        edits: labelled edits in the order of :func:`sort_key`.
        start, end: the window.

    Returns:
        label -> edit within the window, left to right; label -> reason.

    Left to right, an edit that touches bases of an edit taken before is left out, as ``bcftools consensus`` does:
    overlapping intervals, and an insertion or a deletion right behind an insertion at the same point (two changes
    anchored at one base). Edits side by side are kept, an insertion behind a changed base for one.
    """
    taken: dict[int, Edit] = {}
    left_out: dict[int, EditReason] = {}
    last: Edit | None = None
    for label, edit in edits:
        inside = edit.within(start, end)
        if inside is None:
            left_out[label] = EditReason.LEAVES_WINDOW
        elif last is not None and _collide(last, inside):
            left_out[label] = EditReason.OVERLAP
        else:
            taken[label] = last = inside
    return taken, left_out


def sort_key(edit: Edit) -> tuple[int, bool]:
    """Left to right; at one point the insertion stands before what changes the base there."""
    return edit.start, not edit.is_insertion


@dataclass(frozen=True)
class HaplotypeSequence:
    """A window of the reference with edits applied.

    Attributes:
        start, end: the window on the contig.
        bases: bases of the haplotype, soft mask as in the reference.
        edits: what was applied, left to right.
    """

    start: int
    end: int
    bases: str
    edits: tuple[Edit, ...]

    @cached_property
    def reference_positions(self) -> NDArray[np.int64]:
        """(len(bases),) contig coordinate of every haplotype base, -1 for an inserted one.

        Replacing bases keep the coordinates of the bases they replace, one by one from the left (backwards for an
        inversion); those beyond the replaced ones are inserted.
        """
        pieces: list[NDArray[np.int64]] = []
        place = self.start
        for edit in self.edits:
            pieces.append(np.arange(place, edit.start))
            known = min(edit.end - edit.start, len(edit.replacement))
            replaced = np.arange(edit.start, edit.start + known)
            pieces += [replaced[::-1] if edit.inverted else replaced, np.full(len(edit.replacement) - known, -1)]
            place = edit.end
        return np.concatenate([*pieces, np.arange(place, self.end)])

    @cached_property
    def haplotype_positions(self) -> NDArray[np.int64]:
        """(end - start,) index into ``bases`` of every reference base of the window, -1 for a deleted one."""
        known = np.flatnonzero(self.reference_positions >= 0)
        index = np.full(self.end - self.start, -1)
        index[self.reference_positions[known] - self.start] = known
        return index


def apply_edits(bases: str, start: int, edits: Sequence[Edit]) -> HaplotypeSequence:
    """``bases`` (the reference from ``start`` on, any case) with ``edits`` applied; O(bases + edits).

    New bases take the case of the bases they replace, one by one, and beyond these that of the last of them; inserted
    ones that of the base before them (at the window's first base, of the one behind).

    Raises:
        ValueError: an edit outside the window, or edits that overlap or are not ordered left to right (see
            :func:`arrange`).
    """
    end = start + len(bases)
    pieces: list[str] = []
    place = start
    for edit in edits:
        if not place <= edit.start <= edit.end <= end:
            raise ValueError(f"{edit} begins before {place} or ends behind the window [{start}, {end})")
        pieces.append(bases[place - start : edit.start - start])
        replaced = bases[edit.start - start : edit.end - start]
        pattern = replaced[::-1] if edit.inverted else replaced
        beside = max(0, edit.start - start - 1)
        pieces.append(_in_case(edit.replacement, pattern or bases[beside : beside + 1]))
        place = edit.end
    pieces.append(bases[place - start :])
    return HaplotypeSequence(start, end, "".join(pieces), tuple(edits))


def _spelled_edit(start: int, ref: str, alt: str) -> Edit | Unusable:
    if not _BASES(alt):
        return Unusable(Reason.IUPAC, f"ALT holds {''.join(sorted(set(alt) - set('ACGT')))}")
    if ref == alt:
        return Unusable(Reason.SAME_AS_REF, f"REF and ALT are the same {len(ref)} bp")
    front = _shared(ref, alt)
    start, ref, alt = start + front, ref[front:], alt[front:]
    behind = _shared(ref[::-1], alt[::-1])
    return Edit(start, start + len(ref) - behind, alt[: len(alt) - behind])


def _shared(ref: str, alt: str) -> int:
    """Length of the common prefix."""
    return next(
        (place for place, (one, other) in enumerate(zip(ref, alt, strict=False)) if one != other), min(len(ref), len(alt))
    )


def _symbolic_end(start: int, info: str, number: int, length: int) -> int | Unusable:
    """0-based exclusive end of the event behind the base at ``start``."""
    if stated := _INFO_END(info):
        text, base = stated[1], 0
    elif lengths := _INFO_LENGTHS(info):
        values = lengths[1].split(",")
        own = values[number - 1 : number] if len(values) > 1 else values
        text, base = "".join(own).removeprefix("-"), start + 1
    else:
        return Unusable(EditReason.BAD_END, "the record has neither END nor SVLEN")
    if not text.isdecimal() or not start + 1 < base + int(text) <= length:
        place = f"the event begins behind base {start + 1}, the contig ends at {length}"
        return Unusable(EditReason.BAD_END, f"{'SVLEN' if base else 'END'} is {text}; {place}")
    return base + int(text)


def _symbolic_edit(reference: ReferenceGenome, contig: str, start: int, end: int, symbol: re.Match[str]) -> Edit | Unusable:
    deleted, inverted, _, number = symbol.groups()
    copies = int(number) if number else 2
    if deleted or copies == 0:
        return Edit(start, end, "")
    if copies == 1:
        return Unusable(Reason.SAME_AS_REF, "ALT <CN1> is the one copy that the reference has")
    bases = reference.fetch(contig, start, end)
    if inverted:
        return Edit(start, end, reverse_complement(bases), inverted=True)
    return Edit(start, start, bases * (copies - 1))


def _collide(last: Edit, edit: Edit) -> bool:
    if edit.start < last.end:
        return True
    return last.is_insertion and edit.start == last.start and (edit.is_insertion or edit.is_deletion)


def _in_case(replacement: str, pattern: str) -> str:
    """``replacement`` (upper case) in the case of ``pattern``, letter by letter; its last letter stands for the rest."""
    if not pattern or pattern.isupper():
        return replacement
    if pattern.islower():
        return replacement.lower()
    pattern = pattern[: len(replacement)].ljust(len(replacement), pattern[-1])
    return "".join(new.lower() if old.islower() else new for new, old in zip(replacement, pattern, strict=True))
