"""What annotators before us wrote into INFO: gene, consequence and clinical significance of one ALT allele."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Columns of SnpEff and bcftools csq, by the names that VEP has for the same.
_ANN_COLUMNS = ("Allele", "Consequence", "IMPACT", "SYMBOL", "Gene", "Feature_type", "Feature", "BIOTYPE")
_BCSQ_COLUMNS = ("Consequence", "SYMBOL", "Feature", "BIOTYPE")
_OF_TRANSCRIPT = ("PICK", "MANE_SELECT", "MANE_PLUS_CLINICAL", "CANONICAL", "BIOTYPE")
_USED = frozenset(("Consequence", "IMPACT", "SYMBOL", "Gene", "CLIN_SIG", *_OF_TRANSCRIPT))

#: Terms of Sequence Ontology as :func:`plain_term` has them, most severe first, those of a line alike. The order is that of
#: Ensembl's table of calculated consequences; terms that Ensembl's code gives one rank share a line. Terms that only SnpEff,
#: bcftools csq, ClinVar or old releases use stand beside the Ensembl term they are a kind of; SnpEff's notes on protein
#: features, which come beside a consequence of the transcript, are last. Capitals: where unknown terms of an IMPACT rank.
_SEVERITY = (
    "transcript_ablation exon_loss",
    "splice_acceptor splice_donor",
    "stop_gained nonsense",
    "frameshift",
    "stop_lost",
    "start_lost initiator_codon",
    "transcript_amplification",
    "feature_elongation",
    "feature_truncation",
    "HIGH",
    "inframe_insertion conservative_inframe_insertion disruptive_inframe_insertion",
    "inframe_deletion conservative_inframe_deletion disruptive_inframe_deletion inframe_altering inframe_indel",
    "missense protein_altering rare_amino_acid",
    "MODERATE",
    "splice_donor_5th_base",
    "splice_region exonic_splice_region intronic_splice_region",
    "splice_donor_region",
    "splice_polypyrimidine_tract",
    "incomplete_terminal_codon",
    "synonymous stop_retained start_retained non_canonical_start_codon",
    "LOW",
    "coding_sequence",
    "mature_mirna",
    "5_prime_utr_premature_start_codon_gain",
    "5_prime_utr",
    "3_prime_utr",
    "non_coding_transcript_exon non_coding_exon",
    "intron conserved_intron",
    "nmd_transcript",
    "non_coding_transcript nc_transcript non_coding",
    "coding_transcript intragenic",
    "upstream_gene genic_upstream_transcript",
    "downstream_gene genic_downstream_transcript",
    "tfbs_ablation",
    "tfbs_amplification",
    "tf_binding_site",
    "regulatory_region_ablation",
    "regulatory_region_amplification",
    "regulatory_region",
    "intergenic intergenic_region conserved_intergenic",
    "sequence",
    "structural_interaction protein_protein_contact sequence_feature",
    "MODIFIER",
)
_RANKS = {term: rank for rank, line in enumerate(_SEVERITY) for term in line.split()}
#: Ranks of what tells of no gene that the allele lies in, or nothing of its transcripts.
_OUTSIDE = range(_RANKS["upstream_gene"], _RANKS["MODIFIER"])


@dataclass(frozen=True, slots=True)
class Annotation:
    """Gene symbol(s), consequence and clinical significance as the input states them; None where it does not."""

    gene: str | None = None
    consequence: str | None = None
    clinical_significance: str | None = None


NOTHING = Annotation()


@dataclass(frozen=True)
class Annotator:
    """Reads annotations from INFO; ``csq_columns`` are the names in VEP's header (``Format: Allele|Consequence|...``)."""

    csq_columns: tuple[str, ...] = ()
    clnsig_per_allele: bool = False

    @classmethod
    def from_header(cls, csq_description: str | None, clnsig_number: str | None) -> Annotator:
        """From the header's Description of CSQ and Number of CLNSIG (None where not declared)."""
        columns = (csq_description or "").partition("Format:")[2].strip(' "').split("|")
        return cls(tuple(column.strip() for column in columns) if len(columns) > 1 else (), clnsig_number == "A")

    def read(self, info: Mapping[str, str], position: int, ref: str, alts: Sequence[str], index: int) -> Annotation:
        """Annotation of ``alts[index]``; of several entries the one that :func:`_precedence` puts first.

        VEP (CSQ) comes before SnpEff (ANN), bcftools csq (BCSQ) and ClinVar's GENEINFO and MC, which names all terms.
        """
        chosen = min(self._entries(info, position, ref, alts, index), key=_precedence, default={})
        return Annotation(
            _gene(chosen) or _gene_symbols(info),
            chosen.get("Consequence") or _molecular_consequence(info),
            _clinical_significance(info.get("CLNSIG"), len(alts), index, self.clnsig_per_allele) or chosen.get("CLIN_SIG"),
        )

    def consequences_by_gene(
        self, info: Mapping[str, str], position: int, ref: str, alts: Sequence[str], index: int
    ) -> dict[str, str]:
        """Every gene within which ``alts[index]`` lies by its entries, with the consequence of the entry to choose there.

        Entries that say upstream, downstream, intergenic or regulatory, or name a protein feature alone, do not count.
        """
        found: dict[str, str] = {}
        for entry in sorted(self._entries(info, position, ref, alts, index), key=_precedence):
            gene, consequence = _gene(entry), entry.get("Consequence")
            if gene and consequence and severity(consequence, entry.get("IMPACT")) not in _OUTSIDE:
                found.setdefault(gene, consequence)
        return found

    def _entries(
        self, info: Mapping[str, str], position: int, ref: str, alts: Sequence[str], index: int
    ) -> list[dict[str, str]]:
        """Entries of the allele from the first annotator that states a consequence, else from the first with any entry."""
        first: list[dict[str, str]] = []
        for tag, columns, alleles in (
            ("CSQ", self.csq_columns, _vep_alleles(ref, alts, index)),
            ("ANN", _ANN_COLUMNS, (alts[index],)),
        ):
            entries = _entries_of(info[tag], columns, alleles) if tag in info and columns else []
            if any("Consequence" in entry for entry in entries):
                return entries
            first = first or entries
        return (_bcftools_csq(info["BCSQ"], position, ref, alts, index) if "BCSQ" in info else []) or first


