"""Variants scored a second by the embedded checkpoint, and how many operations that took beside the naive way.

Throughput: `score_vcf` from VCF to annotated VCF, default parameters, wall clock (so on a quiet machine) and CPU, with one
thread and with two; model and reference are opened outside the clock. Call sets: the embedded example, and, where the real
data is, the first records of grch37/kgp3_chr20_1-4M.phased300.vcf.gz.

Operations: the naive way runs the REF and the ALT window of every allele of every sample that carries it through the whole
model, logits at every position included, in batches of 32 windows padded to the longest. Its cost follows from genotypes and
window lengths of the whole call set, nothing is run. Ours is what the model was given while the first records were scored
(rows that fill up a product counted, no attention left out), scaled by alleles to the whole call set. Ours looks at both
strands and measures embedding distances besides, the naive way does neither.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pysam
import torch
from harness import REPOSITORY, judge, option_parser, record, shared_data, start
from models import attention_flops, head_flops, linear_flops
from torch import Tensor

from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.genome.variants import Allele
from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.inference import InferenceModel
from dnagrinder.pipeline import score_vcf
from dnagrinder.scoring.block import allele_pairs
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.session import ScoringSession, open_session
from dnagrinder.scoring.shards import unique_alleles
from dnagrinder.scoring.tables import read_parquet, table_alleles
from dnagrinder_kernels import row_block

EXAMPLE = REPOSITORY / "config" / "example"
CALL_SET, GENOME = "grch37/kgp3_chr20_1-4M.phased300.vcf.gz", "grch37/chr20.fa.gz"
NAIVE_BATCH = 32  # windows
SPECIALS = 2  # [CLS] and [SEP]
GOAL = 10
ROWS = row_block(torch.device("cpu"))


@dataclass
class Work:
    """What a model was given.

    Attributes:
        lengths: tokens of every sequence.
        rows: rows of the encoder's products, filled up.
        head_rows: rows of the head's products, filled up.
    """

    lengths: list[int] = field(default_factory=list)
    rows: int = 0
    head_rows: int = 0

    def flops(self, config: EncoderConfig) -> float:
        """Operations of the products and of dense attention."""
        attention = sum(n * attention_flops(config, n) for n in self.lengths)
        return config.layers * (self.rows * linear_flops(config) + attention) + self.head_rows * head_flops(config)


@contextmanager
def counted() -> Iterator[Work]:
    """Note what every model is given within."""
    work = Work()
    hidden, chosen_log_probs = InferenceModel.hidden, InferenceModel.chosen_log_probs

    def counting_hidden(self: InferenceModel, input_ids: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        work.lengths += cu_seqlens.diff().tolist()
        work.rows += _filled(input_ids.numel())
        return hidden(self, input_ids, cu_seqlens, max_seqlen)

    def counting_head(self: InferenceModel, states: Tensor, chosen: Tensor) -> Tensor:
        work.head_rows += _filled(states.shape[0])
        return chosen_log_probs(self, states, chosen)

    with (
        patch.object(InferenceModel, "hidden", counting_hidden),
        patch.object(InferenceModel, "chosen_log_probs", counting_head),
    ):
        yield work


def _filled(rows: int) -> int:
    return -(-rows // ROWS) * ROWS


def first_records(vcf: Path, records: int, out: Path) -> Path:
    """The first records of a call set, as a VCF of its own."""
    before = pysam.set_verbosity(0)  # htslib's remarks on the header
    with pysam.VariantFile(str(vcf)) as source, pysam.VariantFile(str(out), "wz", header=source.header) as copy:
        for _, entry in zip(range(records), source, strict=False):
            copy.write(entry)
    pysam.set_verbosity(before)
    return out


def measure_speed(
    name: str, session: ScoringSession, vcf: Path, thread_counts: list[int], repeats: int, folder: Path
) -> None:
    """Variants a second, the numbers of threads in turn."""
    speeds: dict[int, list[float]] = defaultdict(list)
    costs: dict[int, list[float]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for threads in thread_counts:
            torch.set_num_threads(threads)
            wall, cpu = time.perf_counter(), time.process_time()
            result = score_vcf(session, vcf, folder / "scored.vcf.gz")
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if repeat:  # the first round warms up
                speeds[threads].append(result["unique_alleles"] / wall)
                costs[threads].append(cpu / result["unique_alleles"])
                print(f"  {threads} thread(s): {wall:.2f} s, {cpu:.2f} CPU s", flush=True)
    torch.set_num_threads(1)
    setting = f"{name}: {result['records']} records, {result['unique_alleles']} alleles, mini, default parameters"
    for threads, values in speeds.items():
        median = float(np.median(values))
        print(f"scoring {setting}: {median:.2f} variants/s with {threads} thread(s)", flush=True)
        record("scoring", "score_vcf", setting, "variants/s", values, threads=threads)
        record("scoring", "score_vcf", setting, "CPU seconds a variant", costs[threads], threads=threads)


def measure_work(name: str, session: ScoringSession, part: Path, whole: Path, folder: Path) -> None:
    """Operations of the naive way over those of ours, for the whole call set."""
    config = session.checkpoint.config
    before = session.engine.tokens
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with counted() as work:
        scored = score_vcf(session, part, folder / "counted.vcf.gz")["unique_alleles"]
    torch.set_num_threads(1)
    if session.engine.tokens - before != sum(work.lengths):
        raise SystemExit(f"the engine ran {session.engine.tokens - before} tokens, {sum(work.lengths)} were counted")
    calls = read_calls(session, whole, folder)
    naive, ours = naive_flops(session, calls), work.flops(config) / scored * len(calls.unique)
    print(
        f"scoring {name}, {len(calls.unique)} alleles in {calls.samples} samples, {len(calls.carried)} carried: "
        f"naive {naive / 1e12:.1f} TFLOP, ours {ours / 1e12:.1f} TFLOP "
        f"(from {scored} alleles: {len(work.lengths)} forwards, {sum(work.lengths)} tokens)"
    )
    setting = f"{name}: {len(calls.unique)} alleles, {len(calls.carried)} carried, window {session.parameters.window}"
    record("scoring", "naive", setting, "TFLOP", [naive / 1e12])
    record("scoring", "ours", setting, "TFLOP", [ours / 1e12])
    judge(f"operations of the naive way / ours, {name}", naive / ours, GOAL)


@dataclass(frozen=True)
class Calls:
    """A call set as samples and alleles.

    Attributes:
        unique: every allele once.
        carried: (sample, allele) of every allele that a sample carries, in the order of the file.
        samples: number of samples.
    """

    unique: list[Allele]
    carried: list[tuple[str, Allele]]
    samples: int


def read_calls(session: ScoringSession, vcf: Path, folder: Path) -> Calls:
    """Alleles that can be scored, and who carries them."""
    tables = {name: folder / f"{name}.parquet" for name in ("alleles", "ledger", "genotypes")}
    facts = write_variant_tables(
        vcf, session.reference, **tables, summary=folder / "summary.json", window=session.parameters.window
    )
    accepted = read_parquet(tables["alleles"])
    places = zip(accepted["record"].to_pylist(), accepted["alt_index"].to_pylist(), strict=True)
    alleles = dict(zip(places, table_alleles(accepted), strict=True))
    genotypes = read_parquet(tables["genotypes"], ["record", "alt_index", "sample"])
    rows = zip(*(genotypes[column].to_pylist() for column in ("record", "alt_index", "sample")), strict=True)
    carried = [(sample, alleles[line, index]) for line, index, sample in rows if (line, index) in alleles]
    return Calls(table_alleles(unique_alleles([tables["alleles"]])), carried, len(facts["samples"]))


def naive_flops(session: ScoringSession, calls: Calls) -> float:
    """Two padded forwards an allele and carrier, sample by sample, with logits at every position."""
    lengths: dict[Allele, tuple[int, int]] = {}
    for allele in calls.unique:
        forward, _ = allele_pairs(session.checkpoint.tokenizer, session.reference, allele, session.parameters)
        lengths[allele] = (forward.ref.size + SPECIALS, forward.alt.size + SPECIALS)
    by_sample: dict[str, list[int]] = defaultdict(list)
    for sample, allele in calls.carried:
        by_sample[sample] += lengths[allele]
    config = session.checkpoint.config
    total = 0.0
    for windows in by_sample.values():
        for first in range(0, len(windows), NAIVE_BATCH):
            batch = windows[first : first + NAIVE_BATCH]
            longest = max(batch)
            token = config.layers * (linear_flops(config) + attention_flops(config, longest)) + head_flops(config)
            total += len(batch) * longest * token
    return total


def main() -> None:
    """Measure the example, and the real call set where it is."""
    parser = option_parser(__doc__)
    parser.add_argument("--records", type=int, default=300, help="first records of the call set to be scored")
    parser.add_argument("--counted-records", type=int, default=0, help="records that the naive way is counted on; 0 for all")
    parser.add_argument("--example-records", type=int, default=0, help="records of the example; 0 for all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each kind")
    arguments = start(parser)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_session(EXAMPLE / "reference.fa.gz", "mini", ScoringParameters()) as session:
            vcf = EXAMPLE / "joint.vcf.gz"
            if arguments.example_records:
                vcf = first_records(vcf, arguments.example_records, folder / "example.vcf.gz")
            measure_speed("example", session, vcf, arguments.threads, arguments.repeats, folder)
        data = shared_data()
        if data is None:
            print("scoring: the real call set is absent (DNAGRINDER_DATA); operations are not counted")
            return
        with open_session(data / GENOME, "mini", ScoringParameters()) as session:
            part = first_records(data / CALL_SET, arguments.records, folder / "part.vcf.gz")
            whole = data / CALL_SET
            if arguments.counted_records:
                whole = first_records(whole, arguments.counted_records, folder / "whole.vcf.gz")
            measure_speed("300 samples of chromosome 20", session, part, arguments.threads, arguments.repeats, folder)
            measure_work("300 samples of chromosome 20", session, part, whole, folder)


if __name__ == "__main__":
    main()
