"""Commands around models: tokenizer and model training, and what a model is.

Each imports what it needs itself: torch takes two seconds that the commands of other rooms need not wait.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dnagrinder.commands.options import AsJson, Threads, show
from dnagrinder.errors import ConfigError
from dnagrinder.model.checkpoint import open_checkpoint, save_checkpoint
from dnagrinder.model.config import SIZES
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.progress import track

if TYPE_CHECKING:
    from dnagrinder.training.pretrain import StepReport, Trainer
    from dnagrinder.training.run_file import Run

RunFile = Annotated[Path, typer.Argument(help="Run file (YAML), e.g. config/pretraining/mini.yaml.")]
DataFolder = Annotated[Path, typer.Option(help="Folder that the run file's FASTA paths are relative to.")]
LOG_COLUMNS = ("step", "loss", "accuracy", "tokens", "learning_rate", "seconds")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("train-tokenizer")(train_tokenizer)
    app.command("pretrain")(pretrain)
    app.command("info")(info)


def train_tokenizer(
    run_file: RunFile,
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="tokenizer.json to write.")],
) -> None:
    """Train the BPE tokenizer of a run file, one split of the corpus in memory at a time.

    Example: [bold]dnagrinder train-tokenizer config/pretraining/mini.yaml --data genomes --out tokenizer.json[/bold]
    """
    from dnagrinder.training.bpe import token_strings, train_bpe
    from dnagrinder.training.corpus import load_corpus, tokenizer_splits
    from dnagrinder.training.run_file import read_run_file

    run = read_run_file(run_file, data)
    recipe = run.tokenizer
    corpus = load_corpus(run.sources)
    splits = tokenizer_splits(corpus, splits=recipe.splits, bases=recipe.bases_per_split, seed=recipe.seed)
    with track("train-tokenizer", "merges") as progress:
        merges = train_bpe(splits, recipe.vocabulary, batch_ratio=recipe.batch_ratio, on_merges=progress)
    strings = token_strings(merges)
    tokenizer = DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges])
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out)
    print(f"{tokenizer.vocabulary} tokens written to {out}")


def pretrain(
    run_file: RunFile,
    data: DataFolder,
    tokenizer: Annotated[Path, typer.Option(help="tokenizer.json from train-tokenizer.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for state, log and the finished checkpoint.")],
    steps: Annotated[int | None, typer.Option(help="Stop after this step; the next call goes on from there.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states.")] = 100,
    threads: Threads = None,
) -> None:
    """Pretrain by masked language modelling; started again with the same folder, it goes on where it was stopped.

    Example: [bold]dnagrinder pretrain config/pretraining/mini.yaml --data genomes --tokenizer tokenizer.json
    --out runs/mini[/bold]
    """
    import torch

    from dnagrinder.model.heads import MaskedLanguageModel
    from dnagrinder.training.corpus import load_corpus
    from dnagrinder.training.pretrain import Trainer
    from dnagrinder.training.run_file import read_run_file

    run = read_run_file(run_file, data)
    if threads:
        torch.set_num_threads(threads)
    trainer = Trainer(
        MaskedLanguageModel(run.architecture),
        DnaTokenizer.load(tokenizer),
        load_corpus(run.sources),
        run.recipe,
        run.masking,
        out,
    )
    if trainer.resume():
        print(f"continuing at step {trainer.step}")
    with (out / "log.tsv").open("a", encoding="utf-8") as log, track("pretrain", "steps") as progress:
        if not log.tell():
            log.write("\t".join(LOG_COLUMNS) + "\n")

        def on_step(report: StepReport) -> None:
            log.write("\t".join(f"{getattr(report, column):.6g}" for column in LOG_COLUMNS) + "\n")
            log.flush()
            progress(report.step, run.recipe.steps)

        trainer.run(on_step, save_every=save_every, until=steps)
    if trainer.step == run.recipe.steps:
        save_checkpoint(out / run.name, trainer.model, trainer.tokenizer, _card(run, trainer))
        print(f"checkpoint written to {out / run.name}")


def info(
    model: Annotated[str | None, typer.Option(help=f"A named size: {', '.join(SIZES)}.")] = None,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", "-c", help="A checkpoint: name or folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the architecture and parameter count of a named size, or the card of a checkpoint.

    Example: [bold]dnagrinder info --model base --json[/bold]
    """
    import torch

    from dnagrinder.model.encoder import count_parameters
    from dnagrinder.model.heads import MaskedLanguageModel

    if checkpoint is not None:
        opened = open_checkpoint(checkpoint)
        show({**opened.card, "folder": str(opened.folder)}, as_json)
        return
    name = model or "mini"
    if name not in SIZES:
        raise ConfigError(f"model is one of {', '.join(SIZES)}, found {name!r}; for a checkpoint use --checkpoint")
    config = SIZES[name]
    with torch.device("meta"):
        parameters = count_parameters(MaskedLanguageModel(config))
    show({"model": name, "parameters": parameters, "architecture": config.to_dict()}, as_json)


def _card(run: Run, trainer: Trainer) -> dict[str, Any]:
    lengths = [run.recipe.length_at(step) for step in range(trainer.step)]
    tokens = sum(run.recipe.tokens_per_step // length * length for length in lengths)
    return {
        "name": run.name,
        "description": run.description,
        "license": "Apache-2.0",
        "training": {
            "data": [
                {"file": source.path.name, "weight": source.weight, "held_out": list(source.held_out)}
                for source in run.sources
            ],
            "held_out_tail_of_every_contig": run.sources[0].held_out_tail,
            "known_bases": trainer.corpus.bases,
            "corpus_sha256": trainer.corpus.digest,
            "tokens": tokens,
            "steps": trainer.step,
            "seconds": round(trainer.seconds),
            "recipe": json.loads(json.dumps(trainer.identity()["recipe"])),
            "masking": json.loads(json.dumps(trainer.identity()["masking"])),
        },
        "held_out": run.evaluation.held_out,
        "metrics": {},
        "limits": list(run.limits),
    }
