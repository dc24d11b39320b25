"""The tables of a sample: its scored alleles with genotypes, its ledger, and the counts that must add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError, InputError, InvariantError
from dnagrinder.genome.files import written_aside
from dnagrinder.genome.tables import GENOTYPES
from dnagrinder.reports.joining import attach_scores, common_provenance
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.tables import read_parquet, table_alleles, write_parquet

SCORES, LEDGER, SUMMARY = "scores", "ledger", "sample.json"
_TRANSITIONS = ("AG", "GA", "CT", "TC")
_TSV_ROWS = 65_536


def build_sample_tables(
    samples: Mapping[str, str | None],
    *,
    callset: str,
    alleles: Path,
    ledger: Path,
    genotypes: Path,
    summary: Path,
    scores: Sequence[Path],
    out_dir: Path,
    judge: Judge | None = None,
) -> dict[str, dict[str, Any]]:
    """Write ``out_dir/<sample>/`` {scores.parquet, scores.tsv, ledger.parquet, ledger.tsv, sample.json} for each sample.

    ``samples`` maps the sample's name to its column of the VCF. In a file with one sample column or none the sample owns
    every allele; where there are several it owns the ALTs that its genotype holds, and None stands for the column of
    the sample's own name. ``callset`` is the name under which the file's tables are kept. With ``judge`` the scores have
    two more columns: evidence (code) and points (null where no calibration applies).

    Returns:
        The content of each sample.json: sample, callset, vcf, vcf_sha256, column, alleles_in_file, not_carried,
        alleles_in, scored, from_store, rejected, rejected_by_reason, records, ref_checked, ref_matched, by_kind,
        transitions, transversions, heterozygous, homozygous_alt, hemizygous, median_snv_score, calibration (sha256 and
        mismatch of the judge's, or None), alleles_by_evidence, provenance.

    Raises:
        ConfigError: a sample's column is not in the file. InputError: a table is missing or damaged.
        InvariantError: alleles_in_file = not_carried + alleles_in or alleles_in = scored + from_store + rejected fails.
    """
    facts = read_json(summary)
    provenance = common_provenance(scores)
    scored, rejected = attach_scores(read_parquet(alleles), scores), read_parquet(ledger)
    scored = with_evidence(scored, judge) if judge else scored
    result = {}
    for sample, wanted in samples.items():
        column = _column(sample, wanted, facts)
        calls = _calls(genotypes, column)
        everything = len(facts["samples"]) <= 1
        own = _with_genotypes(scored, calls, keep_all=everything)
        refused = rejected if everything else rejected.filter(_places(rejected, calls) >= 0)
        description = {
            "sample": sample,
            "callset": callset,
            "vcf": facts["vcf"],
            "vcf_sha256": facts["vcf_sha256"],
            "column": column,
            **_attrition(sample, facts["alleles_in"], len(scored) + len(rejected), own, refused),
            **{name: facts[name] for name in ("records", "ref_checked", "ref_matched")},
            **_description(own),
            "calibration": {"sha256": judge.calibration.digest, "mismatch": judge.mismatch} if judge else None,
            "alleles_by_evidence": dict(sorted(Counter(own["evidence"].to_pylist()).items())) if judge else {},
            "provenance": provenance,
        }
        _write(out_dir / sample, own, refused, description, provenance)
        result[sample] = description
    return result


def with_evidence(scored: pa.Table, judge: Judge) -> pa.Table:
    """``scored`` (with an allele's columns, consequence and score) and what its scores say: evidence, points."""
    rows = zip(table_alleles(scored), scored["consequence"].to_pylist(), scored["score"].to_pylist(), strict=True)
    given = [judge.evidence(*row) for row in rows]
    scored = scored.append_column("evidence", pa.array([one.code for one in given], pa.string()))
    return scored.append_column("points", pa.array([one.points for one in given], pa.int8()))


def read_summary(folder: Path) -> dict[str, Any]:
    """The sample.json of a sample's folder. Raises InputError where there is none or it is damaged."""
    return read_json(folder / SUMMARY)


def write_tsv(table: pa.Table, path: Path) -> None:
    """Tab-separated text with a header; missing values are empty, numbers are written in full precision, LF ends lines."""
    texts = [_text(table[name]) for name in table.column_names]
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(table.column_names) + "\n")
        for first in range(0, len(table), _TSV_ROWS):
            batch = [text.slice(first, _TSV_ROWS).combine_chunks() for text in texts]
            lines = pc.binary_join_element_wise(*batch, pa.scalar("\t", pa.large_string())).to_pylist()
            out.write("\n".join(lines) + "\n")


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = column.cast(pa.large_string())
    if pa.types.is_string(column.type):
        text = pc.replace_substring_regex(text, r"[\t\r\n]+", " ")
    return pc.fill_null(text, "")


def _column(sample: str, wanted: str | None, facts: Mapping[str, Any]) -> str | None:
    """The sample's column of the VCF; None for a file of sites."""
    columns = facts["samples"]
    if wanted is None and len(columns) <= 1:
        return columns[0] if columns else None
    name = sample if wanted is None else wanted
    if name not in columns:
        raise ConfigError(
            f"sample {sample}: {facts['vcf']} has no sample column {name}; it has: {', '.join(columns) or 'none'}. "
            "Name the column in the sample sheet (vcf_sample)"
        )
    return str(name)


def _calls(genotypes: Path, column: str | None) -> pa.Table:
    """Genotype rows of one column, in file order."""
    if not genotypes.is_file():
        raise InputError(f"table {genotypes} is missing")
    if column is None:
        return GENOTYPES.empty_table()
    try:
        return pq.read_table(genotypes, filters=[("sample", "==", column)])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"table {genotypes} cannot be read: {error}") from error


