"""Exact BPE on disk against the library's trainer and the plainest possible one; stopping and going on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.model.tokenizer import SPECIAL_TOKENS, DnaTokenizer
from dnagrinder.training.bpe import Merge, apply_merges, base_ids, token_strings, train_bpe
from dnagrinder.training.bpe import exact as exact_bpe
from dnagrinder.training.bpe import shards as bpe_shards
from dnagrinder.training.bpe.exact import choose_pairs, train_exact_bpe
from dnagrinder.training.bpe.folder import GENERATION, STATE
from dnagrinder.training.bpe.words import learn_merges, pair_counts


def library_merges(sequences, vocabulary):
    """The merges of ``tokenizers``' trainer on the runs of known bases."""
    library = Tokenizer(BPE())
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list("ACGT"),
        min_frequency=2,
        show_progress=False,
    )
    library.train_from_iterator((run for sequence in sequences for run in sequence.split("N") if run), trainer)
    model = json.loads(library.to_str())["model"]
    return [Merge(*(model["vocab"][text] for text in (left, right, left + right))) for left, right in model["merges"]]


def plain_bpe(words, *, first=9, least=2, limit):
    """Merges, and the words with them applied: all pairs counted afresh before each merge. ``words``: [(ids, weight)]."""
    merges = []
    words = [(list(ids), weight) for ids, weight in words]
    while len(merges) < limit:
        counts = Counter()
        for ids, weight in words:
            for pair in pairwise(ids):
                counts[pair] += weight
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < least:
            break
        merges.append(Merge(*best, first + len(merges)))
        for ids, _ in words:
            at = 0
            while at < len(ids) - 1:
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [merges[-1].merged]
                at += 1
    return merges, [ids for ids, _ in words]


