"""What became of each ALT of a call set, record after record: the tables of accepted and rejected alleles with the scores.

Nothing is held but one batch of each table, however many records there are.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dnagrinder.errors import InvariantError
from dnagrinder.reports.haplotypes import haplotype_texts
from dnagrinder.reports.lookup import ScoreTables
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.evidence import Evidence, no_calibration
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_batches, read_parquet, table_alleles

_PLACE = ("record", "alt_index", "input_contig", "input_position", "input_ref", "input_alt")
_NUMBERS = ("score", "spread", "cosine_distance", "l2_distance")
_STATUS = len(_NUMBERS)  # place of the status among the texts

#: What is written for one ALT: its number, then the texts of the fields.
Outcome = tuple[int, tuple[bytes, ...]]
#: REF and ALT as the tables have the input's spelling; the ledger cuts long ones.
Spelling = tuple[str, str]
#: Record, ALT, (CHROM, POS), (REF, ALT), whether it was rejected, texts of the fields.
_Row = tuple[int, int, tuple[bytes, bytes], Spelling, bool, tuple[bytes, ...]]


@dataclass(frozen=True)
class AnnotationCounts:
    """What became of the alleles of a file: ``alleles_in = scored + from_store + rejected``.

    Raises:
        InvariantError: the counts do not add up.
    """

    records: int
    alleles_in: int
    scored: int
    from_store: int
    rejected: int
    rejected_by_reason: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.alleles_in != self.scored + self.from_store + self.rejected:
            raise InvariantError(f"alleles in, scored, from store and rejected do not add up: {self}")
        if self.rejected != sum(self.rejected_by_reason.values()):
            raise InvariantError(f"rejected alleles and their reasons do not add up: {self}")


class Outcomes:
    """One pass over the tables; iterate, then ask for the counts.

    Each step gives (record number, (CHROM, POS), (REF, ALT) of each ALT, outcomes of its ALTs).

    ``alleles`` and ``ledger`` are in file order, as read-variants writes them.

    Raises:
        InputError: a table is missing or damaged.
        InvariantError: an accepted allele has no score.
    """

    def __init__(
        self, alleles: Path, ledger: Path, scores: Sequence[Path], judge: Judge | None, haplotypes: Path | None
    ) -> None:
        self._alleles, self._ledger, self._scores, self._judge = alleles, ledger, scores, judge
        self._haplotypes = None if haplotypes is None else haplotype_texts(haplotypes)  # few beside the alleles
        self._records = 0
        self._statuses: Counter[tuple[bool, bytes]] = Counter()

    def __iter__(self) -> Iterator[tuple[int, tuple[bytes, bytes], list[Spelling], list[Outcome]]]:
        self._records = 0
        self._statuses.clear()
        for number, group in groupby(heapq.merge(self._accepted(), self._rejected()), key=itemgetter(0)):
            members = list(group)
            self._records += 1
            self._statuses.update((rejected, texts[_STATUS]) for *_, rejected, texts in members)
            spellings = [spelling for _, _, _, spelling, _, _ in members]
            yield number, members[0][2], spellings, [(alt_index, texts) for _, alt_index, *_, texts in members]

    @property
    def counts(self) -> AnnotationCounts:
        """Counts of the pass that has ended."""
        reasons = {status.decode(): times for (rejected, status), times in self._statuses.items() if rejected}
        return AnnotationCounts(
            records=self._records,
            alleles_in=self._statuses.total(),
            scored=self._statuses[False, b"scored"],
            from_store=self._statuses[False, b"from_store"],
            rejected=sum(reasons.values()),
            rejected_by_reason=dict(sorted(reasons.items())),
        )

    def _accepted(self) -> Iterator[_Row]:
        with ScoreTables(self._scores) as scores:
            for batch in read_batches(self._alleles, [*_PLACE, *ALLELE_COLUMNS, "consequence"]):
                scored = scores.attach(batch, [*_NUMBERS, "status"])
                yield from _rows(scored, self._more(scored), rejected=False)

    def _rejected(self) -> Iterator[_Row]:
        for batch in read_batches(self._ledger, [*_PLACE, "reason"]):
            nothing = _evidence_texts(no_calibration("not_scored")) if self._judge else ()
            nothing += () if self._haplotypes is None else (b".",)
            yield from _rows(batch.rename_columns([*_PLACE, "status"]), [nothing] * len(batch), rejected=True)

    def _more(self, scored: pa.Table) -> list[tuple[bytes, ...]]:
        """Of each row the texts that stand behind the status: evidence and points, haplotypes."""
        evidence: list[tuple[bytes, ...]] = _judged(scored, self._judge) if self._judge else [()] * len(scored)
        if self._haplotypes is None:
            return evidence
        keys = [allele.key for allele in table_alleles(scored)]
        return [(*texts, self._haplotypes.get(key, ".").encode()) for key, texts in zip(keys, evidence, strict=True)]


def contigs_met(alleles: Path, ledger: Path) -> list[str]:
    """The input's names of the contigs that have a record, in the order in which they are met first."""
    first: dict[str, int] = {}
    for path in (alleles, ledger):
        for batch in read_batches(path, ["record", "input_contig"]):
            encoded = batch["input_contig"].combine_chunks().dictionary_encode()
            _, rows = np.unique(encoded.indices.to_numpy(), return_index=True)
            records = batch["record"].to_numpy()[rows].tolist()
            for contig, record in zip(encoded.dictionary.to_pylist(), records, strict=True):
                first[contig] = min(record, first.get(contig, record))
    return sorted(first, key=first.__getitem__)


