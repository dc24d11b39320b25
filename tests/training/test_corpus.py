"""The corpus: segments as the paper cuts them, nothing of what is held out, shards that are checked."""

import json
import random
import time
from dataclasses import replace

import numpy as np
import pysam
import pytest
from safetensors import safe_open

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.sequence import reverse_complement
from dnagrinder.training.corpus.build import build_corpus
from dnagrinder.training.corpus.segments import OVERLAP, SEGMENT, SHORTEST, segment_bounds, segments, without_repeats
from dnagrinder.training.corpus.shards import MANIFEST, Corpus, write_shards
from dnagrinder.training.corpus.sources import Panel, Source, Stretch, known_bases, parse_interval, parse_sources, stretches
from dnagrinder.training.corpus.splits import tokenizer_splits
from dnagrinder.training.corpus.token_counts import token_counts
from tests.training.conftest import HELD_OUT


def text_of(corpus, number):
    return corpus.segment(number).tobytes().decode("ascii")


def write_fasta(path, contigs):
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in contigs.items()))
    pysam.faidx(str(path))
    return path


def random_bases(length, seed=0):
    return "".join(random.Random(seed).choices("ACGT", k=length))


def test_nothing_that_is_held_out_is_in_the_corpus(corpus, data):
    whole = (data / "human" / "genome.fa").read_text().split("\n")[1]
    texts = [text_of(corpus, number) for number in range(len(corpus))]
    assert not any(HELD_OUT in text or reverse_complement(HELD_OUT) in text for text in texts)
    assert all(text in whole for text in texts)
    assert {SEGMENT} < {len(text) for text in texts}


def test_segments_cover_every_base_that_may_be_trained_on(source):
    for stretch in stretches(source):
        covered = np.zeros(stretch.bases.size, dtype=int)
        for segment in segments(stretch):
            start = segment.start - stretch.start
            assert np.array_equal(segment.bases, stretch.bases[start : start + segment.bases.size])
            covered[start : start + segment.bases.size] += 1
        assert covered.min() == 1
        assert covered.max() == 2


@pytest.mark.parametrize("length", [1, 999, 1000, 12_199, 12_200, 12_201, 13_199, 13_200, 24_200, 24_201, 100_003])
def test_segments_overlap_by_two_hundred_bases_and_leave_no_long_rest(length):
    bounds = segment_bounds(length)
    assert all(start % (SEGMENT - OVERLAP) == 0 and end - start <= SEGMENT for start, end in bounds)
    assert all(end - start == SEGMENT for start, end in bounds[:-1])
    uncovered = length - (bounds[-1][1] if bounds else 0)
    assert uncovered < SHORTEST
    assert not bounds or bounds[-1][1] - bounds[-1][0] >= SHORTEST


def test_longer_segments_may_be_asked_for(source, tmp_path):
    build_corpus([source], tmp_path, segment=40_200)
    corpus = Corpus(tmp_path)
    assert corpus.step == 40_000
    assert corpus.segment(0).size == 40_200


@pytest.mark.parametrize(
    ("held_out", "tail", "expected"),
    [
        ((), 0.0, [("a", 0, 5000), ("b", 0, 4000)]),
        (("b",), 0.0, [("a", 0, 5000)]),
        (("a:1000-2000",), 0.0, [("a", 0, 1000), ("a", 2000, 5000), ("b", 0, 4000)]),
        ((), 0.25, [("a", 0, 3750), ("b", 0, 3000)]),
        (("a:0-3750", "b"), 0.25, []),
    ],
)
def test_held_out_contigs_intervals_and_tails(tmp_path, held_out, tail, expected):
    path = write_fasta(tmp_path / "g.fa", {"a": random_bases(5000), "b": random_bases(4000, 1)})
    found = stretches(Source(path, 1.0, held_out, tail))
    assert [(s.contig, s.start, s.end) for s in found] == expected


def test_long_runs_of_unknown_bases_end_a_stretch_and_short_ones_do_not(tmp_path):
    bases = random_bases(3000)
    text = bases[:1000] + "N" * 10 + bases[1000:2000] + "n" * 11 + bases[2000:] + "NNNNNNNNNNNN"
    path = write_fasta(tmp_path / "g.fa", {"a": text})
    assert [(s.start, s.end) for s in stretches(Source(path, 1.0, (), 0.0))] == [(0, 2010), (2021, 3021)]


