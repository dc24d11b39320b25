"""Upkeep of a score store: what it holds, whether it is sound, and its parts merged. All of it beside running jobs."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.errors import StoreError
from dnagrinder.scoring.store.parts import (
    PART_ROWS,
    Part,
    contig_index,
    contig_rows,
    find_context,
    list_contexts,
    list_parts,
    partial_files,
    parts_written,
    read_settled,
)
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA

#: Scores of one allele that lie closer than this, in nats, are taken for the rounding of different machines.
TOLERANCE = 1e-3
PARTIAL_HOURS = 24.0  # after which a file aside is no running writer's


@dataclass(frozen=True)
class Conflicts:
    """Alleles that a context holds with more than one score.

    Attributes:
        alleles: how many.
        largest: largest difference between two scores of one allele, in nats.
        where: that allele, ``contig:position ref>alt`` (1-based); "" where there is none.
    """

    alleles: int = 0
    largest: float = 0.0
    where: str = ""


def store_stats(root: Path) -> list[dict[str, Any]]:
    """Every context: its provenance, rows, alleles, parts, bytes and who gave the imported rows.

    Raises:
        StoreError: no store, or a part that cannot be read.
    """
    return [read_settled(folder, partial(_stats, folder)) for folder in list_contexts(root)]


def _stats(folder: Path, paths: list[Path]) -> dict[str, Any]:
    origins, sizes = [], []
    for path in paths:
        with Part(path) as part:
            origins.append((part.origin, part.rows))
        sizes.append(path.stat().st_size)
    alleles = sum(_alleles(contig_rows(name, places, ALLELE_COLUMNS)) for name, places in contig_index(paths).items())
    sources: dict[str, dict[str, Any]] = {}
    for origin, rows in origins:
        if origin.source:
            entry = sources.setdefault(origin.source["sha256"] + origin.source["name"], {**origin.source, "rows": 0})
            entry["rows"] += rows
    stated = origins[0][0].provenance if origins else {}
    return {
        "context": folder.name,
        **{key: stated.get(key) for key in ("checkpoint", "tokenizer_sha256", "reference_sha256", "parameters")},
        "tool_versions": sorted({origin.provenance["tool_version"] for origin, _ in origins}),
        "rows": sum(rows for _, rows in origins),
        "alleles": alleles,
        "parts": len(paths),
        "bytes": sum(sizes),
        "partial_files": len(partial_files(folder)),
        "imports": sorted(sources.values(), key=lambda source: (source["name"], source["sha256"])),
    }


def _alleles(rows: pa.Table) -> int:
    return len(rows.group_by(list(ALLELE_COLUMNS)).aggregate([]))


def verify_store(root: Path, tolerance: float = TOLERANCE) -> tuple[dict[str, Any], list[str]]:
    """(counts, problems). Every part's bytes are compared with its name and all its rows are read.

    Counts: contexts, parts, rows, alleles, duplicates (rows beyond one an allele: no problem), partial_files (of running or
    killed writers: no problem, prune removes them), conflicts (alleles with more than one score), largest_difference.
    Conflicts are a problem where two scores of an allele differ by more than ``tolerance`` nats.

    Raises:
        StoreError: no store there.
    """
    contexts = list_contexts(root)
    counts = Counter(contexts=len(contexts), parts=0, rows=0, alleles=0, duplicates=0, partial_files=0, conflicts=0)
    largest = 0.0
    problems = []
    for folder in contexts:
        found, conflicts, unsound = read_settled(folder, _verified)
        counts.update(found, partial_files=len(partial_files(folder)), conflicts=conflicts.alleles)
        largest = max(largest, conflicts.largest)
        problems += unsound
        problems += [f"{path} is no part of a store; remove it" for path in sorted(folder.iterdir()) if _is_foreign(path)]
        if conflicts.largest > tolerance:
            problems.append(
                f"context {folder.name}: {conflicts.alleles} alleles have more than one score, the furthest apart "
                f"{conflicts.where} by {conflicts.largest:.6g}; find the part or import that is wrong and remove it"
            )
    return {**counts, "largest_difference": largest}, problems


def _is_foreign(path: Path) -> bool:
    return path.suffix != ".parquet" and not path.name.startswith(".")


def _verified(paths: list[Path]) -> tuple[dict[str, int], Conflicts, list[str]]:
    """Counts, conflicts and problems of a context; rows of unsound parts are not counted."""
    problems, sound = [], []
    for path in paths:
        try:
            with Part.checked(path) as part:
                part.read(range(part.groups))
            sound.append(path)
        except StoreError as error:
            problems.append(str(error))
    rows = alleles = 0
    conflicts = Conflicts()
    for name, places in contig_index(sound).items():
        table = contig_rows(name, places, [*ALLELE_COLUMNS, "score"])
        found = table.group_by(list(ALLELE_COLUMNS)).aggregate([("score", "min"), ("score", "max")])
        rows, alleles, conflicts = rows + len(table), alleles + len(found), _joined(conflicts, found)
    counts = {"parts": len(paths), "rows": rows, "alleles": alleles, "duplicates": rows - alleles}
    return counts, conflicts, problems


def _joined(known: Conflicts, found: pa.Table) -> Conflicts:
    """``known`` and those of a table of alleles with score_min and score_max."""
    differences = pc.fill_null(pc.subtract(found["score_max"], found["score_min"]), 0.0).to_numpy()
    if not differences.any():
        return known
    alleles = known.alleles + int(np.count_nonzero(differences))
    worst = int(differences.argmax())
    if differences[worst] <= known.largest:
        return replace(known, alleles=alleles)
    contig, start, ref, alt = (found[name][worst].as_py() for name in ALLELE_COLUMNS)
    return Conflicts(alleles, float(differences[worst]), f"{contig}:{start + 1} {ref}>{alt}")


def prune_store(root: Path, keep: Sequence[str] = (), partial_hours: float = PARTIAL_HOURS) -> dict[str, int]:
    """Merge small parts, remove old files aside and, where ``keep`` names contexts (or their beginnings), all others.

    No row is lost: equal rows become one, rows that differ in anything stay. Parts are checked before they are merged.

    Returns:
        Counts: contexts_removed, partial_files_removed, parts_before, parts_after.

    Raises:
        StoreError: no store, a name in ``keep`` that is no context (nothing is removed then), or a damaged part.
    """
    kept = {find_context(root, name) for name in keep} or set(list_contexts(root))
    dropped = [folder for folder in list_contexts(root) if folder not in kept]
    for folder in dropped:
        shutil.rmtree(folder)
    counts = {"contexts_removed": len(dropped), "partial_files_removed": 0, "parts_before": 0, "parts_after": 0}
    for folder in sorted(kept):
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
                write(rows.group_by(SCORE_SCHEMA.names).aggregate([]), origin)
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
