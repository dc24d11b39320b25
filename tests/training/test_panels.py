"""Haplotype augmentation: what a panel adds to the corpus, against replacement by hand."""

import random

import pysam
import pytest

from dnagrinder.errors import BuildMismatchError
from dnagrinder.training.corpus.build import build_corpus
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.corpus.sources import Panel, Source

BASES = "".join(random.Random(4).choices("ACGT", k=40_000))
HEADER = """##fileformat=VCFv4.2
##contig=<ID=1,length={length}>
##ALT=<ID=DUP,Description="d">
##INFO=<ID=END,Number=1,Type=Integer,Description="e">
##FORMAT=<ID=GT,Number=1,Type=String,Description="g">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tANN\tBOB
"""


@pytest.fixture
def build(tmp_path):
    """Builds the corpus of a 40-kb contig, its last tenth held out, with a panel of the records given."""
    fasta = tmp_path / "g.fa"
    fasta.write_text(f">1\n{BASES}\n")
    pysam.faidx(str(fasta))

    def run(records, samples=(), length=40_000, repeats="keep", held_out=()):
        vcf = tmp_path / "p.vcf"
        vcf.write_text(HEADER.format(length=length) + "".join("\t".join(r) + "\n" for r in records))
        path = pysam.tabix_index(str(vcf), preset="vcf", force=True)
        source = Source(fasta, 1.0, held_out, 0.1, panels=(Panel(tmp_path / path, samples, 0.5),))
        build_corpus([source], tmp_path / "corpus", repeats=repeats)
        return Corpus(tmp_path / "corpus")

    return run


def record(position, ref, alt, ann, bob, info="."):
    return ("1", str(position + 1), ".", ref, alt, ".", "PASS", info, "GT", ann, bob)


def snv(position, ann, bob):
    ref = BASES[position]
    return record(position, ref, "A" if ref != "A" else "C", ann, bob)


def texts(corpus, shard):
    numbers = range(int(corpus.first[shard]), int(corpus.first[shard + 1]))
    return [corpus.segment(number).tobytes().decode("ascii") for number in numbers]


def replaced(start, end, position, new, old=1):
    return BASES[start:position] + new + BASES[position + old : end]


def test_distinct_haplotypes_with_an_alt_are_added_once(build):
    corpus = build([snv(100, "0|1", "1|0"), snv(200, "0|0", "0|1")])
    assert [shard.copies for shard in corpus.shards] == [1.0, 0.5]
    alt = {p: "A" if BASES[p] != "A" else "C" for p in (100, 200)}
    expected = {replaced(0, 12_200, 100, alt[100]), replaced(0, 12_200, 200, alt[200])}
    found = texts(corpus, 1)
    assert set(found) == expected
    assert len(found) == 2
    (panel,) = corpus.description["sources"][0]["panels"]
    assert (panel["windows"], panel["haplotypes"], panel["left_out"]) == (1, 2, {})


def test_both_windows_of_an_overlap_carry_its_alleles(build):
    corpus = build([snv(12_100, "1|1", "0|0")])
    assert [len(text) for text in texts(corpus, 1)] == [12_200, 12_200]


def test_indels_change_the_length_and_unphased_genotypes_are_counted(build):
    ref = BASES[5000:5004]
    corpus = build(
        [record(5000, ref, ref[0], "0|1", "0|0"), record(5100, BASES[5100], BASES[5100] + "ACGTACGT", "0/1", "0|1")]
    )
    shorter, longer = sorted(texts(corpus, 1), key=len)
    assert shorter == replaced(0, 12_200, 5000, ref[0], 4)
    assert longer == replaced(0, 12_200, 5100, BASES[5100] + "ACGTACGT")[:12_200]  # a segment is never longer
    (panel,) = corpus.description["sources"][0]["panels"]
    assert list(panel["left_out"].values()) == [1]


def test_a_duplication_that_reaches_into_held_out_bases_is_left_out(build):
    def duplication(start, end):
        return record(start - 1, BASES[start - 1], "<DUP>", "0|1", "0|0", f"END={end}")

    inside = build([duplication(34_000, 35_000)])
    assert any(BASES[34_000:35_000] * 2 in text for text in texts(inside, 1))
    reaching = build([duplication(35_500, 36_500)])
    assert len(reaching.shards) == 1
    assert reaching.description["sources"][0]["panels"][0]["left_out"] == {"HELD_OUT": 1}


def test_an_insertion_that_repeats_held_out_bases_in_front_of_it_is_left_out(build):
    def insertion(position):
        return record(
            position - 1, BASES[position - 1], BASES[position - 1] + BASES[position - 500 : position], "0|1", "0|0"
        )

    inside = build([insertion(10_500)], held_out=("1:9000-10000",))
    assert [shard.copies for shard in inside.shards] == [1.0, 0.5]
    reaching = build([insertion(10_499)], held_out=("1:9000-10000",))
    assert reaching.description["sources"][0]["panels"][0]["left_out"] == {"HELD_OUT": 1}


def test_only_the_samples_asked_for_are_read(build):
    corpus = build([snv(100, "0|1", "0|0"), snv(20_000, "0|0", "0|1")], samples=("BOB",))
    assert [len(text) for text in texts(corpus, 1)] == [12_200]
    (panel,) = corpus.description["sources"][0]["panels"]
    assert (panel["haplotypes"], panel["samples"]) == (1, ["BOB"])


def test_a_panel_of_another_build_is_refused(build):
    with pytest.raises(BuildMismatchError, match=r"p\.vcf\.gz does not belong"):
        build([snv(100, "0|1", "0|0")], length=41_000)
