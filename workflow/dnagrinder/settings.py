"""Settings of a workflow run: configuration and sample sheet, checked completely before anything is computed.

:func:`load_settings` collects every problem of the configuration and of the sample sheet and raises them as one
:class:`~dnagrinder.errors.ConfigError`. Neither the model nor a genome is opened here.
"""

from __future__ import annotations

import copy
import difflib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from dnagrinder.download import NO_CREDENTIALS, has_credentials
from dnagrinder.errors import ConfigError
from dnagrinder.samplesheet import Callset, Sample, assign_callsets, family_problems, read_rows, row_problems
from dnagrinder.yaml_values import MOST_VALUES, is_too_large

PACKAGE = Path(__file__).resolve().parent
SCHEMAS = PACKAGE.parent / "schemas"
CHECKPOINTS = PACKAGE / "checkpoints"
if TYPE_CHECKING:
    from dnagrinder.training.run_file import Run

PATH_KEYS = ("samples", "reference", "checkpoint", "regions", "results_dir", "store", "calibration")
CHECKPOINT_FILES = ("model.safetensors", "card.json", "tokenizer.json")


@dataclass(frozen=True)
class Reference:
    """Where the reference genome comes from: a path, or an address with the file's sha256 (hexadecimal)."""

    source: str
    sha256: str | None

    @property
    def is_remote(self) -> bool:
        """Whether the source is an address that has to be fetched."""
        return self.sha256 is not None


@dataclass(frozen=True)
class ScoringSettings:
    """How alleles are scored; the meanings stand in the schema. ``device`` is ``auto``, ``cpu`` or ``cuda``."""

    window: int
    views: int
    precision: str
    lattice: int
    haplotype_distance: int
    shards: int
    token_budget: int
    device: str


@dataclass(frozen=True)
class ReportSettings:
    """What the reports show: ``top`` variants with a context plot (``tracks``: and bedGraphs of it), and with ``igv`` a
    genome browser of them.

    ``panel`` (a BED) and ``max_af`` limit the lists of variants.
    """

    top: int
    tracks: bool
    panel: str | None
    max_af: float | None
    igv: bool

    @property
    def limits(self) -> list[str]:
        """The limits as the command line takes them."""
        panel = [f"--panel={self.panel}"] if self.panel else []
        return panel if self.max_af is None else [*panel, f"--max-af={self.max_af}"]


@dataclass(frozen=True)
class PretrainingSettings:
    """A training of the user's own; ``run`` is the content of ``run_file``, whose paths start from ``data``."""

    run_file: str
    data: str
    processes: int
    sharded: bool
    run: Run

    def masked_sources(self) -> dict[str, str]:
        """FASTA paths by name of the sources whose repeats WindowMasker has to find."""
        sources = {source.path.name: str(source.path) for source in self.run.sources if source.soft_mask == "windowmasker"}
        return {} if self.run.repeats == "keep" else sources


@dataclass(frozen=True)
class Settings:
    """One run, checked. Paths are as the user wrote them, relative to the folder in which the workflow runs."""

    samples: tuple[Sample, ...]
    callsets: tuple[Callset, ...]
    reference: Reference
    checkpoint: str
    regions: str | None
    results_dir: str
    store: str | None
    calibration: str | None
    scoring: ScoringSettings
    report: ReportSettings
    pretraining: PretrainingSettings | None

    def sample(self, name: str) -> Sample:
        """The sample of that name; KeyError where there is none."""
        return {sample.name: sample for sample in self.samples}[name]

    def callset(self, name: str) -> Callset:
        """The callset of that name; KeyError where there is none."""
        return {callset.name: callset for callset in self.callsets}[name]

    def family(self, name: str) -> tuple[Sample, ...]:
        """Members of the family, the proband first, then in the order of the sheet."""
        members = [sample for sample in self.samples if sample.family == name]
        return tuple(sorted(members, key=lambda member: member.role != "proband"))

    @property
    def families(self) -> list[str]:
        """Names of the families, in the order of the sheet."""
        return list(dict.fromkeys(sample.family for sample in self.samples if sample.family))

    @property
    def checkpoint_is_embedded(self) -> bool:
        """Whether the checkpoint is named, not a folder of the user's."""
        return self.checkpoint in embedded_checkpoints()

    @property
    def shards(self) -> list[str]:
        """Names of the shards, ``0001-of-0004`` and so on."""
        count = self.scoring.shards
        return [f"{number:04d}-of-{count:04d}" for number in range(1, count + 1)]

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``: the device asked for; ``auto`` is decided by this machine."""
        if self.scoring.device != "auto":
            return self.scoring.device
        return "cuda" if gpu_present() else "cpu"


def gpu_present(devices: Path = Path("/dev"), which: Callable[[str], str | None] = shutil.which) -> bool:
    """Whether this machine offers an NVIDIA GPU: its device nodes and its driver's tool are both there."""
    nodes = [*devices.glob("nvidia[0-9]*"), *devices.glob("dxg")]
    return bool(nodes) and which("nvidia-smi") is not None


