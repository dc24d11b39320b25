"""ReferenceGenome and prepare_reference."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import random
import shutil
import struct
import tempfile
from pathlib import Path

import pysam
import pytest
from genome.conftest import SEQUENCES, fasta_text

from dnagrinder.errors import BuildMismatchError, InputError, OutputError
from dnagrinder.genome import reference as module
from dnagrinder.genome.cache import cache_folders
from dnagrinder.genome.files import compression
from dnagrinder.genome.reference import Contig, ReferenceGenome, prepare_reference

EMPTY_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzip(path: Path, out: Path) -> Path:
    with pysam.BGZFile(str(out), "w", None) as packed:
        packed.write(path.read_bytes())
    return out


def lock(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let no scratch folder be made in the given ones, as where they are read-only."""
    make = tempfile.mkdtemp

    def refuse(prefix: str, suffix: str, dir: Path) -> str:
        if dir in folders:
            raise PermissionError(errno.EACCES, "Permission denied", str(dir))
        return make(prefix=prefix, suffix=suffix, dir=dir)

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)


def test_contigs_lengths_and_bases(genome: ReferenceGenome) -> None:
    assert genome.contigs == tuple(Contig(name, len(bases)) for name, bases in SEQUENCES.items())
    for name, bases in SEQUENCES.items():
        assert genome.length(name) == len(bases)
        assert genome.fetch(name, 0, len(bases)) == bases
    assert genome.fetch("c1", 8, 13) == "TTGGG"
    assert genome.fetch("c1", 5, 5) == ""


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 58), (5, 4), (57, 58)])
def test_fetch_outside_the_contig_is_refused(genome: ReferenceGenome, start: int, end: int) -> None:
    with pytest.raises(InputError, match="outside the contig's 57 bases"):
        genome.fetch("c1", start, end)


def test_unknown_contig_is_refused(genome: ReferenceGenome) -> None:
    with pytest.raises(InputError, match=r"'zz' is not in reference small\.fa"):
        genome.fetch("zz", 0, 1)


@pytest.mark.parametrize("slice_bases", [1, 7, 64])
def test_slices_join_without_seam(small_fasta: Path, monkeypatch: pytest.MonkeyPatch, slice_bases: int) -> None:
    monkeypatch.setattr(module, "_SLICE", slice_bases)
    with ReferenceGenome.open(small_fasta) as genome:
        for start, end in [(0, 57), (6, 8), (7, 14), (13, 15), (56, 57), (0, 1)]:
            assert genome.fetch("c1", start, end) == SEQUENCES["c1"][start:end]
        assert genome.fetch("c2", 0, 1302) == SEQUENCES["c2"]


def test_soft_mask_is_kept_and_hidden(tmp_path: Path) -> None:
    path = tmp_path / "masked.fa"
    path.write_text(">a\nACgtnNac\n")
    with ReferenceGenome.open(path) as genome:
        assert genome.fetch("a", 0, 8) == "ACGTNNAC"
        assert genome.fetch_masked("a", 1, 7) == "CgtnNa"


@pytest.mark.parametrize(
    ("own", "asked", "found"),
    [
        ("chr1", "1", "chr1"),
        ("1", "chr1", "1"),
        ("chrM", "MT", "chrM"),
        ("chrM", "M", "chrM"),
        ("MT", "chrM", "MT"),
        ("M", "MT", "M"),
        ("HLA-A", "chrHLA-A", "HLA-A"),
        ("chr1", "chr2", None),
        ("chr1", "11", None),
    ],
)
def test_aliases(tmp_path: Path, own: str, asked: str, found: str | None) -> None:
    path = tmp_path / "a.fa"
    path.write_text(f">{own} description\nACGT\n")
    with ReferenceGenome.open(path) as genome:
        assert genome.resolve(asked) == found


def test_own_name_wins_over_alias(tmp_path: Path) -> None:
    path = tmp_path / "both.fa"
    path.write_text(">chr1\nACGT\n>1\nGG\n")
    with ReferenceGenome.open(path) as genome:
        assert genome.resolve("1") == "1"
        assert genome.resolve("chr1") == "chr1"


