"""Upkeep of a score store: what it holds, whether it is sound, and its parts merged. All of it beside running jobs."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dnagrinder.errors import StoreError
from dnagrinder.scoring.store.collection import COLLECTIONS, Collection, collection_folders, collection_of, context_of
from dnagrinder.scoring.store.parts import (
    PART_ROWS,
    Origin,
    Part,
    contig_index,
    contig_rows,
    find_context,
    has_files,
    list_contexts,
    list_parts,
    partial_files,
    parts_written,
    read_settled,
)

#: Scores of one key that lie closer than this, in nats, are taken for the rounding of different machines.
TOLERANCE = 1e-3
PARTIAL_HOURS = 24.0  # after which a file aside is no running writer's


@dataclass(frozen=True)
class Conflicts:
    """Keys (alleles, sites, haplotypes) that a context holds with more than one score.

    Attributes:
        keys: how many.
        largest: largest difference between two scores of one key, in nats.
        where: that key, ``contig:position ref>alt`` (1-based); "" where there is none.
    """

    keys: int = 0
    largest: float = 0.0
    where: str = ""


def store_stats(root: Path) -> list[dict[str, Any]]:
    """Every context that holds files: its provenance; of alleles rows, alleles, parts, bytes and who gave the imported rows;
    of bases and haplotypes, each under its name, rows, sites or haplotypes, parts and bytes.

    Raises:
        StoreError: no store, or a part that cannot be read.
    """
    return [_context_stats(context) for context in list_contexts(root) if has_files(context)]


def _context_stats(context: Path) -> dict[str, Any]:
    found = [read_settled(folder, partial(_stats, folder)) for folder in collection_folders(context)]
    origins = [origin for each, _ in found for origin, _ in each]
    sources: dict[str, dict[str, Any]] = {}
    for origin, rows in found[0][0]:
        if origin.source:
            entry = sources.setdefault(origin.source["sha256"] + origin.source["name"], {**origin.source, "rows": 0})
            entry["rows"] += rows
    stated = origins[0].provenance if origins else {}
    (_, alleles), *others = found
    return {
        "context": context.name,
        **{key: stated.get(key) for key in ("checkpoint", "tokenizer_sha256", "reference_sha256", "parameters")},
        "tool_versions": sorted({origin.provenance["tool_version"] for origin in origins}),
        **alleles,
        "imports": sorted(sources.values(), key=lambda source: (source["name"], source["sha256"])),
        **{collection.name: told for collection, (_, told) in zip(COLLECTIONS[1:], others, strict=True)},
    }


def _stats(folder: Path, paths: list[Path]) -> tuple[list[tuple[Origin, int]], dict[str, int]]:
    """(origin and rows of each part, counts) of a collection's folder."""
    collection, origins = collection_of(folder), []
    for path in paths:
        with Part(path) as part:
            origins.append((part.origin, part.rows))
    counts = {
        "rows": sum(rows for _, rows in origins),
        collection.unit: sum(
            len(contig_rows(name, places, collection.key).group_by(list(collection.key)).aggregate([]))
            for name, places in contig_index(paths).items()
        ),
        "parts": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "partial_files": len(partial_files(folder)),
    }
    return origins, counts


def verify_store(root: Path, tolerance: float = TOLERANCE) -> tuple[dict[str, Any], list[str]]:
    """(counts, problems). Every part's bytes are compared with its name and all its rows are read.

    Counts: contexts, parts, rows, alleles, sites, haplotypes, duplicates (rows beyond one a key: no problem), partial_files
    (of running or killed writers: no problem, prune removes them), conflicts (keys with more than one score),
    largest_difference. Conflicts are a problem where two scores of one key differ by more than ``tolerance`` nats.

    Raises:
        StoreError: no store there.
    """
    contexts = list_contexts(root)
    units = {collection.unit: 0 for collection in COLLECTIONS}
    counts = Counter(contexts=len(contexts), parts=0, rows=0, **units, duplicates=0, partial_files=0, conflicts=0)
    largest = 0.0
    problems = []
    for folder in (folder for context in contexts for folder in collection_folders(context) if folder.is_dir()):
        unit = collection_of(folder).unit
        found, conflicts, unsound = read_settled(folder, partial(_verified, collection_of(folder)))
        counts.update(found, partial_files=len(partial_files(folder)), conflicts=conflicts.keys)
        largest = max(largest, conflicts.largest)
        problems += unsound
        problems += [f"{path} is no part of a store; remove it" for path in sorted(folder.iterdir()) if _is_foreign(path)]
        if conflicts.largest > tolerance:
            problems.append(
                f"context {context_of(folder).name}: {conflicts.keys} {unit} have more than one score, the furthest apart "
                f"{conflicts.where} by {conflicts.largest:.6g}; find the part or import that is wrong and remove it"
            )
    return {**counts, "largest_difference": largest}, problems


def _is_foreign(path: Path) -> bool:
    is_folder_of_ours = path.is_dir() and path in collection_folders(path.parent)
    return path.suffix != ".parquet" and not path.name.startswith(".") and not is_folder_of_ours


