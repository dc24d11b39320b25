"""The run file of a pretraining: corpus, tokenizer, architecture, recipe and masking in one YAML, checked as a whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from dnagrinder.errors import ConfigError, DnaGrinderError
from dnagrinder.model.config import SIZES, EncoderConfig
from dnagrinder.training.corpus.segments import SEGMENT
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.corpus.sources import Source, parse_sources
from dnagrinder.training.curriculum import Curriculum
from dnagrinder.training.evaluation_plan import EvaluationPlan, parse_evaluation
from dnagrinder.training.mapping import built
from dnagrinder.training.masking import Masking
from dnagrinder.training.recipe import Recipe
from dnagrinder.yaml_values import MOST_VALUES, is_too_large

KEYS = ("name", "description", "corpus", "tokenizer", "architecture", "recipe", "masking", "evaluation", "limits")
OPTIONAL_KEYS = ("initial_checkpoint",)
REPEAT_WEIGHT = 0.1  # of a target inside repeats under "downweight"; GPN's value (model-spec §1.3)
METHODS = ("carry_over", "exact")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch


@dataclass(frozen=True)
class TokenizerRecipe:
    """How the tokenizer is trained: form of BPE, vocabulary, number of splits of the text and bases of each.

    ``batch_ratio`` is the carry-over form's (``bpe.train_bpe``); the exact form needs none.
    """

    method: str = "carry_over"
    vocabulary: int = 4096
    splits: int = 8
    bases_per_split: int = 12_000_000
    batch_ratio: float = 0.9
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"tokenizer: method is one of {', '.join(METHODS)}, found {self.method!r}")
        if self.splits < 1 or self.bases_per_split < 1 or self.seed < 0:
            raise ConfigError("tokenizer: splits and bases_per_split must be at least 1, seed not negative")


@dataclass(frozen=True)
class Run:
    """A checked run file; ``initial_checkpoint`` is a name or folder whose weights training starts from."""

    name: str
    description: str
    sources: tuple[Source, ...]
    segment: int
    repeats: str
    tokenizer: TokenizerRecipe
    architecture: EncoderConfig
    recipe: Recipe
    masking: Masking
    evaluation: EvaluationPlan
    limits: tuple[str, ...]
    initial_checkpoint: str | None = None


def read_run_file(path: Path, data: Path | None = None) -> Run:
    """Read and check a run file; the paths in it are relative to ``data``.

    Args:
        data: without it the files need not be there: a corpus that is built needs its sources no more.

    Raises:
        ConfigError: every problem at once.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"run file {path} cannot be read: {error}") from error
    if is_too_large(document):
        raise ConfigError(f"run file {path}: more than {MOST_VALUES:,} values; are there YAML aliases?")
    if not isinstance(document, dict):
        raise ConfigError(f"run file {path}: expected a mapping with the keys {', '.join(KEYS)}")
    problems = [f"unknown key {key}" for key in sorted(map(str, set(document) - {*KEYS, *OPTIONAL_KEYS}))]
    problems += [f"missing key {key}" for key in KEYS if key not in document]
    sources, found = parse_sources(document.get("corpus"), data)
    problems += found
    tokenizer = built(TokenizerRecipe, document.get("tokenizer"), "tokenizer", problems)
    recipe = built(Recipe, _with_curriculum(document.get("recipe"), problems), "recipe", problems)
    masking = built(Masking, document.get("masking"), "masking", problems)
    repeats = document["corpus"].get("repeats", "keep") if isinstance(document.get("corpus"), dict) else "keep"
    if masking and repeats == "downweight" and masking.repeat_weight == 1:
        masking = replace(masking, repeat_weight=REPEAT_WEIGHT)
    if masking and repeats != "downweight" and masking.repeat_weight != 1:
        problems.append(f"masking: repeat_weight is for corpus repeats downweight, found repeats {repeats}")
    if masking and not masking.natural_rate and not masking.span_spacing:
        problems.append("masking: without natural_rate and span_spacing nothing is ever asked")
    evaluation, found = parse_evaluation(document.get("evaluation"), data)
    problems += found
    config = _architecture(document.get("architecture"), problems)
    if tokenizer and config and tokenizer.vocabulary > config.vocabulary:
        problems.append(f"tokenizer: {tokenizer.vocabulary} ids are more than the architecture's {config.vocabulary}")
    if not NAME(str(document.get("name"))):
        problems.append(f"name is a folder's: letters, digits and . _ -, found {document.get('name')!r}")
    if not isinstance(document.get("limits"), list):
        problems.append(f"limits is a list of texts, found {document.get('limits')!r}")
    if problems or not (tokenizer and recipe and masking and evaluation and config):
        raise ConfigError(f"run file {path}", problems)
    return Run(
        name=str(document["name"]),
        description=" ".join(str(document["description"]).split()),
        sources=tuple(sources),
        segment=document["corpus"].get("segment", SEGMENT),
        repeats=repeats,
        tokenizer=tokenizer,
        architecture=config,
        recipe=recipe,
        masking=masking,
        evaluation=evaluation,
        limits=tuple(" ".join(str(limit).split()) for limit in document["limits"]),
        initial_checkpoint=document.get("initial_checkpoint"),
    )


