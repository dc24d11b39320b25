"""Two questions about real variation, asked without any training on it.

*Invariant bases*: where no variant is known, does the model give the reference base more probability than a random other
base? *Common variants*: does it expect a common ALT more than the same change, in the same trinucleotide, where nothing is
known to vary? The match takes mutation rate and nearest-neighbour effects (CpG above all) out of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pysam
from numpy.typing import NDArray

from dnagrinder.errors import BuildMismatchError, InputError
from dnagrinder.evaluation.sites import CODE, SURROUNDINGS, Place
from dnagrinder.evaluation.statistics import mean, paired_auroc
from dnagrinder.genome.files import existing_file
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.scoring.snv import Site

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A single-base change: position (0-based), reference and alternative base code 0-3."""

    start: int
    ref: int
    alt: int


@dataclass(frozen=True)
class Questions:
    """What the model is asked; all changes lie on ``contig``.

    Attributes:
        invariant: bases without known variant, each with a random other base.
        common: common single-nucleotide variants.
        matched: for each of them the same change in the same trinucleotide at an invariant base.
        records: records of the VCF in the interval.
        available: common single-nucleotide variants in the interval, of which ``common`` is a sample.
    """

    contig: str
    invariant: tuple[Change, ...]
    common: tuple[Change, ...]
    matched: tuple[Change, ...]
    records: int
    available: int

    @property
    def sites(self) -> list[Site]:
        """Sites of all changes: invariant, common, matched."""
        return [Site(self.contig, change.start) for change in (*self.invariant, *self.common, *self.matched)]


def ask(
    reference: ReferenceGenome, vcf: Path, place: Place, frequency: float, count: int, generator: np.random.Generator
) -> Questions:
    """Draw up to ``count`` invariant bases and as many common variants with their matches within ``place``.

    A base is invariant where no record's REF reaches it; of a symbolic record only its first bases count. A variant is
    common with AF of at least ``frequency``; records with several ALTs are passed over.

    Raises:
        InputError: the VCF cannot be read, has no AF, or has no common variant here.
        BuildMismatchError: a REF differs from the reference.
    """
    contig, start, end = place
    bases = CODE[np.frombuffer(reference.fetch(contig, start, end).encode("ascii"), dtype=np.uint8)]
    varying, common, records = _variants(reference, vcf, place, frequency, bases)
    usable = _known_surroundings(bases)
    common = [change for change in common if usable[change.start - start]]
    if not common:
        raise InputError(f"VCF {vcf}: no variant with AF of at least {frequency:g} in {contig}:{start}-{end}")
    free = np.flatnonzero(usable & ~varying)
    chosen = generator.choice(free, min(count, free.size), replace=False)
    others = (bases[chosen] + generator.integers(1, 4, chosen.size)) % 4
    invariant = [Change(start + int(at), int(bases[at]), int(other)) for at, other in zip(chosen, others, strict=True)]
    order = generator.permutation(len(common))[:count]
    pairs = _matches([common[index] for index in order], bases, start, free, generator)
    return Questions(
        contig, tuple(invariant), tuple(one for one, _ in pairs), tuple(other for _, other in pairs), records, len(common)
    )


def answer(questions: Questions, log_probs: Mapping[str, Values], seed: int) -> dict[str, Any]:
    """AUROC of every predictor for both questions; ``log_probs`` are (n, 4) over ``questions.sites``."""
    changes = (*questions.invariant, *questions.common, *questions.matched)
    ref, alt = (np.array([getattr(change, name) for change in changes]) for name in ("ref", "alt"))
    rows, first = np.arange(len(changes)), len(questions.invariant)
    pairs = len(questions.common)
    invariant, common = {}, {}
    for name, values in log_probs.items():
        p_ref, p_alt = values[rows, ref], values[rows, alt]
        invariant[name] = {
            "auroc": asdict(paired_auroc(p_ref[:first], p_alt[:first], seed)),
            "preferred": asdict(mean(_wins(p_ref[:first], p_alt[:first]), np.arange(first), seed)),
        }
        ratios = (p_alt - p_ref)[first:]
        common[name] = {
            "auroc": asdict(paired_auroc(ratios[:pairs], ratios[pairs:], seed)),
            "preferred": asdict(mean(_wins(ratios[:pairs], ratios[pairs:]), np.arange(pairs), seed)),
        }
    return {
        "records": questions.records,
        "invariant": {"bases": first, "predictors": invariant},
        "common": {"pairs": pairs, "available": questions.available, "predictors": common},
    }