def plain_term(term: str) -> str:
    """A term of Sequence Ontology in lower case and without ``_variant``, in which annotators differ."""
    return term.strip().lower().replace("-", "_").removesuffix("_variant")


@lru_cache(maxsize=4096)
def severity(consequence: str, impact: str | None = None) -> int:
    """Rank of an entry by the most severe of its terms, 0 the most severe; where no term is known, by ``impact``.

    As in Ensembl's ``most_severe_consequence`` the term alone counts, not the transcript: a frameshift counts as one in a
    transcript subject to nonsense-mediated decay too. Without impact an unknown term ranks as a MODIFIER.
    """
    known = [_RANKS[term] for term in map(plain_term, consequence.split("&")) if term in _RANKS]
    return min(known) if known else _RANKS.get(impact or "", _RANKS["MODIFIER"])


def _precedence(entry: Mapping[str, str]) -> tuple[bool | int, ...]:
    """Which of an allele's entries to take: the least. VEP does not list them by severity, nor does bcftools csq.

    First what the annotator picked (VEP's PICK), then the most severe; among equals the transcript of MANE Select, of MANE
    Plus Clinical, the canonical one, a protein-coding one, else the first in the file.
    """
    return (
        entry.get("PICK") != "1",
        severity(entry.get("Consequence", ""), entry.get("IMPACT")),
        "MANE_SELECT" not in entry,
        "MANE_PLUS_CLINICAL" not in entry,
        entry.get("CANONICAL") != "YES",
        entry.get("BIOTYPE") != "protein_coding",
    )


def _gene(entry: Mapping[str, str]) -> str | None:
    return entry.get("SYMBOL") or entry.get("Gene")


def _entries_of(text: str, columns: tuple[str, ...], alleles: Sequence[str]) -> list[dict[str, str]]:
    """The ``|``-separated entries whose Allele is one of ``alleles``, as column -> non-empty value of the columns used."""
    where = columns.index("Allele") if "Allele" in columns else 0
    entries = (entry.split("|") for entry in text.split(","))
    return [_used(values, columns) for values in entries if len(values) > where and values[where] in alleles]


def _used(values: Sequence[str], columns: tuple[str, ...]) -> dict[str, str]:
    return {name: values[place] for place, name in _places(columns) if place < len(values) and values[place]}


@lru_cache
def _places(columns: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """Place and name of the columns used."""
    return tuple((place, name) for place, name in enumerate(columns) if name in _USED)


def _vep_alleles(ref: str, alts: Sequence[str], index: int) -> tuple[str, str]:
    """How VEP may spell the ALT: as in the file, or without the first base where all alleles of an indel share it."""
    alt = alts[index]
    is_indel = any(len(other) != len(ref) for other in alts)
    if is_indel and all(other[:1] == ref[:1] for other in alts if other != "*"):
        return alt, alt[1:] or "-"
    return alt, alt


def _bcftools_csq(text: str, position: int, ref: str, alts: Sequence[str], index: int) -> list[dict[str, str]]:
    """Entries of BCSQ: those of the only ALT, or those whose DNA change names it; ``*`` (behind a stop) is left out."""
    change = f"{position}{ref}>{alts[index]}"
    entries = (entry.lstrip("*").split("|") for entry in text.split(","))
    return [
        _used(values, _BCSQ_COLUMNS)
        for values in entries
        if len(values) > 1 and (len(alts) == 1 or change in values[-1].split("+"))
    ]


def _molecular_consequence(info: Mapping[str, str]) -> str | None:
    """Terms of ClinVar's MC (``SO:0001587|nonsense,SO:0001627|intron_variant`` -> ``nonsense&intron_variant``)."""
    terms = (term.partition("|")[2] for term in info.get("MC", "").split(","))
    return "&".join(term for term in terms if term) or None


def _gene_symbols(info: Mapping[str, str]) -> str | None:
    """Symbols of GENEINFO (``BRCA1:672|NBR2:10230`` -> ``BRCA1,NBR2``) or the text of GENE."""
    if "GENEINFO" in info:
        return ",".join(gene.partition(":")[0] for gene in info["GENEINFO"].split("|")) or None
    return info.get("GENE") or None


def _clinical_significance(text: str | None, alts: int, index: int, per_allele: bool) -> str | None:
    values = (text or "").split(",")
    if per_allele and len(values) == alts:
        text = values[index]
    return None if text in (None, "", ".") else text
