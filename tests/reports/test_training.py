"""The page of a training: from log and state alone, escaped, with what speaks against it on top."""

import math
import re

import pytest
import torch

from dnagrinder.errors import CheckpointError
from dnagrinder.reports.training import chart, warnings, write_training_page
from dnagrinder.training.log import open_log, write_row
from dnagrinder.training.pretrain import StepReport
from dnagrinder.training.state import TrainingState, save_state


def report(step, loss=2.0, norm=0.5):
    return StepReport(step, loss, 0.25, 1000, 1e-3, norm, 2.0)


@pytest.fixture
def folder(tmp_path):
    """A training of 30 of 50 steps, in a folder with a name to be escaped."""
    folder = tmp_path / "<b>run<b>"
    folder.mkdir()
    identity = {"recipe": {"steps": 50, "clip": 1.0}, "initial_sha256": None, "corpus_sha256": "<i>"}
    save_state(folder, TrainingState(30, 60.0, {"master.a": torch.zeros(2)}), identity)
    with open_log(folder, 0) as log:
        for step in range(1, 31):
            write_row(log, report(step, 8.0 / step))
    return folder


def test_the_page_tells_log_and_settings(folder):
    write_training_page(folder)
    page = (folder / "training.html").read_text()
    for text in ("30 of 50", "30,000", "0.02", "0.267", "recipe: steps", "initial sha256"):
        assert text in page
    assert page.count("<svg") == 4
    assert "<b>run" not in page
    assert "<i>" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)


def test_the_page_of_a_training_that_diverged_says_so(folder):
    with open_log(folder, 30) as log:
        for step in range(31, 41):
            write_row(log, report(step, math.nan, math.inf))
    write_training_page(folder)
    page = (folder / "training.html").read_text()
    assert "The loss was not a number" in page
    assert page.count("<svg") == 4


def test_a_folder_without_a_state_has_no_page(tmp_path):
    (tmp_path / "log.tsv").write_text("step\n")
    with pytest.raises(CheckpointError, match="holds no state"):
        write_training_page(tmp_path)


def test_every_step_is_in_a_point_of_the_curve():
    rows = [report(step, loss=float(step)) for step in range(1, 101)]
    asked = []
    drawn = str(chart(rows, lambda row: asked.append(row.step) or row.loss, "axis", "Title"))
    assert asked == list(range(1, 101))
    assert drawn.count("<circle") > 20
    assert "100: " in drawn or "100.00: " in drawn
    assert chart(rows[:1], lambda row: row.loss, "axis", "Title") == ""


def test_warnings_speak_of_clipping_and_of_losses_that_are_none():
    assert warnings([], 1.0) == []
    assert warnings([report(1), report(2)], 1.0) == []
    assert [w.title for w in warnings([report(1), report(2, norm=3.0)], 1.0)] == ["Most gradients were clipped"]
    assert [w.title for w in warnings([report(1, loss=float("nan"))], 1.0)] == ["The loss was not a number"]


def test_a_log_is_cut_back_to_the_state_it_is_continued_from(folder):
    with (folder / "log.tsv").open("a") as file:
        file.write("31\t0.2")  # cut short by a kill
    with open_log(folder, 10) as log:
        write_row(log, report(11))
    steps = [line.split("\t")[0] for line in (folder / "log.tsv").read_text().splitlines()[1:]]
    assert steps == [str(step) for step in range(1, 12)]