def _verified(collection: Collection, paths: list[Path]) -> tuple[dict[str, int], Conflicts, list[str]]:
    """Counts, conflicts and problems of a collection's parts; rows of unsound parts are not counted."""
    problems, sound = [], []
    for path in paths:
        try:
            with Part.checked(path) as part:
                part.read(range(part.groups))
            sound.append(path)
        except StoreError as error:
            problems.append(str(error))
    rows = keys = 0
    conflicts = Conflicts()
    extremes = [(name, extreme) for name in collection.compared for extreme in ("min", "max")]
    for name, places in contig_index(sound).items():
        table = contig_rows(name, places, [*collection.key, *collection.compared])
        found = table.group_by(list(collection.key)).aggregate(extremes)
        rows, keys, conflicts = rows + len(table), keys + len(found), _joined(conflicts, found, collection)
    counts = {"parts": len(paths), "rows": rows, collection.unit: keys, "duplicates": rows - keys}
    return counts, conflicts, problems


def _joined(known: Conflicts, found: pa.Table, collection: Collection) -> Conflicts:
    """``known`` and those of a table of keys with the smallest and the largest of each compared column."""
    extremes = [[found[f"{name}_{extreme}"].to_numpy() for extreme in ("min", "max")] for name in collection.compared]
    apart = [np.subtract(high, low, out=np.zeros(len(found)), where=low != high) for low, high in extremes]
    differences = np.nan_to_num(np.fmax.reduce(apart), nan=0.0, posinf=np.inf)
    if not differences.any():
        return known
    keys = known.keys + int(np.count_nonzero(differences))
    worst = int(differences.argmax())
    if differences[worst] <= known.largest:
        return replace(known, keys=keys)
    return Conflicts(keys, float(differences[worst]), _where(found.slice(worst, 1).to_pylist()[0]))


def _where(row: Mapping[str, Any]) -> str:
    change = f" {row['ref']}>{row['alt']}" if "alt" in row else ""
    return f"{row['contig']}:{row['start'] + 1}{change}"


def prune_store(root: Path, keep: Sequence[str] = (), partial_hours: float = PARTIAL_HOURS) -> dict[str, int]:
    """Merge small parts, remove old files aside and, where ``keep`` names contexts (or their beginnings), all others.

    No row is lost: equal rows become one, rows that differ in anything stay. Parts are checked before they are merged.

    Returns:
        Counts: contexts_removed, partial_files_removed, parts_before, parts_after.

    Raises:
        StoreError: no store, a name in ``keep`` that is no context (nothing is removed then), or a damaged part.
    """
    contexts = list_contexts(root)  # once: a context that a job makes meanwhile is not judged
    kept = {find_context(root, name) for name in keep} or set(contexts)
    dropped = [folder for folder in contexts if folder not in kept]
    for folder in dropped:
        shutil.rmtree(folder)
    counts = {"contexts_removed": len(dropped), "partial_files_removed": 0, "parts_before": 0, "parts_after": 0}
    for folder in (folder for context in sorted(kept) for folder in collection_folders(context)):
        counts["partial_files_removed"] += _remove_partial(folder, partial_hours)
        counts["parts_before"] += len(list_parts(folder))
        merge_parts(folder)
        counts["parts_after"] += len(list_parts(folder))
    return counts


def _remove_partial(folder: Path, hours: float) -> int:
    removed = 0
    for path in partial_files(folder):
        with suppress(FileNotFoundError):  # its writer has finished
            if path.stat().st_mtime <= time.time() - 3600 * hours:
                path.unlink()
                removed += 1
    return removed


def merge_parts(folder: Path) -> None:
    """Put parts of less than half the full size together, those of one origin only; memory holds one full part.

    The merged part is in place, and on disk, before the parts it took up are removed (see ``store.parts``).
    """
    for batch in read_settled(folder, lambda paths: list(_batches(paths))):
        with ExitStack() as stack:
            parts = []
            for path in batch:
                with suppress(FileNotFoundError):  # another merge was faster; its rows are there
                    parts.append(stack.enter_context(Part.checked(path)))
            if len(parts) < 2:
                continue
            rows = pa.concat_tables([part.read(range(part.groups)) for part in parts])
            origin = replace(parts[0].origin, merges=1 + max(part.origin.merges for part in parts))
            with parts_written(folder) as write:
                write(rows.group_by(rows.column_names).aggregate([]), origin)
            for part in parts:
                part.path.unlink(missing_ok=True)


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Small parts of one origin, together at most one full part."""
    small = []
    for path in paths:
        with Part(path) as part:
            if part.rows < PART_ROWS // 2:
                small.append((replace(part.origin, merges=0).metadata, part.rows, path))
    small.sort(key=lambda entry: (*entry[0].values(), *entry[1:]))
    for _, members in groupby(small, key=lambda entry: entry[0]):
        batch: list[Path] = []
        total = 0
        for _, rows, path in members:
            if total + rows > PART_ROWS:
                yield batch
                batch, total = [], 0
            batch.append(path)
            total += rows
        if len(batch) > 1:
            yield batch
