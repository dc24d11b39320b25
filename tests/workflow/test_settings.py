"""Configuration and sample sheet: what is accepted, and that every problem is told, all at once."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from dnagrinder.errors import ConfigError
from dnagrinder.genome.cis import DEFAULT_DISTANCE
from dnagrinder.samplesheet import Callset, Sample, name_callsets, safe_name, vcf_columns
from dnagrinder.scoring.packing import TOKEN_BUDGET
from dnagrinder.scoring.parameters import LATTICES, PRECISIONS, VIEWS, ScoringParameters
from dnagrinder.scoring.session import DEVICES
from dnagrinder.settings import SCHEMAS, Settings, gpu_present, interpreter, load_settings

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def vcf_text(*samples: str) -> str:
    """A VCF without records; with sample columns it has a FORMAT column."""
    return "##fileformat=VCFv4.2\n" + "\t".join([COLUMNS, *(("FORMAT", *samples) if samples else ())]) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a reference, a checkpoint folder, three VCFs and a sheet that uses two of them."""
    (tmp_path / "genome.fa").write_text(">1\nACGT\n")
    (tmp_path / "model").mkdir()
    for name in ("model.safetensors", "card.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_text("")
    (tmp_path / "one.vcf").write_text(vcf_text("NORMAL"))
    (tmp_path / "two.vcf").write_text(vcf_text("A", "B"))
    (tmp_path / "sites.vcf").write_text(vcf_text())
    (tmp_path / "samples.tsv").write_text("sample\tvcf\nX\tone.vcf\nA\ttwo.vcf\nB\ttwo.vcf\n")
    return tmp_path


def settings(run: Path, **changes: Any) -> Settings:
    """Settings of the run with the given keys changed."""
    return load_settings({"samples": "samples.tsv", "reference": "genome.fa", "checkpoint": "model"} | changes, run)


def problems(run: Path, **changes: Any) -> list[str]:
    """The problems that loading the changed settings tells."""
    with pytest.raises(ConfigError) as caught:
        settings(run, **changes)
    return caught.value.problems


def test_defaults_are_those_of_the_schema(run: Path) -> None:
    schema = yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text())
    loaded = settings(run)
    for section in ("scoring", "report"):
        for key, part in schema["properties"][section]["properties"].items():
            assert getattr(getattr(loaded, section), key) == part["default"]
    assert loaded.results_dir == schema["properties"]["results_dir"]["default"]


def test_defaults_and_choices_are_those_of_the_library(run: Path) -> None:
    schema = yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text())
    properties = schema["properties"]["scoring"]["properties"]
    loaded = settings(run).scoring
    chosen = ScoringParameters(loaded.window, loaded.views, loaded.precision, lattice=loaded.lattice)
    assert chosen == ScoringParameters()
    assert loaded.token_budget == TOKEN_BUDGET
    assert loaded.haplotype_distance == DEFAULT_DISTANCE
    assert tuple(properties["precision"]["enum"]) == PRECISIONS
    assert tuple(properties["lattice"]["enum"]) == LATTICES
    assert tuple(properties["device"]["enum"]) == DEVICES
    assert properties["views"]["maximum"] == len(VIEWS)
    for window in (properties["window"]["minimum"], properties["window"]["maximum"]):
        assert ScoringParameters(window=window).window == window


def test_every_key_of_the_schemas_is_described() -> None:
    for name in ("config", "samples"):
        schema = yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text())
        sections = [schema] + [part for part in schema["properties"].values() if "properties" in part]
        for section in sections:
            assert section["additionalProperties"] is False
            for key, part in section["properties"].items():
                assert part["type"], key
                assert part["description"], key
                assert "default" in part or key in {"reference", "url", "sha256", "sample", "vcf", "run_file", "data"}, key


