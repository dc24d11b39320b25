"""What the genotypes of a child and its parents allow to say of one allele: inherited, new, or not to be told.

A missing call is never taken for a reference call: an allele is called new only where every parent who could have passed it
on has a complete call of reference alleles in the record in which the child has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from dnagrinder.genome.records import read_genotype

PARENTS = ("mother", "father")
_CHROMOSOMES = {"X": "X", "23": "X", "Y": "Y", "24": "Y", "M": "MT", "MT": "MT"}


class Origin(StrEnum):
    """Where a child's allele comes from, by genotypes alone."""

    DE_NOVO = "de_novo"
    INHERITED = "inherited"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Call:
    """One GT: allele numbers (0 is REF, None a missing one), in the order written; ``phased`` where ``|`` joins them all."""

    alleles: tuple[int | None, ...]
    phased: bool

    @property
    def complete(self) -> bool:
        """Whether every allele was called."""
        return bool(self.alleles) and None not in self.alleles

    @property
    def is_reference(self) -> bool:
        """Whether all alleles were called and are REF."""
        return self.complete and not any(self.alleles)

    def carries(self, alt: int) -> bool:
        """Whether ALT number ``alt`` (from 1) is one of the alleles."""
        return alt in self.alleles

    def lacks(self, alt: int) -> bool:
        """Whether the call is complete and does not hold ``alt``."""
        return self.complete and alt not in self.alleles

    def is_heterozygous(self, alt: int) -> bool:
        """Whether the call is complete and holds both ``alt`` and another allele."""
        return self.complete and alt in self.alleles and len(set(self.alleles)) > 1

    def copy_of(self, alt: int) -> int | None:
        """Place (0 or 1) of ``alt`` in a phased heterozygous call of two alleles, else None."""
        return self.alleles.index(alt) if self.phased and len(self.alleles) == 2 and self.is_heterozygous(alt) else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """``reason`` says why nothing can be told; empty otherwise."""

    origin: Origin
    reason: str = ""


@lru_cache(maxsize=4096)
def read_call(text: str) -> Call:
    """A GT text; anything that is none counts as a missing call."""
    return Call(*read_genotype(text))


def who_can_pass_on(contig: str, sex: str | None, child: Call, alt: int) -> tuple[str, ...] | str:
    """The parents whose calls decide, or why that cannot be said.

    A son has his X from his mother alone: so his haploid or homozygous ALT there. Where he is heterozygous on X the place is
    pseudoautosomal, or the call wrong, and both parents are asked. Contigs other than X, Y and MT (also 23, 24, M, with or
    without chr) count as autosomes, which asks for more, never for less.
    """
    chromosome = _chromosome(contig)
    if chromosome == "MT":
        return ("mother",)
    if chromosome == "autosome" or (chromosome == "X" and sex == "female"):
        return PARENTS
    if sex is None:
        return f"the proband's sex is not stated, and the allele lies on {chromosome}"
    if chromosome == "Y":
        return ("father",) if sex == "male" else "the proband is female, and the allele lies on Y"
    return PARENTS if child.is_heterozygous(alt) else ("mother",)


def has_two_copies(contig: str) -> bool:
    """Whether two alleles of ``contig`` can lie on the two copies of a pair: not on Y and MT.

    X has two in a daughter. A son's heterozygous call there is taken as one of two copies as well: it is pseudoautosomal, or
    wrong, and contig and sex do not say which.
    """
    return _chromosome(contig) not in ("Y", "MT")


def _chromosome(contig: str) -> str:
    return _CHROMOSOMES.get(contig.removeprefix("chr").upper(), "autosome")


def judge(
    contig: str, sex: str | None, child: Call, alt: int, parents: Mapping[str, Call | str], carriers: frozenset[str]
) -> Judgement:
    """Origin of ALT number ``alt`` of one record.

    Args:
        contig: name of the contig. sex: the child's: male, female or None.
        parents: role -> the parent's call in the record, or why there is none.
        carriers: roles of parents who carry the same allele in any record of their own file.
    """
    asked = who_can_pass_on(contig, sex, child, alt)
    if isinstance(asked, str):
        return Judgement(Origin.CANNOT_TELL, asked)
    calls = {role: parents[role] for role in asked}
    if not child.carries(alt):
        return Judgement(Origin.CANNOT_TELL, "the proband's genotype does not hold the allele")
    if any(role in carriers or (isinstance(call, Call) and call.carries(alt)) for role, call in calls.items()):
        return Judgement(Origin.INHERITED)
    if not child.complete:
        return Judgement(Origin.CANNOT_TELL, "the proband's call is incomplete")
    for role, call in calls.items():
        if isinstance(call, str):
            return Judgement(Origin.CANNOT_TELL, call)
        if not call.complete:
            return Judgement(Origin.CANNOT_TELL, f"the {role}'s call is missing or incomplete")
        if not call.is_reference:
            return Judgement(Origin.CANNOT_TELL, f"the {role} carries another ALT in the record")
    return Judgement(Origin.DE_NOVO)


def passed_by(alt: int, child: Call, parents: Mapping[str, Call | str], carriers: frozenset[str]) -> str | None:
    """The parent from whom a heterozygous child has ``alt``: one carries it, the other's call is complete without it.

    Another ALT of the other parent is no hindrance: it says as much as REF that ``alt`` is not there. None where open.
    ``carriers`` as in :func:`judge`: a parent may carry the allele in another record, spelt in another way.
    """
    if not child.is_heterozygous(alt):
        return None
    for role, other in (PARENTS, PARENTS[::-1]):
        mine, theirs = parents[role], parents[other]
        carries = role in carriers or (isinstance(mine, Call) and mine.carries(alt))
        if carries and other not in carriers and isinstance(theirs, Call) and theirs.lacks(alt):
            return role
    return None