def test_digest_is_that_of_the_bases_alone(tmp_path: Path) -> None:
    expected = hashlib.sha256(b">a\nACGTACGTNN\n>b\nTTT\n").hexdigest()
    (tmp_path / "one.fa").write_text(">a one\nACGTacgtNN\n>b\nTTT\n")
    (tmp_path / "two.fa").write_text(">a\nACGT\nACGT\nNN\n>b\nTTT\n")
    bgzip(tmp_path / "two.fa", tmp_path / "three.fa.gz")
    for name in ("one.fa", "two.fa", "three.fa.gz"):
        with ReferenceGenome.open(tmp_path / name) as genome:
            assert genome.digest() == expected
    (tmp_path / "other.fa").write_text(">a\nACGTACGTNN\n>b\nTTA\n")
    with ReferenceGenome.open(tmp_path / "other.fa") as genome:
        assert genome.digest() != expected


def test_digest_is_remembered_for_the_unchanged_file_only(
    small_fasta: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReferenceGenome.open(small_fasta) as genome:
        first = genome.digest()
    assert len(list(own_cache.rglob("*.digest.json"))) == 1
    with monkeypatch.context() as patched, ReferenceGenome.open(small_fasta) as genome:
        patched.setattr(ReferenceGenome, "_canonical_text", lambda _: pytest.fail("computed again"))
        assert genome.digest() == first
    changed = small_fasta.read_text().replace("TTGGG", "TTGGA", 1)
    small_fasta.write_text(changed)
    os.utime(small_fasta, ns=(1, 1))
    with ReferenceGenome.open(small_fasta) as genome:
        assert genome.digest() != first


@pytest.mark.parametrize("way", ["written over", "renamed"])
def test_digest_of_a_file_of_equal_size_and_time_is_not_taken(small_fasta: Path, way: str) -> None:
    """``cp -p`` or ``mv`` of a masked version onto the reference."""
    with ReferenceGenome.open(small_fasta) as genome:
        first = genome.digest()
    before = small_fasta.stat()
    masked = small_fasta.with_name("masked.fa")
    masked.write_text(small_fasta.read_text().replace("TTGGG", "NNNNN", 1))
    os.utime(masked, ns=(before.st_atime_ns, before.st_mtime_ns))
    if way == "renamed":
        masked.replace(small_fasta)
    else:
        while small_fasta.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of files ticks in milliseconds
            shutil.copy2(masked, small_fasta)
    after = small_fasta.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with ReferenceGenome.open(small_fasta) as genome:
        assert genome.digest() != first


def test_digest_survives_an_unwritable_cache(small_fasta: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with ReferenceGenome.open(small_fasta) as genome:
        assert len(genome.digest()) == 64


def test_missing_index_is_made_beside_the_file(small_fasta: Path) -> None:
    ReferenceGenome.open(small_fasta).close()
    assert Path(f"{small_fasta}.fai").read_text().startswith("c1\t57\t4\t57\t58")
    assert not Path(f"{small_fasta}.gzi").exists()
    packed = bgzip(small_fasta, small_fasta.with_name("packed.fa.gz"))
    ReferenceGenome.open(packed).close()
    assert {path.name for path in packed.parent.glob("packed*")} == {"packed.fa.gz", "packed.fa.gz.fai", "packed.fa.gz.gzi"}


@pytest.mark.parametrize("packed", [False, True])
def test_read_only_folder_puts_the_index_into_the_cache(
    small_fasta: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = bgzip(small_fasta, small_fasta.with_name("small.fa.gz")) if packed else small_fasta
    lock(monkeypatch, path.parent)
    for _ in range(2):
        with ReferenceGenome.open(path) as genome:
            assert genome.fetch("c1", 0, 4) == "CACA"
    assert not Path(f"{path}.fai").exists()
    endings = {file.suffix for file in own_cache.rglob("*") if file.is_file()}
    assert endings == ({".fai", ".gzi"} if packed else {".fai"})


def test_no_place_for_the_index_is_told(small_fasta: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "passing").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "passing"))
    lock(monkeypatch, small_fasta.parent)
    with ReferenceGenome.open(small_fasta) as genome:
        assert genome.fetch("c1", 0, 4) == "CACA"
    (index,) = tmp_path.rglob("*.fai")
    index.unlink()
    lock(monkeypatch, small_fasta.parent, index.parent)
    with pytest.raises(OutputError, match=r"no index and none can be written .* XDG_CACHE_HOME"):
        ReferenceGenome.open(small_fasta)


def test_a_cache_folder_of_another_user_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(cache_folders()) == 2
    (shared,) = tmp_path.iterdir()
    shared.chmod(0o777)
    assert len(cache_folders()) == 1
    shared.chmod(0o700)
    shared.rename(tmp_path / "elsewhere")
    shared.symlink_to(tmp_path / "elsewhere")
    assert len(cache_folders()) == 1


def test_what_is_no_fasta_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.fa").write_text("")
    (tmp_path / "text.fa").write_text("hello\nworld\n")
    (tmp_path / "plain.fa.gz").write_bytes(gzip.compress(b">a\nACGT\n"))
    for name, message in [
        ("missing.fa", "does not exist"),
        ("empty.fa", "is empty"),
        ("text.fa", "line 1: expected a line with '>'"),
        ("plain.fa.gz", "gzip.*bgzip"),
        ("", "is a folder"),
    ]:
        with pytest.raises(InputError, match=message):
            ReferenceGenome.open(tmp_path / name)


def test_check_build(genome: ReferenceGenome) -> None:
    genome.check_build([("chrc1", 57), ("MT", None), ("elsewhere", 5), ("c2", 1302)], "VCF x")
    with pytest.raises(
        BuildMismatchError, match=r"VCF x .* 2 shared contig.*chrc1 has 1,000 bp there and 57 bp here, MT has"
    ):
        genome.check_build([("chrc1", 1000), ("MT", 9), ("c2", 1302)], "VCF x")


@pytest.mark.parametrize("packing", ["plain", "gzip", "bgzip"])
def test_prepare_reference(tmp_path: Path, small_fasta: Path, packing: str) -> None:
    source = small_fasta
    if packing == "gzip":
        source = tmp_path / "source.fa.gz"
        source.write_bytes(gzip.compress(small_fasta.read_bytes()))
    elif packing == "bgzip":
        source = bgzip(small_fasta, tmp_path / "source.fa.gz")
    out = tmp_path / "prepared" / "genome.fa.gz"
    card = prepare_reference(source, out, hashlib.sha256(source.read_bytes()).hexdigest().upper())
    assert {path.name for path in out.parent.iterdir()} == {
        "genome.fa.gz",
        "genome.fa.gz.fai",
        "genome.fa.gz.gzi",
        "genome.json",
    }
    assert compression(out) == "bgzip"
    assert json.loads((out.parent / "genome.json").read_text()) == card
    assert card["source"] == source.name
    assert card["contigs"] == [{"name": name, "length": len(bases)} for name, bases in SEQUENCES.items()]
    with ReferenceGenome.open(out) as genome:
        assert genome.digest() == card["sha256"]
        assert genome.fetch("chrM", 0, 55) == SEQUENCES["chrM"]


def test_prepared_bytes_do_not_depend_on_the_spelling_of_the_source(tmp_path: Path) -> None:
    sequences = {"a": "ACGTacgtnn" * 33, "b": "TTT"}
    spellings = [fasta_text(sequences, 60), fasta_text(sequences, 7), fasta_text(sequences, 999).replace("\n", "\r\n\r\n")]
    written = []
    for number, text in enumerate(spellings):
        (tmp_path / "in.fa").write_text(text, newline="")
        prepare_reference(tmp_path / "in.fa", tmp_path / str(number) / "genome.fa.gz")
        written.append((tmp_path / str(number) / "genome.fa.gz").read_bytes())
    assert written[0] == written[1] == written[2]
    with ReferenceGenome.open(tmp_path / "2" / "genome.fa.gz") as genome:
        assert genome.fetch_masked("a", 0, 330) == sequences["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b">a\nACGT\n>a\nACGT\n", "line 3: contig 'a' appears twice"),
        (b">\nACGT\n", "a sequence has no name"),
        (b"ACGT\n", "line 1: expected a line with '>'"),
        (b">a\nMKVLEFP\n", "contig a holds 'EFLP', which are no nucleotide codes"),
        (b">a\n", "cannot be indexed|no FASTA sequence|holds no sequence"),
    ],
)
def test_prepare_reference_refuses_what_is_no_genome(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "bad.fa").write_bytes(text)
    with pytest.raises(InputError, match=message):
        prepare_reference(tmp_path / "bad.fa", tmp_path / "out" / "genome.fa.gz")
    assert list((tmp_path / "out").iterdir()) == []


