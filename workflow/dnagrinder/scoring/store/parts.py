"""The parts of a score store: Parquet files that are written once, named by the sha256 of their bytes, and never changed.

Three facts make them safe without a lock or a server, on local and network file systems alike:

* A part is written aside (``.<random>.tmp``), synced, and renamed. It is whole or absent; a killed writer leaves a file
  aside that nobody reads.
* Its name is its content, so two writers never meet in one name with different rows, and ``sha256sum`` can check it. Pages
  carry checksums of their own, which every reading tests.
* Parts are only taken away by a merge, after the merged part is in place. A merged part counts one merge more than any part
  it took up, so it is none of them, and following "taken up by" from any removed part ends in a part that is present:
  however many merges run side by side, a row that was once in place stays in place. A reader that meets a vanished part
  starts again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dnagrinder.errors import StoreError
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.store.collection import Collection, collection_of, context_of
from dnagrinder.scoring.store.loci import Span, group_span
from dnagrinder.scoring.tables import METADATA_KEY

PART_ROWS = 1_000_000  # rows of a part at most: some 60 MB on disk, 200 MB in memory
GROUP_ROWS = 65_536  # rows that are read or passed over together
SCORED, IMPORTED = "scored", "imported"
_ATTEMPTS = 20  # readings that merges may spoil
_SHA256 = re.compile("[0-9a-f]{64}").fullmatch

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where all rows of a part come from; kept in its metadata.

    Attributes:
        provenance: tool version, model, reference and parameters of the scores.
        source: None for scores made here; for imported ones who gave them: name, file, sha256 of the file, and the sources
            that the file itself names (imports).
        merges: the largest number of merges that a row went through.
    """

    provenance: dict[str, Any]
    source: dict[str, Any] | None = None
    merges: int = 0

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """For the Parquet schema; ``read_provenance`` of it gives the provenance and one key more, ``part``."""
        stated = {**self.provenance, "part": {"source": self.source, "merges": self.merges}}
        return {METADATA_KEY: json.dumps(stated, sort_keys=True).encode()}

    @classmethod
    def of(cls, schema: pa.Schema) -> Origin:
        """The origin that a part's schema holds. Raises KeyError or ValueError where it holds none."""
        stated = json.loads((schema.metadata or {})[METADATA_KEY])
        part = stated.pop("part")
        return cls(stated, part["source"], part["merges"])


class Part:
    """A part opened for reading; a context manager.

    Attributes:
        collection: what its folder keeps.

    Raises:
        FileNotFoundError: the part vanished; another holds its rows.
        StoreError: it cannot be read, or belongs to another context than its folder.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path, self.collection = path, collection_of(path.parent)
        with self._named_errors():
            source = pa.BufferReader(content) if content is not None else pa.OSFile(str(path))
            self._file = pq.ParquetFile(source, read_dictionary=["contig"], page_checksum_verification=True)
            self.origin = Origin.of(self._file.schema_arrow)
            context = context_digest(self.origin.provenance)
        self.rows: int = self._file.metadata.num_rows
        self.groups: int = self._file.num_row_groups
        if context != context_of(path.parent).name:
            raise StoreError(f"store part {path} was made by another model, reference or parameters; remove it")

    @classmethod
    def checked(cls, path: Path) -> Part:
        """The part, its bytes compared with its name. Raises StoreError where they differ."""
        try:
            content = path.read_bytes()
        except PermissionError as error:
            raise StoreError(f"store part {path} cannot be read ({error.strerror}); give it read permission") from error
        found = hashlib.sha256(content).hexdigest()
        if found != path.stem:
            raise StoreError(
                f"store part {path} is torn or was altered: its sha256 is {found}, not its name; bring it back from a copy, "
                f"or remove it and its {collection_of(path.parent).unit} are scored again"
            )
        return cls(path, content)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close(force=True)

    def read(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Columns (None: all) of some row groups, in the types of the collection."""
        names = list(columns or self.collection.schema.names)
        schema = pa.schema([self.collection.schema.field(name) for name in names])
        with self._named_errors():
            return self._file.read_row_groups(list(groups), columns=names).select(names).cast(schema)

    def spans(self) -> list[Span | None]:
        """Of all row groups; one span where they follow each other on one contig."""
        each = [self.span(group) for group in range(self.groups)]
        known = [span for span in each if span]
        if len({contig for contig, _, _ in known}) == 1 and len(known) == len(each):
            return [(known[0][0], min(first for _, first, _ in known), max(last for _, _, last in known))]
        return each

    def span(self, group: int) -> Span | None:
        """(contig, smallest start, largest start) of a row group; None where it holds several contigs."""
        with self._named_errors():
            return group_span(self._file, group)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
            if not self.path.exists():
                raise FileNotFoundError(str(self.path)) from error
            raise StoreError(
                f"store part {self.path} cannot be read ({error}); bring it back from a copy, or remove it and its "
                f"{self.collection.unit} are scored again"
            ) from error


