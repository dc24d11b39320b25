"""What each part of the pretraining recipe is worth: a small model, equal tokens, several seeds, mean and spread.

Every variant differs from ``base`` in one thing. All read the same human sequence (chr20 and the held part of chr22 of
GRCh37, less what is held out) for the same number of tokens and are measured on the same masked held-out windows of
chr20, in nats per base, so that tokenizers compare. Finished runs are kept in ``ablations.csv`` and not repeated;
``--table`` prints the table of what is there.

The soft mask of chr20 is WindowMasker's: rule ``mask_repeats`` makes it, ``--masks`` is its folder.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import torch
from harness import option_parser

from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.batches import BatchMaker
from dnagrinder.training.bpe import token_strings, train_bpe, train_exact_bpe
from dnagrinder.training.corpus.build import build_corpus
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.corpus.sources import Panel, Source
from dnagrinder.training.corpus.splits import tokenizer_splits
from dnagrinder.training.corpus.token_counts import token_counts
from dnagrinder.training.curriculum import Curriculum
from dnagrinder.training.masking import IGNORED, Masking, mask_sequence
from dnagrinder.training.pretrain import Trainer
from dnagrinder.training.recipe import Recipe

CSV = Path(__file__).with_name("ablations.csv")
MODEL = EncoderConfig(hidden=128, layers=4, heads=2, intermediate=256, tie_decoder=True)
LENGTH = 256  # tokens of a sequence
RECIPE = Recipe(
    steps=400,
    tokens_per_step=4096,
    curriculum=Curriculum(max_tokens=LENGTH),
    learning_rate=2e-3,
    warmup_steps=40,
    micro_tokens=4096,
)
TOKENIZER = {"splits": 8, "bases": 4_000_000, "seed": 1}
HELD_OUT = {"20": [(999_999, 4_000_000), (56_722_968, 62_965_520)]}
WINDOWS, WINDOW = 400, 1000  # measured windows and their bases
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "slw: sort_within_shard": {"curriculum": Curriculum("sort_within_shard", LENGTH)},
    "slw: bucketed": {"curriculum": Curriculum("bucketed", LENGTH)},
    "slw: truncate_schedule": {
        "curriculum": Curriculum("truncate_schedule", LENGTH, ((0.0, 64), (0.25, 128), (0.5, LENGTH)))
    },
    "repeats: downweight (0.1)": {"repeat_weight": 0.1},
    "repeats: drop": {"corpus": "drop"},
    "activation: GEGLU": {"activation": "geglu"},
    "haplotypes: on": {"corpus": "haplotypes"},
    "reverse complement: on": {"reverse_complement": True},
    "tokenizer: exact BPE": {"tokenizer": "exact"},
}
COLUMNS = (
    "variant",
    "seed",
    "nats_per_base",
    "nats_outside_repeats",
    "nats_inside_repeats",
    "accuracy",
    "tokens",
    "seconds",
)


@dataclass(frozen=True)
class Material:
    """What runs share: where the genomes are, and corpora and tokenizers by name, made when first asked for."""

    data: Path
    masks: Path
    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def corpus(self, name: str) -> Corpus:
        """``keep``, ``drop`` or ``haplotypes`` (keep, with the panels)."""
        folder = self.folder / f"corpus-{name}"
        if not (folder / "corpus.json").is_file():
            sources = self._sources(with_panels=name == "haplotypes")
            build_corpus(sources, folder, repeats="drop" if name == "drop" else "keep", masks=self.masks)
        return Corpus(folder)

    def tokenizer(self, name: str) -> Path:
        """``carry_over`` or ``exact``, trained on the same text."""
        path = self.folder / f"tokenizer-{name}.json"
        if not path.is_file():
            splits = tokenizer_splits(self.corpus("keep"), **TOKENIZER)
            if name == "exact":
                merges = train_exact_bpe(splits, MODEL.vocabulary, folder=self.folder / "bpe", processes=1)
            else:
                merges = train_bpe(splits, MODEL.vocabulary)
            strings = token_strings(merges)
            DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges]).save(path)
        return path

    def _sources(self, with_panels: bool) -> list[Source]:
        folder = self.data / "grch37"
        panels = tuple(
            Panel(folder / name)
            for name in ("hg00096_sv_phase3.vcf.gz", "nist2.19_na12878_indels.on_reference.vcf.gz")
            if with_panels
        )
        return [
            Source(folder / "chr20.fa.gz", 1.0, ("20:999999-4000000",), 0.1, "windowmasker", panels),
            Source(folder / "chr22_partial.fa.gz", 1.0, ("22:46173999-51304566",), 0.1, "own", panels),
        ]


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with grch37/")
    parser.add_argument("--masks", type=Path, help="folder with chr20.fa.gz.bed, repeats by WindowMasker")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "ablations", help="corpora and tokenizers"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help="of every run")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="variants")
    parser.add_argument("--table", action="store_true", help="print the table of the runs that are there, and stop")
    options = parser.parse_args()
    if options.table:
        print(table(read_rows()))
        return
    if options.masks is None:
        parser.error("--masks is needed: the folder with chr20.fa.gz.bed")
    torch.set_num_threads(1)
    material = Material(options.data, options.masks, options.work)
    options.work.mkdir(parents=True, exist_ok=True)
    done = {(row["variant"], int(row["seed"])) for row in read_rows()} if not options.no_csv else set()
    windows = list(held_out_windows(options.data, options.masks))
    for seed in range(1, options.seeds + 1):
        for name in options.only:
            if (name, seed) not in done:
                row = run(name, seed, options, material, windows)
                print(row, flush=True)
                if not options.no_csv:
                    append(row)


def run(
    name: str, seed: int, options: argparse.Namespace, material: Material, windows: list[tuple[str, np.ndarray]]
) -> dict[str, Any]:
    """Train one variant with one seed and measure it."""
    change = VARIANTS[name]
    corpus = material.corpus(change.get("corpus", "keep"))
    tokenizer_file = material.tokenizer(change.get("tokenizer", "carry_over"))
    tokenizer = DnaTokenizer.load(tokenizer_file)
    curriculum = change.get("curriculum", RECIPE.curriculum)
    recipe = replace(
        RECIPE,
        steps=options.steps,
        warmup_steps=options.steps // 10,
        seed=seed,
        curriculum=curriculum,
        reverse_complement=change.get("reverse_complement", False),
    )
    counts = token_counts(corpus, tokenizer_file) if curriculum.needs_token_counts else None
    masking = Masking(0.15, repeat_weight=change.get("repeat_weight", 1.0))
    model = MaskedLanguageModel(replace(MODEL, activation=change.get("activation", MODEL.activation)))
    batches = BatchMaker(corpus, tokenizer, recipe, masking, token_counts=counts)
    tokens = 0

    def on_step(report: Any) -> None:
        nonlocal tokens
        tokens += report.tokens

    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, batches, recipe, {}, Path(folder))
        trainer.run(on_step, save_every=recipe.steps)
    seconds = time.process_time() - started
    return {
        "variant": name,
        "seed": seed,
        **measure(trainer.model.float().eval(), tokenizer, windows),
        "tokens": tokens,
        "seconds": round(seconds, 1),
    }


def held_out_windows(data: Path, masks: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Random held-out windows without N and, for each, which bases lie in repeats, (WINDOW,) bool."""
    generator = np.random.default_rng(0)
    repeats = {contig: np.zeros(63_025_520, dtype=bool) for contig in HELD_OUT}
    for line in (masks / "chr20.fa.gz.bed").read_text(encoding="ascii").splitlines():
        contig, start, end = line.split("\t")[:3]
        repeats[contig][int(start) : int(end)] = True
    found = 0
    with pysam.FastaFile(str(data / "grch37" / "chr20.fa.gz")) as fasta:
        while found < WINDOWS:
            ((contig, intervals),) = HELD_OUT.items()
            low, high = intervals[int(generator.integers(len(intervals)))]
            start = int(generator.integers(low, high - WINDOW))
            text = fasta.fetch(contig, start, start + WINDOW).upper()
            if "N" not in text:
                found += 1
                yield text, repeats[contig][start : start + WINDOW]


