"""Very long sequences through `base`: time and peak memory of a forward pass, and of a training step.

Parts, each run in a process of its own, whose peak resident memory it reports:
  forward   140,000 tokens in bf16 through InferenceModel, 12 layers, logits of standard deviation 2, on all threads
  training  one step of dnagrinder.training on 17,000 tokens of random bases: bf16 activations that are recomputed, loss in
            pieces, float32 master weights and AdamW moments

--yardstick names another program for the forward pass, to be run in turn with ours as

  SCRIPT tokens bf16 skip 2 layers 1e-6

(logit std 2, epsilon 1e-6). It must print "wall <seconds>s" and "CPU <seconds>s" of the pass alone, and may print
"peak RSS <GiB> GiB". Both take their threads from --threads and all else from the environment (OMP_WAIT_POLICY, for one).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import dtype_name, judge, option_parser, record, start

FORWARD_GOAL, TRAINING_GOAL = 2.5, 6.0  # GiB of peak resident memory
NO_SLOWER = 1.0
EPSILON, SPREAD = 1e-6, 2.0
LEAST_BASES, BASES_A_WANTED_TOKEN = 3_000_000, 20  # of the random training genome
Found = dict[str, float]


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run_forward(arguments: argparse.Namespace) -> Found:
    """In a process of its own: one forward pass of one sequence."""
    from models import pack, random_base

    from dnagrinder.model.inference import InferenceModel

    model = InferenceModel(random_base(arguments.layers, SPREAD, torch.bfloat16))
    ids, bounds = pack(1, arguments.tokens, model.config.vocabulary)
    loaded = peak_gib()
    wall, cpu = time.perf_counter(), time.process_time()
    hidden = model.hidden(ids, bounds, arguments.tokens)
    found = {"wall": time.perf_counter() - wall, "CPU": time.process_time() - cpu}
    if not hidden.isfinite().all():
        raise SystemExit("the forward pass gave values that are no finite numbers")
    return found | {"loaded": loaded, "peak": peak_gib()}


def run_training(arguments: argparse.Namespace) -> Found:
    """In a process of its own: one training step, then the saving of its state."""
    from dataclasses import replace

    from dnagrinder.model.checkpoint import open_checkpoint
    from dnagrinder.model.config import SIZES
    from dnagrinder.model.heads import MaskedLanguageModel
    from dnagrinder.training.batches import BatchMaker
    from dnagrinder.training.corpus.build import build_corpus
    from dnagrinder.training.corpus.shards import Corpus
    from dnagrinder.training.corpus.sources import Source
    from dnagrinder.training.curriculum import Curriculum
    from dnagrinder.training.masking import Masking
    from dnagrinder.training.pretrain import StepReport, Trainer
    from dnagrinder.training.recipe import Recipe

    tokens = arguments.training_tokens
    found: Found = {}
    with tempfile.TemporaryDirectory() as name:
        genome = random_genome(Path(name), max(LEAST_BASES, tokens * BASES_A_WANTED_TOKEN))
        folder = Path(name) / "corpus"
        build_corpus(
            [Source(genome, 1.0, held_out_tail=0.0)], folder, segment=max(LEAST_BASES, tokens * BASES_A_WANTED_TOKEN)
        )
        model = MaskedLanguageModel(replace(SIZES["base"], layers=arguments.layers))
        recipe = Recipe(
            steps=1, tokens_per_step=tokens, curriculum=Curriculum(max_tokens=tokens), micro_tokens=tokens, recompute=True
        )
        tokenizer = open_checkpoint("mini").tokenizer
        batches = BatchMaker(Corpus(folder), tokenizer, recipe, Masking())
        trainer = Trainer(model, batches, recipe, {}, Path(name) / "state")
        wall, cpu = time.perf_counter(), time.process_time()

        def on_step(report: StepReport) -> None:
            found.update(wall=time.perf_counter() - wall, CPU=time.process_time() - cpu, peak=peak_gib())
            found.update(loss=report.loss, tokens=float(report.tokens))

        trainer.run(on_step, until=1)
    return found | {"saved": peak_gib()}


def random_genome(folder: Path, bases: int) -> Path:
    """An indexed FASTA of one contig of random bases."""
    import pysam

    path = folder / "random.fa"
    path.write_text(">1\n" + "".join(random.Random(1).choices("ACGT", k=bases)) + "\n", encoding="ascii")
    pysam.faidx(str(path))
    return path


CHILDREN: dict[str, Callable[[argparse.Namespace], Found]] = {"forward": run_forward, "training": run_training}


def spawn(part: str, arguments: argparse.Namespace) -> Found:
    """Run a part in a new process and return what it measured."""
    options = {
        "--child": part,
        "--tokens": arguments.tokens,
        "--training-tokens": arguments.training_tokens,
        "--layers": arguments.layers,
        "--threads": arguments.threads,
    }
    command = [sys.executable, __file__, *(str(word) for option in options.items() for word in option)]
    found: Found = json.loads(run(command, arguments.threads).splitlines()[-1])
    return found


def run(command: list[str], threads: int, folder: str | None = None) -> str:
    """Output of a process; ``folder`` is where it may leave temporary files."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **({"TMPDIR": folder} if folder else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def run_yardstick(script: Path, arguments: argparse.Namespace, folder: str) -> Found:
    """The other program's own figures."""
    words = [arguments.tokens, "bf16", "skip", f"{SPREAD:g}", arguments.layers, f"{EPSILON:g}"]
    text = run([sys.executable, str(script), *map(str, words)], arguments.threads, folder)
    found = {}
    for name, pattern in {"wall": r"wall ([\d.]+)s", "CPU": r"CPU ([\d.]+)s", "peak": r"peak RSS ([\d.]+) GiB"}.items():
        if match := re.search(pattern, text):
            found[name] = float(match[1])
    if not {"wall", "CPU"} <= found.keys():
        raise SystemExit(f"{script} printed no wall and CPU seconds:\n{text}")
    return found


