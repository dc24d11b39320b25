"""The corpus on disk: a folder of shards and ``corpus.json``, which names them with their checksums.

A shard is a safetensors file: ``bases`` (total,) uint8, the segments' ASCII end to end (ACGTN, lower case inside repeats);
``offsets`` (segments + 1,) int64; ``start`` (segments,) int64 and ``contig`` (segments,) int32, an index into the contig
names in the file's metadata (``shard``, JSON). All segments of a shard come from one source. Shards are memory-mapped and
never changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dnagrinder.errors import InputError
from dnagrinder.genome.files import written_aside
from dnagrinder.training.corpus.segments import OVERLAP
from dnagrinder.training.corpus.sources import Stretch
from dnagrinder.training.tensor_files import write_tensors

MANIFEST = "corpus.json"
FORMAT = "dnagrinder-corpus-1"
SHARD_BASES = 64_000_000  # a shard is closed when it holds this many


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the manifest; ``source`` is the name of a source, ``copies`` the visits of each segment in an epoch."""

    file: str
    source: str
    copies: float
    segments: int
    bases: int
    sha256: str


def write_shards(segments: Iterable[Stretch], folder: Path, source: str, copies: float, label: str) -> list[ShardEntry]:
    """Write the segments of one source as ``label-00000.safetensors``, ...; each file is written aside, then renamed."""
    entries: list[ShardEntry] = []
    waiting: list[Stretch] = []

    def close() -> None:
        path = folder / f"{label}-{len(entries):05d}.safetensors"
        contigs = sorted({segment.contig for segment in waiting})
        number = {contig: index for index, contig in enumerate(contigs)}
        sizes = [segment.bases.size for segment in waiting]
        tensors = {
            "bases": np.concatenate([segment.bases for segment in waiting]),
            "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            "start": np.array([segment.start for segment in waiting], dtype=np.int64),
            "contig": np.array([number[segment.contig] for segment in waiting], dtype=np.int32),
        }
        facts = json.dumps({"format": FORMAT, "source": source, "contigs": contigs})
        write_tensors(save_file, tensors, path, {"shard": facts})  # one key: the file's order of several is random
        entries.append(ShardEntry(path.name, source, copies, len(waiting), sum(sizes), _sha256(path)))
        waiting.clear()

    held = 0  # bases waiting
    for segment in segments:
        waiting.append(segment)
        held += segment.bases.size
        if held >= SHARD_BASES:
            close()
            held = 0
    if waiting:
        close()
    return entries


def write_manifest(folder: Path, shards: list[ShardEntry], description: dict[str, Any]) -> None:
    """Write ``corpus.json``; it comes last, so a folder that has one is complete."""
    document = {"format": FORMAT, **description, "shards": [asdict(shard) for shard in shards]}
    with written_aside(folder / MANIFEST) as aside:
        aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


class Corpus:
    """The segments of a corpus folder, by their number in the order of the manifest.

    Attributes:
        shards: the entries of the manifest.
        description: what the manifest says besides.
    """

    def __init__(self, folder: Path) -> None:
        """Open a corpus.

        Raises:
            InputError: the manifest is missing or no such manifest, or a shard is missing.
        """
        path = folder / MANIFEST
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                raise ValueError(f"format is not {FORMAT}")
            self.shards = tuple(ShardEntry(**entry) for entry in document.pop("shards"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"corpus {path} cannot be read: {error}; make it with dnagrinder build-corpus") from error
        missing = [shard.file for shard in self.shards if not (folder / shard.file).is_file()]
        if missing or not self.shards:
            raise InputError(f"corpus {folder} is incomplete: {', '.join(missing) or 'no shards'}; build it again")
        self.folder, self.description = folder, document
        self.first = np.concatenate([[0], np.cumsum([shard.segments for shard in self.shards])])  # (shards + 1,)
        self._open: dict[int, tuple[Any, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def step(self) -> int:
        """Bases from one segment to the next, which a visit reads at most."""
        return int(self.description["segment"]) - OVERLAP

    @property
    def bases(self) -> int:
        """Bases of all segments together."""
        return sum(shard.bases for shard in self.shards)

    @cached_property
    def digest(self) -> str:
        """sha256 over the shards' checksums and copies in order: what a training sees."""
        facts = [[shard.sha256, shard.copies] for shard in self.shards]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def segment(self, number: int) -> NDArray[np.uint8]:
        """(length,) uint8 ASCII of one segment.

        Raises:
            InputError: the shard is not the file that the manifest names.
        """
        index = int(np.searchsorted(self.first, number, side="right")) - 1
        if not 0 <= number < len(self):
            raise IndexError(f"segment {number} of {len(self)}")
        bases, offsets = self._open.get(index) or self._opened(index)
        local = number - int(self.first[index])
        result: NDArray[np.uint8] = bases[int(offsets[local]) : int(offsets[local + 1])]
        return result

    def _opened(self, index: int) -> tuple[Any, NDArray[np.int64]]:
        """The mapped bases and the offsets of a shard, whose checksum is compared once."""
        shard = self.shards[index]
        path = self.folder / shard.file
        if _sha256(path) != shard.sha256:
            raise InputError(
                f"shard {path} was altered: its sha256 differs from the one in {MANIFEST}; build the corpus again"
            )
        try:
            file = safe_open(path, framework="np")
            opened = file.get_slice("bases"), file.get_tensor("offsets")
        except (SafetensorError, OSError) as error:
            raise InputError(f"shard {path} cannot be read: {error}; build the corpus again") from error
        self._open[index] = opened
        return opened


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
