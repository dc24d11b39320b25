"""docs/reliability.md shows what these tests try, no more and no less, and what they found."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.records import BEGIN, END, PAGE, Fault, Row, compared, table


def test_the_page_shows_the_faults_that_are_tried() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown[2:]]
    named = [(fault.name.lower().replace("_", " "), fault.value) for fault in Fault]
    assert [(name, done) for name, done, *_ in rows] == named, "run: python tests/faults/records.py"
    for name, _, times, _, files, lost, differ in rows:
        assert int(times) > 0, name
        assert int(files) > 0, name
        assert (int(lost), int(differ)) == (0, 0), name
    assert sum(int(row[2]) for row in rows[:2]) >= 50


def test_every_fault_is_recorded_by_one_test() -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    used = re.findall(r"Fault\.([A-Z_]+)", "".join(texts))
    assert sorted(used) == sorted(fault.name for fault in Fault)


def test_losses_and_differences_are_counted() -> None:
    wanted = {"a": b"1234", "b": b"1", "c": b""}
    assert compared(wanted, wanted) == (3, 0, 0)
    assert compared(wanted, {"a": b"1x3", "c": b""}) == (3, 1, 2)
    assert "| killed job |" in table([Row(fault.name, 1, 0.0, 1, 0, 0) for fault in Fault])