def decided(rows: pa.Table, collection: Collection) -> pa.Table:
    """One row a key, by the collection's rule; it looks at nothing but the rows, so parts, merges and machines do not
    change it."""
    codes = collection.keys(rows).dictionary_encode().indices.to_numpy()
    times = np.bincount(codes, minlength=1)
    if times.max() <= 1:
        return rows
    several = np.flatnonzero(times[codes] > 1)
    rivals = rows.take(pa.array(several)).append_column("code", pa.array(codes[several]))
    order = pc.sort_indices(rivals, [("code", "ascending"), *collection.rule]).to_numpy()
    ordered = codes[several][order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    kept = np.concatenate([np.flatnonzero(times[codes] == 1), several[order[first]]])
    return rows.take(pa.array(np.sort(kept)))


def list_contexts(root: Path) -> list[Path]:
    """Folders of the store's contexts. Raises StoreError where the store is absent."""
    if not root.is_dir():
        raise StoreError(f"store {root} does not exist or is no folder; name the folder that was given to --store")
    return sorted(path for path in root.iterdir() if path.is_dir() and _SHA256(path.name))


def has_files(context: Path) -> bool:
    """Whether a context holds anything; a job that had nothing to keep leaves an empty folder."""
    return any(path.is_file() for path in context.rglob("*"))


def find_context(root: Path, name: str | None) -> Path:
    """Folder of the context with files that begins with ``name``; of the only one for None. Raises StoreError."""
    contexts = [context for context in list_contexts(root) if has_files(context)]
    found = [path for path in contexts if path.name.startswith(name or "")]
    if len(found) == 1:
        return found[0]
    held = ", ".join(path.name[:12] for path in contexts) or "none"
    asked = f"{len(found)} contexts begin with {name!r}" if name else f"it holds {len(contexts)} contexts"
    raise StoreError(f"store {root}: {asked}; name one of: {held}")


def list_parts(folder: Path) -> list[Path]:
    """The parts in a folder, by name. A folder is listed until nothing changes: one listing may miss a running rename."""
    before, now = None, sorted(folder.glob("*.parquet"))
    while before != now:
        before, now = now, sorted(folder.glob("*.parquet"))
    return now


def partial_files(folder: Path) -> list[Path]:
    """Files that writers work on, or left behind when they were killed."""
    return sorted(folder.glob(".*.tmp"))


def read_settled(folder: Path, read: Callable[[list[Path]], T]) -> T:
    """``read`` of all parts in a folder, begun again where a part vanished meanwhile because a merge took it up.

    Raises:
        StoreError: a part cannot be read, or parts vanish time after time.
    """
    for _ in range(_ATTEMPTS):
        try:
            return read(list_parts(folder))
        except FileNotFoundError:
            continue
    raise StoreError(f"store {folder}: its parts vanish faster than they can be read; end what removes them and try again")


def contig_index(paths: Sequence[Path]) -> dict[str, dict[Path, list[int]]]:
    """For each contig the parts and row groups that hold rows of it."""
    index: dict[str, dict[Path, list[int]]] = {}
    for path in paths:
        with Part(path) as part:
            for group in range(part.groups):
                span = part.span(group)
                contigs = [span[0]] if span else pc.unique(part.read([group], ["contig"])["contig"]).to_pylist()
                for contig in contigs:
                    index.setdefault(contig, {}).setdefault(path, []).append(group)
    return index


def contig_rows(contig: str, places: dict[Path, list[int]], columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a contig out of ``contig_index``, in no promised order."""
    found = []
    for path, groups in places.items():
        with Part(path) as part:
            rows = part.read(groups, columns)
        found.append(rows.filter(pc.equal(rows["contig"], contig)))
    return pa.concat_tables(found)


@contextmanager
def parts_written(folder: Path) -> Iterator[Callable[[pa.Table, Origin], None]]:
    """A function ``write(rows, origin)``; what was written appears at the end of the block, nothing of it after an error.

    Rows, as the folder's collection has them, are sorted and cut into parts; a status is set from the origin.

    Raises:
        StoreError: the folder cannot be written.
    """
    staged: list[tuple[Path, Path]] = []
    collection = collection_of(folder)
    order = [*((name, "ascending") for name in collection.key), *collection.rule]

    def write(rows: pa.Table, origin: Origin) -> None:
        rows = _with_status(rows.select(collection.schema.names), IMPORTED if origin.source else SCORED)
        rows = rows.sort_by(order).replace_schema_metadata(origin.metadata)
        for first in range(0, len(rows), PART_ROWS):
            content = _encoded(rows.slice(first, PART_ROWS))
            aside = folder / f".{uuid.uuid4().hex}.tmp"
            staged.append((aside, folder / f"{hashlib.sha256(content).hexdigest()}.parquet"))
            with _write_errors(folder), aside.open("xb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())

    with _write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield write
        with _write_errors(folder):
            for aside, target in staged:
                aside.replace(target)
            _sync_folder(folder)
    finally:
        for aside, _ in staged:
            aside.unlink(missing_ok=True)


def _with_status(rows: pa.Table, status: str) -> pa.Table:
    """The rows with that status, where the collection has one."""
    place = rows.schema.get_field_index("status")
    if place < 0:
        return rows
    return rows.set_column(place, "status", pa.array([status]).take(pa.array(np.zeros(len(rows), np.int8))))


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"store {folder} cannot be written: {error}") from error


def _encoded(rows: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", row_group_size=GROUP_ROWS, write_page_checksum=True)
    return sink.getvalue()


def _sync_folder(folder: Path) -> None:
    """Make renames in the folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