def test_prepare_reference_refuses_a_bgzip_source_that_names_a_contig_twice(tmp_path: Path) -> None:
    (tmp_path / "twice.fa").write_bytes(b">a\nACGT\n>a\nACGT\n")
    source = bgzip(tmp_path / "twice.fa", tmp_path / "twice.fa.gz")
    with pytest.raises(InputError, match="line 3: contig 'a' appears twice"):
        prepare_reference(source, tmp_path / "out" / "genome.fa.gz")


def test_prepare_reference_refuses_a_truncated_or_altered_source(tmp_path: Path, small_fasta: Path) -> None:
    cut = tmp_path / "cut.fa.gz"
    cut.write_bytes(gzip.compress(small_fasta.read_bytes())[:-20])
    with pytest.raises(InputError, match="truncated or damaged"):
        prepare_reference(cut, tmp_path / "out" / "genome.fa.gz")
    found = hashlib.sha256(small_fasta.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=f"sha256 {found}, expected {'0' * 64}"):
        prepare_reference(small_fasta, tmp_path / "out" / "genome.fa.gz", "0" * 64)
    assert not (tmp_path / "out" / "genome.fa.gz").exists()


def test_an_index_of_an_earlier_file_is_refused(tmp_path: Path) -> None:
    """One contig grew and the index stayed: every base behind it would be read from the wrong place."""
    path = tmp_path / "genome.fa"
    path.write_text(">1\nACGTACGT\n>2\nGGGG\n")
    with ReferenceGenome.open(path) as genome:
        assert genome.fetch("2", 0, 4) == "GGGG"
    path.write_text(">1\nACGTACGTTT\n>2\nGGGG\n")
    with pytest.raises(InputError, match=r"genome\.fa\.fai does not fit .* delete the index"):
        ReferenceGenome.open(path)


