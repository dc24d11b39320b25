"""What happened to one allele of one sample, and why: looked up in the tables of a run, without a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dnagrinder.errors import ConfigError, InputError, InvariantError
from dnagrinder.genome.justification import fully_justified
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import cut
from dnagrinder.genome.variants import Allele, Reason, Refusal, judge, normalise, trim
from dnagrinder.reports.findings import reason_text
from dnagrinder.reports.lookup import SCORE_COLUMNS
from dnagrinder.reports.tables import SCORES, SUMMARY, owns_all, read_json, read_summary
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_parquet

NEAR, NEAREST = 1000, 5  # bases around an absent allele in which others are looked for, and how many are named
_SPELLING = re.compile(
    r"(?P<contig>\S+?):(?P<position>\d{1,12}):(?P<ref>[A-Za-z]+):(?P<alt>[A-Za-z.*]+|<[^<>\s]+>|\S*[\[\]]\S*)"
).fullmatch
#: Refused alleles that have a sequence on known bases, so that another spelling of them can be recognised.
_REFUSED_WITH_SEQUENCE = (Reason.TOO_LONG, Reason.NO_CONTEXT)

Row = dict[str, Any]


@dataclass(frozen=True)
class Spelling:
    """An allele as a user or a file writes it; ``start`` is 0-based."""

    contig: str
    start: int
    ref: str
    alt: str

    @classmethod
    def parse(cls, text: str) -> Spelling:
        """``CHROM:POS:REF:ALT`` with VCF's 1-based POS; CHROM may hold colons, ALT may be symbolic or a breakend.

        Raises:
            ConfigError: ``text`` has another form.
        """
        found = _SPELLING(text)
        if not found:
            raise ConfigError(f"{text!r} is no allele; write it as CHROM:POS:REF:ALT, e.g. chr20:1018638:C:CA")
        return cls(found["contig"], int(found["position"]) - 1, found["ref"], found["alt"])

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1}:{self.ref}:{self.alt}"


@dataclass(frozen=True)
class _Run:
    """The tables that tell of one sample."""

    sample: str
    samples: Path
    callset: Path
    summary: Mapping[str, Any]
    genome: ReferenceGenome
    owns_all: bool  # see reports.tables.owns_all

    def same_contig(self, one: str, other: str) -> bool:
        return one == other or (
            self.genome.resolve(one) is not None and self.genome.resolve(one) == self.genome.resolve(other)
        )


def explain(results: Path, sample: str, spelling: str) -> dict[str, Any]:
    """The fate of the allele ``spelling`` (``CHROM:POS:REF:ALT``, any equivalent spelling) in ``sample``.

    Returns:
        ``outcome``: scored, from_store (scored by an earlier run), rejected, not_carried (in the call set, but not in the
        sample's genotype) or absent (not in the call set). ``key``, ``kind``, ``fully_justified`` (0-based, see
        :func:`dnagrinder.genome.justification.fully_justified`): the normalised allele, None where there is none.
        ``normalisation``: from the spelling asked for to the key: contig_renamed, bases trimmed, bases moved_left.
        ``records``: where it stands in the input, with the sample's genotype. ``score``: the columns of scores.parquet
        (evidence and points only in a run with a calibration), None without one. ``reason``: code, detail, meaning and
        advice of a rejected allele; of one that is absent, why it would be rejected. ``carriers``: VCF columns
        that carry an allele the sample does not. ``nearest``: known alleles around an absent one. ``provenance``: of the
        scores. And sample, callset, vcf, column, asked.

    Raises:
        ConfigError: ``spelling`` is no allele.
        InputError: ``results`` lacks the sample or a table, or its reference is not the one of the scores.
    """
    asked = Spelling.parse(spelling)
    summary = _sample_summary(results, sample)
    callset = results / "callsets" / summary["callset"]
    whole = owns_all(read_json(callset / "summary.json"))
    window = summary["provenance"]["parameters"]["window"]
    _check_reference(results, summary["provenance"])
    with ReferenceGenome.open(results / "reference" / "genome.fa.gz") as genome:
        run = _Run(sample, results / "samples" / sample, callset, summary, genome, whole)
        alts = () if asked.alt == "." else (asked.alt,)
        (judged,) = judge(genome, asked.contig, asked.start, asked.ref, alts, window).outcomes
        allele = judged if isinstance(judged, Allele) else _allele_of(run, asked, judged)
        return {
            "sample": sample,
            "callset": summary["callset"],
            "vcf": summary["vcf"],
            "column": summary["column"],
            "asked": str(asked),
            "key": allele.key if allele else None,
            "kind": allele.kind if allele else None,
            "normalisation": _steps(asked, allele) if allele else None,
            "fully_justified": asdict(fully_justified(genome, allele)) if allele else None,
            **_fate(run, asked, allele, judged),
            "provenance": summary["provenance"],
        }


def _fate(run: _Run, asked: Spelling, allele: Allele | None, judged: Allele | Refusal) -> dict[str, Any]:
    """outcome, records, score, reason, carriers and nearest."""
    accepted = _accepted_rows(run.callset / "alleles.parquet", allele) if isinstance(judged, Allele) else []
    rows = [*accepted, *_rejected_rows(run, asked, allele if isinstance(judged, Refusal) else None)]
    calls = _calls(run, [row["record"] for row in rows])
    records = [_record(run, row, calls) for row in rows]
    own = [record for record in records if record["carried"]]
    score = _score(run, allele) if allele and any(record["reason"] is None for record in own) else None
    outcome = "absent" if not rows else "not_carried" if not own else score["status"] if score else "rejected"
    refused = next(((record["reason"], record["detail"]) for record in own or records if record["reason"]), None)
    if outcome == "absent" and isinstance(judged, Refusal):
        refused = judged.reason.value, judged.detail
    return {
        "outcome": outcome,
        "records": own or records,
        "score": score,
        "reason": None if score or refused is None else _reason(*refused),
        "carriers": _carriers(calls, rows) if outcome == "not_carried" else [],
        "nearest": _nearest(run, asked, allele) if outcome == "absent" else [],
    }


def _steps(asked: Spelling, allele: Allele) -> dict[str, Any]:
    start, _, _ = trim(asked.start, asked.ref.upper(), asked.alt.upper())
    return {
        "contig_renamed": asked.contig != allele.contig,
        "trimmed": len(asked.ref) - len(allele.ref),
        "moved_left": start - allele.trimmed()[0],
    }


def _reason(code: str, detail: str) -> dict[str, str | None]:
    """A reason code with its meaning and advice; a code of another version has no advice."""
    known = Reason.__members__.get(code)
    return {"code": code, "detail": detail, "meaning": reason_text(code), "advice": known.advice if known else None}


def _accepted_rows(path: Path, allele: Allele | None) -> list[Row]:
    wanted = [(name, "==", getattr(allele, name)) for name in ALLELE_COLUMNS]
    rows: list[Row] = read_parquet(path, filters=wanted).to_pylist()
    return [{**row, "reason": None, "detail": None} for row in rows]


def _rejected_rows(run: _Run, asked: Spelling, refused: Allele | None) -> list[Row]:
    """Ledger rows of the very spelling asked for, and of other spellings of an allele that was refused with its sequence."""
    path = run.callset / "ledger.parquet"
    wanted = (cut(asked.ref).upper(), cut(asked.alt).upper())
    there = read_parquet(path, filters=[("input_position", "==", asked.start + 1)]).to_pylist()
    rows = [row for row in there if (row["input_ref"].upper(), row["input_alt"].upper()) == wanted]
    if refused:
        codes = [reason.value for reason in _REFUSED_WITH_SEQUENCE]
        others = read_parquet(path, filters=[("reason", "in", codes)]).to_pylist()
        rows += [row for row in others if row not in rows and _is_spelling_of(run, row, refused)]
    return [{**row, "id": None, "filter": None} for row in rows if run.same_contig(row["input_contig"], asked.contig)]


def _is_spelling_of(run: _Run, row: Row, allele: Allele) -> bool:
    """Whether a ledger row with its whole sequence spells ``allele``."""
    contig, letters = run.genome.resolve(row["input_contig"]), row["input_ref"] + row["input_alt"]
    if contig != allele.contig or not letters.isalpha():
        return False
    return _normalised(run.genome, contig, row["input_position"] - 1, row["input_ref"], row["input_alt"]) == allele


def _allele_of(run: _Run, asked: Spelling, refusal: Refusal) -> Allele | None:
    """The normalised allele of a refused spelling, where it has a sequence on known bases."""
    contig = run.genome.resolve(asked.contig)
    if contig is None or refusal.reason not in _REFUSED_WITH_SEQUENCE:
        return None
    return _normalised(run.genome, contig, asked.start, asked.ref, asked.alt)


def _normalised(genome: ReferenceGenome, contig: str, start: int, ref: str, alt: str) -> Allele | None:
    """None where the anchor base is unknown or the whole contig is deleted."""
    try:
        return normalise(genome, contig, start, ref, alt)
    except (InputError, ValueError):
        return None


def _calls(run: _Run, records: Sequence[int]) -> list[Row]:
    """Genotype rows of these records, of all columns that were read."""
    if not records:
        return []
    rows: list[Row] = read_parquet(run.callset / "genotypes.parquet", filters=[("record", "in", list(records))]).to_pylist()
    return rows


def _record(run: _Run, row: Row, calls: Sequence[Row]) -> dict[str, Any]:
    """One place in the input: spelling, genotype of the sample, and why it was not scored (None: it was)."""
    mine = [call for call in calls if call["record"] == row["record"] and call["sample"] == run.summary["column"]]
    call = next((call for call in mine if call["alt_index"] == row["alt_index"]), None)
    return {
        "record": row["record"],
        "alt_index": row["alt_index"],
        "contig": row["input_contig"],
        "position": row["input_position"],
        "ref": row["input_ref"],
        "alt": row["input_alt"],
        "id": row["id"],
        "filter": row["filter"],
        "carried": run.owns_all or call is not None,
        "genotype": mine[0]["genotype"] if mine else None,
        "copies": call["copies"] if call else None,
        "phased": call["phased"] if call else None,
        "reason": row["reason"],
        "detail": row["detail"],
    }


def _score(run: _Run, allele: Allele) -> dict[str, Any]:
    wanted = [(name, "==", getattr(allele, name)) for name in ALLELE_COLUMNS]
    columns = [*SCORE_COLUMNS, *(("evidence", "points") if run.summary["calibration"] else ())]
    rows = read_parquet(run.samples / f"{SCORES}.parquet", columns, wanted).to_pylist()
    if not rows:
        raise InvariantError(f"{run.samples}: the sample carries {allele.key}, but its scores.parquet does not hold it")
    return dict(rows[0])


def _carriers(calls: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    places = {(row["record"], row["alt_index"]) for row in rows}
    return sorted({call["sample"] for call in calls if (call["record"], call["alt_index"]) in places})


def _nearest(run: _Run, asked: Spelling, allele: Allele | None) -> list[dict[str, Any]]:
    """Alleles of the call set, scored or not, within NEAR bases of the place asked for, the nearest first."""
    start, end = (allele.start, allele.end) if allele else (asked.start, asked.start + len(asked.ref))
    found = [*_near_accepted(run, asked.contig, start, end), *_near_rejected(run, asked.contig, start, end)]
    records = sorted({record for _, _, record, _, _ in found})
    mine = {(c["record"], c["alt_index"]) for c in _calls(run, records) if c["sample"] == run.summary["column"]}
    nearest: dict[str, dict[str, Any]] = {}
    for distance, shown, record, alt_index, reason in sorted(found, key=lambda row: (row[0], row[1])):
        carried = run.owns_all or (record, alt_index) in mine
        known = nearest.setdefault(shown, {"allele": shown, "distance": distance, "carried": carried, "reason": reason})
        known["carried"] = known["carried"] or carried
    return list(nearest.values())[:NEAREST]


def _near_accepted(run: _Run, name: str, start: int, end: int) -> Iterator[tuple[int, str, int, int, str | None]]:
    """(distance, key, record, alt_index, None)."""
    contig = run.genome.resolve(name)
    if contig is None:
        return
    near = [("contig", "==", contig), ("start", ">=", start - NEAR), ("start", "<=", end + NEAR)]
    columns = [*ALLELE_COLUMNS, "record", "alt_index"]
    for row in read_parquet(run.callset / "alleles.parquet", columns, near).to_pylist():
        allele = Allele(*(row[name] for name in ALLELE_COLUMNS))
        yield _distance(start, end, allele.start, allele.end), allele.key, row["record"], row["alt_index"], None


def _near_rejected(run: _Run, name: str, start: int, end: int) -> Iterator[tuple[int, str, int, int, str | None]]:
    """(distance, spelling, record, alt_index, reason code)."""
    near = [("input_position", ">", start - NEAR), ("input_position", "<=", end + NEAR + 1)]
    for row in read_parquet(run.callset / "ledger.parquet", filters=near).to_pylist():
        if run.same_contig(row["input_contig"], name):
            there = Spelling(row["input_contig"], row["input_position"] - 1, row["input_ref"], row["input_alt"])
            distance = _distance(start, end, there.start, there.start + len(there.ref))
            yield distance, str(there), row["record"], row["alt_index"], row["reason"]


def _distance(start: int, end: int, other_start: int, other_end: int) -> int:
    """Bases between two intervals; 0 where they touch or overlap."""
    return max(0, other_start - end, start - other_end)


def _sample_summary(results: Path, sample: str) -> dict[str, Any]:
    names = sorted(path.parent.name for path in results.glob(f"samples/*/{SUMMARY}"))
    if sample not in names:
        held = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "none"
        raise InputError(
            f"{results} holds no tables of sample {sample} (it holds: {held}); run the workflow first, or name its folder "
            "of results with --results"
        )
    return read_summary(results / "samples" / sample)


def _check_reference(results: Path, provenance: Mapping[str, Any]) -> None:
    card = results / "reference" / "genome.json"
    found = read_json(card).get("sha256")
    if found != provenance["reference_sha256"]:
        raise InputError(f"{card} is of another reference than the scores ({provenance['reference_sha256']}); run again")
