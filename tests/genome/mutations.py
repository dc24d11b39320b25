"""Damaged VCFs: seeded changes of bytes, lines and fields, as broken tools, cut transfers and text editors make them."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Values that stand in some field of some file somewhere.
ODD_VALUES = (
    *(b"", b".", b"0", b"-1", b"+5", b"1.5", b"1e5", b"0x10", b"12abc", b"nan", b"2147483648", b"99999999999999999999"),
    *(
        b"A,,T",
        b",",
        b"*",
        b"<",
        b"<>",
        b"<DEL:ME>",
        b"]20:1]A",
        b"A[<c>:7[",
        b"R",
        b"a",
        b"N" * 50,
        b"=",
        b";",
        b" ",
        b"20 ",
    ),
    *(b"0|", b"|", b"1/999", b"GT:GT", b"AF=.", b"AF=1e400", b"END=5;END=7", b"END=-1", b"chr20"),
    *(b"\0", b"\0T", b"T,\0,G", b"\xff\xfe", b"\r", b"T\rG", b"\t", b"\n", b"\n\n", b"\n#x\n", b"\x1a", b"\xc3"),
)


def mutated(draw: random.Random, text: bytes) -> bytes:
    """``text`` after one to five changes."""
    for _ in range(draw.choice([1, 1, 1, 2, 3, 5])):
        text = draw.choice(_CHANGES)(draw, text)
    return text


def _other_byte(draw: random.Random, text: bytes) -> bytes:
    place = draw.randrange(len(text) + 1)
    return text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :]


def _cut_out(draw: random.Random, text: bytes) -> bytes:
    place = draw.randrange(len(text) + 1)
    return text[:place] + text[place + draw.randint(1, 20) :]


def _put_in(draw: random.Random, text: bytes) -> bytes:
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.randbytes(draw.randint(1, 4)) + text[place:]


def _truncated(draw: random.Random, text: bytes) -> bytes:
    return text[: draw.randrange(len(text) + 1)]


def _lines_rearranged(draw: random.Random, text: bytes) -> bytes:
    lines = text.splitlines(keepends=True) or [b""]
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.choice(["double", "drop", "swap", "glue"])
    if how == "double":
        lines.insert(other, lines[one])
    elif how == "drop":
        del lines[one]
    elif how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one] = lines[one].rstrip(b"\r\n")
    return b"".join(lines)


def _field_changed(draw: random.Random, text: bytes) -> bytes:
    return _part_changed(draw, text, lambda line: not line.startswith(b"##"), b"\t")


def _header_changed(draw: random.Random, text: bytes) -> bytes:
    return _part_changed(draw, text, lambda line: line.startswith(b"##"), draw.choice([b",", b"=", b"<"]))


def _part_changed(draw: random.Random, text: bytes, wanted: Callable[[bytes], bool], separator: bytes) -> bytes:
    lines = text.split(b"\n")
    places = [number for number, line in enumerate(lines) if wanted(line)]
    if not places:
        return text
    line = draw.choice(places)
    parts = lines[line].split(separator)
    part, odd = draw.randrange(len(parts)), draw.choice(ODD_VALUES)
    how = draw.choice(["replace", "replace", "insert", "append"])
    if how == "insert":
        parts.insert(part, odd)
    else:
        parts[part] = odd if how == "replace" else parts[part] + odd
    lines[line] = separator.join(parts)
    return b"\n".join(lines)


_CHANGES = (
    *(_other_byte, _cut_out, _put_in, _truncated),
    *(_lines_rearranged, _field_changed, _field_changed, _field_changed, _header_changed),
)
