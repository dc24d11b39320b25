"""A sample beside its run: the binned scores, what is read from them, and the words, chart and columns of the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.errors import InputError, InvariantError
from dnagrinder.reports.comparison import compare
from dnagrinder.reports.distribution import BIN, Binned, read_distribution, split_kinds, write_distribution
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_parquet, write_parquet
from tests.reports.conftest import PROVENANCE, Cohort
from tests.reports.test_sample import Reader

SCORES = st.lists(st.floats(-30, 30), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=np.float64))


@pytest.fixture(scope="module")
def distribution(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trio's."""
    path = tmp_path_factory.mktemp("distribution") / "distribution.json"
    write_distribution(cohort.folders, path)
    return path


def own_scores(folder: Path) -> dict[str, np.ndarray]:
    """Scores by kind of one sample."""
    return split_kinds(read_parquet(folder / "scores.parquet", ["kind", "score"]))


@given(SCORES, SCORES)
def test_bins_keep_what_is_read_from_them(mine: np.ndarray, theirs: np.ndarray) -> None:
    a, b = Binned.of(mine), Binned.of(theirs)
    both = a.plus(b)
    assert both.total == len(mine) + len(theirs)
    assert both.plus(b, -1).as_json() == a.as_json()
    assert Binned.from_json(json.loads(json.dumps(a.as_json()))).as_json() == a.as_json()
    for share in (0.05, 0.5, 0.95):
        exact = np.quantile(mine, share, method="inverted_cdf")
        assert abs(a.quantile(share) - exact) <= BIN
    floors = np.floor(mine / BIN)[:, None], np.floor(theirs / BIN)[None, :]
    expected = (floors[0] < floors[1]).mean() + 0.5 * (floors[0] == floors[1]).mean()
    assert a.chance_below(b) == pytest.approx(expected)
    assert a.chance_below(b) + b.chance_below(a) == pytest.approx(1)
    assert b.share_up_to(mine[0]) == pytest.approx((floors[1] <= floors[0][0]).mean())


def test_scores_that_are_not_there_cannot_be_taken_away() -> None:
    with pytest.raises(InvariantError, match="make the distribution again"):
        Binned.of(np.array([1.0])).plus(Binned.of(np.array([2.0])), -1)
    assert Binned.of(np.array([np.nan])).quantile(0.5) is None


def test_distribution_holds_every_sample_and_each_common_allele_once(cohort: Cohort, distribution: Path) -> None:
    content = json.loads(distribution.read_text())
    common: dict[tuple, tuple[str, float]] = {}
    for folder in cohort.folders:
        scores = own_scores(folder)
        for kind, median in content["medians"][folder.name].items():
            assert median == np.median(scores[kind])
        for row in read_parquet(folder / "scores.parquet").to_pylist():
            if row["af"] >= 0.05:
                common[tuple(row[name] for name in ALLELE_COLUMNS)] = (row["kind"], row["score"])
    assert len(common) > 100
    for kind in ("snv", "other"):
        assert sum(content["scores"][kind]["counts"]) == sum(len(own_scores(folder)[kind]) for folder in cohort.folders)
        wanted = [score for name, score in common.values() if (name == "snv") is (kind == "snv")]
        assert content["common"][kind] == Binned.of(np.array(wanted)).as_json()


def test_order_of_samples_changes_no_number(cohort: Cohort, distribution: Path, tmp_path: Path) -> None:
    write_distribution(cohort.folders[::-1], tmp_path / "other.json")
    assert json.loads((tmp_path / "other.json").read_text()) == json.loads(distribution.read_text())


def test_the_others_are_all_but_the_sample(cohort: Cohort, distribution: Path) -> None:
    child, *rest = cohort.folders
    for one in compare("child", own_scores(child), read_distribution(distribution, child)):
        expected = Binned.of(np.concatenate([own_scores(folder)[one.kind] for folder in rest]))
        assert one.others.as_json() == expected.as_json()
        assert [row.label for row in one.rows()] == ["This sample", "Other samples of the run", "Common alleles (AF ≥ 5 %)"]


