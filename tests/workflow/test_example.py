"""The embedded example: consistent in itself, and the same when it is derived again from the packages."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pysam
import pytest

DATA_FILES = ("reference.fa.gz", "HG00096.vcf.gz", "joint.vcf.gz", "exons.bed")


@pytest.fixture(scope="module")
def example(repository: Path) -> Path:
    """Folder of the embedded example."""
    return repository / "config" / "example"


@pytest.fixture(scope="module")
def maker(example: Path) -> ModuleType:
    """The script that derives the example, as a module."""
    spec = importlib.util.spec_from_file_location("make_example", example / "make_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(path: Path) -> bytes:
    """Content of a file, unpacked where it is packed."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_checksums_in_the_licence_are_those_of_the_files(example: Path) -> None:
    lines = (example / "LICENSE-DATA").read_text().splitlines()
    for name in DATA_FILES:
        assert f"{hashlib.sha256((example / name).read_bytes()).hexdigest()}  {name}" in lines


def test_derived_again_the_example_is_the_same(example: Path, maker: ModuleType, tmp_path: Path) -> None:
    packages = Path(os.environ.get("DNAGRINDER_EXAMPLE_PACKAGES", "/"))
    absent = [path for path in (maker.REFERENCE, maker.GENOTYPES, maker.EXONS) if not (packages / path).is_file()]
    if absent:
        pytest.skip(
            f"{', '.join(maker.PACKAGES)} are not unpacked in {packages} (DNAGRINDER_EXAMPLE_PACKAGES names another folder)"
        )
    maker.make_example(packages, tmp_path)
    for name in DATA_FILES:
        assert text_of(tmp_path / name) == text_of(example / name)


def test_reference_bases_of_all_variants_match(example: Path) -> None:
    reference = pysam.FastaFile(str(example / "reference.fa.gz"))
    sites = set()
    for name in ("HG00096.vcf.gz", "joint.vcf.gz"):
        for record in pysam.VariantFile(str(example / name)):
            assert record.ref == reference.fetch(record.chrom, record.start, record.stop)
            assert any(allele for call in record.samples.values() for allele in call["GT"])
            assert all(call.phased for call in record.samples.values())
            sites.add((record.pos, record.ref, record.alts))
    assert len(sites) == 343


def test_reference_keeps_true_coordinates(example: Path, maker: ModuleType) -> None:
    reference = pysam.FastaFile(str(example / "reference.fa.gz"))
    start, end = maker.SEQUENCE
    assert reference.get_reference_length("20") == end
    assert set(reference.fetch("20", 0, start)) == {"N"}
    assert set(reference.fetch("20", start, end)) == set("ACGT")


def test_exons_lie_on_the_reference(example: Path, maker: ModuleType) -> None:
    for line in (example / "exons.bed").read_text().splitlines():
        contig, start, end = line.split("\t")[:3]
        assert contig == "20"
        assert maker.CALLS[0] <= int(start) < int(end) <= maker.CALLS[1]


def test_allele_counts_belong_to_the_samples_kept(example: Path) -> None:
    for name in ("HG00096.vcf.gz", "joint.vcf.gz"):
        for record in pysam.VariantFile(str(example / name)):
            alleles = [allele for call in record.samples.values() for allele in call["GT"]]
            assert (record.info["AC"], record.info["AN"]) == (sum(alleles), len(alleles))
