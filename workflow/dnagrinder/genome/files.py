"""Files of users read with care, own files written aside and renamed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnagrinder.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"


def existing_file(path: Path | str, what: str) -> Path:
    """``path`` as a Path when it names a readable, non-empty regular file.

    Raises:
        InputError: missing, a folder, empty or unreadable; ``what`` ("VCF", "FASTA") names it in the message.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder, not a file")
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist")
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


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of the file's bytes as they lie on disk."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to ``path`` when the block ends well and removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:12]
    aside = path.with_name(f".{digest}.{os.getpid()}.tmp")  # short: a name near the file system's limit must fit too
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
