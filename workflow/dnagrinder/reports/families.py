"""A family's table: alleles of the proband that by genotype may be new, and genes hit on both copies.

Lists from genotypes, no diagnosis: a call that is wrong in one member makes a candidate or hides one. The proband's file is
read once more, since the tables hold carried alleles alone and cannot tell a parent's reference call from a missing one.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.files import written_aside
from dnagrinder.genome.inheritance import PARENTS, Call, Origin, judge, passed_by, read_call, who_can_pass_on
from dnagrinder.genome.vcf import VcfFile
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.tables import read_summary, write_tsv
from dnagrinder.scoring.tables import ALLELE_COLUMNS, allele_keys, read_parquet

ROLES = ("proband", *PARENTS, "sibling", "other")
CANDIDATES, FAMILY = "candidates.tsv", "family.json"
#: Rows of each list that the page shows; the table of files holds all.
SHOWN = 100
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


@dataclass
class _Lists:
    """What one reading of the file found."""

    origins: Counter[Origin] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    de_novo: list[dict[str, Any]] = field(default_factory=list)
    by_gene: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))


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
        ConfigError: no or two probands, two mothers or fathers. InputError: a table or the file is missing or damaged.
    """
    by_role = _by_role(members)
    proband = by_role["proband"]
    summary = read_summary(samples / proband.name)
    everything = read_parquet(samples / proband.name / "scores.parquet")
    table = everything.take(pa.array(filters.passing(everything)))
    lists = _Lists()
    if summary["column"] is None:
        lists.origins[Origin.CANNOT_TELL] = len(table)
        lists.reasons["the proband's file has no genotypes"] = len(table)
    else:
        _read(lists, table, by_role, vcf, summary, samples, members, filters)
    compound = [row for gene in sorted(lists.by_gene) for row in _both_copies(lists.by_gene[gene])]
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


def _read(
    lists: _Lists,
    table: pa.Table,
    by_role: Mapping[str, Member],
    vcf: Path,
    summary: Mapping[str, Any],
    samples: Path,
    members: Sequence[Member],
    filters: Filters,
) -> None:
    """Judge every row of ``table`` (in file order) by the genotypes of its record."""
    columns, absent = _columns(by_role, summary, samples)
    carried = _carried(table, members, samples)
    sex = by_role["proband"].sex
    records, alts = table["record"].to_numpy(), table["alt_index"].to_numpy()
    contigs = table["contig"]
    row = 0
    with VcfFile(vcf, list(dict.fromkeys(columns.values()))) as file:
        places = {role: file.genotyped.index(column) for role, column in columns.items()}
        for record in file.records():
            if row < len(records) and records[row] < record.ordinal:
                raise InputError(f"{vcf} has not the records of the proband's tables; make the tables again")
            while row < len(records) and records[row] == record.ordinal:
                texts = {role: record.genotypes[place] for role, place in places.items()}
                child = read_call(texts["proband"])
                parents: dict[str, Call | str] = {
                    role: read_call(texts[role]) if role in texts else absent[role] for role in PARENTS
                }
                alt = int(alts[row])
                carriers = frozenset(role for role in PARENTS if role in by_role and carried[by_role[role].name][row])
                found = judge(contigs[row].as_py(), sex, child, alt, parents, carriers)
                lists.origins[found.origin] += 1
                lists.reasons.update([found.reason] if found.reason else [])
                if found.origin is Origin.DE_NOVO or child.is_heterozygous(alt):
                    fact = table.slice(row, 1).to_pylist()[0]
                    line = _line(
                        fact, texts, [one.name for one in members if one.name in carried and carried[one.name][row]]
                    )
                    if found.origin is Origin.DE_NOVO:
                        lists.de_novo.append(
                            {**line, "list": "de_novo", "evidence": _why_new(contigs[row].as_py(), sex, child, alt, texts)}
                        )
                    if child.is_heterozygous(alt):
                        phase_set = record.phase_sets[places["proband"]] if record.phase_sets else "."
                        held = {
                            **line,
                            "_from": passed_by(alt, child, parents),
                            "_copy": child.copy_of(alt),
                            "_set": phase_set,
                        }
                        for gene in _genes(fact, filters):
                            lists.by_gene[gene].append({**held, "gene": gene})
                row += 1
    if row < len(records):
        raise InputError(f"{vcf} has fewer records than the proband's tables; make the tables again")


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


def _why_new(contig: str, sex: str | None, child: Call, alt: int, texts: Mapping[str, str]) -> str:
    asked = who_can_pass_on(contig, sex, child, alt)
    said = ", ".join(f"{role} {texts[role]}" for role in PARENTS if role in asked)
    two_events = asked == PARENTS and not child.is_heterozygous(alt)
    return f"{said}; homozygous, which two parents without it hardly give: look at the calls" if two_events else said


def _genes(fact: Mapping[str, Any], filters: Filters) -> list[str]:
    """Genes by the input's annotation, else by the names of the panel's regions."""
    text = fact["gene"] or filters.genes(fact) or ""
    return list(dict.fromkeys(name for name in re.split(r"[,&|;]", text) if name))


def _both_copies(alleles: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The gene's heterozygous alleles if some lie on each copy: one from each parent, or phased apart in one phase set."""
    by_parent = [(one, one["_from"]) for one in alleles if one["_from"]]
    if {parent for _, parent in by_parent} == set(PARENTS):
        yield from _copies(by_parent, "one from each parent")
        return
    sets: dict[tuple[str, str], list[tuple[dict[str, Any], str]]] = defaultdict(list)
    for one in alleles:
        if one["_copy"] is not None:
            sets[one["contig"], one["_set"]].append((one, f"copy {one['_copy'] + 1}"))
    for (_, name), phased in sorted(sets.items()):
        if len({copy for _, copy in phased}) == 2:
            yield from _copies(phased, "phased apart" + (f", phase set {name}" if name != "." else ""))


def _copies(alleles: Sequence[tuple[dict[str, Any], str]], evidence: str) -> list[dict[str, Any]]:
    rows = [
        {**{name: value for name, value in one.items() if not name.startswith("_")}, "copy": copy, "list": "compound_het"}
        for one, copy in alleles
    ]
    return sorted(({**row, "evidence": evidence} for row in rows), key=lambda row: (row["copy"], *_by_score(row)))


def _by_score(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["score"], row["contig"], row["position"], row["ref"], row["alt"]


def _described(member: Member, samples: Path, callset: str) -> dict[str, Any]:
    theirs = read_summary(samples / member.name)
    same = theirs["callset"] == callset
    return {"name": member.name, "role": member.role, "sex": member.sex, "phenotype": member.phenotype, "same_file": same}