def check_corpus(run: Run, corpus: Corpus) -> None:
    """Raise ConfigError where a corpus was not built from this run file's sources, held-out parts and repeat handling."""
    found = corpus.description
    problems = []
    for key, value in (("repeats", run.repeats), ("segment", run.segment)):
        if found[key] != value:
            problems.append(f"{key}: the run file says {value}, the corpus {found[key]}")
    unused = {source.path.name for source in run.sources}
    for entry in found["sources"]:
        name = entry["name"]
        named = [source for source in run.sources if source.path.name == name]
        candidates = named or [source for source in run.sources if fnmatchcase(name, source.path.name)]
        if not candidates:
            problems.append(f"{name} is in the corpus, but not in the run file")
            continue
        # patterns of several folders may look the same: the one that fits best counts
        closest = min(candidates, key=lambda source: len(_differences(entry, source)))
        unused.discard(closest.path.name)
        if different := _differences(entry, closest):
            problems.append(f"{name} was built with other {', '.join(different)}")
    problems += [f"{name} is not in the corpus" for name in sorted(unused)]
    if problems:
        raise ConfigError(f"corpus {corpus.folder} does not belong to the run file; build it again", problems)


def _differences(entry: dict[str, Any], source: Source) -> list[str]:
    """In what a source of a corpus differs from that of a run file."""
    wanted = {
        "copies": source.copies,
        "held-out parts": (list(source.held_out), source.held_out_tail),
        "soft mask": source.soft_mask,
        "panels": [(panel.path.name, list(panel.samples), panel.copies) for panel in source.panels],
    }
    found = {
        "copies": entry["copies"],
        "held-out parts": (entry["held_out"], entry["held_out_tail"]),
        "soft mask": entry["soft_mask"],
        "panels": [(panel["name"], panel.get("samples"), panel["copies"]) for panel in entry["panels"]],
    }
    return [key for key, value in wanted.items() if found[key] != value]


def _with_curriculum(values: Any, problems: list[str]) -> Any:
    """The recipe's mapping with its ``curriculum`` mapping made into a Curriculum."""
    if not isinstance(values, dict) or "curriculum" not in values:
        return values
    return {**values, "curriculum": built(Curriculum, values["curriculum"], "recipe curriculum", problems) or Curriculum()}


def _architecture(value: Any, problems: list[str]) -> EncoderConfig | None:
    """A named size, or a mapping of the encoder's settings; what is wrong with it goes into ``problems``."""
    if isinstance(value, dict):
        try:
            return EncoderConfig.from_dict(value)
        except DnaGrinderError as error:
            problems.append(str(error))
            return None
    if value not in SIZES:
        problems.append(f"architecture is one of {', '.join(SIZES)}, or a mapping of its settings, found {value!r}")
        return None
    return SIZES[value]
