"""A family's table: alleles of the proband that by genotype may be new, and genes hit on both copies.

Lists from genotypes, no diagnosis: a call that is wrong in one member makes a candidate or hides one. The proband's file is
read once more, since the tables hold carried alleles alone and cannot tell a parent's reference call from a missing one.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.annotations import Annotator
from dnagrinder.genome.files import written_aside
from dnagrinder.genome.inheritance import PARENTS, Call, Origin, has_two_copies, judge, passed_by, read_call, who_can_pass_on
from dnagrinder.genome.records import Record, info_fields
from dnagrinder.genome.tables import READ_AGAIN, same_spelling
from dnagrinder.genome.vcf import VcfFile
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.tables import read_summary, write_tsv
from dnagrinder.scoring.tables import ALLELE_COLUMNS, allele_keys, read_parquet

ROLES = ("proband", *PARENTS, "sibling", "other")
CANDIDATES, FAMILY = "candidates.tsv", "family.json"
#: Rows of each list that the page shows; the table of files holds all.
SHOWN = 100
#: What a row holds of its record, as the input has it.
_INPUT = ("alt_index", "input_contig", "input_position", "input_ref", "input_alt", "genotype")
_PIECE = 4096  # rows that are held as Python objects
_FACTS = ("gene", "consequence", "clinical_significance", "af", "score", "spread")
_SCHEMA = pa.schema(
    [
        ("list", pa.string()),  # de_novo or compound_het
        ("gene", pa.string()),
        ("contig", pa.string()),
        ("position", pa.int64()),  # 1-based
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("genotype", pa.string()),
        ("mother", pa.string()),  # GT in the proband's record; empty where the mother has no call there
        ("father", pa.string()),
        ("copy", pa.string()),  # compound_het: the copy the allele lies on
        ("evidence", pa.string()),
        ("also_carried_by", pa.string()),
        ("consequence", pa.string()),
        ("clinical_significance", pa.string()),
        ("af", pa.float64()),
        ("score", pa.float64()),
        ("spread", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Member:
    """One person: ``sex`` is male, female or None, ``phenotype`` affected, unaffected or None."""

    name: str
    role: str
    sex: str | None = None
    phenotype: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConfigError(f"{self.name}: role {self.role!r} is none of {', '.join(ROLES)}")


@dataclass(frozen=True, slots=True)
class _Hit:
    """A heterozygous allele of a gene: the parent it comes from and its copy (0 or 1) in a phase set; None where unknown.

    ``line`` states the consequence in that gene.
    """

    line: Mapping[str, Any]
    parent: str | None
    copy: int | None
    phase_set: str


@dataclass
class _Lists:
    """What one reading of the file found."""

    origins: Counter[Origin] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    de_novo: list[dict[str, Any]] = field(default_factory=list)
    by_gene: dict[str, list[_Hit]] = field(default_factory=lambda: defaultdict(list))


def write_family(
    family: str, members: Sequence[Member], *, vcf: Path, samples: Path, out_dir: Path, filters: Filters
) -> dict[str, Any]:
    """Write ``out_dir``/{candidates.tsv, family.json}.

    Args:
        members: one of them the proband, at most one mother and one father.
        vcf: the file of the proband's variants. samples: folder that holds each member's tables.
        filters: alleles that do not pass are not looked at.

    Returns:
        The content of family.json: family, members, sex, alleles, limited, rare, origins, reasons, totals, and the rows of
        both lists that a page shows (de_novo, compound_het).

    Raises:
        ConfigError: no or two probands, two mothers or fathers. InputError: a table or the file is missing or damaged, or
            the file is not that of the proband's tables.
    """
    proband = _by_role(members)["proband"]
    summary = read_summary(samples / proband.name)
    everything = read_parquet(samples / proband.name / "scores.parquet")
    table = everything.take(pa.array(filters.passing(everything)))
    if summary["column"] is None:
        lists = _Lists(
            Counter({Origin.CANNOT_TELL: len(table)}), Counter({"the proband's file has no genotypes": len(table)})
        )
    else:
        reader = _Reader(table, members, summary, samples, filters)
        reader.read(vcf)
        lists = reader.lists
    compound = [row for gene in sorted(lists.by_gene) for row in _both_copies(gene, lists.by_gene[gene])]
    de_novo = sorted(lists.de_novo, key=_by_score)
    content = {
        "family": family,
        "members": [_described(member, samples, summary["callset"]) for member in members],
        "sex": proband.sex,
        "alleles": len(table),
        "rare": filters.max_af is not None,
        "limited": filters.words(len(table), len(everything)),
        "origins": {origin.value: lists.origins[origin] for origin in Origin},
        "reasons": dict(sorted(lists.reasons.items())),
        "totals": {"de_novo": len(de_novo), "compound_het": len(compound), "genes": len({row["gene"] for row in compound})},
        "de_novo": de_novo[:SHOWN],
        "compound_het": compound[:SHOWN],
    }
    write_tsv(pa.Table.from_pylist([*de_novo, *compound], schema=_SCHEMA), out_dir / CANDIDATES)
    with written_aside(out_dir / FAMILY) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def _by_role(members: Sequence[Member]) -> dict[str, Member]:
    """The proband and the parents that there are."""
    for role in ("proband", *PARENTS):
        named = [member.name for member in members if member.role == role]
        if len(named) > 1 or (role == "proband" and not named):
            raise ConfigError(
                f"a family needs one proband and at most one mother and father; {role}: {', '.join(named) or 'none'}"
            )
    return {member.role: member for member in members if member.role in ("proband", *PARENTS)}


class _Reader:
    """Judges the rows of ``table`` (in file order) by the genotypes of their records; ``lists`` holds what it finds."""

    def __init__(
        self, table: pa.Table, members: Sequence[Member], summary: Mapping[str, Any], samples: Path, filters: Filters
    ) -> None:
        self.lists = _Lists()
        self._table, self._filters = table, filters
        self._by_role = _by_role(members)
        self._sex = self._by_role["proband"].sex
        self._columns, self._absent = _columns(self._by_role, summary, samples)
        self._carried = _carried(table, members, samples)

    def read(self, vcf: Path) -> None:
        """Go through ``vcf`` once. Raises InputError where it is not the file of the table."""
        records = self._table["record"].to_numpy()
        pieces = self._table.select(_INPUT).to_batches(_PIECE)
        rows = (row for piece in pieces for row in piece.to_pylist())
        row = 0
        with VcfFile(vcf, list(dict.fromkeys(self._columns.values()))) as file:
            places = {role: file.genotyped.index(column) for role, column in self._columns.items()}
            for record in file.records():
                while row < len(records) and records[row] == record.ordinal:
                    if not _was_made_from(next(rows), record, record.genotypes[places["proband"]]):
                        where = f"record {record.ordinal + 1} ({record.contig}:{record.position})"
                        raise InputError(
                            f"VCF {vcf}, {where}: the proband's tables were made from another file; {READ_AGAIN}"
                        )
                    self._judge(row, record, places, file.annotator)
                    row += 1
        if row < len(records):
            raise InputError(f"{vcf} has fewer records than the proband's tables; {READ_AGAIN}")

    def _judge(self, row: int, record: Record, places: Mapping[str, int], annotator: Annotator) -> None:
        """One allele by the GT texts of its record; keeps it where it may be new or may be one of two hits in a gene."""
        texts = {role: record.genotypes[place] for role, place in places.items()}
        contig, alt = self._table["contig"][row].as_py(), self._table["alt_index"][row].as_py()
        child = read_call(texts["proband"])
        parents: dict[str, Call | str] = {
            role: read_call(texts[role]) if role in texts else self._absent[role] for role in PARENTS
        }
        carriers = [name for name, has in self._carried.items() if has[row]]
        passing_on = frozenset(role for role in PARENTS if role in self._by_role and self._by_role[role].name in carriers)
        found = judge(contig, self._sex, child, alt, parents, passing_on)
        self.lists.origins[found.origin] += 1
        if found.reason:
            self.lists.reasons[found.reason] += 1
        is_new = found.origin is Origin.DE_NOVO
        if not is_new and not child.is_heterozygous(alt):
            return
        fact = self._table.slice(row, 1).to_pylist()[0]
        genes = _genes(fact, self._filters)
        line = {**_line(fact, texts, carriers), "gene": ",".join(genes) or None}
        if is_new:
            evidence = _why_new(who_can_pass_on(contig, self._sex, child, alt), child, alt, texts)
            self.lists.de_novo.append({**line, "list": "de_novo", "evidence": evidence})
        phase_set = record.phase_sets[places["proband"]] if record.phase_sets else "."
        hit = _Hit(line, passed_by(alt, child, parents, passing_on), child.copy_of(alt), phase_set)
        if child.is_heterozygous(alt) and has_two_copies(contig) and (hit.parent or hit.copy is not None):
            within = annotator.consequences_by_gene(
                info_fields(record.info), record.position, record.ref, record.alts, alt - 1
            )
            for gene, consequence in {**within, **dict.fromkeys(genes, fact["consequence"])}.items():
                self.lists.by_gene[gene].append(replace(hit, line={**line, "consequence": consequence}))


def _was_made_from(row: Mapping[str, Any], record: Record, genotype: str) -> bool:
    """Whether ``row`` of the proband's table was made from ``record``: same place, alleles and genotype (if it has one)."""
    return (
        (row["input_contig"], row["input_position"]) == (record.contig, record.position)
        and row["alt_index"] <= len(record.alts)
        and same_spelling(row["input_ref"], record.ref)
        and same_spelling(row["input_alt"], record.alts[row["alt_index"] - 1])
        and row["genotype"] in (None, genotype)
    )


