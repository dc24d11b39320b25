"""Commands around models: tokenizer and model training, and what a model is.

Each imports what it needs itself: torch takes two seconds that the commands of other rooms need not wait.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from dnagrinder.commands.options import AsJson, Device, Threads, show
from dnagrinder.errors import ConfigError
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.model.config import SIZES
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.progress import track

RunFile = Annotated[Path, typer.Argument(help="Run file (YAML), e.g. config/pretraining/mini.yaml.")]
DataFolder = Annotated[Path, typer.Option(help="Folder that the run file's FASTA paths are relative to.")]
CorpusFolder = Annotated[Path, typer.Option(help="Corpus folder from build-corpus.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("build-corpus")(build_corpus)
    app.command("train-tokenizer")(train_tokenizer)
    app.command("pretrain")(pretrain)
    app.command("info")(info)


def build_corpus(
    run_file: RunFile,
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Corpus folder to write.")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of repeat intervals, FASTA-NAME.bed, for sources masked by windowmasker.")
    ] = None,
) -> None:
    """Cut the genomes of a run file into segments, without what is held out, and write them as checked shards.

    Example: [bold]dnagrinder build-corpus config/pretraining/mini.yaml --data genomes --out corpus[/bold]
    """
    from dnagrinder.training.corpus import build
    from dnagrinder.training.run_file import read_run_file

    run = read_run_file(run_file, data)
    with track("build-corpus", "sources") as progress:
        shards = build.build_corpus(
            run.sources, out, segment=run.segment, repeats=run.repeats, masks=masks, on_source=progress
        )
    segments, bases = sum(shard.segments for shard in shards), sum(shard.bases for shard in shards)
    print(f"{segments:,} segments, {bases:,} bases in {len(shards)} shards written to {out}")


def train_tokenizer(
    run_file: RunFile,
    corpus: CorpusFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="tokenizer.json to write.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes of the exact form.")] = 1,
) -> None:
    """Train the BPE tokenizer of a run file, in the carry-over or the exact out-of-core form.

    Example: [bold]dnagrinder train-tokenizer config/pretraining/mini.yaml --corpus corpus --out tokenizer.json[/bold]
    """
    from dnagrinder.training.bpe import token_strings, train_bpe, train_exact_bpe
    from dnagrinder.training.corpus.shards import Corpus
    from dnagrinder.training.corpus.splits import tokenizer_splits
    from dnagrinder.training.run_file import check_corpus, read_run_file

    run = read_run_file(run_file)
    recipe = run.tokenizer
    opened = Corpus(corpus)
    check_corpus(run, opened)
    splits = tokenizer_splits(opened, splits=recipe.splits, bases=recipe.bases_per_split, seed=recipe.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with track("train-tokenizer", "merges") as progress:
        if recipe.method == "exact":
            folder = out.with_suffix(".work")  # holds the state that a killed training goes on from
            merges = train_exact_bpe(splits, recipe.vocabulary, folder=folder, processes=processes, on_merges=progress)
        else:
            merges = train_bpe(splits, recipe.vocabulary, batch_ratio=recipe.batch_ratio, on_merges=progress)
    strings = token_strings(merges)
    tokenizer = DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges])
    tokenizer.save(out)
    print(f"{tokenizer.vocabulary} tokens written to {out}")


def pretrain(
    run_file: RunFile,
    corpus: CorpusFolder,
    tokenizer: Annotated[Path, typer.Option(help="tokenizer.json from train-tokenizer.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for states, log and the finished checkpoint.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this step; the next call goes on from there.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states.")] = 100,
    precision: Annotated[str, typer.Option(help="Arithmetic of the model: bfloat16 or float32.")] = "bfloat16",
    sharded: Annotated[bool, typer.Option(help="Spread weights and moments over the processes (FSDP).")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes that count tokens, where the curriculum needs it.")] = 1,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Pretrain by masked language modelling; started again with the same folder, it goes on where it was stopped.

    Several GPUs or machines: start it with torchrun, e.g.
    [bold]torchrun --nproc-per-node 8 -m dnagrinder pretrain ...[/bold]

    Example: [bold]dnagrinder pretrain config/pretraining/mini.yaml --corpus corpus --tokenizer tokenizer.json
    --out runs/mini[/bold]
    """
    import torch

    from dnagrinder.reports.training import write_training_page
    from dnagrinder.scoring.session import choose_device
    from dnagrinder.training.locking import locked
    from dnagrinder.training.parallel import joined_world
    from dnagrinder.training.run import train

    if threads:
        torch.set_num_threads(threads)
    with joined_world(choose_device(device)) as world, locked(out) if world.is_first else nullcontext():
        finished = train(
            run_file,
            corpus,
            tokenizer,
            out,
            world,
            until=steps,
            save_every=save_every,
            precision=precision,
            sharded=sharded,
            processes=processes,
        )
        if world.is_first:
            write_training_page(out)
    if finished:
        print(f"checkpoint written to {finished}")


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
