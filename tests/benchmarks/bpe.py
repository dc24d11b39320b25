"""Tokenizer training: exact on disk and carry-over beside `tokenizers`' own trainer on the same sequences.

Reported for each, run in a process of its own: peak resident memory of the process and its workers (sum of what /proc says,
20 times a second; pages shared between them count in each), CPU and wall seconds; how many of the library's merges come in
the same order before the first other one; overlap of the vocabularies (Jaccard); base pairs a token on held-out sequence
(GRCh37 20:999999-4000000).

The corpus is what config/pretraining/mini.yaml trains on: every contig without what is held out, upper case, cut at N and
then into pieces of --piece bases, because the library's time grows with the square of a sequence's length (0: left whole).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path

import harness
import pysam
import yaml
from harness import REPOSITORY, judge, option_parser, shared_data, start

from dnagrinder.model.tokenizer import BASES, SPECIAL_TOKENS, DnaTokenizer

RUN_FILE = REPOSITORY / "config" / "pretraining" / "mini.yaml"
TRAINERS = Path(__file__).with_name("bpe_trainers.py")
RESULTS = "bpe.csv"
HELD_OUT = ("grch37/chr20.fa.gz", "20", 999_999, 4_000_000)  # 0-based half-open
MEMORY_GOAL = 1 / 5  # of the library's
SPARE_MIB = 2048  # of the machine, below which a training is stopped
SAMPLE = 0.05  # seconds between two looks at the memory
KINDS = {"exact": ("exact", 1), "exact-2": ("exact", 2), "carry-over": ("carry-over", 1), "tokenizers": ("tokenizers", 1)}
Merges = list[tuple[str, str]]


@dataclass(frozen=True)
class Trained:
    """One training: what it took and what it made."""

    peak_mib: float
    cpu: float
    wall: float
    merges: Merges

    @property
    def strings(self) -> list[str]:
        """Text of every id."""
        return [*SPECIAL_TOKENS, *BASES, *(left + right for left, right in self.merges)]


@dataclass(frozen=True)
class Row:
    """One row of bpe.csv."""

    kind: str
    bases: int
    piece: int
    vocabulary: int
    processes: int
    peak_rss_mib: str
    cpu_seconds: str
    wall_seconds: str
    merges: int
    merges_as_tokenizers: str
    jaccard_with_tokenizers: str
    bases_per_token: str
    processor: str
    python: str
    numpy: str
    tokenizers: str


def training_text(data: Path) -> Iterator[str]:
    """Runs of known bases of every contig of the run file, without what is held out."""
    corpus = yaml.safe_load(RUN_FILE.read_text(encoding="utf-8"))["corpus"]
    for source in corpus["sources"]:
        with pysam.FastaFile(str(data / source["path"])) as fasta:
            for contig in fasta.references:
                length = fasta.get_reference_length(contig)
                start, end = 0, length - round(length * corpus["held_out_tail"])
                cuts = [span.rpartition(":")[::2] for span in source.get("held_out", [])]
                held_out = sorted(tuple(map(int, span.split("-"))) for name, span in cuts if name == contig)
                for cut_start, cut_end in [*held_out, (end, length)]:
                    if start < min(cut_start, end):
                        text = fasta.fetch(contig, start, min(cut_start, end)).upper()
                        yield from (run for run in text.split("N") if run)
                    start = max(start, cut_end)


def write_corpus(data: Path, path: Path, bases: int, piece: int) -> int:
    """Write the first ``bases`` bases as lines of at most ``piece``; returns how many there were."""
    left = bases
    with path.open("w", encoding="ascii") as file:
        for text in training_text(data):
            text = text[:left]
            for start in range(0, len(text), piece or len(text)):
                file.write(text[start : start + (piece or len(text))] + "\n")
            left -= len(text)
            if not left:
                break
    return bases - left


def train(kind: str, corpus: Path, vocabulary: int, limit_gib: float) -> Trained | None:
    """Run a trainer in a new process and watch memory; None where it had to be stopped (see --limit-gib) or was killed."""
    trainer, processes = KINDS[kind]
    out = corpus.with_suffix(".json")
    command = [sys.executable, str(TRAINERS), trainer, str(corpus), str(vocabulary), str(processes), str(out)]
    child = subprocess.Popen(command, env={**os.environ, "RAYON_NUM_THREADS": str(processes)})
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, tree_mib(child.pid))
        if peak > limit_gib * 1024 or available_mib() < SPARE_MIB:
            child.kill()
        time.sleep(SAMPLE)
    if child.returncode == -signal.SIGKILL:
        print(f"bpe: {kind} was stopped at {peak:.0f} MiB", flush=True)
        return None
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    found = json.loads(out.read_text(encoding="utf-8"))
    return Trained(peak, found["cpu"], found["wall"], [(left, right) for left, right in found["merges"]])


def tree_mib(root: int) -> float:
    """Resident memory of a process and all below it, MiB."""
    total, waiting = 0, [root]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            total += int((process / "statm").read_text().split()[1])
            for task in (process / "task").iterdir():
                waiting += [int(pid) for pid in (task / "children").read_text().split()]
        except OSError:  # it ended meanwhile
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


def available_mib() -> float:
    """Memory that the machine has left, MiB."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 1024


