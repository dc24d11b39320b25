"""Consequence classes: scores of different classes are not comparable, so each has thresholds of its own."""

from __future__ import annotations

from dnagrinder.genome.annotations import plain_term

LOSS_OF_FUNCTION = "loss_of_function"
UNANNOTATED = "unannotated"
OTHER = "other"

#: Most severe first; terms of Sequence Ontology without ``_variant``, with those of bcftools csq and ClinVar beside them.
CLASSES: dict[str, frozenset[str]] = {
    LOSS_OF_FUNCTION: frozenset(
        {
            "transcript_ablation",
            "splice_acceptor",
            "splice_donor",
            "stop_gained",
            "nonsense",
            "frameshift",
            "start_lost",
            "initiator_codon",
            "stop_lost",
        }
    ),
    "missense": frozenset({"missense"}),
    "splice_region": frozenset(
        {
            "splice_region",
            "splice_donor_5th_base",
            "splice_donor_region",
            "splice_polypyrimidine_tract",
            "exonic_splice_region",
            "intronic_splice_region",
        }
    ),
    "synonymous": frozenset({"synonymous", "stop_retained", "start_retained"}),
    "5_prime_utr": frozenset({"5_prime_utr", "5_prime_utr_premature_start_codon_gain"}),
    "3_prime_utr": frozenset({"3_prime_utr"}),
    "intron": frozenset({"intron"}),
    "non_coding_transcript": frozenset(
        {"non_coding_transcript", "non_coding_transcript_exon", "non_coding", "mature_mirna"}
    ),
    "intergenic": frozenset(
        {
            "upstream_gene",
            "downstream_gene",
            "genic_upstream_transcript",
            "genic_downstream_transcript",
            "intergenic",
            "intergenic_region",
            "regulatory_region",
            "tf_binding_site",
        }
    ),
}


def consequence_class(consequence: str | None) -> str:
    """The class of a consequence as VEP, SnpEff, bcftools csq or ClinVar state it; of several terms the most severe counts.

    ``unannotated`` where nothing is stated, ``other`` where no term is known.
    """
    if not consequence:
        return UNANNOTATED
    terms = {plain_term(term) for part in consequence.split("&") for term in part.split(",")}
    return next((name for name, members in CLASSES.items() if terms & members), OTHER)


def why_never(name: str) -> str | None:
    """Why alleles of a class get no PP3 or BP4 whatever their scores, or None."""
    if name == LOSS_OF_FUNCTION:
        return "PVS1, not PP3 or BP4, is the criterion for loss of function"
    if name == OTHER:
        return "variants of unlike consequences cannot share thresholds"
    return None