def long_sequences(last: int) -> dict[str, str]:
    """Three bgzip blocks of bases, ``last`` of them in the last contig."""
    draw = random.Random(1)
    return {name: "".join(draw.choices("ACGT", k=bases)) for name, bases in (("1", 120_000), ("2", last))}


def packed_fasta(path: Path, sequences: dict[str, str], width: int = 60) -> Path:
    plain = path.with_suffix("")
    plain.write_text(fasta_text(sequences, width))
    return bgzip(plain, path)


LONG = long_sequences(50_000)
REPLACED = {
    "10 bases longer": long_sequences(50_010),
    "one base shorter": long_sequences(49_999),
    "longer by blocks": long_sequences(900_000),
    "shorter by blocks": long_sequences(1_000),
    "longer before": {"1": LONG["1"] + "ACGTACGTAC", "2": LONG["2"]},
    "one more contig": LONG | {"3": "ACGT"},
    "one contig less": {"1": LONG["1"]},
}


@pytest.mark.parametrize("made_by", ["reading", "writing"])
@pytest.mark.parametrize("version", [*REPLACED, "wrapped anew", "cut off", "small, 10 bases longer"])
def test_an_index_of_an_earlier_bgzip_file_is_refused(tmp_path: Path, version: str, made_by: str) -> None:
    """The bases would be read from the wrong place, or a part of them and without any error."""
    old = SEQUENCES if version.startswith("small") else LONG
    path = packed_fasta(tmp_path / "genome.fa.gz", old)
    with ReferenceGenome.open(path) as genome:
        assert genome.fetch(genome.contigs[-1].name, 0, 80) == list(old.values())[-1][:80]
    block_index = Path(f"{path}.gzi")
    if made_by == "writing":  # bgzip --index does not list the empty last block
        pairs = list(struct.iter_unpack("<QQ", block_index.read_bytes()[8:]))[:-1]
        block_index.write_bytes(struct.pack("<Q", len(pairs)) + b"".join(struct.pack("<QQ", *pair) for pair in pairs))
        ReferenceGenome.open(path).close()
    if version == "cut off":
        path.write_bytes(path.read_bytes()[:-1000])
    elif version == "wrapped anew":
        packed_fasta(path, LONG, 70)
    else:
        packed_fasta(path, SEQUENCES | {"n": SEQUENCES["n"] + "ACGTACGTAC"} if old is SEQUENCES else REPLACED[version])
    with pytest.raises(InputError, match=r"fa\.gz\.fai or .*\.gzi does not fit .* delete the index .* samtools faidx"):
        ReferenceGenome.open(path)
    Path(f"{path}.fai").unlink()
    if version != "cut off":
        with ReferenceGenome.open(path) as genome:
            assert len(genome.digest()) == 64


