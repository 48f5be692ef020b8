"""Bars and colours are for people: none of them goes into a pipe; a log gets a line of progress now and then."""

import io
import sys

import pytest

from goodnet.cli import console
from goodnet.cli.console import output, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_in_a_log_of_what_takes_no_time(capsys):
    with progress_bar("working") as progress:
        for done in range(5):
            progress(done + 1, 5)
    assert capsys.readouterr() == ("", "")


def test_a_line_in_ten_seconds_in_a_log(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with progress_bar("working") as progress:
        for done, second in enumerate([104.0, 112.0, 118.0, 125.0], 1):
            now[0] = second
            progress(done, 5)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "working: 2 of 5, about 18 s left of this step\nworking: 4 of 5, about 6 s left of this step\n"


def test_each_step_has_a_rate_of_its_own(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with progress_bar("working") as progress:
        for second, done, total in [
            (300.0, 20, 20),
            (301.0, 1, 500),
            (311.0, 11, 500),
            (400.0, 1, 500),
            (420.0, 5, 500),
        ]:
            now[0] = second
            progress(done, total)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "working: 20 of 20, about 0 s left of this step",
        "working: 11 of 500, about 489 s left of this step",
        "working: 5 of 500, about 2475 s left of this step",
    ]


def test_a_log_that_nobody_reads_does_not_end_the_work(monkeypatch):
    tried = []

    class Closed(io.StringIO):
        def write(self, text):
            tried.append(text)
            raise BrokenPipeError

    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", Closed())
    with progress_bar("working") as progress:
        now[0] = 20.0
        progress(1, 2)
    assert tried, "nothing was told, so that nothing could fail"


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("repairing by pruning") as progress:
        progress(3, 12)
    text = terminal.getvalue()
    assert "repairing by pruning" in text
    assert "3/12" in text


def fail_halfway():
    with progress_bar("x") as progress:
        progress(1, 2)
        raise ZeroDivisionError


def test_an_error_under_the_bar_comes_through(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ZeroDivisionError):
        fail_halfway()


def test_results_in_a_pipe_are_plain_and_wide(capsys):
    output().print("[b]bold[/b] " + "word " * 25)
    text = capsys.readouterr().out
    assert text.startswith("bold word")
    assert text.count("\n") == 1