def _columns(
    by_role: Mapping[str, Member], summary: Mapping[str, Any], samples: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Columns of the proband's file by role, and for the parents without one the reason."""
    columns, absent = {"proband": summary["column"]}, {}
    for role in PARENTS:
        if role not in by_role:
            absent[role] = f"the sheet names no {role}"
            continue
        theirs = read_summary(samples / by_role[role].name)
        if theirs["callset"] != summary["callset"]:
            absent[role] = f"the {role}'s calls are in another file, in which a missing call looks like a reference call"
        else:
            columns[role] = theirs["column"]
    return columns, absent


def _carried(table: pa.Table, members: Sequence[Member], samples: Path) -> dict[str, np.ndarray]:
    """For every member but the proband whether it carries the allele of each row, under whatever record."""
    keys = allele_keys(table)
    carried = {}
    for member in members:
        if member.role != "proband":
            theirs = read_parquet(samples / member.name / "scores.parquet", [*ALLELE_COLUMNS, "copies"])
            held = allele_keys(theirs.filter(pc.greater(theirs["copies"], 0)))
            carried[member.name] = pc.is_in(keys, value_set=held).to_numpy(zero_copy_only=False)
    return carried


def _line(fact: Mapping[str, Any], texts: Mapping[str, str], carriers: Sequence[str]) -> dict[str, Any]:
    return {
        **{name: fact[name] for name in ("contig", "ref", "alt", *_FACTS)},
        "position": fact["start"] + 1,
        "genotype": texts["proband"],
        **{role: texts.get(role) for role in PARENTS},
        "also_carried_by": ",".join(carriers) or None,
    }


def _why_new(asked: tuple[str, ...] | str, child: Call, alt: int, texts: Mapping[str, str]) -> str:
    said = ", ".join(f"{role} {texts[role]}" for role in PARENTS if role in asked)
    two_events = asked == PARENTS and not child.is_heterozygous(alt)
    return f"{said}; homozygous, which two parents without it hardly give: look at the calls" if two_events else said


def _genes(fact: Mapping[str, Any], filters: Filters) -> list[str]:
    """Genes by the input's annotation, else by the names of the panel's regions."""
    text = fact["gene"] or filters.genes(fact) or ""
    return list(dict.fromkeys(name for name in re.split(r"[,&|;]", text) if name))


def _both_copies(gene: str, hits: Sequence[_Hit]) -> list[dict[str, Any]]:
    """Rows of the gene's alleles if some lie on each copy: one from each parent, or phased apart in one phase set."""
    by_parent = [(hit, hit.parent) for hit in hits if hit.parent]
    if _lie_on_both(by_parent):
        return _rows(gene, by_parent, "one from each parent")
    sets: dict[tuple[str, str], list[tuple[_Hit, str]]] = defaultdict(list)
    for hit in hits:
        if hit.copy is not None:
            sets[hit.line["contig"], hit.phase_set].append((hit, f"copy {hit.copy + 1}"))
    rows = []
    for (_, name), phased in sorted(sets.items()):
        if _lie_on_both(phased):
            rows += _rows(gene, phased, "phased apart" + (f", phase set {name}" if name != "." else ""))
    return rows


def _lie_on_both(hits: Sequence[tuple[_Hit, str]]) -> bool:
    """Whether two different alleles lie on different copies; one allele in two records is homozygous, no pair."""
    alleles = {tuple(hit.line[name] for name in ("contig", "position", "ref", "alt")) for hit, _ in hits}
    return len({copy for _, copy in hits}) == 2 and len(alleles) > 1


def _rows(gene: str, hits: Sequence[tuple[_Hit, str]], evidence: str) -> list[dict[str, Any]]:
    rows = [{**hit.line, "list": "compound_het", "gene": gene, "copy": copy, "evidence": evidence} for hit, copy in hits]
    return sorted(rows, key=lambda row: (row["copy"], *_by_score(row)))


def _by_score(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["score"], row["contig"], row["position"], row["ref"], row["alt"]


def _described(member: Member, samples: Path, callset: str) -> dict[str, Any]:
    theirs = read_summary(samples / member.name)
    same = theirs["callset"] == callset
    return {"name": member.name, "role": member.role, "sex": member.sex, "phenotype": member.phenotype, "same_file": same}
