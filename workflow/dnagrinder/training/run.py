"""A whole training: from run file, corpus and tokenizer to a checkpoint with its card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from dnagrinder.errors import ConfigError
from dnagrinder.model.checkpoint import CARD, Checkpoint, open_checkpoint, save_checkpoint
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.progress import track
from dnagrinder.training.batches import BatchMaker
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.corpus.token_counts import token_counts
from dnagrinder.training.log import curve, open_log, read_log, write_row
from dnagrinder.training.parallel import World
from dnagrinder.training.pretrain import StepReport, Trainer
from dnagrinder.training.run_file import Run, check_corpus, read_run_file

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def train(
    run_file: Path,
    corpus_folder: Path,
    tokenizer_file: Path,
    out: Path,
    world: World,
    *,
    until: int | None = None,
    save_every: int = 100,
    precision: str = "bfloat16",
    sharded: bool = False,
    processes: int = 1,
) -> Path | None:
    """Train, or go on training, and write the checkpoint when the last step is done.

    Args:
        until: stop after this step.
        processes: for counting tokens, where the curriculum needs it.

    Returns:
        The checkpoint's folder; None while steps are left, and in all processes but the first.
    """
    run = read_run_file(run_file)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is one of {', '.join(PRECISIONS)}, found {precision!r}")
    corpus, tokenizer = Corpus(corpus_folder), DnaTokenizer.load(tokenizer_file)
    check_corpus(run, corpus)
    if tokenizer.vocabulary > (known := run.architecture.vocabulary):
        raise ConfigError(f"tokenizer {tokenizer_file} has {tokenizer.vocabulary} ids, the run file's architecture {known}")
    initial = _initial(run, tokenizer)
    counts = None
    if run.recipe.curriculum.needs_token_counts:
        if world.is_first:
            token_counts(corpus, tokenizer_file, processes)
        world.wait()
        counts = token_counts(corpus, tokenizer_file)
    batches = BatchMaker(corpus, tokenizer, run.recipe, run.masking, token_counts=counts, rank=world.rank, world=world.size)
    trainer = Trainer(
        initial.load_model(torch.device("cpu")) if initial else MaskedLanguageModel(run.architecture),
        batches,
        run.recipe,
        _identity(run, corpus, tokenizer, initial),
        out,
        dtype=PRECISIONS[precision],
        world=world,
        fresh=initial is None,
        sharded=sharded,
    )
    if trainer.resume() and world.is_first:
        print(f"continuing at step {trainer.step}")
    done_before = trainer.step == run.recipe.steps
    if world.is_first:
        with open_log(out, trainer.step) as log, track("pretrain", "steps") as progress:

            def on_step(report: StepReport) -> None:
                write_row(log, report)
                rate = report.tokens / report.seconds
                note = f"loss {report.loss:.3f}, accuracy {report.accuracy:.1%}, {rate:,.0f} tokens/s"
                progress(report.step, run.recipe.steps, note)

            trainer.run(on_step, save_every=save_every, until=until)
    else:
        trainer.run(lambda _: None, save_every=save_every, until=until)
    if trainer.step < run.recipe.steps:
        return None
    weights = trainer.final_weights()
    if not world.is_first:
        return None
    if done_before and (out / run.name / CARD).is_file():
        return out / run.name  # as it was written then: its card may hold metrics by now
    with torch.device("meta"):
        model = MaskedLanguageModel(run.architecture)
    model.load_state_dict(weights, assign=True)
    card = _card(run, trainer, batches, corpus, initial)
    save_checkpoint(out / run.name, model, tokenizer, card, dtype=PRECISIONS[precision])
    return out / run.name


def _initial(run: Run, tokenizer: DnaTokenizer) -> Checkpoint | None:
    """The checkpoint that the run starts from, which must have the run's architecture and tokenizer."""
    if run.initial_checkpoint is None:
        return None
    initial = open_checkpoint(run.initial_checkpoint)
    if initial.config != run.architecture:
        raise ConfigError(f"initial_checkpoint {initial.name} has another architecture than the run file")
    if initial.tokenizer.digest != tokenizer.digest:
        raise ConfigError(f"initial_checkpoint {initial.name} has another tokenizer than the one given")
    return initial


def _identity(run: Run, corpus: Corpus, tokenizer: DnaTokenizer, initial: Checkpoint | None) -> dict[str, Any]:
    return {
        "corpus_sha256": corpus.digest,
        "tokenizer_sha256": tokenizer.digest,
        "masking": json.loads(json.dumps(vars(run.masking))),
        "initial_sha256": initial.digest if initial else None,
    }


def _card(run: Run, trainer: Trainer, batches: BatchMaker, corpus: Corpus, initial: Checkpoint | None) -> dict[str, Any]:
    rows = read_log(trainer.folder)
    training = {
        "data": corpus.description["sources"],
        "repeats": run.repeats,
        "corpus_sha256": corpus.digest,
        "segments": len(corpus),
        "epochs": round(batches.epochs_at(trainer.step), 3),
        "tokens": sum(row.tokens for row in rows),
        "steps": trainer.step,
        "seconds": round(trainer.seconds),
        "processes": trainer.world.size,
        "recipe": json.loads(json.dumps(trainer.identity["recipe"])),
        "masking": trainer.identity["masking"],
        "log_sha256": hashlib.sha256((trainer.folder / "log.tsv").read_bytes()).hexdigest(),
        "curve": curve(rows),
    }
    if initial:
        training["initial"] = {"name": initial.name, "sha256": initial.digest, "training": initial.card["training"]}
    return {
        "name": run.name,
        "description": run.description,
        "license": "Apache-2.0",
        "training": training,
        "held_out": run.evaluation.held_out,
        "metrics": {},
        "limits": list(run.limits),
    }
