"""The working folder of exact BPE: what the last whole pass left, replaced in one step, so that a killed training can go on.

    state.json              digest of the encoded corpus, merges so far, and the shards encoded with them
    generation-abcd/        one folder a pass: 000000.ids and 000000.pairs.npz (its pair counts), 000001.ids, ...
    lock                    held while a training runs

Safe against a killed process, not against a power failure: files are not forced to the disk.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.files import written_aside
from dnagrinder.training.bpe.merges import FIRST_MERGE, Ids, Merge
from dnagrinder.training.bpe.shards import Shard, write_shards

STATE = "state.json"
FORMAT = 1
GENERATION = "generation-"


@dataclass(frozen=True)
class State:
    """What the last whole pass left: the digest of the encoded corpus, the merges, and the shards encoded with them."""

    corpus: str
    merges: tuple[Merge, ...]
    shards: tuple[Shard, ...]


def open_state(blocks: Iterable[Ids], folder: Path, count: Callable[[Sequence[Shard]], object]) -> State:
    """The folder's state, or that of a training that begins there.

    Args:
        blocks: the encoded corpus; read to its end in either case: its digest tells whether the folder belongs to it.
        folder: an existing folder, locked by the caller.
        count: leaves the pair counts of fresh shards beside them.

    Raises:
        ConfigError: the folder holds the training of another corpus.
        InputError: the folder's files are missing or altered.
    """
    state = _read(folder)
    digest = hashlib.sha256()
    blocks = _seen(blocks, digest.update)
    if state is None:
        shards = write_shards(blocks, new_generation(folder))
        count(shards)
        return commit(State(digest.hexdigest(), (), tuple(shards)), folder)
    for _ in blocks:
        pass
    if state.corpus != digest.hexdigest():
        raise ConfigError(
            f"tokenizer training: {folder} holds the training of another corpus (encoded sha256 {state.corpus}, this one is "
            f"{digest.hexdigest()}); choose another folder or remove it"
        )
    for shard in state.shards:
        if not shard.path.is_file() or shard.path.stat().st_size != 2 * shard.tokens or not shard.counts.is_file():
            raise InputError(
                f"tokenizer training: {shard.path} is missing or not {2 * shard.tokens} bytes long, or {shard.counts.name} "
                f"is missing; remove {folder} to begin anew"
            )
    return state


def commit(state: State, folder: Path) -> State:
    """Make a state the folder's own in one step, then remove what older or unfinished passes left."""
    generation = state.shards[0].path.parent.name if state.shards else ""
    document = {
        "format": FORMAT,
        "corpus": state.corpus,
        "merges": [[merge.left, merge.right] for merge in state.merges],
        "generation": generation,
        "shards": [[shard.path.name, shard.tokens] for shard in state.shards],
    }
    with written_aside(folder / STATE) as aside:
        aside.write_text(json.dumps(document), encoding="utf-8")
    for old in folder.glob(f"{GENERATION}*"):
        if old.name != generation:
            shutil.rmtree(old)
    return state


def new_generation(folder: Path) -> Path:
    """A new folder for a pass's shards; its name was never used before, so that no worker of a killed run writes into it."""
    return Path(tempfile.mkdtemp(prefix=GENERATION, dir=folder))


def _seen(blocks: Iterable[Ids], update: Callable[[bytes], object]) -> Iterator[Ids]:
    for block in blocks:
        update(block.astype(np.uint8).tobytes())
        yield block


def _read(folder: Path) -> State | None:
    path = folder / STATE
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise InputError(f"tokenizer training: {path} has format {document['format']}, not {FORMAT}; remove {folder}")
        generation = folder / document["generation"]
        merges = (Merge(left, right, FIRST_MERGE + i) for i, (left, right) in enumerate(document["merges"]))
        shards = (Shard(generation / name, tokens) for name, tokens in document["shards"])
        return State(document["corpus"], tuple(merges), tuple(shards))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"tokenizer training: {path} cannot be read ({error!r}); remove {folder}") from error