def interpreter(executable: str, deployment: set[str]) -> str:
    """The Python for rules: the environment's own under conda, else the one that runs Snakemake.

    Without conda a bare ``python`` would be whichever comes first in PATH, not the one that has the packages.

    Args:
        executable: path of the Python that runs Snakemake.
        deployment: names of the software deployment methods in use, lower case.
    """
    return "python" if "conda" in deployment else executable


def embedded_checkpoints(folder: Path = CHECKPOINTS) -> list[str]:
    """Names of the checkpoints that come with the library (those with a card)."""
    return sorted(card.parent.name for card in folder.glob("*/card.json"))


def with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy of the value with every absent key that has a default in the schema; other types pass unchanged.

    A section (object) that is left empty, which YAML reads as null, counts as absent.
    """
    if not isinstance(value, dict):
        return value
    filled = copy.deepcopy(value)
    for key, part in schema.get("properties", {}).items():
        absent = key not in filled or (filled[key] is None and part.get("type") == "object")
        if absent and "default" in part:
            filled[key] = copy.deepcopy(part["default"])
        if key in filled:
            filled[key] = with_defaults(filled[key], part)
    return filled


def schema_problems(value: Any, schema: Mapping[str, Any], where: str) -> list[str]:
    """Every way in which the value does not follow the schema, one line each."""
    validator = Draft202012Validator(cast(dict[str, Any], schema))
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return [line for error in errors for line in _describe(error, where)]


def load_settings(config: Mapping[str, Any], base: Path, schemas: Path = SCHEMAS) -> Settings:
    """Check a configuration and its sample sheet and return the run's settings.

    Args:
        config: configuration as read from YAML.
        base: folder that relative paths start from.
        schemas: folder with ``config.schema.yaml`` and ``samples.schema.yaml``.

    Raises:
        ConfigError: with all problems found.
    """
    if is_too_large(config):
        raise ConfigError(
            "1 problem(s) in the settings", [f"config: more than {MOST_VALUES:,} values; are there YAML aliases?"]
        )
    schema = _read_schema(schemas / "config.schema.yaml")
    filled = with_defaults(dict(config), schema)
    problems = schema_problems(filled, schema, "config")
    look = filled.get("check_inputs") is not False
    rows: list[dict[str, str | None]] = []
    if isinstance(filled.get("samples"), str):
        rows, found = read_rows(base / filled["samples"])
        row_schema = _read_schema(schemas / "samples.schema.yaml")
        found += row_problems(rows, lambda row, where: schema_problems(row, row_schema, where), base, look=look)
        problems += found or family_problems(rows)
    problems += _file_problems(filled, base, look)
    if problems:
        # headers are looked at only once every row is sound
        raise ConfigError(f"{len(problems)} problem(s) in the settings", problems)
    samples, callsets, problems = assign_callsets(rows, base, look=look)
    pretraining = _pretraining(filled["pretraining"], base, problems)
    if problems:
        raise ConfigError(f"{len(problems)} problem(s) in what the settings name", problems)
    given = filled["reference"]
    remote = given if isinstance(given, dict) else {"url": given, "sha256": None}
    return Settings(
        samples=samples,
        callsets=callsets,
        reference=Reference(remote["url"], remote["sha256"]),
        checkpoint=filled["checkpoint"],
        regions=filled["regions"],
        results_dir=filled["results_dir"],
        store=filled["store"],
        calibration=filled["calibration"],
        scoring=ScoringSettings(**filled["scoring"]),
        report=ReportSettings(**filled["report"]),
        pretraining=pretraining,
    )


def _pretraining(values: dict[str, Any] | None, base: Path, problems: list[str]) -> PretrainingSettings | None:
    """The section with its run file read; what is wrong with that goes into ``problems``."""
    if values is None:
        return None
    from dnagrinder.training.run_file import read_run_file  # the training room: needless for a run that trains nothing

    try:
        run = read_run_file(base / values["run_file"], Path(values["data"]))
    except ConfigError as error:
        problems += [f"config: pretraining: {problem}" for problem in error.problems or [str(error)]]
        return None
    return PretrainingSettings(**values, run=run)


def _read_schema(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load(path.read_text(encoding="utf-8")))


def _describe(error: ValidationError, where: str) -> Iterator[str]:
    """One error of the validator in plain words; unknown keys come one by one, each with the closest known one."""
    place = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{where}: {place}: " if place else f"{where}: "
    schema, instance = cast(dict[str, Any], error.schema), cast(Any, error.instance)
    if error.validator == "additionalProperties":
        known = list(schema.get("properties", {}))
        for key in sorted(set(instance) - set(known), key=str):
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            yield f"{prefix}unknown key {key!r}; {hint}"
    elif error.validator == "pattern":
        hint = str(schema.get("description", "")).strip()
        yield f"{prefix}{instance!r} is not allowed here ({hint})"
    else:
        yield f"{prefix}{error.message}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _file_on_the_way(folder: Path) -> Path | None:
    """What is there in the place of the folder, or of one it lies in, and is no folder itself."""
    try:
        return next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    except (OSError, ValueError):  # a name too long, or with a NUL
        return None


def _section(filled: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The section, or an empty one where what stands there is none, which the schema tells."""
    section = filled.get(key)
    return section if isinstance(section, dict) else {}


