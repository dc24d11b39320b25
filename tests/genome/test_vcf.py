"""Reading VCF: every allele once, every defect told."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest

from dnagrinder.errors import BuildMismatchError, ConfigError, InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.vcf import Accepted, Rejected, VcfFile, read_vcf

WriteVcf = Callable[..., Path]
CONTIGS = "##contig=<ID=c1,length=57>\n##contig=<ID=c2,length=1302>\n"
GT = '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'


def told(outcome: Accepted | Rejected) -> tuple[int, int, str]:
    what = outcome.allele.key if isinstance(outcome, Accepted) else outcome.reason.value
    return outcome.record.ordinal, outcome.alt_index, what


def read(path: Path, genome: ReferenceGenome) -> list[tuple[int, int, str]]:
    return [told(outcome) for outcome in read_vcf(path, genome)]


LINES = (
    "c1 9 rs1 TTG TG,*,GTTG . PASS .",
    "c1 1 . C . . . .",
    "chrc1 4 . A G 50 q10;q20 X=1",
    "c1 4 . A G 50 q10;q20 X=1",
    "zz 4 . A G . . .",
)
EXPECTED = [
    (0, 1, "c1:8:AT:A"),
    (0, 2, "SPANNING_DELETION"),
    (0, 3, "c1:8:A:AG"),
    (1, 0, "MISSING_ALT"),
    (2, 1, "c1:4:A:G"),
    (3, 1, "c1:4:A:G"),
    (4, 1, "CONTIG_ABSENT"),
]


@pytest.mark.parametrize("header", ["", CONTIGS])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_allele_once_in_file_order(write_vcf: WriteVcf, genome: ReferenceGenome, header: str, line_end: str) -> None:
    assert read(write_vcf(*LINES, header=header, line_end=line_end), genome) == EXPECTED


@pytest.mark.parametrize("packing", ["gzip", "bgzip", "bcf"])
def test_compressed_forms_read_the_same(write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path, packing: str) -> None:
    header = (
        CONTIGS
        + "##contig=<ID=chrc1>\n##contig=<ID=zz>\n"
        + "".join(f'##FILTER=<ID={name},Description="">\n' for name in ("q10", "q20"))
    )
    header += '##INFO=<ID=X,Number=1,Type=Integer,Description="">\n'
    plain = write_vcf(*LINES, header=header)
    path = tmp_path / {"gzip": "a.vcf.gz", "bgzip": "b.vcf.gz", "bcf": "c.bcf"}[packing]
    if packing == "gzip":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif packing == "bgzip":
        pysam.tabix_compress(str(plain), str(path))
    else:
        with pysam.VariantFile(str(plain)) as source, pysam.VariantFile(str(path), "wb", header=source.header) as out:
            for record in source:
                out.write(record)
    assert read(path, genome) == EXPECTED


def test_records_keep_the_texts_of_the_file(write_vcf: WriteVcf) -> None:
    path = write_vcf("c1 4 rs7 a g,<DEL> 50 q10;q20 AF=0.15,1e-5;FLAG GT:DP 0|1:3 2/2:4", samples=("s1", "s2"), header=GT)
    with VcfFile(path) as vcf:
        (record,) = vcf.records()
    assert (record.contig, record.position, record.id) == ("c1", 4, "rs7")
    assert (record.ref, record.alts, record.filter) == ("a", ("g", "<DEL>"), "q10;q20")
    assert record.info == "AF=0.15,1e-5;FLAG"
    assert record.genotypes == ("0|1", "2/2")


def test_samples(write_vcf: WriteVcf) -> None:
    lines = ("c1 4 . A G . . . GT 0|1 1/1 .", "c1 5 . C G . . . DP 1 2 3", "c1 6 . A G . . . DP:GT 1:./. 2:0/1 3:1")
    path = write_vcf(*lines, samples=("s1", "s 2".replace(" ", "_"), "s3"), header=GT)
    with VcfFile(path, ()) as vcf:
        assert vcf.samples == ("s1", "s_2", "s3")
    for wanted, read_of, genotypes in [
        (None, ("s1", "s_2", "s3"), [("0|1", "1/1", "."), (".", ".", "."), ("./.", "0/1", "1")]),
        (("s3", "s1"), ("s1", "s3"), [("0|1", "."), (".", "."), ("./.", "1")]),
        ((), (), [(), (), ()]),
    ]:
        with VcfFile(path, wanted) as vcf:
            assert vcf.samples == ("s1", "s_2", "s3")
            assert vcf.genotyped == read_of
            assert [record.genotypes for record in vcf.records()] == genotypes
    with pytest.raises(ConfigError, match=r"no sample x, y; its samples are: s1, s_2, s3"):
        VcfFile(path, ["s1", "x", "y"])


def test_a_genotype_that_names_no_alt_of_its_record(write_vcf: WriteVcf) -> None:
    lines = ("c1 4 . A G . . . DP:GT 1:0|1 1:.", "c1 5 . C G,T . . . DP:GT 1:1/2 1:0/3", "c1 6 . A . . . . GT 1 .")
    path = write_vcf(*lines, samples=("s1", "s2"), header=GT)
    with VcfFile(path, None) as vcf, pytest.raises(InputError, match="c1:5: a genotype names ALT 3, the record has 2; mend"):
        list(vcf.records())
    with VcfFile(path, ["s1"]) as vcf, pytest.raises(InputError, match="c1:6: a genotype names ALT 1, the record has 0"):
        list(vcf.records())
    with VcfFile(path, ()) as vcf:
        assert len(list(vcf.records())) == 3


def test_no_records_and_no_samples(write_vcf: WriteVcf, genome: ReferenceGenome) -> None:
    assert read(write_vcf(header=CONTIGS), genome) == []
    assert read(write_vcf(header="##contig=<ID=elsewhere,length=5>\n"), genome) == []
    with VcfFile(write_vcf(), ()) as vcf:
        assert vcf.samples == ()


def test_wrong_contig_lengths_are_refused_before_any_record(write_vcf: WriteVcf, genome: ReferenceGenome) -> None:
    path = write_vcf("c1 4 . A G . . .", header="##contig=<ID=chrc1,length=1000>\n##contig=<ID=c2,length=1302>\n")
    with pytest.raises(
        BuildMismatchError, match=r"calls\.vcf does not belong to reference small\.fa.*1,000 bp there and 57 bp here"
    ):
        read_vcf(path, genome)


def test_wrong_build_without_lengths_is_seen_by_its_ref_alleles(write_vcf: WriteVcf, genome: ReferenceGenome) -> None:
    wrong = ["c2 5 . C G . . ."] * 11
    right = ["c2 5 . A G . . ."] * 10
    with pytest.raises(BuildMismatchError, match=r"only 10 of 21 REF alleles \(47.6%\) equal the reference"):
        read(write_vcf(*wrong, *right), genome)
    assert len(read(write_vcf(*wrong[:10], *right), genome)) == 20
    assert len(read(write_vcf(*wrong[:10], *right[:9]), genome)) == 19


def test_no_contig_in_common_is_refused(write_vcf: WriteVcf, genome: ReferenceGenome) -> None:
    for header in ("", "##contig=<ID=zz>\n"):
        with pytest.raises(BuildMismatchError, match=r"no contig in common \(VCF: zz; reference: c1, c2, chrM, n\)"):
            read(write_vcf("zz 5 . C G . . .", header=header), genome)
    assert read(write_vcf("zz 5 . C G . . .", header=CONTIGS), genome) == [(0, 1, "CONTIG_ABSENT")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"c1\t3\t.\tC\tA\t.\t.\t.\n", "is not a VCF: line 1 should begin with ##fileformat=VCF, found 'c1"),
        (b"##fileformat=VCFv4.2\nc1\t3\t.\tC\tA\t.\t.\t.\n", r"has no #CHROM line before its first record \(line 2\)"),
        (b"##fileformat=VCFv4.2\n", "has no #CHROM line"),
        (
            b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\ta\n",
            "names a sample twice: a",
        ),
        (gzip.compress(b"##fileformat=VCFv4.2\n" * 999)[:-9], "is truncated or damaged"),
        (b">c1\nACGT\n", "is not a VCF"),
    ],
)
def test_what_is_no_vcf_is_refused(tmp_path: Path, genome: ReferenceGenome, content: bytes, message: str) -> None:
    path = tmp_path / "bad.vcf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"VCF .*bad\.vcf {message}"):
        read_vcf(path, genome)


def test_missing_file_folder_and_pipe_are_refused(tmp_path: Path, genome: ReferenceGenome) -> None:
    with pytest.raises(InputError, match=r"nowhere\.vcf does not exist"):
        read_vcf(tmp_path / "nowhere.vcf", genome)
    with pytest.raises(InputError, match="is a folder"):
        read_vcf(tmp_path, genome)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe or device, not a regular file; write it to a file first"):
        read_vcf(tmp_path / "pipe", genome)


@pytest.mark.parametrize(
    ("broken", "shown"),
    [("c1", "c1"), ("c1 abc . A G . . . GT 0/1", "c1.tabc"), ("c1 7 . A G . . . GT", "c1.t7"), ("\n", "")],
    ids=["short", "position", "samples", "blank"],
)
def test_a_broken_line_is_named(write_vcf: WriteVcf, genome: ReferenceGenome, broken: str, shown: str) -> None:
    good = [f"c1 {position} . A G . . . GT 0/1" for position in (4, 6, 8)]
    path = write_vcf(*good[:2], broken, good[2], header=CONTIGS, samples=("s",))
    message = rf"line 7: not a VCF record \(after 2 good records, the last at c1:6\): '{shown}"
    with pytest.raises(InputError, match=message), VcfFile(path) as vcf:
        list(vcf.records())


def test_truncated_bgzip_is_refused(write_vcf: WriteVcf, genome: ReferenceGenome, tmp_path: Path) -> None:
    lines = [
        f"c2 {position} . A G . . X={'%032x' % (position * 0x9E3779B97F4A7C15F39CC0605CEDC835)}"[:60]
        for position in range(1, 700)
    ]
    packed = tmp_path / "whole.vcf.gz"
    pysam.tabix_compress(str(write_vcf(*(lines * 8), header=CONTIGS)), str(packed))
    whole = packed.read_bytes()
    cut = tmp_path / "cut.vcf.gz"
    for content in (whole[:-28], whole[: len(whole) // 2], whole[:40]):
        cut.write_bytes(content)
        with pytest.raises(InputError, match=r"cut\.vcf\.gz is truncated"):
            read(cut, genome)
    damaged = bytearray(whole)
    damaged[len(whole) - 3000 : len(whole) - 2900] = bytes(100)
    cut.write_bytes(bytes(damaged))
    with pytest.raises(
        InputError, match=r"cut\.vcf\.gz is truncated or damaged after [\d,]+ good records, the last at c2:\d+"
    ):
        read(cut, genome)


def test_text_outside_utf8_is_read_and_warnings_stay_quiet(
    write_vcf: WriteVcf, genome: ReferenceGenome, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_vcf("c1 4 . A G . . NAME=cafe")
    path.write_bytes(path.read_bytes().replace(b"cafe", b"caf\xe9"))
    before = pysam.get_verbosity()
    assert read(path, genome) == [(0, 1, "c1:4:A:G")]
    assert capfd.readouterr().err == ""
    assert pysam.get_verbosity() == before


def test_regions_through_the_index(write_vcf: WriteVcf, tmp_path: Path) -> None:
    header = CONTIGS + '##INFO=<ID=END,Number=1,Type=Integer,Description="">\n' + GT
    header += '##FORMAT=<ID=PS,Number=1,Type=Integer,Description="">\n'
    path = write_vcf(
        "c1 4 . A <DEL> . . END=20 GT 0|1 1|1",
        "c1 9 . T C . . . GT:PS 0|1:7 1|1",
        "c1 30 . A G . . . GT 0/1 .",
        header=header,
        samples=("s1", "s2"),
    )
    pysam.tabix_compress(str(path), f"{path}.gz")
    pysam.tabix_index(f"{path}.gz", preset="vcf")
    with VcfFile(f"{path}.gz") as vcf:
        for _ in range(2):
            found = list(vcf.fetch("c1", 15, 30))
            assert [(record.ordinal, record.position) for record in found] == [(0, 4), (1, 30)]
        (_, phased) = vcf.fetch("c1", 8, 9)
        assert (phased.genotypes, phased.phase_sets) == (("0|1", "1|1"), ("7", "."))
        assert found[0].phase_sets == ()
        assert list(vcf.fetch("c2", 0, 9)) == []
        assert [record.position for record in vcf.records()] == [4, 9, 30]