def measure_forward(arguments: argparse.Namespace) -> None:
    """Ours, in turn with the yardstick where one is given."""
    results: dict[str, list[Found]] = {"ours": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.repeats):
            results["ours"].append(spawn("forward", arguments))
            show("ours", results["ours"][-1])
            if arguments.yardstick:
                results.setdefault("yardstick", []).append(run_yardstick(arguments.yardstick, arguments, folder))
                show("yardstick", results["yardstick"][-1])
    setting = f"1x{arguments.tokens} {dtype_name(torch.bfloat16)} logit std {SPREAD:g}, {arguments.layers} layers"
    medians = {kind: write(f"forward, {kind}", setting, found, arguments.threads) for kind, found in results.items()}
    judge(f"forward {setting}: peak RSS, GiB", medians["ours"]["peak"], FORWARD_GOAL, at_least=False)
    if arguments.yardstick:
        for clock in ("wall", "CPU"):
            ratio = medians["ours"][clock] / medians["yardstick"][clock]
            judge(f"forward {setting}: {clock} time of ours / yardstick", ratio, NO_SLOWER, at_least=False)


def measure_training(arguments: argparse.Namespace) -> None:
    """One step in a process of its own."""
    found = spawn("training", arguments)
    show("training", found)
    setting = f"1x{int(found['tokens'])} bfloat16 recomputed, AdamW, {arguments.layers} layers"
    medians = write("training step", setting, [found], arguments.threads)
    judge(f"training step {setting}: peak RSS of the step, GiB", medians["peak"], TRAINING_GOAL, at_least=False)
    judge(f"training step {setting}: and with the saving of the state", medians["saved"], TRAINING_GOAL, at_least=False)


def show(name: str, found: dict[str, Any]) -> None:
    """One line of what a process measured."""
    print(f"long {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)


def write(kind: str, setting: str, found: list[Found], threads: int) -> Found:
    """A row a figure; returns medians."""
    metrics = {"wall": "wall seconds", "CPU": "CPU seconds", "peak": "peak RSS GiB", "saved": "peak RSS GiB with saving"}
    medians = {}
    for key, metric in metrics.items():
        values = [one[key] for one in found if key in one]
        if values:
            record("long", kind, setting, metric, values, threads=threads)
            medians[key] = statistics.median(values)
    return medians


def main() -> None:
    """Measure the parts, or be the process that one of them runs in."""
    parser = option_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(CHILDREN), default=list(CHILDREN))
    parser.add_argument("--tokens", type=int, default=140_000, help="of the forward pass")
    parser.add_argument("--training-tokens", type=int, default=17_000, help="of the training step")
    parser.add_argument("--layers", type=int, default=12, help="layers of the model")
    parser.add_argument("--repeats", type=int, default=2, help="forward passes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both parts")
    parser.add_argument("--yardstick", type=Path, help="script to run in turn with the forward pass")
    parser.add_argument("--child", choices=list(CHILDREN), help=argparse.SUPPRESS)
    arguments = start(parser)
    if arguments.child:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(CHILDREN[arguments.child](arguments)))
        return
    if "forward" in arguments.parts:
        measure_forward(arguments)
    if "training" in arguments.parts:
        measure_training(arguments)


if __name__ == "__main__":
    main()
