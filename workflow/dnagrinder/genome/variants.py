"""What an allele is: its one normalised spelling, and the reasons for which an input allele is not scored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.windows import window_bounds

DEFAULT_WINDOW = 512
_BASES = re.compile("[ACGT]+").fullmatch
_SHIFT_CHUNK = 256
_SHOWN_BASES = 40


class Reason(StrEnum):
    """Why an input allele is in the ledger; ``description`` says it to people, ``advice`` what they can do."""

    description: str
    advice: str

    def __new__(cls, code: str, description: str, advice: str) -> Reason:
        member = str.__new__(cls, code)
        member._value_ = code
        member.description = description
        member.advice = advice
        return member

    REF_MISMATCH = (
        "REF_MISMATCH",
        "REF of the record differs from the reference sequence",
        "give the FASTA that the variants were called on; with the right one, the record itself is wrong",
    )
    REFERENCE_N = (
        "REFERENCE_N",
        "the reference has no known base (N) where REF or the anchor base lies",
        "nothing can be scored on unknown sequence; a more complete assembly may know these bases",
    )
    CONTIG_ABSENT = (
        "CONTIG_ABSENT",
        "the contig is not in the reference",
        "give a FASTA that holds the contig; chr20 and 20, chrM and MT are taken for one already",
    )
    POSITION_OUT_OF_RANGE = (
        "POSITION_OUT_OF_RANGE",
        "the record lies beyond the ends of the contig",
        "give the FASTA of the build that the variants were called on",
    )
    SPANNING_DELETION = (
        "SPANNING_DELETION",
        "ALT * stands for a deletion that another record describes",
        "nothing to do: look at the record of the deletion, which begins further left",
    )
    NON_REF = (
        "NON_REF",
        "ALT <NON_REF> or <*> stands for any other allele of a gVCF block",
        "nothing to do: it names no allele; genotype the gVCF (GATK GenotypeGVCFs) to have called alleles only",
    )
    SYMBOLIC = (
        "SYMBOLIC",
        "symbolic ALT such as <DEL> gives no sequence",
        "where the caller can write REF and ALT as sequence, let it; then the allele's length decides",
    )
    BREAKEND = "BREAKEND", "breakend ALT joins two places of the genome", "rearrangements are not scored"
    IUPAC = (
        "IUPAC",
        "REF or ALT holds letters other than A, C, G and T",
        "write one ALT for each base that an ambiguity code stands for; where REF is N, an assembly that knows the base",
    )
    MISSING_ALT = "MISSING_ALT", "the record has no ALT allele", "nothing to do: the record says that there is no variant"
    SAME_AS_REF = "SAME_AS_REF", "ALT equals REF", "nothing to do: the record changes nothing"
    TOO_LONG = (
        "TOO_LONG",
        "the changed bases exceed a quarter of the window",
        "a larger window (scoring: window) takes longer alleles",
    )
    NO_CONTEXT = (
        "NO_CONTEXT",
        "more than half of the window around the allele is unknown sequence (N)",
        "a smaller window (scoring: window) may hold enough known bases",
    )


@dataclass(frozen=True, slots=True)
class Allele:
    """One alternative allele in its normalised (parsimonious, left-aligned) spelling.

    ``start`` is 0-based; ``ref`` and ``alt`` are non-empty upper-case A/C/G/T with the anchor base VCF asks for: the base
    before an insertion or deletion or, at the contig's first base, the base after it.

    Raises:
        ValueError: the spelling is not the normalised one.
    """

    contig: str
    start: int
    ref: str
    alt: str

    def __post_init__(self) -> None:
        if self.start < 0 or not self.contig or not _BASES(self.ref) or not _BASES(self.alt):
            raise ValueError(f"no allele: {self}")
        if len(self.ref) == 1 == len(self.alt):
            normalised = self.ref != self.alt
        else:
            shortest = min(len(self.ref), len(self.alt))
            normalised = (self.ref[-1] != self.alt[-1] or (shortest == 1 and self.start == 0)) and (
                self.ref[0] != self.alt[0] or shortest == 1
            )
        if not normalised or self.ref == self.alt:
            raise ValueError(f"allele is not in its normalised spelling: {self}")

    @classmethod
    def from_key(cls, key: str) -> Allele:
        """The allele of a :attr:`key`; contig names may hold colons.

        Raises:
            ValueError: not a key.
        """
        contig, position, ref, alt = key.rsplit(":", 3)
        return cls(contig, int(position) - 1, ref, alt)

    @property
    def key(self) -> str:
        """``contig:position:ref:alt`` with the 1-based position."""
        return f"{self.contig}:{self.start + 1}:{self.ref}:{self.alt}"

    @property
    def position(self) -> int:
        """1-based position, as VCF's POS."""
        return self.start + 1

    @property
    def end(self) -> int:
        """0-based exclusive end of ``ref`` on the contig."""
        return self.start + len(self.ref)

    @property
    def kind(self) -> str:
        """``snv``, ``mnv``, ``insertion``, ``deletion`` or ``delins``."""
        if len(self.ref) == len(self.alt):
            return "snv" if len(self.ref) == 1 else "mnv"
        _, ref, alt = self.trimmed()
        return "insertion" if not ref else "deletion" if not alt else "delins"

    def trimmed(self) -> tuple[int, str, str]:
        """Start, ref and alt without shared suffix and prefix::

        start 9  ref CAG   ->   start 10  ref AG  alt ""       (deletion of [10, 12))
                 alt C
        """
        return trim(self.start, self.ref, self.alt)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one input allele cannot be scored: the reason and the facts of this case."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one site: one outcome per ALT in input order, and whether REF equals the reference.

    ``ref_matches`` is None where that cannot be said (contig or position absent, letters or reference not A/C/G/T). A
    site without ALT has exactly one outcome, MISSING_ALT.
    """

    outcomes: tuple[Allele | Refusal, ...]
    ref_matches: bool | None


def normalise(reference: ReferenceGenome, contig: str, start: int, ref: str, alt: str) -> Allele:
    """The one spelling that all equivalent spellings share, as ``bcftools norm`` gives it after splitting.

    ``start`` is 0-based, ``contig`` the reference's own name, ``ref`` is taken to equal the reference (see
    :func:`judge`). Substitutions are trimmed and not decomposed. Insertions and deletions move left as far as they can::

        reference  G C A C A C T      ref CAC alt C at 3   =   ref GCA alt G at 0

    Raises:
        InputError: the base that must anchor the allele is unknown (N).
        ValueError: ``ref`` equals ``alt``, letters other than A/C/G/T, or the deletion of a whole contig.
    """
    ref, alt = ref.upper(), alt.upper()
    if len(ref) == 1 == len(alt):
        return Allele(contig, start, ref, alt)
    start, ref, alt = trim(start, ref, alt)
    if ref and alt:
        return Allele(contig, start, ref, alt)
    event = ref or alt
    shift = _left_shift(reference, contig, start, event)
    start, turn = start - shift, -shift % len(event)
    event = event[turn:] + event[:turn]
    ref, alt = (event, "") if ref else ("", event)
    if start > 0:
        anchor = reference.fetch(contig, start - 1, start)
        start, ref, alt = start - 1, anchor + ref, anchor + alt
    else:
        if len(ref) >= reference.length(contig):
            raise ValueError(f"{contig}:1: the deletion of a whole contig has no anchor base")
        anchor = reference.fetch(contig, len(ref), len(ref) + 1)
        ref, alt = ref + anchor, alt + anchor
    if not _BASES(anchor):
        raise InputError(f"the base beside the left-aligned change at {contig}:{start + 1} is {anchor} in the reference")
    return Allele(contig, start, ref, alt)


def judge(
    reference: ReferenceGenome, name: str, start: int, ref: str, alts: tuple[str, ...], window: int = DEFAULT_WINDOW
) -> Verdict:
    """Normalise every ALT of a site, or say why not.

    ``name`` is the input's contig name, ``start`` its 0-based position, ``window`` the bases of context that scoring
    reads around an allele. What an ALT is by its own form is told first, then what is wrong with the site.
    """
    site = site_refusal(reference, name, start, ref)
    refused, matches = site if site is not None else (None, True)
    if not alts:
        return Verdict((Refusal(Reason.MISSING_ALT, "the record has no ALT allele"),), matches)
    contig = reference.resolve(name) or name
    outcomes = tuple(
        form_refusal(alt) or refused or _judge_alt(reference, contig, start, ref.upper(), alt.upper(), window)
        for alt in alts
    )
    return Verdict(outcomes, matches)


def form_refusal(alt: str) -> Refusal | None:
    """What the form of an ALT alone says against it: it gives no sequence. None for letters."""
    if alt.isalpha():
        return None
    if alt in (".", ""):
        return Refusal(Reason.MISSING_ALT, "ALT is .")
    if alt == "*":
        return Refusal(Reason.SPANNING_DELETION, "ALT is *")
    if alt.upper() in ("<NON_REF>", "<*>", "<X>"):
        return Refusal(Reason.NON_REF, f"ALT is {alt}")
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return Refusal(Reason.BREAKEND, f"ALT is {_shown(alt)}")
    if alt.startswith("<"):
        return Refusal(Reason.SYMBOLIC, f"ALT is {_shown(alt)}")
    return None


def site_refusal(reference: ReferenceGenome, name: str, start: int, ref: str) -> tuple[Refusal, bool | None] | None:
    """What is wrong with contig, position or REF, and whether REF matches (None: cannot be said); None if all is well."""
    contig = reference.resolve(name)
    if contig is None:
        return Refusal(Reason.CONTIG_ABSENT, f"contig {name} is not in reference {reference.path.name}"), None
    length = reference.length(contig)
    if start < 0 or start + len(ref) > length:
        detail = f"REF covers {name}:{start + 1}-{start + len(ref)}, the contig ends at {length}"
        return Refusal(Reason.POSITION_OUT_OF_RANGE, detail), None
    if not _BASES(ref.upper()):
        return Refusal(Reason.IUPAC, f"REF is {_shown(ref)}"), None
    found = reference.fetch(contig, start, start + len(ref))
    if found == ref.upper():
        return None
    where = f"at {name}:{start + 1}"
    detail = f"VCF REF {_shown(ref)}, reference {_shown(found)} {where}"
    if any(mine != theirs and theirs in "ACGT" for mine, theirs in zip(ref.upper(), found, strict=True)):
        return Refusal(Reason.REF_MISMATCH, detail), False if _BASES(found) else None
    return Refusal(Reason.REFERENCE_N, detail), None


def _judge_alt(reference: ReferenceGenome, contig: str, start: int, ref: str, alt: str, window: int) -> Allele | Refusal:
    """The normalised allele of a site whose contig, position and REF are good."""
    if not _BASES(alt):
        return Refusal(Reason.IUPAC, f"ALT is {_shown(alt)}")
    if ref == alt:
        return Refusal(Reason.SAME_AS_REF, f"REF and ALT are both {_shown(ref)}")
    _, short_ref, short_alt = trim(start, ref, alt)
    if max(len(short_ref), len(short_alt)) > window // 4:
        detail = f"{len(short_ref)} bp become {len(short_alt)} bp, the limit is {window // 4} bp"
        return Refusal(Reason.TOO_LONG, detail)
    try:
        allele = normalise(reference, contig, start, ref, alt)
    except InputError as error:
        return Refusal(Reason.REFERENCE_N, str(error))
    left, right = window_bounds(allele.start, allele.end, window, reference.length(contig))
    context = reference.fetch(contig, left, right)
    unknown = len(context) - sum(map(context.count, "ACGT"))
    if 2 * unknown > len(context):
        return Refusal(Reason.NO_CONTEXT, f"{unknown} of the {len(context)} bases of the window are unknown (N)")
    return allele


def trim(start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Start, ref and alt without shared suffix, then without shared prefix; either allele may become empty."""
    suffix = 0
    while suffix < min(len(ref), len(alt)) and ref[-1 - suffix] == alt[-1 - suffix]:
        suffix += 1
    ref, alt = ref[: len(ref) - suffix], alt[: len(alt) - suffix]
    prefix = 0
    while prefix < min(len(ref), len(alt)) and ref[prefix] == alt[prefix]:
        prefix += 1
    return start + prefix, ref[prefix:], alt[prefix:]


def _left_shift(reference: ReferenceGenome, contig: str, start: int, event: str) -> int:
    """How many bases an inserted or deleted ``event`` at ``start`` can move left without changing the result.

    Moving by one is possible where the base before equals the last base of the event, which then becomes its first.
    """
    shift = 0
    while shift < start:
        chunk_start = max(0, start - shift - _SHIFT_CHUNK)
        for base in reversed(reference.fetch(contig, chunk_start, start - shift)):
            if base != event[-1 - shift % len(event)]:
                return shift
            shift += 1
    return shift


def _shown(bases: str) -> str:
    return bases if len(bases) <= _SHOWN_BASES else f"{bases[:_SHOWN_BASES]}...({len(bases)} bp)"
