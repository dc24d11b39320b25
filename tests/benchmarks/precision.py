"""The embedded example scored in float32 and in bfloat16, one thread, in turn: speed, and how far the scores move.

CPU time of `score_vcf` with `mini` and default parameters; model and reference are opened outside the clock. Scores of SNVs
are compared allele by allele: difference in nats, and rank correlation (Spearman).
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pysam
from harness import REPOSITORY, interleaved, option_parser, record, report, start
from numpy.typing import NDArray

from dnagrinder.pipeline import score_vcf
from dnagrinder.scoring.parameters import PRECISIONS, ScoringParameters
from dnagrinder.scoring.session import open_session

EXAMPLE = REPOSITORY / "config" / "example"


def snv_scores(vcf: Path) -> NDArray[np.float64]:
    """DG_SCORE of every biallelic SNV of an annotated VCF, in file order."""
    with pysam.VariantFile(str(vcf)) as records:
        return np.array(
            [r.info["DG_SCORE"][0] for r in records if len(r.ref) == 1 and [len(a) for a in r.alts or ()] == [1]]
        )


def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each value, 0-based; equal values take the order they came in."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def main() -> None:
    """Time both precisions in turn, then compare their last scores."""
    parser = option_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each precision")
    arguments = start(parser)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        outputs = {precision: Path(name) / f"{precision}.vcf.gz" for precision in PRECISIONS}
        kinds = {}
        for precision, out in outputs.items():
            opened = open_session(EXAMPLE / "reference.fa.gz", "mini", ScoringParameters(precision=precision))
            kinds[precision] = partial(score_vcf, stack.enter_context(opened), EXAMPLE / "joint.vcf.gz", out)
        timings = interleaved(kinds, arguments.repeats)
        report("precision", "example, mini, default window", timings, dict.fromkeys(kinds, 1.0), "float32")
        exact, rounded = (snv_scores(outputs[precision]) for precision in PRECISIONS)
    apart = np.abs(exact - rounded)
    correlation = float(np.corrcoef(ranks(exact), ranks(rounded))[0, 1])
    print(
        f"precision: {exact.size} SNV scores differ by {np.median(apart):.4f} nats (median), {apart.max():.4f} (most) "
        f"(standard deviation of the scores {exact.std():.2f}); rank correlation {correlation:.4f}"
    )
    for metric, values in (("nats apart", apart.tolist()), ("rank correlation", [correlation])):
        record("precision", "bfloat16 beside float32", "example, mini, default window", metric, values)


if __name__ == "__main__":
    main()
