"""Fetch a file and accept it only with the right checksum: ``python -m dnagrinder.download URL SHA256 OUT``."""

from __future__ import annotations

import hashlib
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from dnagrinder.errors import DnaGrinderError, InputError

SCHEMES = ("https://", "http://", "ftp://", "file://")
TIMEOUT_SECONDS = 60


def download(url: str, sha256: str, destination: Path) -> None:
    """Write the file behind the address to ``destination``; nothing is left there unless the checksum is right.

    Args:
        url: address with one of the schemes https, http, ftp, file.
        sha256: checksum of the file, hexadecimal.
        destination: file to write; its folder is made where absent.

    Raises:
        InputError: the address cannot be read, or what lies there has another checksum.
    """
    if not url.startswith(SCHEMES):
        raise InputError(f"{url}: not an address that can be fetched; known are {', '.join(SCHEMES)}")
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(destination.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as source, partial.open("wb") as target:  # noqa: S310
            shutil.copyfileobj(source, target)
        with partial.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != sha256.lower():
            raise InputError(f"{url}: sha256 is {found}, expected {sha256}; the file there is not the one meant")
        partial.replace(destination)
    except (urllib.error.URLError, OSError) as error:
        raise InputError(f"{url}: cannot be fetched: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Run :func:`download` with three arguments; returns the exit status."""
    if len(arguments) != 3:
        print("usage: python -m dnagrinder.download URL SHA256 OUT", file=sys.stderr)
        return 2
    try:
        download(arguments[0], arguments[1], Path(arguments[2]))
    except DnaGrinderError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
