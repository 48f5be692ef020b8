"""Progress and colours are for people: none of them goes into a pipe."""

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
    seconds = iter([100.0, 104.0, 112.0, 118.0, 125.0])  # The start, and four reports.
    monkeypatch.setattr(console.time, "monotonic", lambda: next(seconds))
    with progress_bar("working") as progress:
        for done in range(1, 5):
            progress(done, 5)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "working: 2 of 5, about 18 s left\nworking: 4 of 5, about 6 s left\n"


def test_a_log_that_nobody_reads_does_not_end_the_work(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    seconds = iter([0.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(sys, "stderr", Closed())
    with progress_bar("working") as progress:
        progress(1, 2)


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
