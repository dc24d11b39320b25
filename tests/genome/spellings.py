"""Random equivalent VCF spellings of alleles, made from the sequence alone, without the library's normalisation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele

MOST_PADDING = 20


@dataclass(frozen=True)
class Spelling:
    """A VCF line's CHROM, 0-based start, REF and ALTs, and the key that each ALT must get."""

    contig: str
    start: int
    ref: str
    alts: tuple[str, ...]
    keys: tuple[str, ...]

    def line(self) -> str:
        """As a data line of a VCF without samples."""
        return f"{self.contig}\t{self.start + 1}\t.\t{self.ref}\t{','.join(self.alts)}\t.\t.\t.\n"


def respell(draw: random.Random, genome: ReferenceGenome, allele: Allele) -> Spelling:
    """One allele in another place of its repeat (an insertion at either end of what it repeats) with padded bases."""
    start, ref, alt = _bare(allele)
    if not (ref and alt):
        for _ in range(draw.choice([0, 1, 2, 10**6])):
            step = _moved_right(genome, allele.contig, start, ref, alt)
            if step is None:
                break
            start, ref, alt = step
    spelling = Spelling(allele.contig, start, ref, (alt,), (allele.key,))
    return pad(draw, genome, spelling)


def pad(draw: random.Random, genome: ReferenceGenome, spelling: Spelling) -> Spelling:
    """The spelling with 0 to 20 known reference bases on either side, and at least one base in REF and every ALT."""
    needed = not spelling.ref or "" in spelling.alts
    left, right = draw.choice([0, 0, 1, draw.randint(0, MOST_PADDING)]), draw.choice([0, 0, draw.randint(0, MOST_PADDING)])
    end = spelling.start + len(spelling.ref)
    if needed and not left and not right:
        left, right = (1, 0) if spelling.start else (0, 1)
    before = _known(genome.fetch(spelling.contig, max(0, spelling.start - left), spelling.start)[::-1])[::-1]
    behind = _known(genome.fetch(spelling.contig, end, min(genome.length(spelling.contig), end + right)))
    if needed and not before and not behind:
        raise ValueError(f"no known base beside {spelling}")
    return replace(
        spelling,
        start=spelling.start - len(before),
        ref=before + spelling.ref + behind,
        alts=tuple(before + alt + behind for alt in spelling.alts),
    )


def join(genome: ReferenceGenome, spellings: Sequence[Spelling]) -> Spelling:
    """One multi-allelic record of several records of one contig: REF spans them all."""
    contig = spellings[0].contig
    start = min(spelling.start for spelling in spellings)
    end = max(spelling.start + len(spelling.ref) for spelling in spellings)
    alts: dict[str, str] = {}
    for each in spellings:
        before = genome.fetch(contig, start, each.start)
        behind = genome.fetch(contig, each.start + len(each.ref), end)
        alts.update((before + alt + behind, key) for alt, key in zip(each.alts, each.keys, strict=True))
    return Spelling(contig, start, genome.fetch(contig, start, end), tuple(alts), tuple(alts.values()))


def disguise(draw: random.Random, spelling: Spelling) -> Spelling:
    """Lower case here and there, and the contig with or without ``chr``."""
    case = draw.choice([str, str, str.lower, lambda text: "".join(draw.choice([a, a.lower()]) for a in text)])
    other = spelling.contig.removeprefix("chr") if spelling.contig.startswith("chr") else f"chr{spelling.contig}"
    return replace(
        spelling,
        contig=draw.choice([spelling.contig, other]),
        ref=case(spelling.ref),
        alts=tuple(case(alt) for alt in spelling.alts),
    )


def applied(bases: str, start: int, ref: str, alt: str) -> str:
    """``bases`` with ``ref`` at ``start`` replaced by ``alt``."""
    assert bases[start : start + len(ref)] == ref
    return bases[:start] + alt + bases[start + len(ref) :]


def _bare(allele: Allele) -> tuple[int, str, str]:
    """Without the anchor base of an insertion or deletion."""
    start, ref, alt = allele.start, allele.ref, allele.alt
    if len(ref) != len(alt) and 1 in (len(ref), len(alt)):
        if ref[0] == alt[0]:
            return start + 1, ref[1:], alt[1:]
        if ref[-1] == alt[-1]:
            return start, ref[:-1], alt[:-1]
    return start, ref, alt


def _moved_right(genome: ReferenceGenome, contig: str, start: int, ref: str, alt: str) -> tuple[int, str, str] | None:
    """A bare insertion or deletion one base further right; None where that is another change."""
    end = start + len(ref)
    behind = genome.fetch(contig, end, min(genome.length(contig), end + 1))
    event = ref or alt
    if not behind or event[0] != behind:
        return None
    turned = event[1:] + behind
    return (start + 1, turned, "") if ref else (start + 1, "", turned)


def _known(bases: str) -> str:
    """The bases before the first unknown one."""
    return bases.partition("N")[0]
