"""The fate of an allele in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dnagrinder.reports.page import bases, number, significant

_METHODS = {
    "snv_marginal": "log P(ALT) − log P(REF) of the base",
    "snv_lattice": "log P(ALT) − log P(REF) of the base in a lattice pass",
    "block_likelihood": "difference of block pseudo-log-likelihoods",
}


def in_words(facts: Mapping[str, Any]) -> str:
    """What :func:`dnagrinder.reports.explain.explain` found, as lines of text."""
    parts = (_heading(facts), _key(facts), _outcome(facts), _input(facts), _score(facts), _reason(facts), _nearest(facts))
    return "\n".join(line for part in parts for line in part)


def _heading(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{facts['asked']} in sample {facts['sample']} ({facts['vcf']})"


def _key(facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts["key"]:
        return
    steps = facts["normalisation"]
    done = [f"shared bases trimmed: {steps['trimmed']}"] if steps["trimmed"] else []
    done += [f"bases moved left: {steps['moved_left']}"] if steps["moved_left"] else []
    done += ["contig named as in the reference"] if steps["contig_renamed"] else []
    yield f"Key: {facts['key']} ({facts['kind']}; {', '.join(done) or 'the spelling asked for'})."
    form = facts["fully_justified"]
    span = f"{form['contig']}:[{form['start']}, {form['end']})"
    yield f"Fully justified (VRS, 0-based): {span} {_shown(form['ref'])} > {_shown(form['alt'])}."
    places = 1 + min(len(form["ref"]), len(form["alt"]))
    if facts["kind"] in ("insertion", "deletion") and places > 1:
        yield f"It can be written at {places} places, all of them this one key."


def _outcome(facts: Mapping[str, Any]) -> Iterator[str]:
    yield {
        "scored": "Scored in this run.",
        "from_store": "Scored by an earlier run with the same model, reference and parameters; taken from the score store.",
        "rejected": "Not scored: rejected.",
        "not_carried": "The sample does not carry it, but it stands in the sample's file.",
        "absent": "It does not stand in the sample's file.",
    }[facts["outcome"]]


def _input(facts: Mapping[str, Any]) -> Iterator[str]:
    for record in facts["records"]:
        spelling = f"{record['contig']}:{record['position']} {bases(record['ref'])} > {bases(record['alt'])}"
        names = [f"ID {record['id']}"] if record["id"] else []
        names += [f"FILTER {record['filter']}"] if record["filter"] else []
        yield (
            f"Input: record {record['record'] + 1} of {facts['vcf']} (header not counted), ALT {record['alt_index']}: "
            + ", ".join([spelling, *names, _genotype(facts, record)])
            + "."
        )
    if facts["outcome"] == "not_carried":
        yield f"Carried by: {', '.join(facts['carriers']) or 'none of the samples in the sheet'}."


def _genotype(facts: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    if record["copies"] is not None:
        copies = "1 copy" if record["copies"] == 1 else f"{record['copies']} copies"
        return f"genotype {record['genotype']} ({copies}, {'phased' if record['phased'] else 'not phased'})"
    if record["genotype"]:
        return f"genotype {record['genotype']}"
    if not facts["column"]:
        return "the file has no genotypes"
    if record["carried"]:
        return "the record states no genotype"
    return "no ALT in the sample's genotype (tables keep carried alleles only: see the record for 0/0 or a missing call)"


def _score(facts: Mapping[str, Any]) -> Iterator[str]:
    score, traced = facts["score"], facts["provenance"]
    if score is None:
        return
    yield (
        f"Score: {number(score['score'], 4)}, spread {number(score['spread'], 4)} over {score['views']} readings of "
        f"strands and views ({_METHODS.get(score['method'], score['method'])}; below 0: the model expects ALT less than "
        f"REF); log P(REF) {number(score['log_p_ref'], 4)}, log P(ALT) {number(score['log_p_alt'], 4)}; embedding distance "
        f"cosine {significant(score['cosine_distance'])}, L2 {significant(score['l2_distance'])}."
    )
    if "evidence" in score:
        points = "" if score["points"] is None else f" ({score['points']:+d} points)"
        yield f"Evidence by the run's calibration: {score['evidence']}{points}."
    parameters = ", ".join(f"{name} {value}" for name, value in traced["parameters"].items())
    yield f"Model: {traced['checkpoint']['name']}, sha256 {traced['checkpoint']['sha256'][:12]}…; {parameters}."


def _reason(facts: Mapping[str, Any]) -> Iterator[str]:
    reason = facts["reason"]
    if reason is None:
        return
    lead = "It would be rejected" if facts["outcome"] == "absent" else "Reason"
    yield f"{lead}: {reason['code']}, {reason['meaning']} ({reason['detail']})."
    if reason["advice"]:
        yield f"What to do: {reason['advice']}."


def _nearest(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["outcome"] != "absent":
        return
    nearest: Sequence[Mapping[str, Any]] = facts["nearest"]
    yield "Nearest alleles of the file:" if nearest else "The file has no allele near it."
    for other in nearest:
        where = "touching it" if other["distance"] == 0 else f"{other['distance']:,} bp away"
        whose = "carried by the sample" if other["carried"] else "not carried by the sample"
        fate = f", rejected: {other['reason']}" if other["reason"] else ""
        yield f"  {other['allele']}, {where}, {whose}{fate}"


def _shown(sequence: str) -> str:
    return bases(sequence) if sequence else "nothing"
