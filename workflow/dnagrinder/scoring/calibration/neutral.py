"""Correction for neutral context: the mean score of a change in its pentanucleotide at sites without selection.

A model of sequence knows mutation rates (CpG above all) as well as constraint. Subtracting what it says of the same change
in the same five bases at neutral sites leaves the constraint (GPN-Star's calibrated log-likelihood ratio). Scores are means
over both strands, so a context and its reverse complement are one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from dnagrinder.errors import BuildMismatchError, InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.sequence import reverse_complement

FLANK = 2
WEIGHT = 10.0  # sites that the mean of the next shorter context counts for


@dataclass(frozen=True)
class NeutralMeans:
    """Mean score at neutral sites of every change in every pentanucleotide.

    Attributes:
        means: ``ACGTA>C`` (five bases, ALT of the middle one) -> score, natural log; all 1,536 up to reverse complement.
        sites: number of scored changes behind them.

    Raises:
        InputError: a context is missing, unknown, or its mean no number.
    """

    means: Mapping[str, float]
    sites: int

    def __post_init__(self) -> None:
        if set(self.means) != set(all_contexts()) or not np.isfinite(list(self.means.values())).all() or self.sites < 1:
            raise InputError(
                f"neutral means: {len(self.means)} contexts over {self.sites} sites, expected a number for each of the "
                f"{len(all_contexts())} pentanucleotide changes"
            )

    def of(self, pentanucleotide: str, alt: str) -> float:
        """The mean for ``alt`` at the middle of five bases A/C/G/T."""
        return self.means[context_key(pentanucleotide, alt)]


@dataclass(frozen=True)
class NeutralCorrection:
    """Neutral means together with the reference that the contexts are read from."""

    means: NeutralMeans
    reference: ReferenceGenome

    def shift(self, name: str, start: int, ref: str, alt: str) -> float | None:
        """What to subtract from the score of a single-base change; None where its five bases are not all known.

        ``name`` is the input's contig name, ``start`` 0-based.

        Raises:
            BuildMismatchError: ``ref`` differs from the reference, or the contig is absent.
        """
        context = pentanucleotide(self.reference, name, start, ref)
        return None if context is None else self.means.of(context, alt)


def neutral_means(changes: Iterable[tuple[str, str, float]]) -> NeutralMeans:
    """Means over (pentanucleotide, alt, score) of neutral sites.

    A mean over n sites is drawn towards that of the trinucleotide with the weight of 10 sites, this towards the mean of the
    substitution, and this towards the mean of all, so that rare contexts have a sensible value and common ones their own.

    Raises:
        InputError: no change given.
    """
    keys: list[str] = []
    scores: list[float] = []
    for pentanucleotide, alt, score in changes:
        keys.append(context_key(pentanucleotide, alt))
        scores.append(score)
    if not scores:
        raise InputError("neutral sites: no scored single-base change lies on them")
    overall = float(np.mean(scores))
    substitutions = _towards([key[2] + key[5:] for key in keys], scores, lambda _: overall)
    triples = _towards([key[1:4] + key[5:] for key in keys], scores, lambda key: substitutions[key[1] + key[3:]])
    fives = _towards(keys, scores, lambda key: _shorter(key, triples, substitutions, overall))
    means = {key: fives.get(key, _shorter(key, triples, substitutions, overall)) for key in all_contexts()}
    return NeutralMeans(means, len(scores))


def pentanucleotide(reference: ReferenceGenome, name: str, start: int, ref: str) -> str | None:
    """The five bases around 0-based ``start``, whose middle is ``ref``; None at a contig's end or beside an unknown base.

    Raises:
        BuildMismatchError: ``ref`` differs from the reference, or it has no contig called ``name``.
    """
    contig = reference.resolve(name)
    found = reference.fetch(contig, start, start + 1) if contig and start < reference.length(contig) else "no base"
    if contig is None or found != ref:
        raise BuildMismatchError(
            f"{name}:{start + 1}: REF of the scored VCF is {ref}, reference {reference.path.name} has {found}; give the "
            "FASTA that the variants were scored with"
        )
    if start < FLANK or start + FLANK >= reference.length(contig):
        return None
    bases = reference.fetch(contig, start - FLANK, start + FLANK + 1)
    return bases if set(bases) <= set("ACGT") else None


def context_key(pentanucleotide: str, alt: str) -> str:
    """``ACGTA>C`` or its reverse complement, whichever has A or C in the middle."""
    if pentanucleotide[FLANK] in "GT":
        pentanucleotide, alt = reverse_complement(pentanucleotide), reverse_complement(alt)
    return f"{pentanucleotide}>{alt}"


def all_contexts() -> list[str]:
    """The 1,536 keys."""
    fives = ("".join(bases) for bases in product("ACGT", "ACGT", "AC", "ACGT", "ACGT"))
    return [f"{five}>{alt}" for five in fives for alt in "ACGT" if alt != five[FLANK]]


def _shorter(key: str, triples: Mapping[str, float], substitutions: Mapping[str, float], overall: float) -> float:
    """The mean of a pentanucleotide change's trinucleotide or, where none was seen, of its substitution."""
    return triples.get(key[1:4] + key[5:], substitutions.get(key[2] + key[5:], overall))


def _towards(keys: Sequence[str], scores: Sequence[float], parent: Callable[[str], float]) -> dict[str, float]:
    """Mean of ``scores`` for each key, drawn towards its ``parent``."""
    names, place = np.unique(np.array(keys), return_inverse=True)
    sums, numbers = np.bincount(place, weights=scores), np.bincount(place)
    return {
        name: float((total + WEIGHT * parent(name)) / (number + WEIGHT))
        for name, total, number in zip(names.tolist(), sums, numbers, strict=True)
    }
