"""One tokenizer training in a process of its own, for `bpe.py`; imports no torch, whose memory would be counted.

    bpe_trainers.py KIND CORPUS VOCABULARY PROCESSES OUT

CORPUS holds one sequence a line; OUT receives the merges as pairs of texts, and CPU (all processes) and wall seconds.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

Merges = list[tuple[str, str]]
SPLITS = 8  # of the carry-over form


def sequences(corpus: Path, first: int = 0, step: int = 1) -> Iterator[str]:
    """Every ``step``-th line from ``first`` on."""
    with corpus.open(encoding="ascii") as file:
        for line in islice(file, first, None, step):
            yield line.rstrip("\n")


def tokenizers(corpus: Path, vocabulary: int, processes: int) -> Merges:
    """The library's trainer."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    from dnagrinder.model.tokenizer import BASES, SPECIAL_TOKENS

    library = Tokenizer(BPE())
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(BASES),
        min_frequency=2,
        show_progress=False,
    )
    library.train_from_iterator(sequences(corpus), trainer)
    return [(left, right) for left, right in json.loads(library.to_str())["model"]["merges"]]


def exact(corpus: Path, vocabulary: int, processes: int) -> Merges:
    """Ours, the whole corpus on disk."""
    from dnagrinder.training.bpe import token_strings, train_exact_bpe

    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        merges = train_exact_bpe([partial(sequences, corpus)], vocabulary, folder=Path(folder), processes=processes)
    strings = token_strings(merges)
    return [(strings[merge.left], strings[merge.right]) for merge in merges]


def carry_over(corpus: Path, vocabulary: int, processes: int) -> Merges:
    """Ours, one split in memory at a time; the splits are interleaved."""
    from dnagrinder.training.bpe import token_strings, train_bpe

    merges = train_bpe([partial(sequences, corpus, first, SPLITS) for first in range(SPLITS)], vocabulary)
    strings = token_strings(merges)
    return [(strings[merge.left], strings[merge.right]) for merge in merges]


TRAINERS: dict[str, Callable[[Path, int, int], Merges]] = {
    "tokenizers": tokenizers,
    "exact": exact,
    "carry-over": carry_over,
}


def main() -> None:
    """Train and write what was asked for."""
    kind, corpus, vocabulary, processes, out = sys.argv[1:]
    started = time.perf_counter()
    merges = TRAINERS[kind](Path(corpus), int(vocabulary), int(processes))
    wall = time.perf_counter() - started
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(used.ru_utime + used.ru_stime for used in usage)
    Path(out).write_text(json.dumps({"merges": merges, "wall": wall, "cpu": cpu}), encoding="utf-8")


if __name__ == "__main__":
    main()
