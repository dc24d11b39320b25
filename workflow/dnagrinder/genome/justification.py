"""The other canonical form of an allele: everything it may touch, as GA4GH's VRS writes it."""

from __future__ import annotations

from dataclasses import dataclass

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele

_SHIFT_CHUNK = 256


@dataclass(frozen=True, slots=True)
class JustifiedAllele:
    """``[start, end)`` of ``contig`` (0-based, between bases), its reference bases and what stands there instead.

    ``ref`` or ``alt`` may be empty: an insertion that cannot move has no reference bases, ``start == end``.
    """

    contig: str
    start: int
    end: int
    ref: str
    alt: str


def fully_justified(reference: ReferenceGenome, allele: Allele) -> JustifiedAllele:
    """The fully-justified form of an allele by GA4GH VRS 1.3 and 2.0, "Allele Normalization" (after NCBI's VOCA).

    Shared suffix and prefix are trimmed. What then is a substitution stays as it is. A pure insertion or deletion is
    rolled left and right as far as the result stays the same, and widened over all places it can be written at::

        reference  G C A C A C T      deletion of one CA, normalised 0 GCA>G
                     [-------)        fully justified   [1, 6) CACAC > CAC

    VRS 1.3 writes ``alt`` as a literal sequence, VRS 2.0 may write it as a length of the repeat; the interval is the same.
    ``allele`` is left-aligned already, so only the roll to the right is looked up. An unknown base (N) ends it.
    """
    start, ref, alt = allele.trimmed()
    if ref and alt:
        return JustifiedAllele(allele.contig, start, start + len(ref), ref, alt)
    event = ref or alt
    end = start + len(ref)
    end += _right_shift(reference, allele.contig, end, event)
    span = reference.fetch(allele.contig, start, end)
    return JustifiedAllele(allele.contig, start, end, span, span[len(event) :] if ref else event + span)


def _right_shift(reference: ReferenceGenome, contig: str, end: int, event: str) -> int:
    """How many bases an inserted or deleted ``event`` that ends at ``end`` can move right without changing the result.

    Moving by one is possible where the base behind equals the first base of the event, which then becomes its last.
    """
    shift, length = 0, reference.length(contig)
    while end + shift < length:
        for base in reference.fetch(contig, end + shift, min(length, end + shift + _SHIFT_CHUNK)):
            if base != event[shift % len(event)]:
                return shift
            shift += 1
    return shift
