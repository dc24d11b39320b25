"""The reference genome: contigs under their own names and aliases, bases by 0-based half-open interval, identity."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import pysam

from dnagrinder.errors import BuildMismatchError, InputError, OutputError
from dnagrinder.genome.cache import cache_folders, cache_name, remember, remembered
from dnagrinder.genome.files import (
    LONGEST_TEXT_LINE,
    compression,
    existing_file,
    file_sha256,
    open_text,
    scratch_folder,
)

#: Bases held per cached slice: one bgzip block. On a Zen 4 core a first read costs 0.26 ms, a repeated one 1 µs.
_SLICE = 1 << 16
_SLICES_KEPT = 64
_TAIL = 4096  # bytes looked at behind the last base of an index
_BLOCK = 1 << 16  # bytes of a bgzip block at most, in the file and as text
_PACKED_TAIL = 4 * _BLOCK  # from the block of the last base to the file's end: it, line ends, the empty last block
_LONG_READ = 1 << 24
_LINE_WIDTH = 60
_NUCLEOTIDE_CODES = b"ACGTUNRYKMSWBDHVacgtunrykmswbdhv"
_MITOCHONDRION = ("MT", "M", "chrM", "chrMT")
_CONTIGS_NAMED = 3


@dataclass(frozen=True)
class Contig:
    """One sequence of the reference: its name there and its length in bases."""

    name: str
    length: int


class ReferenceGenome:
    """A FASTA opened for random access. Use as a context manager or call :meth:`close`.

    Coordinates are 0-based and half-open; contig names are the FASTA's own (see :meth:`resolve`). One object serves one
    thread; a process that forks opens its own.
    """

    def __init__(self, path: Path, fasta: pysam.FastaFile) -> None:
        self.path = path
        self.contigs = tuple(Contig(name, length) for name, length in zip(fasta.references, fasta.lengths, strict=True))
        self._fasta = fasta
        self._lengths = {contig.name: contig.length for contig in self.contigs}
        self._aliases = _aliases(self._lengths)
        self._slice = lru_cache(maxsize=_SLICES_KEPT)(self._read_slice)

    @classmethod
    def open(cls, path: Path | str) -> ReferenceGenome:
        """Open a plain or bgzip FASTA. A missing index is made beside it or, in a read-only folder, in the user's cache
        or, where that cannot be written either, in the folder for temporary files.

        Raises:
            InputError: no such file, plain gzip, not a FASTA, or an index that does not fit.
            OutputError: there is no index, and no place for one.
        """
        path = existing_file(path, "reference FASTA")
        packing = compression(path)
        if packing == "gzip":
            raise InputError(
                f"reference FASTA {path} is compressed with gzip, which allows no random access; recompress it: "
                f"gunzip -c {path.name} | bgzip > new.fa.gz, or run: dnagrinder prepare-reference"
            )
        index, block_index = _index(path, bgzip=packing == "bgzip")
        verbosity = pysam.set_verbosity(0)
        try:
            fasta = pysam.FastaFile(
                str(path),
                filepath_index=str(index),
                filepath_index_compressed=str(block_index) if block_index else None,
            )
        except (OSError, ValueError) as error:
            raise InputError(f"reference FASTA {path} cannot be opened with its index {index}: {error}") from error
        finally:
            pysam.set_verbosity(verbosity)
        if not fasta.references:
            raise InputError(f"reference FASTA {path} holds no sequence (index {index})")
        return cls(path, fasta)

    def __enter__(self) -> ReferenceGenome:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the file handle back."""
        self._fasta.close()

    def resolve(self, name: str) -> str | None:
        """This FASTA's own name for ``name`` (``chr1`` and ``1``, ``chrM``, ``M`` and ``MT`` are one), None if absent."""
        return self._aliases.get(name)

    def length(self, contig: str) -> int:
        """Bases in ``contig``.

        Raises:
            InputError: ``contig`` is not a name in this FASTA.
        """
        try:
            return self._lengths[contig]
        except KeyError:
            raise InputError(f"contig {contig!r} is not in reference {self.path.name}") from None

    def fetch(self, contig: str, start: int, end: int) -> str:
        """Upper-case bases of ``[start, end)``.

        Raises:
            InputError: unknown contig, or an interval that is reversed or leaves the contig.
        """
        self._check_interval(contig, start, end)
        first, last = start // _SLICE, (end - 1) // _SLICE
        if first == last:
            offset = first * _SLICE
            return self._slice(contig, first)[start - offset : end - offset]
        if last - first < _SLICES_KEPT // 2:
            bases = "".join(self._slice(contig, number) for number in range(first, last + 1))
            return bases[start - first * _SLICE : end - first * _SLICE]
        return self._read(contig, start, end).upper()

    def fetch_masked(self, contig: str, start: int, end: int) -> str:
        """Bases of ``[start, end)`` in the file's case: lower case is the soft mask. Errors as :meth:`fetch`."""
        self._check_interval(contig, start, end)
        return self._read(contig, start, end)

    def digest(self) -> str:
        """Identity of the sequence: sha256 over ``>name\\n``, upper-case bases, ``\\n`` per contig in file order.

        Compression, line width and soft mask leave it unchanged. Kept in the user's cache for this very file (cache.py).

        Raises:
            InputError: a letter that is no nucleotide code, as when the index belongs to another file.
        """
        value = remembered(self.path)
        if value is None:
            value = _checked_digest(self, self.path)
            remember(self.path, value)
        return value

    def check_build(self, contigs: Iterable[tuple[str, int | None]], source: str) -> None:
        """Refuse ``contigs`` (name, length or None where unstated) that this reference holds at another length.

        Raises:
            BuildMismatchError: names the first such contigs with both lengths; ``source`` says whose lengths they are.
        """
        different = [
            f"{name} has {length:,} bp there and {self._lengths[own]:,} bp here"
            for name, length in contigs
            if length is not None and (own := self.resolve(name)) is not None and self._lengths[own] != length
        ]
        if different:
            named = ", ".join(different[:_CONTIGS_NAMED]) + (", ..." if len(different) > _CONTIGS_NAMED else "")
            raise BuildMismatchError(
                f"{source} does not belong to reference {self.path.name}: {len(different)} shared contig(s) differ in "
                f"length ({named}); give the FASTA of the build that the variants were called on"
            )

    def _check_interval(self, contig: str, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.length(contig):
            raise InputError(f"{contig}:[{start}, {end}) lies outside the contig's {self._lengths[contig]:,} bases")

    def _read(self, contig: str, start: int, end: int) -> str:
        try:
            return str(self._fasta.fetch(contig, start, end)) if start < end else ""
        except (OSError, ValueError) as error:
            raise InputError(
                f"reference {self.path} cannot be read at {contig}:[{start}, {end}): {error}; where the file was replaced, "
                "delete its old .fai and .gzi"
            ) from error

    def _read_slice(self, contig: str, number: int) -> str:
        start = number * _SLICE
        return self._read(contig, start, min(start + _SLICE, self._lengths[contig])).upper()

    def _canonical_text(self) -> Iterator[bytes]:
        for contig in self.contigs:
            yield f">{contig.name}\n".encode()
            for start in range(0, contig.length, _LONG_READ):
                yield self._read(contig.name, start, min(start + _LONG_READ, contig.length)).upper().encode()
            yield b"\n"


def prepare_reference(source: Path | str, out: Path | str, expected_sha256: str | None = None) -> dict[str, Any]:
    """Write ``source`` (plain, gzip or bgzip FASTA) as bgzip FASTA ``out`` with ``.fai``, ``.gzi`` and a JSON card.

    The card lies beside ``out`` (``genome.fa.gz`` -> ``genome.json``) and is returned: ``{"sha256": content digest (see
    ReferenceGenome.digest), "contigs": [{"name", "length"}], "source": file name}``. All files appear by renaming,
    ``out`` last. A bgzip source is copied byte for byte; any other is re-wrapped at 60 bases a line.

    Raises:
        InputError: the source is not a FASTA, is truncated, names a contig twice, holds letters that are no nucleotide
            codes, or its bytes do not have ``expected_sha256``.
    """
    source, out = existing_file(source, "reference FASTA"), Path(out)
    if expected_sha256 is not None and (found := file_sha256(source)) != expected_sha256.lower():
        raise InputError(f"reference FASTA {source} has sha256 {found}, expected {expected_sha256.lower()}")
    with scratch_folder(out) as folder:
        aside = folder / out.name
        if compression(source) == "bgzip":
            _check_names(source)
            shutil.copyfile(source, aside)
        else:
            _compress(source, aside)
        _faidx(aside, Path(f"{aside}.fai"), Path(f"{aside}.gzi"), shown=source)
        with ReferenceGenome.open(aside) as genome:
            sha256 = _checked_digest(genome, shown=source)
            contigs = [{"name": contig.name, "length": contig.length} for contig in genome.contigs]
        card: dict[str, Any] = {"sha256": sha256, "contigs": contigs, "source": source.name}
        name = _card_name(out)
        (folder / name).write_text(json.dumps(card, indent=1) + "\n")
        for file in (f"{out.name}.gzi", f"{out.name}.fai", name, out.name):
            (folder / file).replace(out.parent / file)
    remember(out, sha256)
    return card


def _card_name(out: Path) -> str:
    name = out.name.removesuffix(".gz")
    return Path(name).stem + ".json"


def _aliases(names: Iterable[str]) -> dict[str, str]:
    own = {name: name for name in names}
    aliases: dict[str, str] = {}
    for name in own:
        same = _MITOCHONDRION if name in _MITOCHONDRION else (f"chr{name}", name.removeprefix("chr"))
        for alias in same:
            aliases.setdefault(alias, name)
    return aliases | own


def _checked_digest(genome: ReferenceGenome, shown: Path) -> str:
    value = hashlib.sha256()
    contig = ""
    for piece in genome._canonical_text():
        value.update(piece)
        if piece.startswith(b">"):
            contig = piece[1:-1].decode()
        elif other := piece.strip().translate(None, _NUCLEOTIDE_CODES):
            letters = bytes(sorted(set(other)))[:8].decode(errors="replace")
            raise InputError(
                f"reference FASTA {shown}: contig {contig} holds {letters!r}, which are no nucleotide codes; "
                "where the file was replaced, delete its old .fai and .gzi"
            )
    return value.hexdigest()


def _check_names(source: Path) -> None:
    """Read a FASTA through once: every sequence has a name of its own (faidx would silently drop the second)."""
    for _ in _lines_by_contig(source):
        pass


def _lines_by_contig(source: Path) -> Iterator[str]:
    """Stripped, non-empty lines of a FASTA whose names were checked, each header before its bases.

    Lines of bases, which may hold a whole chromosome, come in pieces of at most LONGEST_TEXT_LINE.
    """
    seen: set[str] = set()
    number, at_start = 0, True  # whether the next piece begins a line
    try:
        with open_text(source) as lines:
            while raw := str(lines.readline(LONGEST_TEXT_LINE)):
                number += at_start
                line = raw.strip()
                where = f"reference FASTA {source}, line {number}"
                if line.startswith(">"):
                    if not at_start or len(raw) == LONGEST_TEXT_LINE:
                        raise InputError(f"{where}: a name of millions of letters, or a '>' among bases")
                    name = (line[1:].split() or [""])[0]
                    if not name or name in seen:
                        raise InputError(
                            f"{where}: {f'contig {name!r} appears twice' if name else 'a sequence has no name'}"
                        )
                    seen.add(name)
                elif line and not seen:
                    raise InputError(f"{where}: expected a line with '>', found {line[:40]!r}")
                if line:
                    yield line
                at_start = raw.endswith("\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"reference FASTA {source} is truncated or damaged: {error}") from error


def _compress(source: Path, out: Path) -> None:
    """Re-wrap a plain or gzip FASTA as bgzip: sequences one after another, lines of 60 bases."""
    carry = ""
    with pysam.BGZFile(str(out), "w", None) as packed:
        for line in _lines_by_contig(source):
            if line.startswith(">"):
                packed.write((f"{carry}\n{line}\n" if carry else f"{line}\n").encode())
                carry = ""
                continue
            carry += line
            whole = len(carry) - len(carry) % _LINE_WIDTH
            for start in range(0, whole, _LINE_WIDTH):
                packed.write(carry[start : start + _LINE_WIDTH].encode() + b"\n")
            carry = carry[whole:]
        packed.write((f"{carry}\n" if carry else "").encode())


def _index(path: Path, *, bgzip: bool) -> tuple[Path, Path | None]:
    """The faidx (and, for bgzip, block) index of ``path``: beside it, in a cache, or made now.

    One beside the file that does not fit it is the user's to judge and refused; one in a cache is ours and made anew.
    """
    beside = (Path(f"{path}.fai"), Path(f"{path}.gzi"))
    places = [beside]
    places += [(folder / cache_name(path, "fai"), folder / cache_name(path, "gzi")) for folder in cache_folders()]
    for index, block_index in places:
        if index.is_file() and (not bgzip or block_index.is_file()):
            blocks = block_index if bgzip else None
            if _fits(index, blocks, path):
                return index, blocks
            if index == beside[0]:
                for file in filter(None, (index, blocks)):
                    existing_file(file, "index")
                raise InputError(
                    f"index {index}{f' or {blocks}' if blocks else ''} does not fit {path}, which was changed after it was "
                    "made or is not complete; where the FASTA is the right one, delete the index (it is made again) or run "
                    "samtools faidx"
                )
    _check_names(path)
    problems = []
    for index, block_index in places:
        try:
            with scratch_folder(index) as folder:
                new, new_block = folder / "fai", folder / "gzi"
                _faidx(path, new, new_block, shown=path)
                if bgzip:
                    new_block.replace(block_index)
                new.replace(index)
        except (OSError, OutputError) as error:  # read-only or full: the next place
            problems.append(str(error))
        else:
            return index, block_index if bgzip else None
    raise OutputError(
        f"reference FASTA {path} has no index and none can be written ({'; '.join(problems)}); run samtools faidx where you "
        "may write, or set XDG_CACHE_HOME"
    )


def _fits(index: Path, block_index: Path | None, path: Path) -> bool:
    """Whether the last contig of a FASTA ends where its index says; false for a file changed after indexing.

    A look at the end of the file alone: a change that leaves the place of all behind it goes unseen.
    """
    try:
        rows = [line.split("\t") for line in index.read_text(encoding="utf-8", errors="replace").splitlines()]
        contigs = [tuple(int(field) for field in row[1:5]) for row in rows]
        length, offset, bases, width = max(contigs, key=itemgetter(1))  # the lines may have been sorted
        end = offset + (length - 1) // bases * width + (length - 1) % bases + 1 if length and bases else offset
        tail = _packed_tail(path, block_index, end - 1) if block_index else _plain_tail(path, end - 1)
    except (PermissionError, IndexError, ValueError):
        return False
    return bool(tail[:1].strip() if length else tail) and not tail[1:].strip()


def _plain_tail(path: Path, start: int) -> bytes:
    """What stands in a file from ``start`` on, as far as it matters; empty where the file is shorter."""
    if not 0 <= start < path.stat().st_size:
        return b""
    with path.open("rb") as fasta:
        fasta.seek(start)
        return fasta.read(1 + _TAIL)


def _packed_tail(path: Path, block_index: Path, start: int) -> bytes:
    """The text of a bgzip file from ``start`` on, found by its block index.

    Empty where the text is shorter, no block begins where the index says, or more follows it than ends a FASTA.
    """
    content = block_index.read_bytes()
    number, listed = content[:8], content[8:]
    if start < 0 or number != struct.pack("<Q", len(listed) // 16) or len(listed) % 16:
        return b""
    blocks = [(0, 0), *struct.iter_unpack("<QQ", listed)]  # where each begins in the file and in the text
    place, text_start = blocks[max(bisect_right(blocks, start, key=itemgetter(1)) - 1, 0)]
    if not 0 < path.stat().st_size - place <= _PACKED_TAIL:
        return b""
    with path.open("rb") as packed:
        packed.seek(place)
        rest = packed.read()
    pieces = []
    while rest:
        block = zlib.decompressobj(wbits=31)  # with gzip's header and checksum
        try:
            pieces.append(block.decompress(rest, _BLOCK + 1))
        except zlib.error:
            return b""
        if not block.eof:
            return b""
        rest = block.unused_data
    return b"".join(pieces)[start - text_start :]


def _faidx(path: Path, index: Path, block_index: Path, *, shown: Path) -> None:
    """Run samtools faidx inside pysam; ``shown`` is the user's name of the file."""
    verbosity = pysam.set_verbosity(0)
    try:
        pysam.faidx(str(path), "--fai-idx", str(index), "--gzi-idx", str(block_index), catch_stdout=False)
    except pysam.SamtoolsError as error:
        raise InputError(f"{shown} cannot be indexed as FASTA: {' '.join(str(error).split())}") from error
    finally:
        pysam.set_verbosity(verbosity)
    if not index.is_file() or index.stat().st_size == 0:
        raise InputError(f"{shown} holds no FASTA sequence")
