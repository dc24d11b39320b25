"""The annotated VCF: the input's bytes, our fields, an index."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pysam
import pytest

from dnagrinder.errors import ConfigError, InputError, InvariantError
from dnagrinder.genome.tables import ALLELES, LEDGER
from dnagrinder.reports.vcf import AnnotationCounts, annotate_vcf, check_destination
from dnagrinder.scoring.tables import SCORE_SCHEMA, read_parquet, write_parquet
from tests.reports.conftest import PROVENANCE, Callset, Cohort, make_callset, write_reference

HEADER = b"##fileformat=VCFv4.2\n##contig=<ID=20>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def annotate(callset: Callset, destination: Path) -> AnnotationCounts:
    """Annotate a call set under the common provenance."""
    return annotate_vcf(
        callset.vcf,
        destination,
        alleles=callset.alleles,
        ledger=callset.ledger,
        scores=callset.scores,
        provenance=PROVENANCE,
        tool_version="0.1.0",
    )


def by_hand(folder: Path, text: bytes, accepted: list[tuple], rejected: list[tuple], scores: list[tuple]) -> Callset:
    """A call set whose tables are written out.

    accepted: (record, alt_index, POS, ref, alt); rejected: (record, alt_index, POS, reason);
    scores: (POS, ref, alt, score, spread, cosine, l2, status). All on contig 20, spelt as in the file.
    """
    folder.mkdir(exist_ok=True)
    vcf, alleles, ledger, table = (folder / n for n in ("in.vcf", "alleles.parquet", "ledger.parquet", "scores.parquet"))
    vcf.write_bytes(text)
    rows = [
        {"record": r, "alt_index": i, "contig": "20", "start": p - 1, "ref": ref, "alt": alt, "kind": "snv",
         "input_contig": "20", "input_position": p, "input_ref": ref, "input_alt": alt}
        for r, i, p, ref, alt in accepted
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, schema=ALLELES), alleles)
    spelt = [line.decode("latin-1").split("\t")[3:5] for line in data_lines(vcf)]
    rows = [
        {"record": r, "alt_index": i, "input_contig": "20", "input_position": p, "input_ref": spelt[r][0],
         "input_alt": spelt[r][1].split(",")[i - 1], "reason": reason}
        for r, i, p, reason in rejected
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, schema=LEDGER), ledger)
    rows = [
        {"contig": "20", "start": p - 1, "ref": ref, "alt": alt, "score": score, "spread": spread,
         "cosine_distance": cosine, "l2_distance": l2, "status": status}
        for p, ref, alt, score, spread, cosine, l2, status in scores
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, schema=SCORE_SCHEMA), table, PROVENANCE)
    return Callset(vcf, alleles, ledger, folder / "none", folder / "none", [table])


def data_lines(path: Path) -> list[bytes]:
    """Data lines of a VCF, plain or packed, without line ends."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as handle:
        return [line.rstrip(b"\r\n") for line in handle if not line.startswith(b"#")]


def header_lines(path: Path) -> list[str]:
    """Header lines of a packed VCF."""
    with gzip.open(path, "rt", encoding="latin-1") as handle:
        return [line.rstrip("\n") for line in handle if line.startswith("#")]


def stripped(line: bytes) -> bytes:
    """A record without DG_ fields."""
    fields = line.split(b"\t")
    kept = [field for field in fields[7].split(b";") if not field.startswith(b"DG_")]
    return b"\t".join([*fields[:7], b";".join(kept) or b".", *fields[8:]])


@pytest.fixture
def simple(tmp_path: Path) -> Callset:
    """Four records: plain INFO, empty INFO with two ALTs of which one is rejected, no ALT, fields of an earlier run."""
    text = HEADER + (
        b"20\t10\trs1\tA\tG\t1e2\tPASS\tAF=0.50;DB\n"
        b"20\t20\t.\tC\tT,*\t.\t.\t.\n"
        b"20\t30\t.\tG\t.\t.\t.\tDP=3\n"
        b"20\t40\t.\tT\tA\t.\t.\tDG_SCORE=9;XDG_SCORE=1;DG_STATUS=scored;X=\xe9\n"
    )
    return by_hand(
        tmp_path,
        text,
        [(0, 1, 10, "A", "G"), (1, 1, 20, "C", "T"), (3, 1, 40, "T", "A")],
        [(1, 2, 20, "SPANNING_DELETION"), (2, 0, 30, "MISSING_ALT")],
        [
            (10, "A", "G", -1.23456789, 0.5, 1e-7, 0.0, "scored"),
            (20, "C", "T", 2.0, 0.25, 0.125, 12345678.0, "from_store"),
            (40, "T", "A", -0.0, float("nan"), 0.1, 0.2, "scored"),
        ],
    )


