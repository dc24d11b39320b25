"""What a finished run is made of, as one JSON-LD file in the shape of a Research Object Crate (RO-Crate 1.1).

A copy of the file under the name ``ro-crate-metadata.json`` in the results folder makes a crate of that folder. The graph
has two parts. What the results are (files, checksums, model, reference, parameters, settings) is the same whenever
inputs and settings are; all that tells of this one run (command, time, versions of libraries, time and memory of each rule)
hangs below ``#run``, beside the root's ``datePublished``. :func:`without_run` gives the first part alone.
"""

from __future__ import annotations

import copy
import csv
import datetime
import json
import math
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dnagrinder import __version__
from dnagrinder.errors import InputError, without_secrets
from dnagrinder.genome.files import file_sha256, written_aside
from dnagrinder.reports.tables import read_json
from dnagrinder.scoring.tables import read_provenance

Entity = dict[str, Any]

CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
#: Folders of the results whose files are listed.
FOLDERS = ("callsets", "cohort", "families", "reference", "regions", "samples", "scores", "shards")
#: Benchmark file (``*`` for a wildcard) to the rule that it measures.
RULES = {
    "reference/genome": "prepare_reference",
    "callsets/*/alleles": "read_variants",
    "shards/unique": "unique_alleles",
    "scores/*": "score_alleles",
    "callsets/*/haplotypes": "score_haplotypes",
    "regions/regions": "score_regions",
    "callsets/*/scored": "annotate_variants",
    "samples/*/scores": "annotate_sample",
    "samples/*/context": "score_context",
    "samples/*/report": "report_sample",
    "cohort/report": "report_cohort",
}
LIBRARIES = ("numpy", "pandas", "pyarrow", "pyranges", "pysam", "safetensors", "snakemake", "tokenizers", "torch")
_FORMATS = {
    ".html": "text/html",
    ".json": "application/json",
    ".tsv": "text/tab-separated-values",
    ".parquet": "application/vnd.apache.parquet",
    ".gz": "application/gzip",
}


