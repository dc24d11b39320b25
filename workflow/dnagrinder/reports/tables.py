"""The tables of a sample: its scored alleles with genotypes, its ledger, and the counts that must add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError, InputError, InvariantError
from dnagrinder.genome.files import written_aside
from dnagrinder.genome.records import read_genotype
from dnagrinder.genome.tables import ALLELES, GENOTYPES
from dnagrinder.genome.tables import LEDGER as LEDGER_SCHEMA
from dnagrinder.reports.joining import common_provenance
from dnagrinder.reports.lookup import SCORE_COLUMNS, ScoreTables
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.tables import ROW_GROUP, SCORE_SCHEMA, read_batches, read_parquet, rows_written, table_alleles

SCORES, LEDGER, SUMMARY = "scores", "ledger", "sample.json"
_TRANSITIONS = ("AG", "GA", "CT", "TC")
_CALL = ("genotype", "copies", "phased")
EVIDENCE = (pa.field("evidence", pa.string()), pa.field("points", pa.int8()))
#: Columns of a sample's scores.parquet; with a calibration EVIDENCE follows.
SAMPLE_SCHEMA = pa.schema(
    [*ALLELES, *(SCORE_SCHEMA.field(name) for name in SCORE_COLUMNS), *(GENOTYPES.field(name) for name in _CALL)]
)


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

    ``samples`` maps the sample's name to its column of the VCF; None stands for the only column, or, where there are
    several, for that of the sample's own name. The sample owns the ALTs that ``genotypes`` lists for its column: those its
    genotype holds, and in a file with no other column those it leaves open; without genotypes every allele. ``callset`` is
    the name under which the file's tables are kept. Alleles pass in pieces; memory holds the sample's genotypes and the
    scores of its SNVs, some 50 bytes an allele. With ``judge`` the scores have two more columns: evidence (code) and points
    (null where no calibration applies).

    Returns:
        The content of each sample.json: sample, callset, vcf, vcf_sha256, column, alleles_in_file, not_carried,
        alleles_in, scored, from_store, rejected, rejected_by_reason, records, ref_checked, ref_matched, by_kind,
        transitions, transversions, heterozygous, homozygous_alt, hemizygous, median_snv_score, alleles_by_evidence,
        calibration (sha256 and mismatch of the judge's, or None), provenance.

    Raises:
        ConfigError: a sample's column is not in the file. InputError: a table is missing or damaged.
        InvariantError: alleles_in_file = not_carried + alleles_in or alleles_in = scored + from_store + rejected fails.
    """
    facts = read_json(summary)
    provenance = common_provenance(scores)
    schema = pa.schema([*SAMPLE_SCHEMA, *EVIDENCE]) if judge else SAMPLE_SCHEMA
    result = {}
    with ScoreTables(scores) as lookup:
        for sample, wanted in samples.items():
            column = _column(sample, wanted, facts)
            calls = _calls(genotypes, column)
            keep_all = owns_all(facts)
            folder, tally = out_dir / sample, _Tally()
            with (
                _written(folder, SCORES, schema, provenance) as write_scores,
                _written(folder, LEDGER, LEDGER_SCHEMA, provenance) as write_ledger,
                written_aside(folder / SUMMARY) as aside,
            ):
                for batch in read_batches(alleles, ALLELES.names):
                    own = _with_genotypes(batch, calls, keep_all=keep_all)
                    own = lookup.attach(own).select(SAMPLE_SCHEMA.names)
                    own = with_evidence(own, judge) if judge else own
                    tally.add_scored(len(batch), own)
                    write_scores(own)
                for batch in read_batches(ledger, LEDGER_SCHEMA.names):
                    refused = batch if keep_all else batch.filter(pa.array(_places(batch, calls) >= 0))
                    tally.add_rejected(len(batch), refused)
                    write_ledger(refused)
                result[sample] = {
                    "sample": sample,
                    "callset": callset,
                    "vcf": facts["vcf"],
                    "vcf_sha256": facts["vcf_sha256"],
                    "column": column,
                    **tally.attrition(sample, facts["alleles_in"]),
                    **{name: facts[name] for name in ("records", "ref_checked", "ref_matched")},
                    **tally.description(),
                    "calibration": {"sha256": judge.calibration.digest, "mismatch": judge.mismatch} if judge else None,
                    "provenance": provenance,
                }
                aside.write_text(json.dumps(result[sample], indent=1) + "\n", encoding="utf-8")
    return result


def owns_all(facts: Mapping[str, Any]) -> bool:
    """Whether a call set, by its summary, is the sample's as a whole: at most one column, and no genotypes were read."""
    return len(facts["samples"]) <= 1 and not facts["samples_read"]


def with_evidence(scored: pa.Table, judge: Judge) -> pa.Table:
    """``scored`` (with an allele's columns, consequence and score) and what its scores say: evidence, points."""
    rows = zip(table_alleles(scored), scored["consequence"].to_pylist(), scored["score"].to_pylist(), strict=True)
    given = [judge.evidence(*row) for row in rows]
    for field, values in zip(EVIDENCE, ([one.code for one in given], [one.points for one in given]), strict=True):
        scored = scored.append_column(field, pa.array(values, field.type))
    return scored


def read_summary(folder: Path) -> dict[str, Any]:
    """The sample.json of a sample's folder. Raises InputError where there is none or it is damaged."""
    return read_json(folder / SUMMARY)


