"""Nothing grows faster than its input: small sizes of tests/benchmarks/scale.py, with bounds that other load leaves alone.

CPU seconds of one process are compared with those of another, so only growth counts; fixed costs make the ratios smaller.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pysam
import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
SLACK = 1.4  # CPU seconds of equal work differ by so much on a busy machine


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    """The script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("scale")


@pytest.mark.parametrize("shape", ["single", "joint"])
def test_planning_a_cohort_grows_with_its_samples(scale: ModuleType, tmp_path: Path, shape: str) -> None:
    few, many = (scale.dag_cost(tmp_path, shape, people) for people in (60, 300))
    assert many.cpu < SLACK * few.cpu * 5
    assert many.cpu < 60 * 300 / 1000  # a minute for 1,000 samples


def test_steps_without_the_model_grow_with_the_variants(scale: ModuleType, tmp_path: Path) -> None:
    bases = np.random.default_rng(1).choice(list("ACGT"), 1_500_000)
    (tmp_path / "genome.fa").write_text(">20\n" + "\n".join("".join(row) for row in bases.reshape(-1, 60)) + "\n")
    pysam.faidx(str(tmp_path / "genome.fa"))
    origin = scale.invented_origin(tmp_path / "genome.fa")
    costs = list(scale.variant_costs(tmp_path, tmp_path / "genome.fa", origin, [25_000, 100_000]))
    steps = dict.fromkeys(cost.step for cost in costs)
    assert len(steps) == 7
    for step in steps:
        few, many = (cost for cost in costs if cost.step == step)
        assert many.cpu < SLACK * few.cpu * 4, step
        assert many.memory < few.memory + 75_000 * 2_000 / 2**20, step  # 2,000 bytes a variant


def test_new_alleles_become_rare(scale: ModuleType) -> None:
    """Alleles shared by all count once; a singleton a person adds one each."""
    people, common = 20, 50
    singletons = np.repeat(np.eye(people, dtype=np.uint8), 2, axis=1) * np.tile([1, 0], people).astype(np.uint8)
    haplotypes = np.concatenate([np.ones((common, 2 * people), np.uint8), singletons])
    panel = scale.Panel([], [""] * len(haplotypes), haplotypes)
    assert scale.sharing(panel, [1, 10, 20]) == [(1, 51.0, 51.0), (10, 60.0, 51.0), (20, 70.0, 51.0)]
