"""What annotators before us wrote into INFO: gene, consequence and clinical significance of one ALT allele."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ANN_COLUMNS = ("Allele", "Annotation", "Annotation_Impact", "Gene_Name")
_BCSQ_CONSEQUENCE, _BCSQ_GENE = 0, 1


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
        """Annotation of ``alts[index]``. Of several entries the first counts, which annotators list as the most severe.

        VEP (CSQ) comes before SnpEff (ANN), bcftools csq (BCSQ) and ClinVar's GENEINFO and MC.
        """
        gene = consequence = None
        clinical = _clinical_significance(info.get("CLNSIG"), len(alts), index, self.clnsig_per_allele)
        if "CSQ" in info and self.csq_columns:
            entry = _entry_of(info["CSQ"], self.csq_columns, _vep_alleles(ref, alts, index))
            gene, consequence = entry.get("SYMBOL") or entry.get("Gene"), entry.get("Consequence")
            clinical = clinical or entry.get("CLIN_SIG")
        if consequence is None and "ANN" in info:
            entry = _entry_of(info["ANN"], _ANN_COLUMNS, (alts[index],))
            gene, consequence = gene or entry.get("Gene_Name"), entry.get("Annotation")
        if consequence is None and "BCSQ" in info:
            gene_of_csq, consequence = _bcftools_csq(info["BCSQ"], position, ref, alts, index)
            gene = gene or gene_of_csq
        if consequence is None and "MC" in info:
            terms = (term.partition("|")[2] for term in info["MC"].split(","))
            consequence = "&".join(term for term in terms if term) or None
        return Annotation(gene or _gene_symbols(info), consequence, clinical)


def _entry_of(text: str, columns: Sequence[str], alleles: Sequence[str]) -> dict[str, str]:
    """The first ``|``-separated entry whose Allele is one of ``alleles``, as column -> non-empty value."""
    where = columns.index("Allele") if "Allele" in columns else 0
    for entry in text.split(","):
        values = entry.split("|")
        if len(values) > where and values[where] in alleles:
            return {column: value for column, value in zip(columns, values, strict=False) if value}
    return {}


def _vep_alleles(ref: str, alts: Sequence[str], index: int) -> tuple[str, str]:
    """How VEP may spell the ALT: as in the file, or without the first base where all alleles of an indel share it."""
    alt = alts[index]
    is_indel = any(len(other) != len(ref) for other in alts)
    if is_indel and all(other[:1] == ref[:1] for other in alts if other != "*"):
        return alt, alt[1:] or "-"
    return alt, alt


def _bcftools_csq(text: str, position: int, ref: str, alts: Sequence[str], index: int) -> tuple[str | None, str | None]:
    """Gene and consequence of a BCSQ entry: of the only ALT, or of the one its DNA change names."""
    change = f"{position}{ref}>{alts[index]}"
    for entry in text.split(","):
        values = entry.split("|")
        if len(values) > _BCSQ_GENE and (len(alts) == 1 or change in values[-1].split("+")):
            return values[_BCSQ_GENE] or None, values[_BCSQ_CONSEQUENCE].lstrip("*") or None
    return None, None


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
