"""Fetch a file and accept it only with the right checksum: ``python -m dnagrinder.download URL SHA256 OUT``.

A name and password for an https server come from the user's netrc file (``~/.netrc``, or the one that NETRC names), never
from the address: that stands in logs, in Snakemake's records and in reports.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import netrc
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from dnagrinder.errors import CREDENTIALS, DnaGrinderError, InputError
from dnagrinder.genome.files import UNWRITABLE, unwritable, written_aside

SCHEMES = ("https://", "http://", "ftp://", "file://")
TIMEOUT_SECONDS = 60
NO_CREDENTIALS = (
    "a name or password in an address would stand in logs and reports; write it into ~/.netrc "
    "(machine HOST login NAME password PASSWORD) and leave it out of the address"
)


def download(url: str, sha256: str, destination: Path) -> None:
    """Write the file behind the address to ``destination``; nothing is left there unless the checksum is right.

    Args:
        url: address with one of the schemes https, http, ftp, file.
        sha256: checksum of the file, hexadecimal.
        destination: file to write; its folder is made where absent.

    Raises:
        InputError: the address holds a password or cannot be read, or what lies there has another checksum.
        OutputError: the file cannot be written.
    """
    if not url.startswith(SCHEMES):
        raise InputError(f"{url}: not an address that can be fetched; known are {', '.join(SCHEMES)}")
    if has_credentials(url):
        raise InputError(f"{url}: {NO_CREDENTIALS}")
    with written_aside(destination) as aside:
        try:
            with urllib.request.urlopen(_request(url), timeout=TIMEOUT_SECONDS) as source, aside.open("wb") as target:  # noqa: S310
                shutil.copyfileobj(source, target)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise unwritable(destination, error) from error
            raise InputError(f"{url}: cannot be fetched: {_reason(error)}") from error
        with aside.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != sha256.lower():
            raise InputError(f"{url}: sha256 is {found}, expected {sha256}; the file there is not the one meant")


def has_credentials(url: str) -> bool:
    """Whether an address holds a name or a password."""
    return CREDENTIALS.match(url) is not None


def _reason(error: Exception) -> str:
    """What went wrong, without the parts of the address that many messages hold."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, ValueError | http.client.InvalidURL):
        return "no valid address"
    return error.strerror if isinstance(error, OSError) and error.filename and error.strerror else str(error)


def _request(url: str) -> urllib.request.Request:
    """The request, with what the netrc file holds for an https server; a redirection to another server does not get it."""
    request = urllib.request.Request(url)  # noqa: S310 - schemes were checked
    place = urlsplit(url)
    if place.scheme == "https" and place.hostname and (known := _netrc_entry(place.hostname)):
        login, _, password = known
        token = base64.b64encode(f"{login}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _netrc_entry(host: str) -> tuple[str, str | None, str | None] | None:
    """(login, account, password) of a server named in the file. Raises InputError where the file is damaged."""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    if not path.is_file():
        return None
    try:
        return netrc.netrc(str(path)).hosts.get(host)
    except (OSError, netrc.NetrcParseError) as error:
        where = f", line {error.lineno}" if isinstance(error, netrc.NetrcParseError) else ""
        raise InputError(f"netrc file {path}{where} cannot be read") from None  # its text may be a password


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
