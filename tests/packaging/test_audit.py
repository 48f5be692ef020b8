"""What `.ci/audit.py` makes of pip-audit's answers: silence is never a pass."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

Judge = Callable[[str, str], tuple[int, list[str]]]


@pytest.fixture(scope="module")
def judge(repository: Path) -> Judge:
    spec = importlib.util.spec_from_file_location("audit", repository / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.judge  # type: ignore[no-any-return]


KNOWN = {"name": "idna", "version": "3.20", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0)"}
HOLE = {"name": "keras", "version": "3.11", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.12"]}]}


def answer(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_all_known_and_no_hole(judge: Judge) -> None:
    assert judge(answer(KNOWN), "") == (0, ["audited: 1 packages, no known hole"])


def test_a_hole(judge: Judge) -> None:
    assert judge(answer(KNOWN, SKIPPED, HOLE), "") == (1, ["keras 3.11: PYSEC-1, mended in 3.12"])


@pytest.mark.parametrize(
    ("printed", "complaint", "said"),
    [
        (answer(KNOWN, SKIPPED), "", "1 of 2 packages could not be looked up (torch)"),
        (
            answer(SKIPPED, SKIPPED, SKIPPED, SKIPPED),
            "",
            "4 of 4 packages could not be looked up (torch, torch, torch, ...)",
        ),
        (answer(), "", "pip-audit looked at no package"),
        ("", "Traceback\nConnectionError: no route", "pip-audit gave no answer: ConnectionError: no route"),
        ("", "", "pip-audit gave no answer and no reason"),
    ],
)
def test_what_could_not_be_asked_is_no_pass(printed: str, complaint: str, said: str, judge: Judge) -> None:
    code, (line,) = judge(printed, complaint)
    assert code == 75
    assert line.startswith(f"NOT AUDITED: {said}")