def _places(table: pa.Table, calls: pa.Table) -> NDArray[np.int64]:
    """For every row of ``table`` the row of ``calls`` with the same record and ALT, or -1. Both are in file order."""
    if not len(calls):
        return np.full(len(table), -1, dtype=np.int64)
    alts = 1 + max(pc.max(calls["alt_index"]).as_py(), pc.max(table["alt_index"]).as_py() or 0)
    have, want = (part["record"].to_numpy() * alts + part["alt_index"].to_numpy() for part in (calls, table))
    places = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return np.where(have[places] == want, places, -1)


def _with_genotypes(scored: pa.Table, calls: pa.Table, *, keep_all: bool) -> pa.Table:
    """Rows that the sample owns, with genotype, copies and phased (null where no genotype holds the ALT)."""
    places = _places(scored, calls)
    if not keep_all:
        scored, places = scored.filter(pa.array(places >= 0)), places[places >= 0]
    rows = pa.array(places, mask=places < 0)
    for name in ("genotype", "copies", "phased"):
        scored = scored.append_column(GENOTYPES.field(name), calls[name].take(rows))
    return scored


def _attrition(sample: str, alleles_in_file: int, accounted: int, own: pa.Table, refused: pa.Table) -> dict[str, Any]:
    """The counts from file to score; ``accounted`` is the number of accepted and rejected alleles of all samples."""
    statuses = Counter(own["status"].to_pylist())
    not_carried = accounted - len(own) - len(refused)
    counts: dict[str, Any] = {
        "alleles_in_file": alleles_in_file,
        "not_carried": not_carried,
        "alleles_in": alleles_in_file - not_carried,
        "scored": statuses["scored"],
        "from_store": statuses["from_store"],
        "rejected": len(refused),
        "rejected_by_reason": dict(sorted(Counter(refused["reason"].to_pylist()).items())),
    }
    if counts["alleles_in"] != counts["scored"] + counts["from_store"] + counts["rejected"]:
        raise InvariantError(f"sample {sample}: alleles do not add up: {counts}")
    return counts


def _description(own: pa.Table) -> dict[str, Any]:
    """What kinds of alleles the sample has, and in which genotypes."""
    snvs = own.filter(pc.equal(own["kind"], "snv"))
    snv_scores = snvs["score"].to_numpy()
    changes = Counter(pc.binary_join_element_wise(snvs["ref"], snvs["alt"], "").to_pylist())
    transitions = sum(changes[change] for change in _TRANSITIONS)
    pairs = Counter(zip(own["genotype"].to_pylist(), own["alt_index"].to_pylist(), strict=True))
    zygosities: Counter[str | None] = Counter()
    for (genotype, alt_index), times in pairs.items():
        zygosities[zygosity(genotype, alt_index)] += times
    return {
        "by_kind": dict(sorted(Counter(own["kind"].to_pylist()).items())),
        "transitions": transitions,
        "transversions": changes.total() - transitions,
        **{name: zygosities[name] for name in ("heterozygous", "homozygous_alt", "hemizygous")},
        "median_snv_score": float(np.median(snv_scores)) if len(snv_scores) else None,
    }


def zygosity(genotype: str | None, alt_index: int) -> str | None:
    """``heterozygous``, ``homozygous_alt``, ``hemizygous`` (one copy called), or None where a call is missing.

    Two different ALTs in one genotype are heterozygous, each.
    """
    calls = (genotype or ".").replace("|", "/").split("/")
    if str(alt_index) not in calls or "." in calls:
        return None
    if len(calls) == 1:
        return "hemizygous"
    return "homozygous_alt" if len(set(calls)) == 1 else "heterozygous"


def _write(folder: Path, own: pa.Table, refused: pa.Table, description: dict[str, Any], provenance: dict[str, Any]) -> None:
    for name, table in ((SCORES, own), (LEDGER, refused)):
        plain = table.replace_schema_metadata(None)
        write_parquet(plain, folder / f"{name}.parquet", provenance)
        write_tsv(_with_position(plain), folder / f"{name}.tsv")
    with written_aside(folder / SUMMARY) as aside:
        aside.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def _with_position(table: pa.Table) -> pa.Table:
    """For readers of text the 1-based position stands beside the 0-based start."""
    if "start" not in table.column_names:
        return table
    place = table.schema.get_field_index("start")
    return table.add_column(place, "position", pc.add(table["start"], 1))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object")
    return content