def test_fields_are_written_in_order_and_all_else_is_kept(simple: Callset, tmp_path: Path) -> None:
    counts = annotate(simple, tmp_path / "out.vcf.gz")
    assert data_lines(tmp_path / "out.vcf.gz") == [
        b"20\t10\trs1\tA\tG\t1e2\tPASS\tAF=0.50;DB;DG_SCORE=-1.23457;DG_SPREAD=0.5;DG_COS=1e-07;DG_L2=0;DG_STATUS=scored",
        b"20\t20\t.\tC\tT,*\t.\t.\tDG_SCORE=2,.;DG_SPREAD=0.25,.;DG_COS=0.125,.;DG_L2=1.23457e+07,.;"
        b"DG_STATUS=from_store,SPANNING_DELETION",
        b"20\t30\t.\tG\t.\t.\t.\tDP=3",
        b"20\t40\t.\tT\tA\t.\t.\tXDG_SCORE=1;X=\xe9;DG_SCORE=0;DG_SPREAD=.;DG_COS=0.1;DG_L2=0.2;DG_STATUS=scored",
    ]
    assert counts == AnnotationCounts(4, 5, 2, 1, 2, {"MISSING_ALT": 1, "SPANNING_DELETION": 1})


def test_header_names_tool_and_checksums(simple: Callset, tmp_path: Path) -> None:
    annotate(simple, tmp_path / "out.vcf.gz")
    lines = header_lines(tmp_path / "out.vcf.gz")
    assert lines[:2] == ["##fileformat=VCFv4.2", "##contig=<ID=20>"]
    assert lines[2] == (
        f"##dnagrinder=<Version=0.1.0,Checkpoint=mini,CheckpointSha256={PROVENANCE['checkpoint']['sha256']},"
        f"TokenizerSha256={PROVENANCE['tokenizer_sha256']},ReferenceSha256={PROVENANCE['reference_sha256']},"
        f"ParametersSha256={PROVENANCE['parameters_sha256']}>"
    )
    names = ["DG_SCORE", "DG_SPREAD", "DG_COS", "DG_L2", "DG_STATUS"]
    assert [line.partition(",")[0] for line in lines[3:8]] == [f"##INFO=<ID={name}" for name in names]
    assert all(",Number=A," in line for line in lines[3:8])
    assert lines[8].startswith("#CHROM")
    assert len(lines) == 9


def test_annotating_twice_is_annotating_once(cohort: Cohort, tmp_path: Path) -> None:
    annotate(cohort.callset, tmp_path / "once.vcf.gz")
    annotate(replace(cohort.callset, vcf=tmp_path / "once.vcf.gz"), tmp_path / "twice.vcf.gz")
    assert (tmp_path / "once.vcf.gz").read_bytes() == (tmp_path / "twice.vcf.gz").read_bytes()