def in_yaml(value: object) -> str:
    """A value as YAML spells it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def test_config_readme_names_every_key_and_default(repository: Path) -> None:
    readme = (repository / "config" / "README.md").read_text()
    schema = yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text())
    for key, part in schema["properties"].items():
        if key in ("scoring", "report"):
            for inner, leaf in part["properties"].items():
                assert f"| `{key}: {inner}` | `{in_yaml(leaf['default'])}` |" in readme
        elif "default" in part:
            assert f"| `{key}` | `{in_yaml(part['default'])}` |" in readme


def test_samples_and_callsets(run: Path) -> None:
    loaded = settings(run)
    assert loaded.samples == (Sample("X", "X", "NORMAL"), Sample("A", "two", "A"), Sample("B", "two", "B"))
    assert loaded.callsets == (Callset("X", "one.vcf", ("NORMAL",)), Callset("two", "two.vcf", ("A", "B")))
    assert loaded.sample("X").selector == "X=NORMAL"


def test_two_spellings_of_one_file_are_one_callset(run: Path) -> None:
    (run / "samples.tsv").write_text(f"sample\tvcf\nA\ttwo.vcf\nB\t{run}/two.vcf\n")
    assert settings(run).callsets == (Callset("two", "two.vcf", ("A", "B")),)


def test_file_of_sites_belongs_to_its_row(run: Path) -> None:
    (run / "samples.tsv").write_text("sample\tvcf\nS\tsites.vcf\n")
    loaded = settings(run)
    assert loaded.samples == (Sample("S", "S", None),)
    assert loaded.callsets[0].columns == ()
    assert loaded.samples[0].selector == "S"


def test_column_may_be_named(run: Path) -> None:
    (run / "samples.tsv").write_text("# comment\nsample\tvcf\tvcf_sample\nX\tone.vcf\t\npatient\ttwo.vcf\tB\n")
    assert settings(run).samples == (Sample("X", "X", "NORMAL"), Sample("patient", "patient", "B"))


def test_inputs_made_by_another_workflow_are_not_looked_for(run: Path) -> None:
    (run / "samples.tsv").write_text("sample\tvcf\tvcf_sample\nX\tlater.vcf\t\nY\tlater.vcf\tcolumn\n")
    loaded = settings(run, check_inputs=False, reference="later.fa")
    assert loaded.samples == (Sample("X", "later", "X"), Sample("Y", "later", "column"))


def test_remote_reference(run: Path) -> None:
    loaded = settings(run, reference={"url": "https://example.org/genome.fa.gz", "sha256": "0" * 64})
    assert loaded.reference.is_remote
    assert not settings(run).reference.is_remote


@pytest.mark.parametrize("section", ["scoring", "report", "pretraining"])
def test_a_section_left_empty_has_its_defaults(run: Path, section: str) -> None:
    assert settings(run, **{section: None}) == settings(run)


@pytest.mark.parametrize("section", ["scoring", "report", "pretraining"])
@pytest.mark.parametrize("value", ["fast", [1], 3, True])
def test_a_section_that_is_none_is_told(run: Path, section: str, value: object) -> None:
    (told,) = problems(run, **{section: value})
    assert told.startswith(f"config: {section}: {value!r} is not of type 'object'")


def test_all_problems_at_once(run: Path) -> None:
    (run / "samples.tsv").write_text("sample\tvcf\n../X\tone.vcf\nA\ttwo.vcf\nA\tabsent.vcf\n-r\tone.vcf\n\tone.vcf\n")
    found = problems(
        run,
        referense="x",
        reference="absent.fa",
        regions="absent.bed",
        checkpoint="mega",
        scoring={"windw": 1, "views": 0, "device": "tpu"},
        report={"top": "many"},
    )
    told = "\n".join(found)
    for fragment in (
        "unknown key 'referense'; did you mean 'reference'?",
        "scoring: unknown key 'windw'; did you mean 'window'?",
        "scoring.views: 0 is less than the minimum of 1",
        "scoring.device: 'tpu' is not one of ['auto', 'cpu', 'cuda']",
        "report.top: 'many' is not of type 'integer'",
        "reference: file not found: absent.fa",
        "regions: file not found: absent.bed",
        "checkpoint: 'mega' is neither an embedded checkpoint",
        "row 1: sample: '../X' is not allowed here",
        "row 3: sample 'A' stands in row 2 already",
        "row 3: file not found: absent.vcf",
        "row 4: sample: '-r' is not allowed here",
        "row 5: 'sample' is a required property",
    ):
        assert fragment in told
    assert len(found) == 13


@pytest.mark.parametrize(
    "sheet",
    [
        "#sample\tvcf\nX\tone.vcf\n",
        "\ufeff# my samples\n# sample\tvcf\tvcf_sample\n# the first\nX\tone.vcf\tNORMAL\n",
        "#sample\tvcf\tfamily\nvcf\tsample\none.vcf\tX\n",  # a header without # is the header
        "sample\tvcf\n#sample\tvcf\nX\tone.vcf\n",
    ],
)
def test_the_header_line_may_begin_with_a_hash(run: Path, sheet: str) -> None:
    (run / "samples.tsv").write_text(sheet)
    assert settings(run).samples == (Sample("X", "X", "NORMAL"),)


@pytest.mark.parametrize(
    ("sheet", "fragment"),
    [
        ("", "empty"),
        ("#sample\tvcf\n", "no rows under the header line"),
        ("#sample\tvcf\nX\tabsent.vcf\n", "row 1: file not found: absent.vcf"),
        ("sample\tvcf\n", "no rows under the header line"),
        ("sample\tvcf\tage\nX\tone.vcf\t9\n", "header line: unknown key 'age'"),
        ("name\tvcf\nX\tone.vcf\n", "header line: 'sample' is a required property"),
        ("sample\tvcf\tvcf\nX\tone.vcf\tone.vcf\n", "column 'vcf' stands there twice"),
        ("sample\tvcf\nX\tone.vcf\tB\n", "row 1: 3 fields under 2 columns"),
        ("sample\tvcf\nC\ttwo.vcf\n", "two.vcf has no sample column 'C' (it has A, B); name the sample's column"),
        ("sample\tvcf\tvcf_sample\nX\tone.vcf\tNORMALE\n", "no sample column 'NORMALE' (the closest is 'NORMAL')"),
        ("sample\tvcf\nX\tone.vcf\nY\tone.vcf\n", "samples 'X' and 'Y' both take the column 'NORMAL' of one.vcf"),
        ("sample\tvcf\nX\tsites.vcf\nY\tsites.vcf\n", "samples 'X' and 'Y' both take all of sites.vcf"),
    ],
)
def test_sheet_problems(run: Path, sheet: str, fragment: str) -> None:
    (run / "samples.tsv").write_text(sheet)
    found = problems(run)
    assert len(found) <= 2
    assert fragment in "; ".join(found)


def test_sheet_that_is_missing_or_not_text(run: Path) -> None:
    assert "No such file" in problems(run, samples="absent.tsv")[0]
    (run / "book.tsv").write_bytes(b"PK\x03\x04\xff\xfe")
    assert "not UTF-8 text" in problems(run, samples="book.tsv")[0]


def test_checkpoint_folder_must_be_complete(run: Path) -> None:
    (run / "model" / "card.json").unlink()
    assert problems(run) == ["config: checkpoint: the folder model lacks card.json"]


def test_reference_address_needs_its_checksum(run: Path) -> None:
    assert "'sha256' is a required property" in problems(run, reference={"url": "https://example.org/x.fa"})[0]
    assert "is not allowed here" in problems(run, reference={"url": "s3://x/y.fa", "sha256": "0" * 64})[0]


def test_columns_are_read_from_every_form_of_file(tmp_path: Path) -> None:
    text = vcf_text("A", "B b").encode()
    (tmp_path / "plain.vcf").write_bytes(text.replace(b"\n", b"\r\n"))
    with gzip.open(tmp_path / "packed.vcf.gz", "wb") as handle:
        handle.write(text)
    with gzip.open(tmp_path / "binary.bcf", "wb") as handle:
        handle.write(b"BCF\x02\x02" + struct.pack("<I", len(text) + 1) + text + b"\0" + b"\x01\x02")
    for name in ("plain.vcf", "packed.vcf.gz", "binary.bcf"):
        assert vcf_columns(tmp_path / name) == ("A", "B b")


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b\x08", b"20\t1\t.\tA\tC\n", b"##fileformat=VCFv4.2\n", b"BCF\x02\x02\x01"]
)
def test_files_without_readable_header_have_unknown_columns(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert vcf_columns(tmp_path / "x") is None


def test_callset_names_are_safe_and_unique() -> None:
    assert safe_name("../joint calls (2).x") == "_joint_calls_2_.x"
    assert safe_name("...") == "callset"
    files = {"a/joint.vcf.gz": ["A", "B"], "b/joint.bcf": ["C", "D"], "c/x.vcf": ["joint"]}
    assert name_callsets(files) == {"c/x.vcf": "joint", "a/joint.vcf.gz": "joint-2", "b/joint.bcf": "joint-3"}


def test_device_follows_the_machine(run: Path) -> None:
    assert settings(run, scoring={"device": "cuda"}).device == "cuda"
    assert settings(run, scoring={"device": "cpu"}).device == "cpu"
    assert settings(run).device == ("cuda" if gpu_present() else "cpu")


def test_gpu_needs_device_node_and_driver(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert not gpu_present(tmp_path, lambda name: name)
    (tmp_path / "nvidia0").touch()
    assert gpu_present(tmp_path, lambda name: name)
    assert not gpu_present(tmp_path, lambda _: None)


def test_interpreter_is_the_environments_only_under_conda() -> None:
    assert interpreter("/venv/bin/python", {"conda"}) == "python"
    assert interpreter("/venv/bin/python", {"conda", "apptainer"}) == "python"
    assert interpreter("/venv/bin/python", {"env_modules"}) == "/venv/bin/python"
    assert interpreter("/venv/bin/python", set()) == "/venv/bin/python"


def test_shard_names_count_from_one(run: Path) -> None:
    assert settings(run, scoring={"shards": 3}).shards == ["0001-of-0003", "0002-of-0003", "0003-of-0003"]


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"results_dir": "res {x}"}, "results_dir: 'res {x}' holds"),
        ({"reference": "a\0b.fa"}, "reference: 'a\\x00b.fa' holds"),
        ({"reference": "x" * 5000}, "reference: file not found"),
        ({"scoring": {"window": 64.0}}, "scoring.window: 64.0 is written with a decimal point; write 64"),
    ],
)
def test_values_that_snakemake_cannot_take(run: Path, changes: dict, fragment: str) -> None:
    assert any(fragment in problem for problem in problems(run, **changes))


SHEET = "sample\tvcf\tfamily\trole\tsex\tphenotype\n"


def test_families_come_from_the_sheet(run: Path) -> None:
    (run / "samples.tsv").write_text(
        SHEET + "X\tone.vcf\tF\t\t\t\nA\ttwo.vcf\tF\tmother\tfemale\tunaffected\nB\ttwo.vcf\tF\tproband\t\taffected\n"
    )
    loaded = settings(run)
    assert loaded.families == ["F"]
    assert [(one.name, one.role, one.sex, one.phenotype) for one in loaded.family("F")] == [
        ("B", "proband", None, "affected"),
        ("X", "other", None, None),
        ("A", "mother", "female", "unaffected"),
    ]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("A\ttwo.vcf\t\tmother\t\t\n", "sample 'A' is mother of no family"),
        ("A\ttwo.vcf\tF\tmother\t\t\n", "family 'F' has no proband"),
        ("A\ttwo.vcf\tF\tproband\t\t\nB\ttwo.vcf\tF\tproband\t\t\n", "family 'F' has 2 of role proband: A, B"),
        ("A\ttwo.vcf\tF\tproband\t\t\nB\ttwo.vcf\tF\tmother\tmale\t\n", "sample 'B' is mother and male"),
        ("A\ttwo.vcf\tF\tproband\t\t\nB\ttwo.vcf\tF\taunt\t\t\n", "'aunt' is not one of"),
        ("A\ttwo.vcf\t../F\tproband\t\t\n", "'../F' is not allowed here"),
        ("A\ttwo.vcf\tF\tproband\tM\t\n", "'M' is not one of"),
    ],
)
def test_families_that_cannot_be_are_told(run: Path, rows: str, told: str) -> None:
    (run / "samples.tsv").write_text(SHEET + rows)
    assert [told in problem for problem in problems(run)] == [True]


@pytest.mark.parametrize("store", ["one.vcf", "one.vcf/store", "one.vcf/a/store"])
@pytest.mark.parametrize("look", [True, False])
def test_a_store_must_not_be_a_file(run: Path, store: str, look: bool) -> None:
    (told,) = problems(run, store=store, check_inputs=look)
    assert told.startswith(f"config: store: '{store}' cannot be a folder, {run / 'one.vcf'} is a file")


def test_a_store_may_be_absent_or_there(run: Path) -> None:
    assert settings(run, store="model").store == "model"
    assert settings(run, store="a/b").store == "a/b"


def test_a_panel_must_be_there(run: Path) -> None:
    assert problems(run, report={"panel": "absent.bed"}) == ["config: report.panel: file not found: absent.bed"]
    assert "may hold here" in problems(run, report={"panel": "{a}.bed"})[0]
    (run / "p.bed").write_text("1\t0\t4\n")
    assert settings(run, report={"panel": "p.bed", "max_af": 0}).report.limits == ["--panel=p.bed", "--max-af=0"]
