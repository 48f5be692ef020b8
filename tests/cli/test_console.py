"""Progress and colours are for people: none of them goes into a pipe."""

import io
import sys

import pytest

from goodnet.cli.console import output, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_bar_where_standard_error_is_no_terminal(capsys):
    with progress_bar("working") as progress:
        for done in range(5):
            progress(done + 1, 5)
    assert capsys.readouterr() == ("", "")


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
