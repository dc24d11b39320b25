"""Files of users read with care, own files written aside and renamed.

What is written aside lies beside its target as ``.<digest of the target's name>.<machine>.<process>.tmp`` (scratch folders:
``….folder``). A killed writer leaves it there, under a name that nobody reads; the next writer of the same target on that
machine removes it. A container that counts processes of its own is a machine of its own here, whatever its name.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dnagrinder.errors import InputError, OutputError

_GZIP_MAGIC = b"\x1f\x8b"
LONGEST_LINE = 1 << 28  # bytes of one line: 500,000 samples of 500 characters; a longer one is no data but harm
LONGEST_TEXT_LINE = 1 << 24  # characters of a line where lines are short: BED, names in a FASTA
_READ = 1 << 20
_FULL = 1 << 20  # htslib does not tell why it cannot write; with less space than that (bytes) the disk counts as full
_WRITER = re.compile(r"\.[0-9a-f]{12}\.[0-9a-f]{8}\.([0-9]+)\.(?:tmp|[^.]+\.folder)").fullmatch
#: What only writing meets, and what to do about it.
UNWRITABLE = {
    errno.ENOSPC: "free some space and start the same command again: what is finished is kept",
    errno.EDQUOT: "free some of your quota and start the same command again: what is finished is kept",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no larger file",
    errno.EROFS: "name a place that can be written",
}


def existing_file(path: Path | str, what: str) -> Path:
    """``path`` as a Path when it names a readable, non-empty regular file.

    Raises:
        InputError: missing, a folder, a pipe, empty or unreadable; ``what`` ("VCF", "FASTA") names it in the message.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder, not a file")
    if not path.exists():
        raise InputError(f"{what} {path} does not exist")
    if not path.is_file():
        raise InputError(f"{what} {path} is a pipe or device, not a regular file; write it to a file first")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {path} cannot be read: permission denied")
    if path.stat().st_size == 0:
        raise InputError(f"{what} {path} is empty (0 bytes)")
    return path


def compression(path: Path) -> str:
    """``"bgzip"``, ``"gzip"`` or ``"none"``, from the first bytes (RFC 1952; bgzip has the extra field ``BC``)."""
    with path.open("rb") as handle:
        head = handle.read(18)
    if head[:2] != _GZIP_MAGIC:
        return "none"
    return "bgzip" if len(head) >= 18 and head[3] & 4 and head[12:14] == b"BC" else "gzip"


def open_text(path: Path) -> io.TextIOBase:
    """Text of a plain, gzip or bgzip file; undecodable bytes become U+FFFD, line ends become ``\\n``."""
    if compression(path) == "none":
        return path.open(encoding="utf-8", errors="replace")
    return gzip.open(path, "rt", encoding="utf-8", errors="replace")


def bounded_lines(read: Callable[[int], bytes], named: str) -> Iterator[bytes]:
    """Lines without their ends, out of ``read(size)``; memory stays bounded whatever a file inflates to.

    Raises:
        InputError: a line of more than LONGEST_LINE bytes; ``named`` ("VCF x.vcf.gz") begins the message.
    """
    number, pieces, held = 1, [b""], 0
    while chunk := read(_READ):
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        held += len(first)
        if held > LONGEST_LINE:
            raise InputError(
                f"{named}, line {number}: longer than {LONGEST_LINE >> 20} MiB; the file is damaged or no such file"
            )
        if others:
            yield b"".join(pieces)
            yield from others[:-1]
            number += len(others)
            pieces, held = [others[-1]], len(others[-1])
    if held:
        yield b"".join(pieces)


def bounded_text(lines: io.TextIOBase, named: str) -> Iterator[str]:
    """Lines with their ends. Raises InputError for one of more than LONGEST_TEXT_LINE characters, named as above."""
    number = 0
    while line := lines.readline(LONGEST_TEXT_LINE):
        number += 1
        if len(line) == LONGEST_TEXT_LINE and not line.endswith("\n"):
            raise InputError(f"{named}, line {number}: longer than {LONGEST_TEXT_LINE:,} characters; it is no such file")
        yield line


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of the file's bytes as they lie on disk."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to ``path`` when the block ends well and removed when it does not.

    Raises:
        OutputError: the block, or the renaming, met an OSError that names no other file.
    """
    path = Path(path)
    aside = _prepared_aside(path)
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) != aside:
            raise
        raise unwritable(path, error) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A new folder next to ``beside`` for files on their way there; removed at the end with all that is left in it.

    Raises:
        OutputError: it cannot be made, or the block met an OSError about a file in it or about no file.
    """
    aside = _prepared_aside(beside)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{aside.stem}.", suffix=".folder", dir=aside.parent))
    except OSError as error:
        raise unwritable(beside, error) from error
    try:
        yield folder
    except OSError as error:
        if error.filename is not None and folder not in Path(os.fsdecode(error.filename)).parents:
            raise
        raise unwritable(beside, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error to raise where ``path`` cannot be written, with what to do about it."""
    code = error.errno
    if code is None and _free_bytes(path.parent) < _FULL:
        code = errno.ENOSPC
    reason = os.strerror(code) if code else str(error)
    advice = UNWRITABLE.get(code or 0, "name a place that can be written")
    return OutputError(f"{path} cannot be written: {reason}; {advice}")


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return _FULL


def _prepared_aside(path: Path) -> Path:
    """The name of this process's aside, in a folder that exists and is free of what killed processes left of ``path``."""
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:12]
    machine = hashlib.sha256(_processes_counted_in().encode()).hexdigest()[:8]
    ours = f".{digest}.{machine}."  # short: it must fit where a name near the file system's limit does
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{ours}*"):
            if (process := _WRITER(left.name)) and not _is_alive(int(process[1])):
                _remove(left)
    except OSError as error:
        raise unwritable(path, error) from error
    return path.with_name(f"{ours}{os.getpid()}.tmp")


def _processes_counted_in() -> str:
    """What tells apart where a number names one process: the machine and, on Linux, the namespace of process numbers."""
    counted_in = platform.node()
    with suppress(OSError):
        counted_in += f" {Path('/proc/self/ns/pid').readlink()}"
    return counted_in


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):  # not ours to judge
        return True
    return True


def _remove(left: Path) -> None:
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)