def repetitive(seed):
    """A few sequences with repeats, runs of one base, N, and many equal counts."""
    rng = random.Random(seed)
    sequences = []
    for _ in range(rng.randint(0, 8)):
        unit = "".join(rng.choices("ACGT"[: rng.randint(1, 4)], k=rng.randint(1, 30)))
        noise = ["".join(rng.choices("ACGT", k=rng.randint(0, 10))) for _ in range(5)]
        runs = [base * rng.randint(0, 12) for base in "ACGTN"]
        sequences.append("".join(rng.choices([unit, *noise, *runs], weights=[9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0.3], k=30)))
    return sequences


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks of a few tokens, so that everything spans their borders."""
    monkeypatch.setattr(bpe_shards, "BLOCK", 5)
    monkeypatch.setattr(bpe_shards, "SHARD", 40)
    monkeypatch.setattr(bpe_shards, "PENDING", 2)


@pytest.mark.parametrize("seed", range(40))
def test_the_merges_are_the_librarys(seed, tmp_path, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr(bpe_shards, "BLOCK", rng.choice([1, 2, 7, 64, 1 << 20]))
    monkeypatch.setattr(bpe_shards, "SHARD", rng.choice([1, 10, 100, 1 << 23]))
    monkeypatch.setattr(exact_bpe, "LONGER_SHARE", rng.choice([0.01, 1, 4, 32]))
    sequences = repetitive(seed)
    cut = rng.randint(0, len(sequences))
    merges = train_exact_bpe([lambda: sequences[:cut], lambda: sequences[cut:]], 60, folder=tmp_path)
    assert merges == library_merges(sequences, 60)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ACGTN", max_size=40) | st.text("AC", max_size=60), max_size=5))
def test_the_merges_are_those_of_counting_afresh(tmp_path_factory, sequences):
    words = [(base_ids(run).tolist(), 1) for sequence in sequences for run in sequence.split("N")]
    expected, _ = plain_bpe(words, limit=40)
    assert train_exact_bpe([lambda: sequences], 9 + 40, folder=tmp_path_factory.mktemp("bpe")) == expected


def test_a_genome_gives_the_librarys_vocabulary(shared_data, tmp_path):
    with pysam.FastaFile(str(shared_data / "grch37" / "chr20.fa.gz")) as fasta:
        text = fasta.fetch("20", 10_000_000, 11_000_000).upper()
    pieces = [text[start : start + 2000] for start in range(0, len(text), 2000)]
    passes = []
    merges = train_exact_bpe([lambda: pieces], 4096, folder=tmp_path, on_merges=lambda *now: passes.append(now))
    assert merges == library_merges(pieces, 4096)
    assert len(passes) < 40  # of 4,087 merges


def test_the_tokenizer_loads_with_the_usual_layout(tmp_path):
    sequences = repetitive(3)
    merges = train_exact_bpe([lambda: sequences], 80, folder=tmp_path / "work")
    strings = token_strings(merges)
    DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges]).save(
        tmp_path / "tokenizer.json"
    )
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [library.id_to_token(i) for i in range(9)] == [*SPECIAL_TOKENS, *"ACGT"]
    for sequence in sequences:
        ids = base_ids(sequence)
        for merge in merges:
            ids = apply_merges(ids, [merge])
        assert library.encode(sequence).ids == ids.tolist()


def test_merges_stop_at_unknown_bases_and_at_the_ends_of_sequences_and_splits(tmp_path):
    splits = [lambda: ["AC" * 50 + "N" + "CA" * 50, "GT" * 50], lambda: ["CC" * 9]]
    strings = token_strings(train_exact_bpe(splits, 60, folder=tmp_path))
    assert not any("TC" in s or "CG" in s or "AG" in s or "ACCA" in s for s in strings[9:])


def test_the_corpus_is_encoded_without_runs_of_breaks(tiny_blocks):
    blocks = list(bpe_shards.corpus_ids([lambda: ["", "NNACNNNNNNNNNNNNgtRR"], lambda: [], lambda: ["", "A"]]))
    assert np.concatenate(blocks).tolist() == [5, 6, 0, 7, 8, 0, 5, 0]


def test_shards_end_where_sequences_end(tiny_blocks, tmp_path):
    sequences = ["A" * 100, "ACGT" * 3, "CC", "ANC" * 30]
    blocks = list(bpe_shards.corpus_ids([lambda: sequences]))
    shards = bpe_shards.write_shards(blocks, tmp_path)
    contents = [np.fromfile(shard.path, dtype=np.uint16) for shard in shards]
    assert len(shards) > 2
    assert [ids.size for ids in contents] == [shard.tokens for shard in shards]
    assert all(ids[-1] == 0 for ids in contents)
    assert np.array_equal(np.concatenate(contents), np.concatenate(blocks))


def test_a_segment_longer_than_a_block_is_kept_whole(tiny_blocks, tmp_path):
    sequences = ["A" * 41, "CACACACACACACACACACACA"]
    assert train_exact_bpe([lambda: sequences], 30, folder=tmp_path) == library_merges(sequences, 30)


@pytest.mark.parametrize("seed", range(30))
def test_words_are_merged_by_weight(seed):
    rng = random.Random(seed)
    texts = {"".join(rng.choices("ACGT"[: rng.randint(1, 4)], k=rng.randint(1, 30))) for _ in range(rng.randint(0, 12))}
    words = {base_ids(text).tobytes(): rng.randint(1, 3) for text in sorted(texts)}
    least, limit = rng.randint(1, 3), rng.randint(0, 30)
    merges, changed = learn_merges(words, pair_counts(words), 9, least=least, limit=limit)
    plain = [(np.frombuffer(word, dtype=np.uint16).tolist(), weight) for word, weight in words.items()]
    expected, encoded = plain_bpe(plain, least=least, limit=limit)
    assert merges == expected
    assert [np.frombuffer(changed.get(word, word), dtype=np.uint16).tolist() for word in words] == encoded
    assert all(word != new for word, new in changed.items())


def test_active_pairs_are_all_of_at_least_some_count(monkeypatch):
    table = np.random.default_rng(1).geometric(0.02, size=(30, 30))
    sizes = []
    for share in (0.01, 16, 1e9):
        monkeypatch.setattr(exact_bpe, "LONGER_SHARE", share)
        active, least = choose_pairs(table)
        assert active.codes.tolist() == np.flatnonzero(table.ravel() >= least).tolist()
        assert 2 <= least <= table.max()
        sizes.append(active.codes.size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == (table >= table.max() // 16).sum()
    assert not set(active.codes // 30) & set(active.codes % 30)  # none can follow another


def test_a_pair_that_occurs_once_is_not_merged(tmp_path):
    assert choose_pairs(np.eye(20, dtype=np.int64)) is None
    assert train_exact_bpe([lambda: ["ACGT"]], 100, folder=tmp_path / "a") == []
    assert train_exact_bpe([], 100, folder=tmp_path / "b") == []


def test_the_number_of_processes_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(bpe_shards, "SHARD", 500)
    sequences = ["".join(random.Random(seed).choices("ACGT", weights=[4, 2, 2, 3], k=700)) for seed in range(9)]
    one, two = (train_exact_bpe([lambda: sequences], 200, folder=tmp_path / str(n), processes=n) for n in (1, 2))
    assert one == two == library_merges(sequences, 200)


def test_progress_counts_up_to_the_merges_wanted(tmp_path):
    seen = []
    merges = train_exact_bpe([lambda: repetitive(3)], 60, folder=tmp_path, on_merges=lambda *now: seen.append(now))
    assert all(wanted == 60 - 9 for _, wanted in seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == len(merges)


def test_a_finished_training_is_continued_to_a_larger_vocabulary(tmp_path):
    sequences = repetitive(3)
    small = train_exact_bpe([lambda: sequences], 30, folder=tmp_path)
    large = train_exact_bpe([lambda: sequences], 60, folder=tmp_path)
    assert large == library_merges(sequences, 60)
    seen = []
    assert train_exact_bpe([lambda: sequences], 30, folder=tmp_path, on_merges=seen.append) == small == large[:21]
    assert not seen


KILLED = """
import os, signal, sys
from pathlib import Path
from dnagrinder.training.bpe import exact as exact_bpe
from dnagrinder.training.bpe import shards as bpe_shards