def _wins(first: Values, second: Values) -> Values:
    """1 where ``first`` is larger, 1/2 where equal."""
    result: Values = (np.sign(first - second) + 1) / 2
    return result


def _variants(
    reference: ReferenceGenome, vcf: Path, place: Place, frequency: float, bases: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], list[Change], int]:
    """((length,) bases that a record's REF covers, common SNVs, number of records) of the interval."""
    contig, start, end = place
    varying = np.zeros(end - start, dtype=bool)
    common, records = [], 0
    try:
        with pysam.VariantFile(str(existing_file(vcf, "VCF"))) as handle:
            if "AF" not in handle.header.info:
                raise InputError(f"VCF {vcf} has no INFO/AF; the frequency of variants is needed")
            for record in handle:
                ref = (record.ref or "N").upper()
                if reference.resolve(record.contig) != contig or record.start >= end or record.start + len(ref) <= start:
                    continue
                records += 1
                varying[max(0, record.start - start) : record.start + len(ref) - start] = True
                alts = record.alts or ()
                if len(ref) != 1 or len(alts) != 1 or alts[0] not in tuple("ACGT") or record.start < start:
                    continue
                found = bases[record.start - start]
                if found != CODE[ord(ref)]:
                    raise BuildMismatchError(
                        f"VCF {vcf}: REF of {record.contig}:{record.pos} is {ref}, reference {reference.path.name} has "
                        f"{'ACGTN'[found]}; give the FASTA that the variants were called on"
                    )
                if _frequency(record.info.get("AF")) >= frequency:
                    common.append(Change(record.start, int(found), "ACGT".index(alts[0])))
    except (OSError, ValueError) as error:
        raise InputError(f"VCF {vcf} cannot be read: {error}") from error
    unique = {change.start: change for change in common}
    return varying, list(unique.values()), records


def _frequency(value: Any) -> float:
    """INFO/AF of a record with one ALT, whether the header says Number=A or 1; 0 where it is missing."""
    first = value[0] if isinstance(value, tuple) else value
    return 0.0 if first is None else float(first)


def _known_surroundings(bases: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(length,) whether a base lies in the interval with ``SURROUNDINGS`` known bases on both sides."""
    unknown = np.concatenate([[0], np.cumsum(bases == 4)])
    usable = np.zeros(bases.size, dtype=bool)
    width = 2 * SURROUNDINGS + 1
    usable[SURROUNDINGS : bases.size - SURROUNDINGS] = unknown[width:] == unknown[:-width]
    return usable


def _matches(
    changes: Sequence[Change],
    bases: NDArray[np.uint8],
    start: int,
    free: NDArray[np.int64],
    generator: np.random.Generator,
) -> list[tuple[Change, Change]]:
    """Each change with the same one at another base of ``free`` with equal neighbours; dropped where none is left."""
    codes = bases.astype(np.int64)
    triple = codes[free - 1] * 16 + codes[free] * 4 + codes[free + 1]
    waiting = {code: generator.permutation(free[triple == code]).tolist() for code in np.unique(triple).tolist()}
    pairs = []
    for change in changes:
        at = change.start - start
        candidates = waiting.get(int(codes[at - 1] * 16 + codes[at] * 4 + codes[at + 1]), [])
        if candidates:
            pairs.append((change, Change(start + int(candidates.pop()), change.ref, change.alt)))
    return pairs