def test_same_input_same_bytes_index_too(cohort: Cohort, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        annotate(cohort.callset, tmp_path / name / "out.vcf.gz")
    for name in ("out.vcf.gz", "out.vcf.gz.tbi"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["out.vcf.gz", "out.vcf.gz.tbi"]


def test_every_score_stands_at_its_allele(cohort: Cohort, tmp_path: Path) -> None:
    annotate(cohort.callset, tmp_path / "out.vcf.gz")
    scores = {
        (row["contig"], row["start"], row["ref"], row["alt"]): row
        for path in cohort.callset.scores
        for row in read_parquet(path).to_pylist()
    }
    alleles = {(row["record"], row["alt_index"]): row for row in read_parquet(cohort.callset.alleles).to_pylist()}
    ledger = {(row["record"], row["alt_index"]): row for row in read_parquet(cohort.callset.ledger).to_pylist()}
    seen = 0
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as vcf:
        for ordinal, record in enumerate(vcf):
            for index, _ in enumerate(record.alts or (), start=1):
                status, value = record.info["DG_STATUS"][index - 1], record.info["DG_SCORE"][index - 1]
                if (ordinal, index) in ledger:
                    assert (status, value) == (ledger[ordinal, index]["reason"], None)
                else:
                    allele = alleles[ordinal, index]
                    score = scores[allele["contig"], allele["start"], allele["ref"], allele["alt"]]
                    assert status == score["status"]
                    assert value == pytest.approx(score["score"], rel=1e-5)
                seen += 1
    assert seen == len(alleles) + len(ledger) == cohort.summaries["child"]["alleles_in_file"]


def test_index_finds_records(cohort: Cohort, tmp_path: Path) -> None:
    annotate(cohort.callset, tmp_path / "out.vcf.gz")
    lines = [line.decode() for line in data_lines(tmp_path / "out.vcf.gz")]
    wanted = [line for line in lines if 10_000 <= int(line.split("\t")[1]) <= 20_000]
    with pysam.TabixFile(str(tmp_path / "out.vcf.gz")) as tabix:
        # A record that begins before the region and reaches into it is found as well.
        found = [line for line in tabix.fetch("20", 9_999, 20_000) if int(line.split("\t")[1]) >= 10_000]
    assert found == wanted
    assert wanted


def test_unsorted_records_are_sorted_stably_by_header_order(cohort: Cohort, tmp_path: Path) -> None:
    text = (
        b"##fileformat=VCFv4.2\n##contig=<ID=b>\n##contig=<ID=a>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        b"a\t9\tx\tA\tG\t.\t.\t.\nc\t1\tx\tA\tG\t.\t.\t.\nb\t7\tfirst\tA\tG\t.\t.\t.\na\t2\tx\tA\tG\t.\t.\t.\n"
        b"b\t7\tsecond\tA\tG\t.\t.\t.\nb\t3\tx\tA\tG\t.\t.\t.\n"
    )
    callset = by_hand(tmp_path, text, [], [], [])
    places = [line.split(b"\t")[:2] for line in data_lines(callset.vcf)]
    rows = [
        {"record": n, "alt_index": 1, "input_contig": c.decode(), "input_position": int(p), "input_ref": "A",
         "input_alt": "G", "reason": "CONTIG_ABSENT"}
        for n, (c, p) in enumerate(places)
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, schema=LEDGER), callset.ledger)
    annotate(callset, tmp_path / "out.vcf.gz")
    found = [b" ".join(line.split(b"\t")[:3]) for line in data_lines(tmp_path / "out.vcf.gz")]
    assert found == [b"b 3 x", b"b 7 first", b"b 7 second", b"a 2 x", b"a 9 x", b"c 1 x"]
    assert sorted(map(stripped, data_lines(tmp_path / "out.vcf.gz"))) == sorted(data_lines(callset.vcf))
    assert "##contig=<ID=c>" in header_lines(tmp_path / "out.vcf.gz")


def test_contigs_in_runs_keep_their_order(tmp_path: Path) -> None:
    text = HEADER + b"x\t5\t.\tA\t*\t.\t.\t.\n20\t3\t.\tA\t*\t.\t.\t.\n"
    callset = by_hand(tmp_path, text, [], [], [])
    rows = [
        {"record": n, "alt_index": 1, "input_contig": c, "input_position": p, "input_ref": "A", "input_alt": "*",
         "reason": "SPANNING_DELETION"}
        for n, (c, p) in enumerate([("x", 5), ("20", 3)])
    ]  # fmt: skip
    write_parquet(pa.Table.from_pylist(rows, schema=LEDGER), callset.ledger)
    annotate(callset, tmp_path / "out.vcf.gz")
    assert [line[:2] for line in data_lines(tmp_path / "out.vcf.gz")] == [b"x\t", b"20"]


def test_line_ends_and_packing_do_not_matter(simple: Callset, tmp_path: Path) -> None:
    annotate(simple, tmp_path / "plain.vcf.gz")
    content = simple.vcf.read_bytes()
    spellings = {
        "crlf.vcf": content.replace(b"\n", b"\r\n"),
        "no_last_newline.vcf": content.rstrip(b"\n"),
        "gzip.vcf.gz": gzip.compress(content),
    }
    for name, packed in spellings.items():
        (tmp_path / name).write_bytes(packed)
        annotate(replace(simple, vcf=tmp_path / name), tmp_path / "other.vcf.gz")
        assert (tmp_path / "other.vcf.gz").read_bytes() == (tmp_path / "plain.vcf.gz").read_bytes(), name


def test_bcf_becomes_vcf(cohort: Cohort, tmp_path: Path) -> None:
    bcf = tmp_path / "in.bcf"
    with (
        pysam.VariantFile(str(cohort.callset.vcf)) as source,
        pysam.VariantFile(str(bcf), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    counts = annotate(replace(cohort.callset, vcf=bcf), tmp_path / "out.vcf.gz")
    annotate(cohort.callset, tmp_path / "text.vcf.gz")
    assert counts.records == 400
    mine, other = (data_lines(tmp_path / name) for name in ("out.vcf.gz", "text.vcf.gz"))
    ours = [[field for field in line.split(b"\t")[7].split(b";") if field.startswith(b"DG_")] for line in mine]
    assert ours == [[f for f in line.split(b"\t")[7].split(b";") if f.startswith(b"DG_")] for line in other]


def test_no_records(tmp_path: Path) -> None:
    counts = annotate(by_hand(tmp_path, HEADER, [], [], []), tmp_path / "out.vcf.gz")
    assert counts == AnnotationCounts(0, 0, 0, 0, 0, {})
    assert data_lines(tmp_path / "out.vcf.gz") == []
    assert (tmp_path / "out.vcf.gz.tbi").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + b"20\t10\t.\tA\tG\t.\t.\t.\n", "more records than the file"),
        (HEADER + b"20\t10\t.\tA\tG\t.\t.\t.\n20\t21\t.\tC\tT,*\t.\t.\t.\n", r"record 2 \(20:21\).*another file"),
        (HEADER + b"20\t10\t.\tA\tG,T\t.\t.\t.\n", r"record 1 \(20:10\).*another file"),
        (HEADER + b"20\t10\t.\tA\tT\t.\t.\t.\n", r"record 1 \(20:10\).*another file.*--forcerun read_variants"),
        (HEADER + b"20\t10\t.\tAA\tG\t.\t.\t.\n", r"record 1 \(20:10\).*another file"),
        (HEADER + b"20\t10\t.\tA\tG\t.\t.\t.\n20\t20\t.\tC\tT,<DEL>\t.\t.\t.\n", r"record 2 \(20:20\).*another file"),
        (HEADER + b"20\t10\t.\tA\tG\t.\t.\n", "record 1: 7 columns"),
        (b"##fileformat=VCFv4.2\n20\t10\t.\tA\tG\t.\t.\t.\n", "no #CHROM line"),
    ],
)
def test_tables_of_another_file_are_refused(simple: Callset, tmp_path: Path, text: bytes, said: str) -> None:
    simple.vcf.write_bytes(text)
    with pytest.raises(InputError, match=said):
        annotate(simple, tmp_path / "sub" / "out.vcf.gz")
    assert not list((tmp_path / "sub").glob("*")), "nothing half-written is left"