def _file_problems(filled: Mapping[str, Any], base: Path, look: bool) -> Iterator[str]:
    """Files and folders that the configuration names and that are not there, or are the other of the two."""
    for key in PATH_KEYS:
        value = filled.get(key)
        if isinstance(value, str) and any(c in "{}<>" or ord(c) < 32 for c in value):
            yield f"config: {key}: {value!r} holds {{, }}, <, > or a control character, which no path may hold here"
    for key, value in _section(filled, "scoring").items():
        if isinstance(value, float):
            yield f"config: scoring.{key}: {value} is written with a decimal point; write {value:.0f}"
    panel = _section(filled, "report").get("panel")
    if isinstance(panel, str) and any(c in "{}<>" or ord(c) < 32 for c in panel):
        yield f"config: report.panel: {panel!r} holds {{, }}, <, > or a control character, which no path may hold here"
    elif look and isinstance(panel, str) and not _is_file(base / panel):
        yield f"config: report.panel: file not found: {panel}"
    reference, checkpoint = filled.get("reference"), filled.get("checkpoint")
    if isinstance(reference, dict) and has_credentials(str(reference.get("url"))):
        yield f"config: reference.url: {NO_CREDENTIALS}"
    if look and isinstance(reference, str) and not _is_file(base / reference):
        yield f"config: reference: file not found: {reference}"
    for key in ("regions", "calibration"):
        if look and isinstance(filled.get(key), str) and not _is_file(base / filled[key]):
            yield f"config: {key}: file not found: {filled[key]}"
    store = filled.get("store")
    if isinstance(store, str) and (file := _file_on_the_way(base / store)):
        yield f"config: store: {store!r} cannot be a folder, {file} is a file; name a folder, which need not exist"
    if isinstance(checkpoint, str) and "\0" not in checkpoint and checkpoint not in embedded_checkpoints():
        folder = base / checkpoint
        absent = [name for name in CHECKPOINT_FILES if not (folder / name).is_file()]
        if not folder.is_dir():
            known = ", ".join(embedded_checkpoints()) or "none"
            yield f"config: checkpoint: {checkpoint!r} is neither an embedded checkpoint ({known}) nor a folder"
        elif absent:
            yield f"config: checkpoint: the folder {checkpoint} lacks {', '.join(absent)}"
