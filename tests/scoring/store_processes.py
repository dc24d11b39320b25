"""Processes that work on one score store at once; a script of its own, since it forks.

    store_processes.py together ROOT PROCESSES SEED   add all batches, divided over processes, each in random order
    store_processes.py killed ROOT KILLS SEED         writers, a pruner and a reader, killed at random moments

Writers of ``killed`` note in ROOT.journal what they were told is kept; the reader notes there what it then missed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from dnagrinder.scoring.store import parts, upkeep
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.store.upkeep import prune_store
from tests.scoring.store_rows import PROVENANCE, allele_rows, score_rows

Allele = tuple[str, int, str, str]
CONTIGS, STARTS = ("1", "2", "X"), 2000
MISSED = "missed"
WEIGHTS = (3, 3, 3, 1, 1)  # how often each of three writers, the pruner and the reader is killed


def batches(seed: int, count: int = 40) -> list[list[Allele]]:
    """Batches of random alleles that overlap."""
    chosen = random.Random(seed)
    return [[_allele(chosen) for _ in range(chosen.randint(1, 60))] for _ in range(count)]


def journal_of(root: Path) -> Path:
    """Where processes note what they did."""
    return root.with_name(root.name + ".journal")


def read_journal(root: Path) -> tuple[list[Allele], list[str]]:
    """(alleles that a finished add kept, what a reader missed of them)."""
    lines = journal_of(root).read_text().splitlines() if journal_of(root).exists() else []
    kept = [line.split("\t") for line in lines if not line.startswith(MISSED)]
    return [(c, int(s), r, a) for c, s, r, a in kept], [line for line in lines if line.startswith(MISSED)]


def _allele(chosen: random.Random) -> Allele:
    return chosen.choice(CONTIGS), chosen.randrange(STARTS), "A", chosen.choice(["G", "C", "AT"])


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def _together(root: Path, processes: int, seed: int) -> bool:
    def add(number: int) -> None:
        mine = batches(seed)[number::processes]
        random.Random(seed * 100 + number).shuffle(mine)
        for batch in mine:
            ScoreStore(root, PROVENANCE).add(score_rows(batch))

    children = [_fork(lambda number=number: add(number)) for number in range(processes)]  # type: ignore[misc]
    return all(os.waitpid(child, 0)[1] == 0 for child in children)


def _write(root: Path, seed: int) -> None:
    chosen = random.Random(seed)
    journal = os.open(journal_of(root), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        batch = [_allele(chosen) for _ in range(chosen.randint(1, 30))]
        ScoreStore(root, PROVENANCE).add(score_rows(batch))
        os.write(journal, "".join("\t".join(map(str, allele)) + "\n" for allele in batch).encode())


def _prune(root: Path) -> None:
    while True:
        prune_store(root, partial_hours=1)


def _read(root: Path) -> None:
    while True:
        kept = allele_rows(sorted(set(read_journal(root)[0])))
        _, missing = ScoreStore(root, PROVENANCE).split(kept)
        if len(missing):
            with journal_of(root).open("a") as journal:
                journal.write(f"{MISSED} {missing.to_pylist()}\n".replace("\t", " "))


def _killed(root: Path, kills: int, seed: int) -> bool:
    """Kill ``kills`` times, each time after a further add was acknowledged and a random while."""
    chosen = random.Random(seed)
    ScoreStore(root, PROVENANCE).prepare()
    works: list[Callable[[], None]] = [lambda: _write(root, chosen.randrange(10**9))] * 3
    works += [lambda: _prune(root), lambda: _read(root)]

    def start(work: Callable[[], None]) -> int:
        chosen.random()  # another seed for every writer
        return _fork(work)

    children = [start(work) for work in works]
    size = 0
    for _ in range(kills):
        while not journal_of(root).exists() or journal_of(root).stat().st_size == size:
            if any(os.waitpid(child, os.WNOHANG)[0] for child in children):
                return False  # it ended by itself: with an error
            time.sleep(0.001)
        size = journal_of(root).stat().st_size
        time.sleep(chosen.uniform(0, 0.02))
        (place,) = chosen.choices(range(len(works)), WEIGHTS)
        os.kill(children[place], signal.SIGKILL)
        if os.waitpid(children[place], 0)[1] != signal.SIGKILL:
            return False  # it had ended by itself
        children[place] = start(works[place])
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return True


if __name__ == "__main__":
    pa.set_cpu_count(1)
    parts.PART_ROWS = upkeep.PART_ROWS = 400  # so that merges are many and short
    mode, folder, number, start_seed = sys.argv[1:]
    done = (_together if mode == "together" else _killed)(Path(folder), int(number), int(start_seed))
    sys.exit(0 if done else 1)