def test_one_of_two_indices_of_an_earlier_bgzip_file_is_refused(tmp_path: Path) -> None:
    path = packed_fasta(tmp_path / "genome.fa.gz", LONG)
    ReferenceGenome.open(path).close()
    old = {ending: Path(f"{path}.{ending}").read_bytes() for ending in ("fai", "gzi")}
    packed_fasta(path, REPLACED["longer before"])
    pysam.faidx(str(path))
    for ending, content in old.items():
        index = Path(f"{path}.{ending}")
        new = index.read_bytes()
        index.write_bytes(content)
        with pytest.raises(InputError, match="does not fit"):
            ReferenceGenome.open(path)
        index.write_bytes(new)
    ReferenceGenome.open(path).close()


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("last", [1, 60, 61, 10_000, 65_280 * 2])
def test_an_index_fits_its_bgzip_file_whatever_ends_it(tmp_path: Path, last: int, end: str) -> None:
    plain = tmp_path / "genome.fa"
    plain.write_bytes(f">1\nACGT\n>2\n{'A' * last}{end}".encode())
    path = bgzip(plain, tmp_path / "genome.fa.gz")
    for _ in range(2):
        with ReferenceGenome.open(path) as genome:
            assert genome.length("2") == last
    index = Path(f"{path}.fai")
    index.write_text("".join(sorted(index.read_text().splitlines(keepends=True), reverse=True)))
    ReferenceGenome.open(path).close()
    path.write_bytes(path.read_bytes().removesuffix(EMPTY_BLOCK))  # as bgzip did long ago
    ReferenceGenome.open(path).close()


@pytest.mark.parametrize("content", [b"", b"\0" * 9, b"\xff" * 24, b"\1" + b"\0" * 7 + b"\xff" * 8 + b"\0" * 8])
def test_a_damaged_block_index_is_refused(tmp_path: Path, content: bytes) -> None:
    path = packed_fasta(tmp_path / "genome.fa.gz", LONG)
    ReferenceGenome.open(path).close()
    Path(f"{path}.gzi").write_bytes(content)
    with pytest.raises(InputError, match=r"genome\.fa\.gz\.gzi (does not fit|is empty)"):
        ReferenceGenome.open(path)


@pytest.mark.parametrize("packed", [False, True])
def test_an_index_in_the_cache_that_does_not_fit_is_made_anew(
    small_fasta: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    path = bgzip(small_fasta, small_fasta.with_name("small.fa.gz")) if packed else small_fasta
    lock(monkeypatch, path.parent)
    ReferenceGenome.open(path).close()
    (index,) = own_cache.rglob("*.fai")
    right = index.read_text()
    index.write_text(right.replace("n\t180", "n\t170"))
    with ReferenceGenome.open(path) as genome:
        assert genome.length("n") == 180
    assert index.read_text() == right


def test_a_plain_file_that_ends_one_base_earlier_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">1\nACGTACGT\n")
    ReferenceGenome.open(path).close()
    path.write_text(">1\nACGTACG\n")
    with pytest.raises(InputError, match=r"genome\.fa\.fai does not fit"):
        ReferenceGenome.open(path)


def test_a_contig_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_text(">1\nACGT\n>1\nGGGG\n")
    with pytest.raises(InputError, match="contig '1' appears twice"):
        ReferenceGenome.open(path)
