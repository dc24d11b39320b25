"""Progress in a log: rate and time left are those of this process, also where it goes on from another's work."""

import dnagrinder.progress
from dnagrinder.progress import track


def lines_of(monkeypatch, capsys, steps):
    """What is printed for steps of (seconds since the start, done, total, note)."""
    clock = iter([0.0, *(seconds for seconds, *_ in steps)])
    monkeypatch.setattr(dnagrinder.progress.time, "monotonic", lambda: next(clock))
    with track("work", "steps") as report:
        for _, *arguments in steps:
            report(*arguments)
    return capsys.readouterr().err.splitlines()


def test_a_line_every_ten_seconds_and_at_the_end(monkeypatch, capsys):
    steps = [(5.0, 5, 100), (20.0, 20, 100), (25.0, 25, 100), (50.0, 100, 100)]
    assert lines_of(monkeypatch, capsys, steps) == [
        "work: 20 of 100 steps, 0.8 steps/s, 100 s left",
        "work: 100 of 100 steps, 1.9 steps/s",
    ]


def test_what_was_done_before_does_not_count_for_the_rate(monkeypatch, capsys):
    steps = [(2.0, 501, 1000), (20.0, 510, 1000, "loss 4.2")]
    assert lines_of(monkeypatch, capsys, steps) == ["work: 510 of 1,000 steps, 0.5 steps/s, 980 s left, loss 4.2"]
