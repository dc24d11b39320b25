"""What scores come from; a calibration speaks of scores of one origin only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dnagrinder.errors import InputError

#: Field of ScoreOrigin -> its name in the VCF header's ``##dnagrinder`` line.
HEADER_NAMES = {
    "checkpoint": "Checkpoint",
    "checkpoint_sha256": "CheckpointSha256",
    "tokenizer_sha256": "TokenizerSha256",
    "reference_sha256": "ReferenceSha256",
    "parameters_sha256": "ParametersSha256",
}


@dataclass(frozen=True)
class ScoreOrigin:
    """Name of the checkpoint, and the checksums that decide a score.

    Raises:
        InputError: a field is empty or no text.
    """

    checkpoint: str
    checkpoint_sha256: str
    tokenizer_sha256: str
    reference_sha256: str
    parameters_sha256: str

    def __post_init__(self) -> None:
        if missing := [one.name for one in fields(self) if not _is_text(getattr(self, one.name))]:
            raise InputError(f"origin of scores: {', '.join(missing)} not stated")

    @classmethod
    def of_provenance(cls, traced: Mapping[str, Any]) -> ScoreOrigin:
        """From the provenance that score tables carry."""
        return cls(
            traced["checkpoint"]["name"],
            traced["checkpoint"]["sha256"],
            traced["tokenizer_sha256"],
            traced["reference_sha256"],
            traced["parameters_sha256"],
        )

    @classmethod
    def of_header(cls, line: Mapping[str, str]) -> ScoreOrigin:
        """From the fields of a VCF header's ``##dnagrinder`` line. Raises InputError where one is missing."""
        return cls(**{name: _unquoted(line.get(header, "")) for name, header in HEADER_NAMES.items()})

    def difference(self, other: ScoreOrigin) -> str | None:
        """The first of ``checkpoint``, ``tokenizer``, ``reference``, ``parameters`` in which two origins differ, or None."""
        for name in ("checkpoint", "tokenizer", "reference", "parameters"):
            if getattr(self, f"{name}_sha256") != getattr(other, f"{name}_sha256"):
                return name
        return None


def plain_contig(name: str) -> str:
    """One name for a contig's usual spellings: ``chr1`` and ``1``, ``chrM``, ``M`` and ``MT``."""
    name = name.removeprefix("chr")
    return "MT" if name == "M" else name


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
