"""``-`` for standard input and standard output, where a command takes a VCF.

Both go through a temporary file (TMPDIR names its folder): a VCF is read twice, once for its alleles and once to be written
back, and what is written appears only when all of it is there.
"""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnagrinder.errors import InputError

STREAM = Path("-")
_CHUNK = 1 << 20


@contextmanager
def input_file(path: Path) -> Iterator[Path]:
    """``path`` itself; for ``-`` a file with all that standard input held, which goes with the block.

    Raises:
        InputError: a pipe under a name (FIFO, process substitution), which can be read only once.
    """
    if path != STREAM:
        if path.is_fifo():
            raise InputError(
                f"VCF {path} is a pipe, not a regular file, and a VCF is read twice; give - in its place and pipe it in: "
                "... | dnagrinder ..."
            )
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dnagrinder-") as folder:
        copy = Path(folder) / "stdin"
        with copy.open("wb") as out:
            shutil.copyfileobj(sys.stdin.buffer, out, _CHUNK)
        yield copy


@contextmanager
def output_vcf(path: Path) -> Iterator[Path]:
    """``path`` itself; for ``-`` a bgzip file that is written to standard output, unpacked, when the block ends well."""
    if path != STREAM:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dnagrinder-") as folder:
        packed = Path(folder) / "stdout.vcf.gz"
        yield packed
        with gzip.open(packed) as text:
            shutil.copyfileobj(text, sys.stdout.buffer, _CHUNK)
        sys.stdout.buffer.flush()
