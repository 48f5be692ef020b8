"""Names and notes of strangers reach the terminal, the report, CSV and the log as text that does nothing."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from goodnet.api.loading import tell
from goodnet.cli.console import output
from goodnet.core.results import Evaluation, Metrics, Rate, Row
from goodnet.reports.html import html_report
from goodnet.reports.run_folders import find_runs
from goodnet.reports.tables import evaluation_csv, evaluation_tables, to_csv
from tests.hostile.records import RUN

#: A formula, a line end, escapes that clear the screen and set the title, a bell, HTML, a mark that turns the line around.
NAME = "=cmd|'/c calc'!A1\n\x1b[2J\x1b]0;evil\x07<script>alert(1)</script>\u202egnp"
FORMULAS = ["=1+1", "+1", "-1+1", "@SUM(A1)", " =1", "\t=1", "\r=1"]


def evaluation(name: str) -> Evaluation:
    """Return an evaluation of networks and sets that have the name."""
    rate = Rate.of(9, 10)
    metrics = Metrics(clean_accuracy=rate, attack_success_rate={name: rate, "other": rate})
    return Evaluation(rows=(Row(name=name, metrics=metrics, order=name),), input_range="0..1", input_range_reason=name)


def test_the_terminal_shows_no_stranger_s_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    for table in evaluation_tables(evaluation(NAME), 200):
        output().print(table)
    output().print(NAME, markup=False)
    printed = capsys.readouterr().out
    assert "cmd|" in printed
    assert not [char for char in printed if not char.isprintable() and char != "\n"]
    assert "\\x1b[2J" in printed


def test_the_terminal_keeps_its_own_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    output().print("[b]bold[/b]")
    assert capsys.readouterr().out == "\x1b[1mbold\x1b[0m\n"


@pytest.mark.parametrize("text", [*FORMULAS, NAME])
def test_a_spreadsheet_sees_no_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv([text, "n"], [[text, -1.5], ["sound", 2]]))))
    assert len(rows) == 3
    for cell in (rows[0][0], rows[1][0]):
        assert cell.isprintable()
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert rows[1][1] == "-1.5", "numbers stay numbers"
    assert rows[2] == ["sound", "2"]


def test_a_table_of_an_evaluation_has_a_line_for_each_network() -> None:
    text = evaluation_csv(evaluation(NAME))
    assert text.count("\n") == 2
    assert text.isascii() or "\u202e" not in text
    assert next(csv.DictReader(io.StringIO(text)))["network"].startswith("'=cmd|")


def test_a_report_shows_names_as_text(tmp_path: Path) -> None:
    rate = {"value": 0.5, "n": 10, "low": 0.2, "high": 0.8}
    results = {
        "attack": {
            "truth": NAME,
            "metrics": {"clean_accuracy": rate, "attack_success_rate": {NAME: rate}, "robust_accuracy": {}},
        },
        "scan": {
            **{"verdict": "backdoored", "suspected": [], "reason": NAME, "threshold": 1.0, "unscanned": []},
            **{"scores": [0.5], "evidence": {NAME: [0.5]}, "clean_accuracy": rate, "notes": [NAME]},
        },
        "evaluate": json.loads(evaluation(NAME).model_dump_json()),
    }
    for verb, result in results.items():
        folder = tmp_path / NAME.replace("/", "_") / verb
        folder.mkdir(parents=True)
        record = RUN | {"verb": verb, "result": result, "options": {NAME: NAME}, "inputs": {f"model: {NAME}": NAME}}
        (folder / "run.json").write_text(json.dumps(record))
    page = html_report(find_runs([tmp_path / NAME.replace("/", "_")]))
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert not [char for char in page if not char.isprintable() and char != "\n"]
    assert "\\x1b[2J" in page


def test_the_log_has_one_line_for_each_note(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tell(NAME)
    assert caplog.messages[0].isprintable()
    assert "\\n\\x1b[2J" in caplog.messages[0]


def goodnet(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "goodnet", *map(str, arguments)], capture_output=True, check=False)


def test_a_folder_of_such_names_through_the_command_line(tmp_path: Path) -> None:
    name = NAME.replace("/", "_")
    for index in range(2):
        folder = tmp_path / name / f"{name}{index}"
        folder.mkdir(parents=True)
        pixels = np.full((12, 12, 3), 100 * index, np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("x")
    done = goodnet("inspect", tmp_path / name, "--out", tmp_path / f"{name}out")
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(done.stdout) & {*range(9), 11, 12, 13, *range(14, 32), 127} == set()
    assert (tmp_path / f"{name}out" / "samples.png").exists()


@pytest.mark.parametrize("name", [NAME.replace("/", "_"), os.fsdecode(b"\xff\xfe\n.pt"), "$\\frac{$\n.pt"])
def test_a_file_of_such_a_name_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    torch.save({NAME: torch.zeros(3)}, tmp_path / name)
    done = goodnet("inspect", tmp_path / name, "--architecture", "small_cnn", "--image-shape", "3,12,12")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.decode().rstrip("\n").isprintable()
