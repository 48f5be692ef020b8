import os
import subprocess
import sys
import time

import pytest

from goodnet.cli import help_pages
from goodnet.cli.help_pages import page_of, render, verbs


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("verb", verbs())
def test_each_page_is_what_click_writes(verb):
    """Where this fails: python -m goodnet.cli.help_pages"""
    assert page_of([*verb, "--help"]) == page_of([*verb, "-h"]) == render(verb)
    assert render(verb).startswith(f"Usage: goodnet {' '.join(verb)} ")


def test_they_are_as_wide_as_what_click_writes_by_itself(goodnet):
    assert goodnet("repair", "--method", "auto", "--help").out == page_of(["repair", "--help"])


def test_every_verb_and_its_parts_have_one():
    assert {("scan",), ("zoo",), ("zoo", "build"), ("serve",)} <= set(verbs())


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["scan"],
        ["scan", "--method", "max_margin", "--help"],
        ["nothing", "--help"],
        ["../../__init__", "--help"],
        ["scan", "file.pt"],
    ],
)
def test_what_the_pages_do_not_say_is_left_to_click(words):
    assert page_of(words) is None


def test_with_methods_of_others_or_a_narrow_terminal_click_writes_the_page(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert page_of(["scan", "--help"]) is None
    monkeypatch.setenv("COLUMNS", "80")
    assert page_of(["scan", "--help"]) is not None
    monkeypatch.setattr(help_pages, "entry_points", lambda group: ["one"] if group == "goodnet.guards" else [])
    assert page_of(["scan", "--help"]) is None


def test_help_does_not_load_torch():
    code = "import sys; from goodnet.cli import _run_verb; sys.argv[1:] = ['scan', '--help']; _run_verb(); print(*sys.modules)"
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "Choices of --method:" in done.stdout
    assert not {"torch", "keras", "pydantic", "click"} & set(done.stdout.splitlines()[-1].split())


def test_help_comes_at_once():
    """The bar is 0.3 s on a machine that does nothing else; a busy one may take longer for a bare Python already."""
    taken = []
    for code in ("pass", "from goodnet.cli import main; main()"):
        start = time.perf_counter()
        for _ in range(3):
            subprocess.run([sys.executable, "-c", code, "scan", "--help"], capture_output=True, check=True)
        taken.append((time.perf_counter() - start) / 3)
    assert taken[1] < 0.3 + 5 * taken[0]