@torch.no_grad()
def measure(model: MaskedLanguageModel, tokenizer: DnaTokenizer, windows: list[tuple[str, np.ndarray]]) -> dict[str, float]:
    """Nats a base of the masked tokens (15 %, 80/10/10), inside repeats and outside, and the share predicted exactly."""
    nats, bases, hits = np.zeros(2), np.zeros(2), []
    for index, (text, repeat) in enumerate(windows):
        example = mask_sequence(text, 10_000, tokenizer, Masking(0.15), np.random.default_rng([1, index]))
        ids = np.where(example.labels != IGNORED, example.labels, example.input_ids)[1:-1]
        offsets = tokenizer.offsets(ids)
        rows = np.flatnonzero(example.labels != IGNORED)  # the first is [CLS]
        tokens = torch.from_numpy(example.input_ids)
        hidden = model(tokens, torch.tensor([0, tokens.numel()]), tokens.numel())
        log_probs = model.logits(hidden[rows]).log_softmax(-1)
        labels = torch.from_numpy(example.labels[rows])
        own = -log_probs.gather(1, labels[:, None])[:, 0].double().numpy()
        hits += (log_probs.argmax(-1) == labels).tolist()
        for row, value in zip(rows - 1, own, strict=True):
            inside = int(repeat[offsets[row] : offsets[row + 1]].mean() >= 0.5)
            nats[inside] += value
            bases[inside] += offsets[row + 1] - offsets[row]
    return {
        "nats_per_base": round(float(nats.sum() / bases.sum()), 5),
        "nats_outside_repeats": round(float(nats[0] / bases[0]), 5),
        "nats_inside_repeats": round(float(nats[1] / bases[1]), 5),
        "accuracy": round(float(np.mean(hits)), 5),
    }


def read_rows() -> list[dict[str, str]]:
    """The finished runs."""
    if not CSV.is_file():
        return []
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(row: Mapping[str, Any]) -> None:
    """Keep a finished run."""
    fresh = not CSV.is_file()
    with CSV.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: mean ± standard deviation over seeds, and the paired difference of each variant to ``base``."""

    def values(variant: str, column: str) -> dict[str, float]:
        return {row["seed"]: float(row[column]) for row in rows if row["variant"] == variant}

    def spread(numbers: list[float], form: Callable[[float], str]) -> str:
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else float("nan")
        return f"{form(statistics.mean(numbers))} ± {form(deviation)}"

    lines = [
        "| variant | seeds | nats per base | difference to base | outside repeats | inside repeats | accuracy |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    base = values("base", "nats_per_base")
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = values(variant, "nats_per_base")
        paired = [own[seed] - base[seed] for seed in own if seed in base]
        cells = [
            variant,
            str(len(own)),
            spread(list(own.values()), "{:.4f}".format),
            "" if variant == "base" else spread(paired, "{:+.4f}".format).replace("± +", "± "),
            spread(list(values(variant, "nats_outside_repeats").values()), "{:.4f}".format),
            spread(list(values(variant, "nats_inside_repeats").values()), "{:.4f}".format),
            spread(list(values(variant, "accuracy").values()), "{:.2%}".format),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
