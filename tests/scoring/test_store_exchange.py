"""Scores go out as TSV or BCF and come back to the last bit, attributed; what is none of ours is refused."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import pyarrow as pa
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import ConfigError, InputError, StoreError
from dnagrinder.genome.files import file_sha256
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.store import exchange
from dnagrinder.scoring.store.exchange import export_scores, import_scores
from dnagrinder.scoring.store.parts import list_parts
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.store.upkeep import store_stats, verify_store
from dnagrinder.scoring.tables import ALLELE_SCHEMA
from tests.scoring.store_rows import NUMBERS, PROVENANCE, allele_rows, score_rows, snvs

ALLELES = [
    (contig, start, ref, alt)
    for contig in ("chr2", "chr10", "chrX", "HLA*01:01", "chrM")
    for start, ref, alt in ((0, "A", "AT"), (7, "A", "C"), (7, "A", "G"), (7, "AC", "A"), (300, "G", "T"))
]
FORMATS = pytest.mark.parametrize("name", ["scores.tsv.gz", "scores.bcf"])
DOUBLES = st.floats(allow_nan=True, allow_infinity=True)


def filled(root: Path, rows: pa.Table) -> Path:
    ScoreStore(root, PROVENANCE).add(rows)
    return root


def bits(rows: pa.Table) -> list[tuple]:
    numbers = [
        [value if value is None else struct.pack("<d", value) for value in rows[name].to_pylist()] for name in NUMBERS
    ]
    return list(zip(*(rows[name].to_pylist() for name in (*ALLELE_SCHEMA.names, "views", "method")), *numbers, strict=True))


def rewritten(source: Path, path: Path, old: str, new: str) -> Path:
    """A bgzip TSV with something replaced once."""
    text = gzip.decompress(source.read_bytes()).decode()
    assert old in text
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(text.replace(old, new, 1).encode())
    return path


@FORMATS
@settings(deadline=None, max_examples=15)
@given(numbers=st.lists(DOUBLES, min_size=5, max_size=5), score=st.floats(allow_nan=False, allow_infinity=False))
def test_every_bit_comes_back(tmp_path_factory, name, numbers, score):
    folder = tmp_path_factory.mktemp("exchange")
    values = dict(zip(NUMBERS[1:], [None if value != value else value for value in numbers], strict=True))
    rows = score_rows(ALLELES, score=score, **values)
    told = export_scores(filled(folder / "a", rows), folder / name)
    assert told == {"context": context_digest(PROVENANCE), "alleles": len(rows), "sha256": file_sha256(folder / name)}
    import_scores(folder / "b", folder / name, "Lab A", told["sha256"])
    held, missing = ScoreStore(folder / "b", PROVENANCE).split(allele_rows(ALLELES))
    assert bits(held) == bits(rows)
    assert len(missing) == 0


@FORMATS
def test_many_rows_of_many_parts_come_back(tmp_path, monkeypatch, name):
    monkeypatch.setattr(exchange, "PART_ROWS", 1000)
    rows = snvs(3000, 5)
    root = filled(filled(tmp_path / "a", rows.slice(0, 1900)), rows.slice(1500))
    assert export_scores(root, tmp_path / name)["alleles"] == 3000
    assert import_scores(tmp_path / "b", tmp_path / name, "Lab A")["rows"] == 3000
    held, _ = ScoreStore(tmp_path / "b", PROVENANCE).split(rows.select(ALLELE_SCHEMA.names))
    assert bits(held) == bits(rows)
    assert export_scores(tmp_path / "b", tmp_path / f"again-{name}")["alleles"] == 3000


@FORMATS
def test_a_file_is_sorted_indexed_and_1_based(tmp_path, name):
    out = tmp_path / name
    export_scores(filled(tmp_path / "a", score_rows(ALLELES)), out)
    if name.endswith(".bcf"):
        with pysam.VariantFile(str(out)) as bcf:
            order = list(bcf.header.contigs)
            found = [(r.chrom, r.pos, r.ref, r.alts[0]) for r in bcf.fetch("chr10", 7, 8)]
            assert next(bcf.fetch("chr10")).info["DG_SCORE"] == pytest.approx(0.25 / 7)
    else:
        with pysam.TabixFile(str(out)) as tsv:
            order = tsv.contigs
            found = [(f[0], int(f[1]), *f[2:4]) for f in (line.split("\t") for line in tsv.fetch("chr10", 7, 8))]
            assert list(tsv.header)[1].startswith("#CHROM\tPOS\tREF\tALT\tscore\t")
    assert order == ["chr2", "chr10", "chrX", "chrM", "HLA*01:01"]
    assert found == [("chr10", 8, "A", "C"), ("chr10", 8, "A", "G"), ("chr10", 8, "AC", "A")]


@FORMATS
def test_equal_rows_give_equal_bytes(tmp_path, name):
    rows = score_rows(ALLELES)
    export_scores(filled(tmp_path / "a", rows), tmp_path / f"1-{name}")
    export_scores(filled(filled(tmp_path / "b", rows.slice(9)), rows.slice(0, 12)), tmp_path / f"2-{name}")
    assert (tmp_path / f"1-{name}").read_bytes() == (tmp_path / f"2-{name}").read_bytes()
    assert list(tmp_path.glob(".*")) == []


def test_a_reference_gives_contigs_and_must_be_the_contexts(tmp_path):
    fasta = tmp_path / "genome.fa"
    fasta.write_text(">X\nACGT\n>1\nACGTACGT\n")
    with ReferenceGenome.open(fasta) as genome:
        provenance = {**PROVENANCE, "reference_sha256": genome.digest()}
    ScoreStore(tmp_path / "a", provenance).add(score_rows([("1", 2, "G", "T"), ("X", 1, "C", "T"), ("0", 1, "C", "T")]))
    export_scores(tmp_path / "a", tmp_path / "a.bcf", reference=fasta)
    with pysam.VariantFile(str(tmp_path / "a.bcf")) as bcf:
        assert [(contig.name, contig.length) for contig in bcf.header.contigs.values()] == [("X", 4), ("1", 8), ("0", None)]
        assert [record.chrom for record in bcf] == ["X", "1", "0"]
    with pytest.raises(InputError, match="not the one"):
        export_scores(filled(tmp_path / "b", score_rows(ALLELES)), tmp_path / "b.bcf", reference=fasta)


@FORMATS
def test_imports_are_attributed_and_own_scores_count_first(tmp_path, name):
    a, b, c = (tmp_path / letter for letter in "abc")
    first = export_scores(filled(a, score_rows(ALLELES[:10], score=-9.0)), tmp_path / f"a-{name}")
    filled(b, score_rows(ALLELES[5:15], score=1.0))
    assert not import_scores(b, tmp_path / f"a-{name}", "Lab A")["new_context"]
    parts = list_parts(b / first["context"])
    assert import_scores(b, tmp_path / f"a-{name}", "Lab A")["rows"] == 10
    assert list_parts(b / first["context"]) == parts
    source = {"name": "Lab A", "file": f"a-{name}", "sha256": first["sha256"], "imports": []}
    (told,) = store_stats(b)
    assert (told["rows"], told["alleles"], told["imports"]) == (20, 15, [{**source, "rows": 10}])
    held, _ = ScoreStore(b, PROVENANCE).split(allele_rows(ALLELES[:15]))
    assert held["score"].to_pylist() == [-9.0] * 5 + [1.0] * 10
    assert verify_store(b)[0]["conflicts"] == 5
    second = export_scores(b, tmp_path / f"b-{name}")
    assert import_scores(c, tmp_path / f"b-{name}", "Lab B")["new_context"]
    (told,) = store_stats(c)
    expected = {"name": "Lab B", "file": f"b-{name}", "sha256": second["sha256"], "imports": [source], "rows": 15}
    assert told["imports"] == [expected]


def test_the_context_is_chosen_by_its_beginning(tmp_path):
    other = {**PROVENANCE, "reference_sha256": "9" * 64}
    ScoreStore(filled(tmp_path / "s", score_rows(ALLELES)), other).add(score_rows(ALLELES[:3]))
    with pytest.raises(StoreError, match="holds 2 contexts"):
        export_scores(tmp_path / "s", tmp_path / "x.bcf")
    with pytest.raises(StoreError, match="0 contexts begin with 'no'"):
        export_scores(tmp_path / "s", tmp_path / "x.bcf", "no")
    assert export_scores(tmp_path / "s", tmp_path / "x.bcf", context_digest(other)[:8])["alleles"] == 3
    with pytest.raises(ConfigError, match=r"\*\.tsv\.gz or \*\.bcf"):
        export_scores(tmp_path / "s", tmp_path / "x.vcf", context_digest(other))
    ScoreStore(tmp_path / "empty", PROVENANCE).prepare()
    with pytest.raises(StoreError, match="it holds 0 contexts"):
        export_scores(tmp_path / "empty", tmp_path / "y.bcf")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schema": 1', '"schema": 2', "has schema 2, this version reads 1"),
        ('"tokenizer_sha256": "1', '"tokenizer_sha256": "z', "lacks a sha256"),
        ('"parameters_sha256"', '"parameters"', "cannot be read"),
        ("##dnagrinder_scores=", "##dnagrinder_scores=[", "cannot be read"),
        ("##dnagrinder_scores=", "##somebodys_scores=", "has no line"),
        ("\tscore\t", "\tpoints\t", "columns must be"),
        ("chr2\t8\tA\tC", "chr2\t8\tA\tA", "no allele|normalised"),
        ("chr2\t8\tA\tC", "chr2\t0\tA\tC", "no allele"),
        ("chr2\t8\tA\tC", "chr2\teight\tA\tC", "damaged"),
        ("chr2\t8\tA\tC", "chr2\t8\tA", "damaged"),
        ("chr2\t8\tA\tC\t1.", "chr2\t8\tA\tC\tnan", "damaged|without finite"),
        ("chr2\t8\tA\tC\t", "chr2\t8\tA\tC\t.\t.\t2\t.\t.\t.\t.\tm\ts\nchr2\t9\tA\tC\t", "without finite"),
    ],
)
def test_a_file_that_is_none_of_ours_changes_nothing(tmp_path, old, new, message):
    export_scores(filled(tmp_path / "a", score_rows(ALLELES)), tmp_path / "a.tsv.gz")
    bad = rewritten(tmp_path / "a.tsv.gz", tmp_path / "bad.tsv.gz", old, new)
    with pytest.raises(InputError, match=message) as raised:
        import_scores(tmp_path / "b", bad, "Lab A")
    assert str(bad) in str(raised.value)
    assert list((tmp_path / "b").rglob("*.*")) == []


@FORMATS
def test_a_torn_or_foreign_file_is_refused(tmp_path, name):
    export_scores(filled(tmp_path / "a", snvs(3000, 1)), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    torn = tmp_path / f"torn-{name}"
    torn.write_bytes(content[:-28])
    with pytest.raises(InputError, match="truncated"):
        import_scores(tmp_path / "b", torn, "Lab A")
    torn.write_bytes(content[:90_000] + bytes(100) + content[90_100:])
    with pytest.raises(InputError, match="damaged"):
        import_scores(tmp_path / "b", torn, "Lab A")
    torn.write_bytes(gzip.compress(gzip.decompress(content)))
    with pytest.raises(InputError, match="no bgzip file"):
        import_scores(tmp_path / "b", torn, "Lab A")
    with pytest.raises(InputError, match="expected 00"):
        import_scores(tmp_path / "b", tmp_path / name, "Lab A", "00")
    for source in ("", " ", "Lab\nA", "\x1b[31m"):
        with pytest.raises(ConfigError, match="source"):
            import_scores(tmp_path / "b", tmp_path / name, source)
    assert list((tmp_path / "b").rglob("*.*")) == []


def test_a_bcf_of_others_is_refused(tmp_path):
    header = pysam.VariantHeader()
    header.add_line("##contig=<ID=1,length=100>")
    with pysam.VariantFile(str(tmp_path / "o.bcf"), "wb", header=header) as out:
        out.write(header.new_record(contig="1", start=5, alleles=("A", "G")))
    with pytest.raises(InputError, match="has no line"):
        import_scores(tmp_path / "b", tmp_path / "o.bcf", "Lab A")
    export_scores(filled(tmp_path / "a", score_rows(ALLELES)), tmp_path / "a.bcf")
    with (
        pysam.VariantFile(str(tmp_path / "a.bcf")) as bcf,
        pysam.VariantFile(str(tmp_path / "stripped.bcf"), "wb", header=bcf.header) as out,
    ):
        for record in bcf:
            del record.info["DG_EXACT"]
            out.write(record)
    with pytest.raises(InputError, match="chr2:1: not a record"):
        import_scores(tmp_path / "b", tmp_path / "stripped.bcf", "Lab A")


def test_commands(tmp_path):
    def command(*arguments: object, code: int = 0) -> dict:
        done = CliRunner().invoke(app, ["store", *map(str, arguments), "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    root = filled(tmp_path / "a", score_rows(ALLELES))
    told = command("export", "--store", root, "--out", tmp_path / "a.bcf")
    assert command(
        "import", tmp_path / "a.bcf", "--store", tmp_path / "b", "--source", "Lab A", "--sha256", told["sha256"]
    ) == {
        "context": told["context"],
        "rows": len(ALLELES),
        "sha256": told["sha256"],
        "new_context": True,
    }
    (context,) = command("stats", "--store", tmp_path / "b")["contexts"]
    assert context["imports"][0]["name"] == "Lab A"
    assert command("prune", "--store", tmp_path / "b")["parts_after"] == 1
    assert command("verify", "--store", tmp_path / "b")["clean"]
    (part,) = (tmp_path / "b").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    broken = command("verify", "--store", tmp_path / "b", code=7)
    assert (broken["clean"], len(broken["problems"])) == (False, 1)
    done = CliRunner().invoke(app, ["store", "verify", "--store", str(tmp_path / "b")])
    assert [line for line in done.stderr.splitlines() if str(part) in line] == [done.stderr.rstrip("\n")]
    shown = CliRunner().invoke(app, ["store", "stats", "--store", str(root)]).stdout
    assert f"context {told['context']}" in shown
    assert f"rows: {len(ALLELES)}" in shown
