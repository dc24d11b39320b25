"""A data line of a VCF, as text and as a record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dnagrinder.errors import InputError

_GENOTYPE = re.compile(r"[/|]?((?:\.|\d+)(?:[/|](?:\.|\d+))*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Record:
    """One data line as the file has it: ``ordinal`` counts data lines from 0, ``position`` is the 1-based POS.

    ``alts`` is empty for ALT ``.``; ``genotypes`` are the GT texts of the samples asked for ("." where there is none),
    ``phase_sets`` their PS texts (empty where FORMAT has no PS).
    """

    ordinal: int
    contig: str
    position: int
    id: str | None
    ref: str
    alts: tuple[str, ...]
    filter: str | None
    info: str
    genotypes: tuple[str, ...]
    phase_sets: tuple[str, ...] = ()


def info_fields(text: str) -> dict[str, str]:
    """INFO as key -> text; flags have the text ``""``, and ``.`` has no keys."""
    return {key: value for key, _, value in (field.partition("=") for field in text.split(";"))} if text != "." else {}


def parse_record(ordinal: int, text: str, samples: int, path: Path) -> Record:
    """A data line as htslib wrote it, with ``samples`` columns of ``path``'s.

    Raises:
        InputError: a genotype names an ALT that the record lacks.
    """
    fields = text.rstrip("\n").split("\t")
    keys = fields[8].split(":") if samples and len(fields) > 8 else []
    record = Record(
        ordinal=ordinal,
        contig=fields[0],
        position=int(fields[1]),
        id=_present(fields[2]),
        ref=fields[3],
        alts=() if fields[4] == "." else tuple(fields[4].split(",")),
        filter=_present(fields[6]),
        info=fields[7],
        genotypes=_sample_values(fields, keys, "GT") if "GT" in keys else (".",) * samples,
        phase_sets=_sample_values(fields, keys, "PS") if "PS" in keys else (),
    )
    named = max((number or 0 for genotype in set(record.genotypes) for number in read_genotype(genotype)[0]), default=0)
    if named > len(record.alts):
        raise InputError(
            f"VCF {path}, {record.contig}:{record.position}: a genotype names ALT {named}, the record has "
            f"{len(record.alts)}; mend or remove the record"
        )
    return record


@lru_cache(maxsize=4096)
def read_genotype(text: str) -> tuple[tuple[int | None, ...], bool]:
    """Allele numbers of a GT text in the order written (0 is REF, None a missing one), and whether ``|`` joins them all.

    VCF 4.4 allows a ``/`` or ``|`` in front, the phase of the first allele. It is no allele; where it is ``/``, or another
    separator is, the phase of the call as a whole is not known::

        |0|1  0|1     phased              /0|1  |0/1  /0/1  0/1     not phased
        /1|1  |1/1    two alleles         /1  |1  1                 one allele, joined with none

    What is no GT counts as one missing allele.
    """
    found = _GENOTYPE.fullmatch(text)
    if not found:
        return (None,), False
    alleles = tuple(None if part == "." else int(part) for part in re.split(r"[/|]", found[1]))
    return alleles, len(alleles) > 1 and "/" not in text


def _sample_values(fields: list[str], keys: list[str], key: str) -> tuple[str, ...]:
    """Text under FORMAT ``key`` per sample column."""
    if keys == [key]:
        return tuple(fields[9:])
    place = keys.index(key)
    return tuple((column.split(":", place + 1)[place : place + 1] or ["."])[0] for column in fields[9:])


def _present(text: str) -> str | None:
    return None if text == "." else text