def sorted_order(alleles: Path, ledger: Path, header_contigs: Sequence[str]) -> NDArray[np.int64]:
    """The records in an order that an index can serve: by contig (header's order, then first met) and position, stably.

    Memory holds some 40 bytes a record.
    """
    columns = ["record", "input_contig", "input_position"]
    rows = pa.concat_tables([read_parquet(path, columns) for path in (alleles, ledger)])
    _, first_rows = np.unique(rows["record"].to_numpy(), return_index=True)
    sites = rows.take(pa.array(first_rows))
    encoded = sites["input_contig"].combine_chunks().dictionary_encode()
    place = {name: rank for rank, name in reversed(list(enumerate(header_contigs)))}
    ranks = [place.get(name, len(header_contigs) + code) for code, name in enumerate(encoded.dictionary.to_pylist())]
    return np.lexsort([sites["input_position"].to_numpy(), np.array(ranks)[encoded.indices.to_numpy()]])


def _judged(scored: pa.Table, judge: Judge) -> list[tuple[bytes, ...]]:
    columns = (table_alleles(scored), scored["consequence"].to_pylist(), scored["score"].to_pylist())
    return [_evidence_texts(judge.evidence(*row)) for row in zip(*columns, strict=True)]


def _rows(table: pa.Table, more: Sequence[tuple[bytes, ...]], *, rejected: bool) -> Iterator[_Row]:
    """Rows of one batch with ``more`` texts each; a table without numbers has ``.`` for them."""
    nothing = [None] * len(table)
    numbers = [table[name].to_pylist() if name in table.column_names else nothing for name in _NUMBERS]
    columns = [table[name].to_pylist() for name in (*_PLACE, "status")]
    for record, alt_index, contig, position, ref, alt, status, others, *values in zip(*columns, more, *numbers, strict=True):
        texts = (*map(_number, values), status.encode(), *others)
        yield record, alt_index, (contig.encode(), b"%d" % position), (ref, alt), rejected, texts


def _evidence_texts(one: Evidence) -> tuple[bytes, ...]:
    return one.code.encode(), b"." if one.points is None else b"%d" % one.points


def _number(value: float | None) -> bytes:
    """Up to 6 significant digits; ``.`` where there is no number."""
    if value is None or not math.isfinite(value):
        return b"."
    return b"0" if value == 0 else f"{value:.6g}".encode()