def test_spellings_of_one_allele_are_met(tmp_path: Path) -> None:
    """Tables of read-variants fit their file: letter case, alleles that the ledger cuts, no sequence, an empty ALT."""
    sequence = write_reference(tmp_path / "reference.fa")
    long = sequence[1000:1300]
    alleles = [
        (1000, long, "G"),
        (1400, sequence[1400], long + "ACGTACGT" * 20),
        (1500, sequence[1500].lower(), "<del:me>,<\xe9>,*,.,G]20:9]"),
        (1600, sequence[1600].lower(), "ACGT"[("ACGT".index(sequence[1600]) + 1) % 4].lower()),
        (1700, sequence[1700], ""),
        (1800, sequence[1800], "."),
    ]
    lines = [f"20\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\t." for start, ref, alt in alleles]
    vcf = tmp_path / "in.vcf"
    vcf.write_bytes(HEADER + "\n".join(lines).encode("latin-1") + b"\n")
    callset = make_callset(tmp_path / "tables", vcf, tmp_path / "reference.fa")
    assert annotate(callset, tmp_path / "out.vcf.gz").records == len(lines)
    vcf.write_bytes(vcf.read_bytes().replace(b"ACGTACGT" * 20, b"ACGTACGT" * 19))
    with pytest.raises(InputError, match=r"record 2 \(20:1401\).*another file"):
        annotate(callset, tmp_path / "out.vcf.gz")