bpe_shards.SHARD = 500
moment, passes, processes = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
done = []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def on_merges(*now):
    done.append(now)
    if moment == "behind" and len(done) == passes:
        die()

def dying(shards, **options):
    if moment == "inside" and len(done) == passes:
        bpe_shards.rewrite(shards[:1], **options)
        die()
    return bpe_shards.rewrite(shards, **options)

if processes == 1:
    exact_bpe.rewrite = dying
if moment == "encoding":
    exact_bpe.count_pairs = lambda shards: die()

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    splits = [lambda: (folder / "corpus.txt").read_text().split()]
    exact_bpe.train_exact_bpe(splits, 200, folder=folder / "work", processes=processes, on_merges=on_merges)
"""


@pytest.fixture
def corpus(tmp_path):
    """Sequences, in a file for child processes too."""
    sequences = ["".join(random.Random(seed).choices("ACGT", weights=[4, 2, 2, 3], k=700)) for seed in range(9)]
    (tmp_path / "corpus.txt").write_text("\n".join(sequences))
    (tmp_path / "killed.py").write_text(KILLED)
    return sequences


def run_killed(tmp_path, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(tmp_path / "killed.py"), str(tmp_path), *map(str, arguments)]
    with (tmp_path / "stderr").open("w+") as errors:  # a pipe would stay open as long as a worker lives
        done = subprocess.run(command, env=environment, cwd=tmp_path, stderr=errors, check=False)
    assert done.returncode == -signal.SIGKILL, (tmp_path / "stderr").read_text()


@pytest.mark.parametrize(
    ("moment", "passes", "processes"), [("encoding", 0, 1), ("inside", 0, 1), ("inside", 3, 1), ("behind", 4, 2)]
)
def test_a_killed_training_goes_on_to_the_same_merges(moment, passes, processes, corpus, tmp_path):
    run_killed(tmp_path, moment, passes, processes)
    state = tmp_path / "work" / STATE
    kept = len(json.loads(state.read_text())["merges"]) if state.exists() else 0
    assert (kept > 0) == (passes > 0)
    seen = []
    merges = train_exact_bpe([lambda: corpus], 200, folder=tmp_path / "work", on_merges=lambda *now: seen.append(now[0]))
    assert merges == library_merges(corpus, 200)
    assert seen[0] > kept  # it did not start over
    assert len(list((tmp_path / "work").glob(f"{GENERATION}*"))) == 1  # what was half-written is gone


def test_workers_end_with_a_killed_parent(corpus, tmp_path):
    run_killed(tmp_path, "behind", 1, 2)
    deadline = time.monotonic() + 20
    while left := [process for process in Path("/proc").glob("[0-9]*") if _working_folder(process) == str(tmp_path)]:
        assert time.monotonic() < deadline, f"workers {left} outlived their parent"
        time.sleep(0.1)


def _working_folder(process):
    try:
        return str((process / "cwd").readlink())
    except OSError:  # gone, or not ours
        return ""


def test_another_corpus_is_refused(tmp_path):
    train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path)
    with pytest.raises(ConfigError, match="another corpus"):
        train_exact_bpe([lambda: ["ACAC" * 9 + "A"]], 20, folder=tmp_path)
    with pytest.raises(ConfigError, match="another corpus"):
        train_exact_bpe([lambda: ["ACAC" * 5, "ACAC" * 4]], 20, folder=tmp_path)


def test_the_same_corpus_in_other_splits_is_not_another_one(tmp_path):
    whole = train_exact_bpe([lambda: ["acNNac", "GTGT"]], 20, folder=tmp_path)
    assert train_exact_bpe([lambda: ["ACNac"], lambda: ["gtgt"]], 20, folder=tmp_path) == whole


def test_altered_files_are_refused(tmp_path):
    train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path)
    [shard] = tmp_path.glob("*/*.ids")
    shard.write_bytes(b"")
    with pytest.raises(InputError, match=r"000000\.ids is missing or not"):
        train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path)
    (tmp_path / STATE).write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path)
    (tmp_path / STATE).write_text('{"format": 0}')
    with pytest.raises(InputError, match="format 0"):
        train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path)


def test_two_trainings_do_not_share_a_folder(tmp_path):
    def second(*_):
        train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path)

    with pytest.raises(ConfigError, match="another process"):
        train_exact_bpe([lambda: ["ACAC" * 9]], 20, folder=tmp_path, on_merges=second)


@pytest.mark.parametrize("options", [{"vocabulary": 9}, {"vocabulary": 70_000}, {"processes": 0}])
def test_impossible_numbers_are_refused(options, tmp_path):
    with pytest.raises(ValueError, match=next(iter(options))):
        train_exact_bpe([], folder=tmp_path, **options)


def test_both_forms_agree_where_one_split_holds_all(tmp_path):
    sequences = ["".join(random.Random(seed).choices("ACGT", weights=[4, 2, 2, 3], k=3000)) for seed in range(3)]
    assert train_exact_bpe([lambda: sequences], 150, folder=tmp_path) == train_bpe([lambda: sequences], 150, batch_ratio=1)
