"""What is true of a DNA sequence as text."""

from __future__ import annotations

_LETTERS, _OPPOSITE = "ACGTUNRYKMSWBDHV", "TGCAANYRMKSWVHDB"  # IUPAC codes of nucleotides
_COMPLEMENT = str.maketrans(_LETTERS + _LETTERS.lower(), _OPPOSITE + _OPPOSITE.lower())


def reverse_complement(sequence: str) -> str:
    """The other strand, read in its own direction; IUPAC codes, letter case is kept."""
    return sequence.translate(_COMPLEMENT)[::-1]
