"""The run file of a pretraining: corpus, tokenizer, architecture, recipe and masking in one YAML, checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dnagrinder.errors import ConfigError, DnaGrinderError
from dnagrinder.model.config import SIZES, EncoderConfig
from dnagrinder.training.corpus import Source, parse_sources
from dnagrinder.training.evaluation_plan import EvaluationPlan, parse_evaluation
from dnagrinder.training.masking import Masking
from dnagrinder.training.pretrain import Recipe

KEYS = ("name", "description", "corpus", "tokenizer", "architecture", "recipe", "masking", "evaluation", "limits")
T = TypeVar("T")


@dataclass(frozen=True)
class TokenizerRecipe:
    """How the tokenizer is trained (``bpe.train_bpe``): vocabulary, number of splits, bases of each."""

    vocabulary: int = 4096
    splits: int = 8
    bases_per_split: int = 12_000_000
    batch_ratio: float = 0.9
    seed: int = 1


@dataclass(frozen=True)
class Run:
    """A checked run file."""

    name: str
    description: str
    sources: tuple[Source, ...]
    tokenizer: TokenizerRecipe
    architecture: EncoderConfig
    recipe: Recipe
    masking: Masking
    evaluation: EvaluationPlan
    limits: tuple[str, ...]


def read_run_file(path: Path, data: Path) -> Run:
    """Read and check a run file; FASTA paths are relative to ``data``.

    Raises:
        ConfigError: every problem at once.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"run file {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"run file {path}: expected a mapping with the keys {', '.join(KEYS)}")
    problems = [f"unknown key {key}" for key in sorted(set(document) - set(KEYS))]
    problems += [f"missing key {key}" for key in KEYS if key not in document]
    sources, found = parse_sources(document.get("corpus"), data)
    problems += found
    tokenizer = _build(TokenizerRecipe, document.get("tokenizer"), "tokenizer", problems)
    recipe = _build(Recipe, document.get("recipe"), "recipe", problems)
    masking = _build(Masking, document.get("masking"), "masking", problems)
    evaluation, found = parse_evaluation(document.get("evaluation"), data)
    problems += found
    architecture = document.get("architecture")
    config = SIZES.get(architecture) if isinstance(architecture, str) else None
    if config is None:
        problems.append(f"architecture is one of {', '.join(SIZES)}, found {architecture!r}")
    if problems or not (tokenizer and recipe and masking and evaluation and config):
        raise ConfigError(f"run file {path}", problems)
    return Run(
        name=str(document["name"]),
        description=" ".join(str(document["description"]).split()),
        sources=tuple(sources),
        tokenizer=tokenizer,
        architecture=config,
        recipe=recipe,
        masking=masking,
        evaluation=evaluation,
        limits=tuple(" ".join(str(limit).split()) for limit in document["limits"]),
    )


def _build(kind: type[T], values: Any, name: str, problems: list[str]) -> T | None:
    """A dataclass from a mapping; what is wrong with it goes into ``problems``."""
    if not isinstance(values, dict):
        problems.append(f"{name}: expected a mapping, found {values!r}")
        return None
    unknown = sorted(set(values) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        problems.append(f"{name}: unknown key(s) {', '.join(unknown)}")
        return None
    try:
        return kind(**{key: _frozen(value) for key, value in values.items()})
    except (TypeError, DnaGrinderError) as error:
        problems.append(f"{name}: {error}")
        return None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
