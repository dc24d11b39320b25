"""How many tokens every segment of a corpus has: what the length-ordered curricula sort by."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.tensor_files import write_tensors


def token_counts(corpus: Corpus, tokenizer: Path, processes: int = 1) -> NDArray[np.int64]:
    """(segments,) int64. Counted once a corpus and tokenizer and kept in the corpus folder.

    Args:
        tokenizer: a ``tokenizer.json``.
        processes: shards counted at once.
    """
    key = f"{corpus.digest[:16]}-{DnaTokenizer.load(tokenizer).digest[:16]}"
    kept = corpus.folder / f"tokens-{key}.safetensors"
    if kept.is_file():
        return load_file(kept)["tokens"].astype(np.int64)
    arguments = [(corpus.folder, tokenizer, index) for index in range(len(corpus.shards))]
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_shard_counts, *zip(*arguments, strict=True)))
    else:
        parts = [_shard_counts(*argument) for argument in arguments]
    counts = np.concatenate(parts)
    write_tensors(save_file, {"tokens": counts}, kept)
    return counts


def _shard_counts(folder: Path, tokenizer: Path, shard: int) -> NDArray[np.int64]:
    corpus, loaded = Corpus(folder), DnaTokenizer.load(tokenizer)
    numbers = range(int(corpus.first[shard]), int(corpus.first[shard + 1]))
    texts = (corpus.segment(number).tobytes().decode("ascii").upper() for number in numbers)
    return np.array([loaded.encode(text).size for text in texts], dtype=np.int64)
