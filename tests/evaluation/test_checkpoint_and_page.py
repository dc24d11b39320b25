"""A whole evaluation of a small genome: its numbers, what of them the card keeps, and its page."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnagrinder.errors import ConfigError
from dnagrinder.evaluation.checkpoint import card_metrics, evaluate_checkpoint
from dnagrinder.evaluation.page import interval, length_chart, warnings, write_evaluation_page
from dnagrinder.evaluation.sites import TrainingStretch
from dnagrinder.model.checkpoint import Checkpoint
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.training.evaluation_plan import EvaluationPlan
from tests.evaluation.conftest import TRAINED
from tests.reports.test_sample import Reader

PREDICTORS = ["model", "uniform", "order0", "order5", "order11", "order16", "two_sided"]
CPU = torch.device("cpu")


def evaluate(checkpoint: Checkpoint, plan: EvaluationPlan, training: list[TrainingStretch]) -> dict[str, Any]:
    return evaluate_checkpoint(checkpoint, plan, training, ScoringParameters(), CPU)


def page_of(metrics: dict[str, Any], card: dict[str, Any], folder: Path) -> tuple[str, Reader]:
    write_evaluation_page(metrics, card, folder / "evaluation.html")
    text = (folder / "evaluation.html").read_text(encoding="utf-8")
    return text, Reader(text)


def test_every_part_is_measured(metrics: dict[str, Any], checkpoint: Checkpoint) -> None:
    rows = metrics["loss_per_base"]
    assert list(rows["all"]["predictors"]) == PREDICTORS
    assert rows["all"]["bases"] == 60
    assert rows["plain"]["bases"] == rows["<masked>"]["bases"] == 30
    assert rows["inside repeats"]["bases"] + rows["outside repeats"]["bases"] == 30, "the other track knows no repeats"
    assert sum(rows[name]["bases"] for name in ("low G+C", "middle G+C", "high G+C")) == 60
    uniform = rows["all"]["predictors"]["uniform"]
    assert uniform["nats"]["value"] == pytest.approx(np.log(4))
    model = rows["all"]["predictors"]["model"]["nats"]["value"]
    assert uniform["difference"]["value"] == pytest.approx(model - np.log(4))
    assert [point["length"] for point in metrics["length"]["points"]] == [64, 128, 512, 2000]
    assert metrics["length"]["points"][2]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert metrics["masked_tokens"]["all"]["tokens"] > 0
    assert sum(one["predictions"] for one in metrics["reliability"]["bins"]) == 4 * 60
    assert list(metrics["zero_shot"]["common"]["predictors"]) == ["model", "order11", "two_sided"]
    assert metrics["provenance"]["checkpoint"]["sha256"] == checkpoint.digest
    assert metrics["baselines"]["training_bases"] < TRAINED
    json.dumps(metrics, allow_nan=False)


def test_equal_seeds_give_equal_numbers(
    metrics: dict[str, Any], checkpoint: Checkpoint, plan: EvaluationPlan, training: list[TrainingStretch]
) -> None:
    assert evaluate(checkpoint, plan, training) == metrics
    other = evaluate(checkpoint, replace(plan, seed=2, zero_shot=None), training)
    assert other["loss_per_base"]["all"]["predictors"]["model"] != metrics["loss_per_base"]["all"]["predictors"]["model"]
    assert other["zero_shot"] is None


@pytest.mark.parametrize("start", [TRAINED - 10, 79_000])
def test_trained_on_bases_are_refused(
    checkpoint: Checkpoint, plan: EvaluationPlan, training: list[TrainingStretch], start: int
) -> None:
    leak = TrainingStretch("1", start, np.full(1000, ord("A"), dtype=np.uint8))
    with pytest.raises(ConfigError, match="bases that the corpus trains on would be measured"):
        evaluate(checkpoint, plan, [*training, leak])


def test_the_card_keeps_the_headline(metrics: dict[str, Any]) -> None:
    card = card_metrics(metrics)
    entropy = card["scoring_cross_entropy_nats"]
    assert set(entropy) == {"bases", "model_95", *PREDICTORS}
    assert entropy["model_95"][0] < entropy["model"] < entropy["model_95"][1]
    assert 0 <= card["masked_token_accuracy"] <= 1
    assert card["nats_by_input_length"].keys() == {"64", "128", "512", "2000"}
    assert (
        card["zero_shot_auroc"]["common_alt_over_matched"] == metrics["zero_shot"]["common"]["predictors"]["model"]["auroc"]
    )
    assert "zero_shot_auroc" not in card_metrics({**metrics, "zero_shot": None})


def test_page_tells_the_numbers_and_loads_nothing(metrics: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path) -> None:
    text, page = page_of(metrics, checkpoint.card, tmp_path)
    rows = metrics["loss_per_base"]["all"]["predictors"]
    for name in PREDICTORS:
        assert interval(rows[name]["nats"]) in page.text
    for point in metrics["length"]["points"]:
        assert interval(point["difference"], 4) in page.text
    assert interval(metrics["zero_shot"]["common"]["predictors"]["model"]["auroc"]) in page.text
    assert "untrained: its scores mean nothing" in page.text
    assert "http" not in text.replace("http-equiv", "")
    assert not {"src", "style", "onload"} & {name for _, name, _ in page.attributes}
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ET.fromstring(svg)  # noqa: S314
    assert text.count("<svg") == 3
    first = (tmp_path / "evaluation.html").read_bytes()
    page_of(metrics, checkpoint.card, tmp_path)
    assert (tmp_path / "evaluation.html").read_bytes() == first


def test_names_are_text_never_markup(metrics: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    hostile = copy.deepcopy(metrics)
    hostile["plan"]["tracks"][0] |= {"name": evil, "fasta": evil, "repeats": evil, "intervals": [evil]}
    hostile["plan"]["zero_shot"] |= {"vcf": evil, "fasta": evil, "interval": evil}
    hostile["loss_per_base"][evil] = hostile["loss_per_base"].pop("plain")
    hostile["masked_tokens"][evil] = hostile["masked_tokens"].pop("plain")
    hostile["length"]["track"] = evil
    hostile["provenance"]["vcf_sha256"] = {evil: evil}
    text, page = page_of(hostile, {**checkpoint.card, "name": evil, "limits": [evil]}, tmp_path)
    assert "alert(1)" in page.text
    assert text.count("<script") == 1, "our own"
    assert "<masked>" in page.text


def test_missing_variants_are_said(metrics: dict[str, Any], checkpoint: Checkpoint, tmp_path: Path) -> None:
    bare = {**metrics, "zero_shot": None, "plan": {**metrics["plan"], "zero_shot": None}}
    _, page = page_of(bare, checkpoint.card, tmp_path)
    assert "Nothing was asked about real variants" in page.text
    assert "names no VCF of known variants" in page.text


def test_warnings_follow_the_intervals(metrics: dict[str, Any]) -> None:
    good = copy.deepcopy(metrics)
    good["loss_per_base"]["all"]["predictors"]["order11"]["difference"] = {"value": -0.1, "low": -0.2, "high": -0.01}
    for point in good["length"]["points"]:
        point["difference"] = {"value": 0.0, "low": -0.1, "high": 0.1}
    good["zero_shot"]["common"]["predictors"]["model"]["auroc"] = {"value": 0.6, "low": 0.55, "high": 0.65}
    assert warnings(good) == []
    poor = copy.deepcopy(good)
    poor["loss_per_base"]["all"]["predictors"]["order11"]["difference"]["high"] = 0.0
    poor["length"]["points"][0]["difference"] = {"value": 0.2, "low": 0.1, "high": 0.3}
    poor["length"]["points"][3]["difference"] = {"value": 0.2, "low": 0.1, "high": 0.3}
    poor["zero_shot"]["common"]["predictors"]["model"]["auroc"]["low"] = 0.5
    titles = [finding.title for finding in warnings(poor)]
    assert titles == [
        "The model is not shown to beat an order-11 Markov model",
        "Inputs longer than 512 bases make it worse",
        "The model is not shown to tell common variants from matched random changes",
    ]
    assert "64 bases" not in warnings(poor)[1].text, "a shorter input may be worse"


def test_ticks_of_neighbouring_lengths_do_not_run_together() -> None:
    flat = {"value": 0.0, "low": -0.1, "high": 0.1}
    lengths = (512, 8192, 16_000, 96_000, 120_000)
    chart = length_chart({"reference_length": 512, "points": [{"length": n, "difference": flat} for n in lengths]})
    ticks = re.findall(r'class="tick"[^>]*text-anchor="middle">([^<]*)', chart)
    assert ticks == ["512", "8,192", "16k", "120k"]
    assert chart.count("<circle") == 5