def test_letters_outside_acgt_become_n_and_keep_their_case():
    assert known_bases("ACGTacgtNnRrYykX-").tobytes() == b"ACGTacgtNnNnNnnNN"


def test_a_held_out_contig_that_is_not_there_is_an_error(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": random_bases(2000)})
    with pytest.raises(InputError, match=r"'chrB' names no contig of .*g\.fa; it holds a"):
        list(stretches(Source(path, 1.0, ("chrB",), 0.0)))


def test_an_interval_behind_the_end_of_its_contig_holds_nothing_out_and_is_an_error(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": random_bases(2000)})
    assert [s.end for s in stretches(Source(path, 1.0, ("a:1999-9999",), 0.0))] == [1999]
    with pytest.raises(InputError, match=r"'a:2000-9999' holds nothing out: a of .*g\.fa has 2,000 bases"):
        list(stretches(Source(path, 1.0, ("a:2000-9999",), 0.0)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b">b\n" + b"ACGT" * 100 + b"\n", "does not fit .*delete the index"),
        (b">a\n" + b"ACGT" * 499 + b"\xe9\xe9\xe9\xe9\n", r"g\.fa cannot be read at a"),
    ],
    ids=["replaced", "not text"],
)
def test_a_fasta_that_cannot_be_trusted_is_an_error(tmp_path, content, told):
    path = write_fasta(tmp_path / "g.fa", {"a": random_bases(2000)})
    path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        list(stretches(Source(path, 1.0, (), 0.0)))


def test_dropped_repeats_leave_one_n_each():
    bases = np.frombuffer(b"ACaaacGGttTTg", dtype=np.uint8)
    assert without_repeats(Stretch("a", 7, bases)).bases.tobytes() == b"ACNGGNTTN"
    assert without_repeats(Stretch("a", 7, bases[:2])).bases.tobytes() == b"AC"


def test_repeat_intervals_of_windowmasker_become_lower_case(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": random_bases(3000)})
    (tmp_path / "g.fa.bed").write_text("a\t10\t20\na\t2990\t3000\n")
    (found,) = stretches(Source(path, 1.0, (), 0.0, "windowmasker"), tmp_path)
    lower = np.flatnonzero(found.bases >= ord("a"))
    assert lower.tolist() == [*range(10, 20), *range(2990, 3000)]


def test_telling_repeats_apart_needs_the_intervals(tmp_path):
    path = write_fasta(tmp_path / "g.fa", {"a": random_bases(3000)})
    source = Source(path, 1.0, (), 0.0, "windowmasker")
    with pytest.raises(ConfigError, match=r"g\.fa needs --masks"):
        build_corpus([source], tmp_path / "corpus", repeats="drop")
    with pytest.raises(InputError, match=r"cannot be read from .*g\.fa\.bed"):
        build_corpus([source], tmp_path / "corpus", repeats="drop", masks=tmp_path)


def test_a_source_that_is_all_held_out_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="no stretch"):
        build_corpus([replace(source, held_out=("1",))], tmp_path)


def test_the_manifest_counts_what_is_there(corpus, source):
    (entry,) = corpus.description["sources"]
    usable = list(stretches(source, None, SHORTEST))
    assert entry["bases"] == sum(stretch.bases.size for stretch in usable)
    assert entry["repeat_bases"] == 0
    assert corpus.bases == sum(corpus.segment(number).size for number in range(len(corpus)))


def test_an_altered_shard_is_refused(source, tmp_path):
    (shard,) = build_corpus([source], tmp_path)
    content = bytearray((tmp_path / shard.file).read_bytes())
    content[-1] ^= 1
    (tmp_path / shard.file).write_bytes(content)
    with pytest.raises(InputError, match="was altered"):
        Corpus(tmp_path).segment(0)


def test_an_incomplete_corpus_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="build-corpus"):
        Corpus(tmp_path)
    (shard,) = build_corpus([source], tmp_path)
    (tmp_path / shard.file).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"incomplete: {shard.file}"):
        Corpus(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": "other", "shards": []}))
    with pytest.raises(InputError, match="format is not"):
        Corpus(tmp_path)


def test_a_build_that_stops_leaves_no_older_corpus_that_looks_complete(source, tmp_path):
    build_corpus([source], tmp_path)
    with pytest.raises(InputError, match="no stretch"):
        build_corpus([source, replace(source, held_out=("1",))], tmp_path)
    with pytest.raises(InputError, match="build-corpus"):
        Corpus(tmp_path)


def test_many_small_contigs_take_no_more_than_their_share(tmp_path, monkeypatch):
    monkeypatch.setattr("dnagrinder.training.corpus.shards.SHARD_BASES", 150_000)
    bases = np.frombuffer(b"ACGTACGTAC", dtype=np.uint8)
    started = time.process_time()
    shards = write_shards((Stretch(f"contig{n}", n, bases) for n in range(20_000)), tmp_path, "g.fa", 1.0, "000")
    assert time.process_time() - started < 3  # quadratic: over ten seconds
    assert [(shard.segments, shard.bases) for shard in shards] == [(15_000, 150_000), (5_000, 50_000)]
    with safe_open(tmp_path / shards[1].file, framework="np") as file:
        contigs = json.loads(file.metadata()["shard"])["contigs"]
        assert [contigs[n] for n in file.get_tensor("contig")[:2]] == ["contig15000", "contig15001"]


def test_two_builds_are_equal_and_the_digest_tells_copies(source, tmp_path):
    corpora = []
    for name, copies in (("one", 1.0), ("two", 1.0), ("half", 0.5)):
        build_corpus([replace(source, copies=copies)], tmp_path / name)
        corpora.append(Corpus(tmp_path / name))
    one, two, half = (corpus.digest for corpus in corpora)
    assert one == two != half


def test_the_text_of_a_tokenizer_is_reproducible_and_visits_nothing_twice(corpus):
    splits = tokenizer_splits(corpus, splits=2, bases=40_000, seed=1)
    texts = [list(split()) for split in splits]
    assert texts == [list(split()) for split in tokenizer_splits(corpus, splits=2, bases=40_000, seed=1)]
    assert texts[0] != list(tokenizer_splits(corpus, splits=2, bases=40_000, seed=2)[0]())
    flat = [text for part in texts for text in part]
    assert len(set(flat)) == len(flat)
    assert all(20_000 < sum(map(len, part)) <= 60_000 for part in texts)


def test_token_counts_are_those_of_the_tokenizer_and_are_kept(corpus, tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    expected = [tokenizer.encode(text_of(corpus, number)).size for number in range(len(corpus))]
    assert token_counts(corpus, path, processes=2).tolist() == expected
    monkeypatch.setattr("dnagrinder.training.corpus.token_counts._shard_counts", None)  # not called again
    assert token_counts(corpus, path).tolist() == expected


@pytest.mark.parametrize("text", ["1:5", "1:9-3", "1-5", ":1-2", "1:a-b"])
def test_bad_intervals_are_named(text):
    with pytest.raises(ConfigError, match="contig:start-end"):
        parse_interval(text)


def test_intervals_may_have_colons_in_the_contig():
    assert parse_interval("hg38.chr16:1-5:0-9") == ("hg38.chr16:1-5", 0, 9)


def test_every_problem_of_the_sources_is_told_at_once(data):
    entries = [
        {"path": "human/genome.fa", "copies": 0},
        {"path": "absent.fa"},
        {"path": "human/genome.fa", "soft_mask": "guess"},
        {"path": "human/genome.fa", "colour": "red"},
        {"path": "human/genome.fa", "panels": [{"path": "absent.vcf.gz"}]},
        {"path": "human/genome.fa", "held_out": "22"},  # not contigs 2 and 2
        {"path": "human/genome.fa", "panels": [{"path": "human/genome.fa", "samples": "ANN"}]},
        {"path": "human/genome.fa", "copies": float("nan")},
    ]
    sources, problems = parse_sources({"sources": entries, "repeats": "hide"}, data)
    assert sources == []
    told = ["copies of genome.fa", "is missing", "soft_mask", "colour", "VCF", "held_out is a list, found '22'"]
    for number, expected in enumerate([*told, "samples is a list, found 'ANN'", "found nan"], start=1):
        assert any(p.startswith(f"corpus source {number}: ") and expected in p for p in problems)
    assert any("repeats is one of" in p for p in problems)


def test_a_panel_needs_copies(tmp_path):
    with pytest.raises(ConfigError, match="copies of the panel"):
        Panel(tmp_path / "a.vcf.gz", (), 0)