def bases_per_token(trained: Trained, text: str) -> float:
    """Compression of a text by a trained tokenizer."""
    return len(text) / DnaTokenizer.from_merges(trained.strings, trained.merges).encode(text).size


def common_prefix(one: Merges, other: Merges) -> int:
    """Merges that are the same before the first that differs."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def jaccard(one: Trained, other: Trained) -> float:
    """Share of all tokens of either vocabulary that both have."""
    a, b = set(one.strings), set(other.strings)
    return len(a & b) / len(a | b)


def write(row: Row) -> None:
    """Print a row and append it to bpe.csv."""
    print("bpe: " + ", ".join(f"{name} {value}" for name, value in list(vars(row).items())[:-4]), flush=True)
    path = harness.DESTINATION.file(RESULTS)
    if path is None:
        return
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(field.name for field in fields(Row))
        writer.writerow(vars(row).values())


def main() -> None:
    """Train with each kind, compare, report."""
    parser = option_parser(__doc__)
    parser.add_argument("--bases", type=float, default=1e12, help="of the corpus, from its beginning")
    parser.add_argument("--piece", type=int, default=2000, help="longest sequence, bases; 0: as long as they are")
    parser.add_argument("--vocabulary", type=int, default=4096, help="number of ids")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument(
        "--limit-gib",
        type=float,
        default=14,
        help="a training that takes more memory, or leaves the machine less than 2 GiB, is stopped",
    )
    parser.add_argument("--folder", type=Path, help="where the corpus and the working files go (default: the system's)")
    arguments = start(parser)
    data = shared_data()
    if data is None:
        raise SystemExit("real genomes absent: set DNAGRINDER_DATA to the folder that holds PROVENANCE.md")
    run(arguments, data)


def run(arguments: argparse.Namespace, data: Path) -> None:
    """All trainings of one corpus."""
    trained: dict[str, Trained] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        corpus = Path(name) / "corpus.txt"
        bases = write_corpus(data, corpus, int(arguments.bases), arguments.piece)
        print(f"bpe: {bases:,} bases", flush=True)
        for kind in arguments.kinds:
            found = train(kind, corpus, arguments.vocabulary, arguments.limit_gib)
            if found:
                trained[kind] = found
                print(
                    f"bpe: {kind} peak {found.peak_mib:.0f} MiB, CPU {found.cpu:.1f} s, wall {found.wall:.1f} s", flush=True
                )
    file, contig, first, last = HELD_OUT
    with pysam.FastaFile(str(data / file)) as fasta:
        held_out = fasta.fetch(contig, first, last).upper().replace("N", "")
    library = trained.get("tokenizers")
    for kind, found in trained.items():
        row = Row(
            kind=kind,
            bases=bases,
            piece=arguments.piece,
            vocabulary=arguments.vocabulary,
            processes=KINDS[kind][1],
            peak_rss_mib=f"{found.peak_mib:.0f}",
            cpu_seconds=f"{found.cpu:.1f}",
            wall_seconds=f"{found.wall:.1f}",
            merges=len(found.merges),
            merges_as_tokenizers=str(common_prefix(found.merges, library.merges)) if library else "",
            jaccard_with_tokenizers=f"{jaccard(found, library):.4f}" if library else "",
            bases_per_token=f"{bases_per_token(found, held_out):.4f}",
            processor=harness.processor(),
            python=platform.python_version(),
            numpy=version("numpy"),
            tokenizers=version("tokenizers"),
        )
        write(row)
    if library and "exact" in trained:
        judge("peak memory, exact / tokenizers", trained["exact"].peak_mib / library.peak_mib, MEMORY_GOAL, at_least=False)
        same = common_prefix(trained["exact"].merges, library.merges)
        judge("merges of exact that are the library's", same, len(library.merges))


if __name__ == "__main__":
    main()