def write_provenance(
    results: Path,
    out: Path,
    *,
    config: Mapping[str, Any],
    files: Sequence[Path] | None = None,
    benchmarks: Path | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Describe the finished run in ``results`` and write the description to ``out``.

    Args:
        files: the run's files below ``results``; None for all that lie there, those of earlier runs with other settings
            included.
        config: the settings of the run; passwords and tokens in addresses are masked.
        benchmarks: folder of Snakemake's benchmark files, if there is one.
        command: the command line that started the run, if it is known; masked in the same way.

    Returns:
        The content written.

    Raises:
        InputError: ``results`` holds no tables of a run, one of them is damaged, or one of ``files`` is missing or lies
            elsewhere.
    """
    traced = read_provenance(_existing(results / "shards" / "stored.parquet"))
    paths = sorted(_files(results, out) if files is None else (_existing(path) for path in files))
    listed = [_file(path, results) for path in paths]
    inputs = [*_model(traced), _reference(results, traced), *_variants(paths)]
    parameters = [_value(f"#parameter/{name}", name, value) for name, value in sorted(traced["parameters"].items())]
    settings = _value("#config", "config", without_secrets(json.dumps(config, sort_keys=True)))
    jobs = list(_rules(benchmarks)) if benchmarks else []
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    libraries = [
        {"@id": f"#run/software/{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": number}
        for name, number in _versions()
    ]
    graph: list[Entity] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": "Results of dnaGrinder",
            "description": "Scores of DNA variants by a genomic language model, with what was not scored and why.",
            "datePublished": now,
            "hasPart": _references(listed),
            "mentions": [{"@id": "#run"}],
            "isBasedOn": _references(inputs),
            "variableMeasured": _references([*parameters, settings]),
        },
        {
            "@id": "#dnagrinder",
            "@type": "SoftwareApplication",
            "name": "dnaGrinder",
            "softwareVersion": __version__,
            "identifier": f"sha256 of the scoring parameters: {traced['parameters_sha256']}",
        },
        *listed,
        *inputs,
        *parameters,
        settings,
        {
            "@id": "#run",
            "@type": "CreateAction",
            "name": "The run of the workflow",
            "description": without_secrets(command) if command else "command not known",
            "endTime": now,
            "instrument": [{"@id": "#dnagrinder"}, *_references(libraries)],
            "object": _references([*inputs, *parameters, settings]),
            "result": [{"@id": "./"}],
            "hasPart": _references(job for job in jobs if job["@type"] == "CreateAction"),
        },
        *libraries,
        *jobs,
    ]
    content = {"@context": CONTEXT, "@graph": graph}
    with written_aside(out) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def without_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """The description without what belongs to the one run that made it: the same for equal inputs and settings."""
    kept = copy.deepcopy(dict(content))
    kept["@graph"] = [one for one in kept["@graph"] if one["@id"] != "#run" and not one["@id"].startswith("#run/")]
    for entity in kept["@graph"]:
        entity.pop("datePublished", None)
    return kept


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing: the folder holds no finished run of the workflow")
    return path


def _files(results: Path, out: Path) -> Iterator[Path]:
    """Files of the results; not those that are being made, which lie under names or in folders that begin with a dot."""
    for folder in FOLDERS:
        for path in (results / folder).rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(results).parts)
            if path.is_file() and not hidden and path != out:
                yield path


def _file(path: Path, results: Path) -> Entity:
    if not path.is_relative_to(results):
        raise InputError(f"{path} does not lie below {results}: it is no file of this run")
    return {
        "@id": path.relative_to(results).as_posix(),
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
        "sha256": file_sha256(path),
    }


def _model(traced: Mapping[str, Any]) -> list[Entity]:
    name = traced["checkpoint"]["name"]
    return [
        _input("#checkpoint", f"weights of {name}", traced["checkpoint"]["sha256"]),
        _input("#tokenizer", f"tokenizer of {name}", traced["tokenizer_sha256"]),
    ]


def _reference(results: Path, traced: Mapping[str, Any]) -> Entity:
    source = read_json(results / "reference" / "genome.json").get("source", "reference genome")
    return _input("#reference", str(source), traced["reference_sha256"]) | {"description": "sha256 of names and bases"}


def _variants(paths: Iterable[Path]) -> Iterator[Entity]:
    for path in paths:
        if path.name != "summary.json" or path.parent.parent.name != "callsets":
            continue
        facts = read_json(path)
        yield _input(f"#callset/{path.parent.name}", facts["vcf"], facts["vcf_sha256"])


def _input(identifier: str, name: str, sha256: str) -> Entity:
    return {"@id": identifier, "@type": "CreativeWork", "name": name, "sha256": sha256}


def _value(identifier: str, name: str, value: object) -> Entity:
    return {"@id": identifier, "@type": "PropertyValue", "name": name, "value": value}


def _references(entities: Iterable[Entity]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue  # a job's environment need not hold snakemake


def _rules(benchmarks: Path) -> Iterator[Entity]:
    """For each rule an action and its measures: jobs, sum and largest of the seconds, CPU seconds, largest memory."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for pattern, rule in RULES.items():
        for path in sorted(benchmarks.glob(f"{pattern}.tsv")):
            with path.open(encoding="utf-8", newline="") as text:
                rows[rule] += csv.DictReader(text, delimiter="\t")
    for rule, runs in rows.items():
        seconds, cpu, memory = ([_measure(run.get(name)) for run in runs] for name in ("s", "cpu_time", "max_rss"))
        measures = {
            "jobs": len(runs),
            "wall seconds": round(sum(seconds), 2),
            "wall seconds, longest job": round(max(seconds), 2),
            "CPU seconds": round(sum(cpu), 2),
            "memory of the largest job, MiB": round(max(memory), 1),
        }
        place = f"#run/rule/{rule}"
        values = [_value(f"{place}/{name.replace(' ', '_')}", name, value) for name, value in measures.items()]
        yield {
            "@id": place,
            "@type": "CreateAction",
            "name": rule,
            "instrument": {"@id": "#dnagrinder"},
            "additionalProperty": _references(values),
        }
        yield from values


def _measure(text: str | None) -> float:
    """A number of a benchmark file; 0 where Snakemake could not measure it (``-``, ``NA``)."""
    try:
        number = float(text or "")
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