def test_truncated_input_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    packed = gzip.compress(cohort.callset.vcf.read_bytes())
    (tmp_path / "cut.vcf.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="truncated or damaged"):
        annotate(replace(cohort.callset, vcf=tmp_path / "cut.vcf.gz"), tmp_path / "out.vcf.gz")
    assert not (tmp_path / "out.vcf.gz").exists()


def test_an_allele_without_score_is_a_defect(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InvariantError, match="have no score"):
        annotate(replace(cohort.callset, scores=cohort.callset.scores[:1]), tmp_path / "out.vcf.gz")


@pytest.mark.parametrize("name", ["out", "out.bcf", "out.vcf", "out.bcf.gz"])
def test_a_name_that_is_not_of_bgzip_vcf_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"output {name}: .*, call it out\.vcf\.gz$"):
        check_destination(Path("in.vcf"), Path(name))


def test_names_of_bgzip_vcf_are_taken() -> None:
    for name in ("out.vcf.gz", "out.vcf.bgz", "out.gz"):
        check_destination(Path("in.vcf"), Path(name))


def test_counts_must_add_up() -> None:
    with pytest.raises(InvariantError):
        AnnotationCounts(1, 2, 1, 0, 0, {})
    with pytest.raises(InvariantError):
        AnnotationCounts(1, 2, 1, 0, 1, {"IUPAC": 2})


REAL = [
    ("hapmap_exome_chr22.22samples", "chr22_partial"),
    ("kgp_chr22_50.3-51.0M.5samples", "chr22_partial"),
    ("kgp3_chr20_1-4M.phased300", "chr20"),
    ("giab_hg002_sv_chr20_0-1M", "chr20"),
    ("kgp3_chr20_1-2M.sites_af_sv", "chr20"),
    ("clinvar_20230710.chr1_0-1M", "partial_chr1_chr13_chr17"),
]


@pytest.mark.data
@pytest.mark.parametrize(("vcf", "reference"), REAL, ids=[name for name, _ in REAL])
def test_real_records_keep_every_byte(vcf: str, reference: str, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "grch37" / f"{vcf}.vcf.gz"
    callset = make_callset(tmp_path, source, shared_data / "grch37" / f"{reference}.fa.gz", samples=[])
    counts = annotate(callset, tmp_path / "out.vcf.gz")
    before, after = data_lines(source), data_lines(tmp_path / "out.vcf.gz")
    assert [stripped(line) for line in after] == before
    assert counts.records == len(before) > 0
    assert counts.scored + counts.from_store > 0
    ours = ("##INFO=<ID=DG_", "##dnagrinder=")
    kept = [line for line in header_lines(tmp_path / "out.vcf.gz") if not line.startswith(ours)]
    with gzip.open(source, "rt", encoding="latin-1") as handle:
        original = [line.rstrip("\n") for line in handle if line.startswith("#")]
    assert [line for line in kept if line in set(original)] == original
    assert all(line.startswith("##contig=") for line in kept if line not in set(original))
    if shutil.which("bcftools") is None:
        pytest.skip("bytes are kept; bcftools is absent, so it could not read the file")
    seen = subprocess.run(["bcftools", "view", "-H", tmp_path / "out.vcf.gz"], capture_output=True, check=False)
    assert seen.returncode == 0, seen.stderr.decode()
    assert b"DG_" not in seen.stderr
    assert seen.stdout.count(b"\n") == len(before)


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is absent")
def test_bcftools_reads_our_fields(cohort: Cohort, tmp_path: Path) -> None:
    annotate(cohort.callset, tmp_path / "out.vcf.gz")
    command = ["bcftools", "query", "-f", "%INFO/DG_SCORE\\t%INFO/DG_STATUS\\n", str(tmp_path / "out.vcf.gz")]
    seen = subprocess.run(command, capture_output=True, check=True, text=True)
    assert seen.stderr == ""
    fields = [
        dict(pair.split("=", 1) for pair in line.decode().split("\t")[7].split(";"))
        for line in data_lines(tmp_path / "out.vcf.gz")
    ]
    assert [line.split("\t")[1] for line in seen.stdout.splitlines()] == [field["DG_STATUS"] for field in fields]
