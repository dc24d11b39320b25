"""The one exception family of dnaGrinder.

Every message says what was found, where (file, record, line) and what to do. The command line prints the message on
one line and exits with the class's ``exit_code``; anything outside this family is a defect and keeps its traceback.
"""

from __future__ import annotations

import re

#: Scheme, then name and password of an address; a password may hold anything but ``@`` (``:8080/`` is a port).
CREDENTIALS = re.compile(r"(\w+://)(?:[^\s/?#@]*|(?![^\s/?#:@]*:\d+/)[^\s/?#:@]*:[^\s@]*)@")
_QUERY = re.compile(r"(\w+://[^\s?#]*\?)[^\s#'\"]+")


def without_secrets(text: str) -> str:
    """The text with ``***`` for user and password, and for the query, of every address in it."""
    return _QUERY.sub(r"\1***", CREDENTIALS.sub(r"\1***@", text))


class DnaGrinderError(Exception):
    """Base of every error that a user can cause or mend."""

    exit_code = 1


class InputError(DnaGrinderError):
    """A user's file is missing, unreadable or not what it claims to be (VCF, BED, FASTA, table)."""

    exit_code = 3


class BuildMismatchError(InputError):
    """Variants and reference genome do not belong to the same genome build."""

    exit_code = 4


class ConfigError(DnaGrinderError):
    """Settings contradict each other or the sample sheet is wrong; ``problems`` holds every finding at once."""

    exit_code = 5

    def __init__(self, heading: str, problems: list[str] | None = None) -> None:
        self.problems = problems or []
        super().__init__("; ".join([heading, *self.problems]) if self.problems else heading)


class CheckpointError(DnaGrinderError):
    """A model folder is incomplete, altered (sha256) or not safetensors."""

    exit_code = 6


class StoreError(DnaGrinderError):
    """The score store holds something that does not belong to it or cannot be read."""

    exit_code = 7


class MemoryLimitError(DnaGrinderError):
    """One sequence alone needs more memory than there is."""

    exit_code = 9


class InvariantError(DnaGrinderError):
    """A promise of the product does not hold (counts that must add up); a defect worth reporting."""

    exit_code = 8