@pytest.mark.parametrize(("moved", "said"), [(-1.0, "shifted to lower"), (1.0, "shifted to higher"), (0.0, "no shift")])
def test_words_tell_the_direction(cohort: Cohort, tmp_path: Path, moved: float, said: str) -> None:
    folders = []
    for name in ("child", "mother"):
        folders.append(tmp_path / name)
        shutil.copytree(cohort.root / "samples" / "child", tmp_path / name)
        table = read_parquet(tmp_path / name / "scores.parquet")
        place = table.schema.get_field_index("score")
        if name == "child":
            table = table.set_column(place, "score", pa.array(table["score"].to_numpy() + moved))
        write_parquet(table, tmp_path / name / "scores.parquet", PROVENANCE)
        (tmp_path / name / "sample.json").write_text(json.dumps({"sample": name}))
    write_distribution(folders, tmp_path / "d.json")
    words = " ".join(compare("child", own_scores(folders[0]), read_distribution(tmp_path / "d.json", folders[0]))[0].words)
    assert f"Against the other samples: {said}" in words
    assert ("the lowest of 2" in words) is (moved <= 0)


def test_without_frequencies_no_common_alleles_are_invented(cohort: Cohort, tmp_path: Path, card: dict[str, Any]) -> None:
    shutil.copytree(cohort.root / "samples" / "child", tmp_path / "child")
    table = read_parquet(tmp_path / "child" / "scores.parquet")
    table = table.set_column(table.schema.get_field_index("af"), "af", pa.nulls(len(table), pa.float64()))
    write_parquet(table, tmp_path / "child" / "scores.parquet", PROVENANCE)
    write_distribution([tmp_path / "child"], tmp_path / "d.json")
    assert json.loads((tmp_path / "d.json").read_text())["common"] is None
    write_sample_report(tmp_path / "child", tmp_path / "r.html", card=card, distribution=tmp_path / "d.json")
    page = Reader((tmp_path / "r.html").read_text())
    assert "The run has no other sample to compare with." in page.text
    assert "No common alleles to compare with: the input states no allele frequency" in page.text
    assert "Of common" not in page.rows["snvs"][0]


def test_page_sets_the_sample_beside_the_run(
    cohort: Cohort, distribution: Path, tmp_path: Path, card: dict[str, Any]
) -> None:
    child = cohort.folders[0]
    write_sample_report(child, tmp_path / "r.html", card=card, distribution=distribution)
    text = (tmp_path / "r.html").read_text()
    page = Reader(text)
    snvs = compare("child", own_scores(child), read_distribution(distribution, child))[0]
    assert page.text.count(" ".join(snvs.words)) == 2, "in short, and under the chart"
    assert text.count('class="outlined cohort"') == text.count('class="outlined common"') == 3, "two panels and the key"
    head, first = page.rows["snvs"][:2]
    assert snvs.common is not None
    lowest = own_scores(child)["snv"].min()
    percent = 100 * snvs.common.share_up_to(lowest)
    assert first[head.index("Of common")] == ("0.0 %" if percent == 0 else f"{percent:.1f} %")


def test_a_distribution_of_other_scores_is_refused(cohort: Cohort, distribution: Path, tmp_path: Path) -> None:
    child = cohort.folders[0]
    content = json.loads(distribution.read_text())
    for change, message in (
        ({"bin": 0.5}, "no distribution of this version"),
        ({"provenance": {**PROVENANCE, "parameters_sha256": "0"}}, "different models, references or parameters"),
        ({"medians": {"mother": content["medians"]["mother"]}}, "lacks the sample child"),
    ):
        (tmp_path / "d.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError, match=message):
            read_distribution(tmp_path / "d.json", child)
