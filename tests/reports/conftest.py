"""A small but real call set: reference, VCF, the genome room's own tables, and made-up scores for them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.reports.joining import least_expected
from dnagrinder.reports.tables import build_sample_tables
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, read_parquet, write_parquet

SAMPLES = ("child", "mother", "father")
_HEADER = """\
##fileformat=VCFv4.2
##FILTER=<ID=PASS,Description="All filters passed">
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">
##INFO=<ID=GENE,Number=1,Type=String,Description="Gene">
##INFO=<ID=MC,Number=.,Type=String,Description="Molecular consequence">
##INFO=<ID=CLNSIG,Number=.,Type=String,Description="Clinical significance">
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##ALT=<ID=DEL,Description="Deletion">
"""
_CONSEQUENCES = ("missense_variant", "synonymous_variant", "intron_variant", "splice_donor_variant", "5_prime_UTR_variant")
_SIGNIFICANCES = ("Benign", "Likely_benign", "Uncertain_significance", "Pathogenic", None, None)


def sha(text: str) -> str:
    """A checksum that looks like one."""
    return hashlib.sha256(text.encode()).hexdigest()


PROVENANCE: dict[str, Any] = {
    "tool_version": "0.1.0",
    "checkpoint": {"name": "mini", "sha256": sha("weights")},
    "tokenizer_sha256": sha("tokenizer"),
    "reference_sha256": sha("reference"),
    "parameters": {"window": 512, "views": 2, "precision": "float32", "epsilon": 1e-06},
    "parameters_sha256": sha("parameters"),
}


@dataclass(frozen=True)
class Callset:
    """Files of one call set, as the genome and scoring rooms write them."""

    vcf: Path
    alleles: Path
    ledger: Path
    genotypes: Path
    summary: Path
    scores: list[Path]


@pytest.fixture(scope="session")
def card() -> dict[str, Any]:
    """A checkpoint's card with the scores' checksum."""
    return {
        "name": "mini",
        "description": "A small model for demonstration.",
        "parameters": 4_812_544,
        "sha256": {"model.safetensors": PROVENANCE["checkpoint"]["sha256"]},
        "metrics": {
            "scoring_cross_entropy_nats": {
                "model": 1.3021,
                "uniform": 1.3863,
                "order0": 1.3651,
                "order5": 1.3402,
                "order11": 1.3127,
                "bases": 20000,
            },
            "masked_token_accuracy": 0.0713,
        },
        "limits": ["Trained for one hour on parts of few genomes.", "Not evaluated on disease variants."],
        "license": "Apache-2.0",
    }


def write_reference(path: Path, length: int = 40_000, seed: int = 1) -> str:
    """One random contig ``20``; returns its sequence."""
    sequence = "".join(np.random.default_rng(seed).choice(list("ACGT"), length))
    path.write_text(">20\n" + "\n".join(sequence[i : i + 60] for i in range(0, length, 60)) + "\n")
    return sequence


def make_vcf(path: Path, sequence: str, records: int = 400, samples: tuple[str, ...] = SAMPLES, seed: int = 2) -> None:
    """SNVs, indels, multi-allelics, a ``*``, symbolic deletions and a wrong REF, phased, with ClinVar-like INFO."""
    draw = np.random.default_rng(seed)
    positions = np.sort(draw.choice(np.arange(600, len(sequence) - 600), records, replace=False))
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"] + (["FORMAT", *samples] if samples else [])
    lines = [_HEADER + f"##contig=<ID=20,length={len(sequence)}>", "\t".join(columns)]
    for number, start in enumerate(positions):
        base = sequence[start]
        others = [b for b in "AGCT" if b != base]
        transition = dict(zip("ACGT", "GTAC", strict=True))[base]
        snv = transition if draw.random() < 0.67 else str(draw.choice([b for b in others if b != transition]))
        ref, alts, info = base, [snv], ""
        if number % 9 == 3:
            ref = sequence[start : start + 1 + number % 5 + 1]
            alts = [base]
        elif number % 9 == 5:
            alts = [base + "".join(draw.choice(list("ACGT"), 1 + number % 4))]
        elif number % 23 == 7:
            alts = others[:2]
        elif number % 41 == 9:
            alts = [snv, "*"]
        elif number % 67 == 11:
            alts, info = ["<DEL>"], f"END={start + 50};"
        elif number % 97 == 13:
            ref, alts = snv, [base]
        significance = _SIGNIFICANCES[draw.integers(len(_SIGNIFICANCES))]
        info += "AF=" + ",".join(f"{value:.6g}" for value in draw.beta(0.3, 3, len(alts)))
        info += f";GENE=GENE{start // 8000};MC=SO:0001583|{_CONSEQUENCES[draw.integers(len(_CONSEQUENCES))]}"
        info += f";CLNSIG={significance}" if significance else ""
        calls = ["|".join(str(draw.integers(0, len(alts) + 1)) for _ in "ab") for _ in samples]
        fields = ["20", str(start + 1), f"rs{number}", ref, ",".join(alts), "99.50", "PASS", info]
        lines.append("\t".join(fields + (["GT", *calls] if samples else [])))
    path.write_text("\n".join(lines) + "\n")


def invent_scores(alleles: pa.Table, seed: int = 3) -> pa.Table:
    """A score for each different allele, in the schema and order of the scoring room; every tenth is from the store."""
    keys = alleles.select(list(ALLELE_COLUMNS)).group_by(list(ALLELE_COLUMNS)).aggregate([])
    keys = keys.sort_by([(name, "ascending") for name in ALLELE_COLUMNS])
    draw, rows = np.random.default_rng(seed), len(keys)
    is_snv = np.array([len(a) == len(b) == 1 for a, b in zip(keys["ref"].to_pylist(), keys["alt"].to_pylist(), strict=True)])
    score = np.where(is_snv, draw.normal(-0.35, 0.6, rows), draw.normal(-3.5, 2.2, rows))
    log_p_ref = -draw.gamma(2.0, 0.6, rows)
    columns: dict[str, Any] = {
        **{name: keys[name] for name in ALLELE_COLUMNS},
        "score": score,
        "spread": draw.gamma(2.0, 0.15, rows),
        "views": np.where(is_snv, 4, 2).astype(np.int32),
        "log_p_ref": log_p_ref,
        "log_p_alt": log_p_ref + score,
        "cosine_distance": draw.gamma(1.5, 0.004, rows),
        "l2_distance": draw.gamma(2.0, 0.4, rows),
        "method": np.where(is_snv, "snv_marginal", "block_likelihood"),
        "status": np.where(np.arange(rows) % 10 == 4, "from_store", "scored"),
    }
    return pa.table(columns).cast(SCORE_SCHEMA)


def make_callset(folder: Path, vcf: Path, reference: Path, samples: list[str] | None = None) -> Callset:
    """The tables of ``vcf`` in ``folder``, its scores in two shards."""
    folder.mkdir(parents=True, exist_ok=True)
    alleles, ledger, genotypes, summary = (
        folder / name for name in ("alleles.parquet", "ledger.parquet", "genotypes.parquet", "summary.json")
    )
    with ReferenceGenome.open(reference) as genome:
        write_variant_tables(
            vcf, genome, alleles=alleles, ledger=ledger, genotypes=genotypes, summary=summary, samples=samples
        )
    scores = invent_scores(read_parquet(alleles))
    shards = [folder / "scores-1.parquet", folder / "scores-2.parquet"]
    for path, part in zip(shards, (scores.slice(0, len(scores) // 2), scores.slice(len(scores) // 2)), strict=True):
        write_parquet(part, path, PROVENANCE)
    return Callset(vcf, alleles, ledger, genotypes, summary, shards)


def make_context(folder: Path, sequence: str, count: int = 20) -> None:
    """context.parquet of a sample's ``count`` lowest scores: probabilities that favour the reference base somewhat."""
    table = read_parquet(folder / "scores.parquet")
    table = table.take(pa.array(np.concatenate(least_expected(table, count))))
    draw, rows = np.random.default_rng(5), []
    for row in table.to_pylist():
        key = f"{row['contig']}:{row['start'] + 1}:{row['ref']}:{row['alt']}"
        for start in range(row["start"] - 50, row["start"] + 51):
            base = sequence[start]
            weights = draw.dirichlet(np.where(np.array(list("ACGT")) == base, 2.5, 0.8))
            logs = dict(zip(("log_p_a", "log_p_c", "log_p_g", "log_p_t"), np.log(weights).tolist(), strict=True))
            rows.append({"key": key, "position": start + 1, "ref": base, **logs})
    write_parquet(pa.Table.from_pylist(rows), folder / "context.parquet", PROVENANCE)


@dataclass(frozen=True)
class Cohort:
    """A call set with its sample folders under ``root/samples``."""

    root: Path
    sequence: str
    reference: Path
    callset: Callset
    folders: list[Path]
    summaries: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three samples of one phased VCF with tables and contexts. Do not write into it."""
    root = tmp_path_factory.mktemp("cohort")
    sequence = write_reference(root / "reference.fa")
    make_vcf(root / "trio.vcf", sequence)
    callset = make_callset(root / "callsets" / "trio", root / "trio.vcf", root / "reference.fa")
    summaries = build_sample_tables(
        dict.fromkeys(SAMPLES),
        callset="trio",
        alleles=callset.alleles,
        ledger=callset.ledger,
        genotypes=callset.genotypes,
        summary=callset.summary,
        scores=callset.scores,
        out_dir=root / "samples",
    )
    folders = [root / "samples" / sample for sample in SAMPLES]
    for folder in folders:
        make_context(folder, sequence)
    return Cohort(root, sequence, root / "reference.fa", callset, folders, summaries)


def edit_summary(folder: Path, **changes: Any) -> None:
    """Overwrite facts of a sample.json."""
    path = folder / "sample.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