def write_tsv(table: pa.Table, path: Path) -> None:
    """Tab-separated text with a header; missing values are empty, numbers are written in full precision, LF ends lines."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(table.column_names) + "\n")
        for first in range(0, len(table), ROW_GROUP):
            out.write(_lines(table.slice(first, ROW_GROUP)))


def _lines(table: pa.Table) -> str:
    if not len(table):
        return ""
    texts = [_text(table[name]).combine_chunks() for name in table.column_names]
    return "\n".join(pc.binary_join_element_wise(*texts, pa.scalar("\t", pa.large_string())).to_pylist()) + "\n"


@contextmanager
def _written(folder: Path, name: str, schema: pa.Schema, provenance: dict[str, Any]) -> Iterator[Callable[[pa.Table], None]]:
    """A function that adds a piece to ``<name>.parquet`` and ``<name>.tsv``; both appear when the block ends well.

    The bytes depend on the rows alone, not on the pieces.
    """
    with (
        rows_written(folder / f"{name}.parquet", schema, provenance) as add_rows,
        written_aside(folder / f"{name}.tsv") as text,
        text.open("w", encoding="utf-8", newline="\n") as lines,
    ):
        lines.write("\t".join(_with_position(schema.empty_table()).column_names) + "\n")

        def add(piece: pa.Table) -> None:
            lines.write(_lines(_with_position(piece)))
            add_rows(piece)

        yield add


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
    columns = [name for name in GENOTYPES.names if name != "sample"]
    return read_parquet(genotypes, columns, filters=[("sample", "==", column or "")])


def _places(table: pa.Table, calls: pa.Table) -> NDArray[np.int64]:
    """For every row of ``table`` the row of ``calls`` with the same record and ALT, or -1. Both are in file order."""
    if not len(calls):
        return np.full(len(table), -1, dtype=np.int64)
    alts = 1 + max(pc.max(calls["alt_index"]).as_py(), pc.max(table["alt_index"]).as_py() or 0)
    have, want = (part["record"].to_numpy() * alts + part["alt_index"].to_numpy() for part in (calls, table))
    places = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return np.where(have[places] == want, places, -1)


def _with_genotypes(scored: pa.Table, calls: pa.Table, *, keep_all: bool) -> pa.Table:
    """Rows that the sample owns, with genotype, copies and phased (null where nothing is stated)."""
    places = _places(scored, calls)
    if not keep_all:
        scored, places = scored.filter(pa.array(places >= 0)), places[places >= 0]
    rows = pa.array(places, mask=places < 0)
    for name in _CALL:
        scored = scored.append_column(GENOTYPES.field(name), calls[name].take(rows))
    return scored


class _Tally:
    """Counts over the pieces of one sample's tables."""

    def __init__(self) -> None:
        self._accounted = 0  # accepted and rejected alleles of all samples
        self._statuses: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()
        self._calls: Counter[tuple[str | None, int]] = Counter()
        self._evidence: Counter[str] = Counter()
        self._snv_scores: list[NDArray[np.float64]] = []

    def add_scored(self, accounted: int, own: pa.Table) -> None:
        """Count the sample's part ``own`` of ``accounted`` accepted alleles."""
        self._accounted += accounted
        self._statuses.update(own["status"].to_pylist())
        self._kinds.update(own["kind"].to_pylist())
        self._calls.update(zip(own["genotype"].to_pylist(), own["alt_index"].to_pylist(), strict=True))
        snvs = own.filter(pc.equal(own["kind"], "snv"))
        self._changes.update(pc.binary_join_element_wise(snvs["ref"], snvs["alt"], "").to_pylist())
        self._snv_scores.append(snvs["score"].to_numpy())
        if "evidence" in own.column_names:
            self._evidence.update(own["evidence"].to_pylist())

    def add_rejected(self, accounted: int, refused: pa.Table) -> None:
        """Count the sample's part ``refused`` of ``accounted`` rejected alleles."""
        self._accounted += accounted
        self._reasons.update(refused["reason"].to_pylist())

    def attrition(self, sample: str, alleles_in_file: int) -> dict[str, Any]:
        """The counts from file to score. Raises InvariantError where they do not add up."""
        rejected = self._reasons.total()
        not_carried = self._accounted - self._statuses.total() - rejected
        counts: dict[str, Any] = {
            "alleles_in_file": alleles_in_file,
            "not_carried": not_carried,
            "alleles_in": alleles_in_file - not_carried,
            "scored": self._statuses["scored"],
            "from_store": self._statuses["from_store"],
            "rejected": rejected,
            "rejected_by_reason": dict(sorted(self._reasons.items())),
        }
        if counts["alleles_in"] != counts["scored"] + counts["from_store"] + counts["rejected"]:
            raise InvariantError(f"sample {sample}: alleles do not add up: {counts}")
        return counts

    def description(self) -> dict[str, Any]:
        """What kinds of alleles the sample has, and in which genotypes."""
        scores = np.concatenate([*self._snv_scores, np.empty(0)])
        transitions = sum(self._changes[change] for change in _TRANSITIONS)
        zygosities: Counter[str | None] = Counter()
        for (genotype, alt_index), times in self._calls.items():
            zygosities[zygosity(genotype, alt_index)] += times
        return {
            "by_kind": dict(sorted(self._kinds.items())),
            "transitions": transitions,
            "transversions": self._changes.total() - transitions,
            **{name: zygosities[name] for name in ("heterozygous", "homozygous_alt", "hemizygous")},
            "median_snv_score": float(np.median(scores)) if len(scores) else None,
            "alleles_by_evidence": dict(sorted(self._evidence.items())),
        }


def zygosity(genotype: str | None, alt_index: int) -> str | None:
    """``heterozygous``, ``homozygous_alt``, ``hemizygous`` (one copy called), or None where a call is missing.

    Two different ALTs in one genotype are heterozygous, each.
    """
    calls, _ = read_genotype(genotype or ".")
    if alt_index not in calls or None in calls:
        return None
    if len(calls) == 1:
        return "hemizygous"
    return "homozygous_alt" if len(set(calls)) == 1 else "heterozygous"


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
