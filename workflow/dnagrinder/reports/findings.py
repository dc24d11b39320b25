"""What a reader must know before the scores: warnings drawn from the counts, and what the model's card admits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.variants import Reason
from dnagrinder.reports.page import count, number, share, significant

#: Below this share of matching REF alleles the variants were likely called on another reference.
REF_MATCH_EXPECTED = 0.99
#: Above this share of alleles without a score a reader should look into the reasons.
REJECTED_TOLERATED = 0.10
#: Real genomes have about 2.0 to 2.1 transitions per transversion, exomes about 3; chance alone gives 0.5.
TS_TV_EXPECTED, TS_TV_SNVS_NEEDED = 1.5, 200
#: AC/AN of at most ten called people takes few values, none below one copy in 20; population frequencies take hundreds.
AF_VALUES_OF_FEW, AF_LOWEST_OF_FEW, AF_STATED_NEEDED = 20, 1 / 20, 200
#: A genome has about 60 new alleles among 4 million, and calling errors some thousands; strangers give a third.
NEW_TOLERATED, JUDGED_NEEDED = 0.02, 100

BASELINES = (
    ("uniform", "Uniform: every base equally likely"),
    ("order0", "Base composition only (Markov order 0)"),
    ("order5", "The 5 bases before (Markov order 5)"),
    ("order11", "The 11 bases before (Markov order 11)"),
    ("order16", "The 16 bases before (Markov order 16)"),
    ("two_sided", "The 6 bases before and the 6 after"),
)


@dataclass(frozen=True)
class Finding:
    """A finding that limits what the page can be trusted for."""

    title: str
    text: str


@dataclass(frozen=True)
class Predictor:
    """How well one predictor knows held-out bases: ``nats`` per base; ``probability`` is exp(-nats)."""

    label: str
    nats: float
    is_model: bool

    @property
    def probability(self) -> float:
        """Geometric mean of the probability given to the true base."""
        return math.exp(-self.nats)


def sample_warnings(summary: Mapping[str, Any]) -> list[Finding]:
    """What is doubtful about one sample's input; ``summary`` is its sample.json."""
    return [Finding(title, text) for title, text in _sample_findings(summary)]


def _sample_findings(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    checked, matched = summary["ref_checked"], summary["ref_matched"]
    if checked and matched < REF_MATCH_EXPECTED * checked:
        yield (
            f"Only {share(matched, checked)} of REF alleles equal the reference",
            f"{count(matched)} of {count(checked)} records compared. The variants may have been called on another "
            "reference; those that differ were not scored, the others may lie at wrong places.",
        )
    alleles_in, rejected = summary["alleles_in"], summary["rejected"]
    if not alleles_in:
        yield "The sample has no alternative allele", "Nothing could be scored; check that this is the intended sample."
    elif rejected == alleles_in:
        yield "No allele was scored", f"All {count(rejected)} alleles were set aside; see the reasons below."
    elif rejected > REJECTED_TOLERATED * alleles_in:
        commonest = sorted(summary["rejected_by_reason"].items(), key=lambda item: (-item[1], item[0]))[:3]
        reasons = "; ".join(f"{reason_text(code)} ({count(times)})" for code, times in commonest)
        yield f"{share(rejected, alleles_in)} of the alleles were not scored", f"Commonest reasons: {reasons}."
    snvs = summary["transitions"] + summary["transversions"]
    ratio = ts_tv(summary)
    if snvs >= TS_TV_SNVS_NEEDED and ratio is not None and ratio < TS_TV_EXPECTED:
        yield (
            f"Transition/transversion ratio is {number(ratio)}",
            "Human genomes have about 2, exomes about 3; a lower value suggests false variant calls in the input.",
        )


def frequency_warnings(af: NDArray[np.float64], max_af: float | None) -> list[Finding]:
    """Whether ``max_af`` removes every allele of the sample that states an AF, and these look like AC/AN of few people.

    ``af`` is NaN where none is stated.
    """
    stated = af[~np.isnan(af)]
    if max_af is None or len(stated) < AF_STATED_NEEDED:
        return []
    values = np.unique(stated)
    if values[0] <= max_af or values[0] < AF_LOWEST_OF_FEW or len(values) > AF_VALUES_OF_FEW:
        return []
    text = (
        f"The lowest INFO/AF of {count(len(stated))} alleles is {significant(values[0])}, and there are only "
        f"{count(len(values))} different values: the AC/AN of few people called together, it seems, not a population's "
        "frequency. Annotate AF from a population first, or set no limit."
    )
    return [Finding("The limit on AF removes every allele that states one", text)]


def family_warnings(family: Mapping[str, Any]) -> list[Finding]:
    """Whether the named parents can be the parents; ``family`` is the content of family.json."""
    new = family["origins"]["de_novo"]
    judged = new + family["origins"]["inherited"]
    if judged < JUDGED_NEEDED or new <= NEW_TOLERATED * judged:
        return []
    text = (
        f"{count(new)} of {count(judged)} alleles that could be judged. A child has some tens of new ones in its genome: "
        "samples may be swapped, the named parents may not be the parents, or the calls differ in kind."
    )
    return [Finding(f"{share(new, judged)} of the alleles would be new in family {family['family']}", text)]


def model_warnings(card: Mapping[str, Any]) -> list[Finding]:
    """What the card's own numbers say against relying on the model."""
    nats = _nats(card)
    if "model" not in nats:
        return [Finding("The model's quality was not measured", "Its card holds no cross-entropy on held-out bases.")]
    if "order5" in nats and nats["model"] >= nats["order5"]:
        text = (
            f"On held-out bases it is no better than counting 6-base words ({number(nats['model'], 3)} against "
            f"{number(nats['order5'], 3)} nats per base; lower is better)."
        )
        return [Finding("This model knows little about DNA", text)]
    return []


def predictors(card: Mapping[str, Any]) -> list[Predictor]:
    """The model and the baselines measured on the same bases, best first."""
    nats = _nats(card)
    rows = [Predictor(label, nats[name], False) for name, label in BASELINES if name in nats]
    if "model" in nats:
        rows.append(Predictor(f"This model ({card['name']})", nats["model"], True))
    return sorted(rows, key=lambda row: row.nats)


def ts_tv(summary: Mapping[str, Any]) -> float | None:
    """Transitions per transversion; None without transversions."""
    return summary["transitions"] / summary["transversions"] if summary["transversions"] else None


def het_hom(summary: Mapping[str, Any]) -> float | None:
    """Heterozygous per homozygous ALT alleles; None without the latter."""
    return summary["heterozygous"] / summary["homozygous_alt"] if summary["homozygous_alt"] else None


def reason_text(code: str) -> str:
    """The description of a reason code; the code itself where this version does not know it."""
    return Reason[code].description if code in Reason.__members__ else code


def _nats(card: Mapping[str, Any]) -> dict[str, float]:
    stated = card.get("metrics", {}).get("scoring_cross_entropy_nats", {})
    return {name: float(stated[name]) for name in ("model", *(name for name, _ in BASELINES)) if name in stated}
