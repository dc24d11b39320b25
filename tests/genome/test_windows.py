"""Windows, tiles and BED regions."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.genome.windows import tile, window_bounds, windows_around


@pytest.mark.parametrize(
    ("locus", "width", "length", "expected"),
    [
        ((100, 101), 10, 1000, (95, 105)),
        ((100, 101), 11, 1000, (95, 106)),
        ((0, 1), 10, 1000, (0, 5)),
        ((999, 1000), 10, 1000, (994, 1000)),
        ((10, 20), 10, 1000, (10, 20)),
        ((10, 10), 4, 1000, (8, 12)),
        ((2, 3), 512, 20, (0, 20)),
    ],
)
def test_window_bounds(locus: tuple[int, int], width: int, length: int, expected: tuple[int, int]) -> None:
    assert window_bounds(*locus, width, length) == expected


@given(st.integers(0, 500), st.integers(0, 40), st.integers(1, 200))
def test_window_holds_its_locus_and_has_its_width(start: int, size: int, width: int) -> None:
    length = 541
    left, right = window_bounds(start, start + size, width, length)
    assert 0 <= left <= right <= length
    if size <= width:
        assert left <= start
        assert start + size <= right
    assert right - left <= width
    if left > 0 and right < length:
        assert right - left == width


def test_windows_around_agrees_with_window_bounds_and_keeps_order(genome: ReferenceGenome) -> None:
    rows = [
        (contig, start, start + size)
        for start in (0, 1, 7, 30, 54)
        for contig in ("chrM", "c2", "c1", "n")
        for size in (0, 1, 3, 40)
        if start + size <= genome.length(contig)
    ]
    loci = pd.DataFrame(rows, columns=["contig", "start", "end"]).assign(tag=range(len(rows)))
    loci.index = pd.Index(range(1000, 1000 + 3 * len(rows), 3))
    for width in (1, 2, 9, 64, 4000):
        windows = windows_around(loci, genome, width)
        assert list(windows["contig"]) == list(loci["contig"])
        assert list(windows["tag"]) == list(loci["tag"])
        assert windows.index.equals(loci.index)
        expected = [window_bounds(start, end, width, genome.length(contig)) for contig, start, end in rows]
        assert list(zip(windows["start"], windows["end"], strict=True)) == expected


def test_windows_of_nothing(genome: ReferenceGenome) -> None:
    none = pd.DataFrame(
        {"contig": pd.Series(dtype="str"), "start": pd.Series(dtype="int64"), "end": pd.Series(dtype="int64")}
    )
    assert windows_around(none, genome, 10).empty
    assert tile(none, 10, genome).empty


@pytest.mark.parametrize("locus", [("c1", 50, 58), ("c1", -1, 2), ("zz", 0, 1), ("c1", 5, 4)])
def test_loci_outside_the_reference_are_refused(genome: ReferenceGenome, locus: tuple[str, int, int]) -> None:
    frame = pd.DataFrame([("c1", 0, 1), locus], columns=["contig", "start", "end"])
    with pytest.raises(InputError, match=rf"1 interval\(s\) lie outside reference small.fa, first {locus[0]}:"):
        windows_around(frame, genome, 10)
    with pytest.raises(InputError, match="outside reference"):
        tile(frame, 10, genome)


def test_tiles_cover_each_region_once(genome: ReferenceGenome) -> None:
    regions = pd.DataFrame(
        [("c2", 5, 1300), ("c1", 0, 57), ("c2", 5, 1300), ("c1", 3, 4), ("chrM", 10, 30)], columns=["contig", "start", "end"]
    )
    regions.index = pd.Index([7, 3, 9, 1, 4])
    tiles = tile(regions, 20, genome, flank=6)
    assert list(dict.fromkeys(tiles["region"])) == [7, 3, 9, 1, 4]
    for label, region in regions.iterrows():
        own = tiles[tiles["region"] == label]
        bases = [base for start, end in zip(own["core_start"], own["core_end"], strict=True) for base in range(start, end)]
        assert bases == list(range(region["start"], region["end"]))
        assert (own["contig"] == region["contig"]).all()
    assert (tiles["core_end"] - tiles["core_start"]).max() == 20
    lengths = tiles["contig"].map({"c1": 57, "c2": 1302, "chrM": 55})
    assert (tiles["start"] == (tiles["core_start"] - 6).clip(lower=0)).all()
    assert (tiles["end"] == (tiles["core_end"] + 6).where(tiles["core_end"] + 6 < lengths, lengths)).all()


def test_default_flank_is_half_the_width(genome: ReferenceGenome) -> None:
    row = tile(pd.DataFrame([("c2", 100, 110)], columns=["contig", "start", "end"]), 32, genome).iloc[0]
    assert (row["start"], row["end"]) == (84, 126)


def bed(tmp_path: Path, text: str, name: str = "regions.bed") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["regions.bed", "regions.bed.gz"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_read_bed(tmp_path: Path, genome: ReferenceGenome, name: str, line_end: str) -> None:
    lines = [
        "track name=x",
        "browser position c1:1-10",
        "# comment",
        "",
        "chrc1\t0\t57\texon 1\t0\t+\textra",
        "MT 5 9",
        "c1\t3\t4\t\t\t-",
        "zz\t0\t5\tgone",
        "c1\t50\t58\tlong",
        "c1\t7\t7\tnothing",
        "chrc1\t0\t57\texon 1\t0\t+\textra",
    ]
    regions = read_bed(bed(tmp_path, line_end.join(lines) + line_end, name), genome)
    accepted = regions.accepted.astype(object).where(regions.accepted.notna(), None)
    assert accepted.to_numpy().tolist() == [
        ["c1", 0, 57, "exon 1", "0", "+", 5],
        ["chrM", 5, 9, None, None, None, 6],
        ["c1", 3, 4, None, None, "-", 7],
        ["c1", 0, 57, "exon 1", "0", "+", 11],
    ]
    assert regions.rejected[["line", "contig", "name", "reason"]].to_numpy().tolist() == [
        [8, "zz", "gone", "CONTIG_ABSENT"],
        [9, "c1", "long", "OUT_OF_RANGE"],
        [10, "c1", "nothing", "EMPTY"],
    ]
    assert regions.rejected["detail"].tolist()[1] == "the contig ends at 57"


def test_empty_bed_of_headers_only(tmp_path: Path, genome: ReferenceGenome) -> None:
    regions = read_bed(bed(tmp_path, "# nothing\n"), genome)
    assert regions.accepted.empty
    assert regions.rejected.empty
    assert windows_around(regions.accepted, genome, 10).empty


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c1\t5", "line 2: a region needs contig, start and end"),
        ("c1\tfive\t9", "line 2: start and end must be whole numbers; found 'five' and '9'"),
        ("c1\t9\t5", "line 2: start 9 and end 5"),
        ("c1\t-1\t5", "line 2: start -1"),
        ("c1\t1\t5\ta\t0\tx", "line 2: strand must be"),
    ],
)
def test_bad_bed_lines_are_named(tmp_path: Path, genome: ReferenceGenome, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_bed(bed(tmp_path, f"c1\t0\t5\n{line}\n"), genome)


def test_damaged_bed_is_refused(tmp_path: Path, genome: ReferenceGenome) -> None:
    path = bed(tmp_path, "c1\t0\t5\n" * 500, "cut.bed.gz")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"cut\.bed\.gz is truncated or damaged"):
        read_bed(path, genome)
