"""The page about hostile files is what the files are, and every advisory that is known of has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.hostile.corpus import all_cases
from tests.hostile.table import page

REPOSITORY = Path(__file__).parents[2]
#: Advisories of what goodnet does not do, so that no file of ours can stand for them: it reads no Hugging Face folder through
#: transformers or accelerate. Their kind, code or paths named in a configuration, has files.
ELSEWHERE = {"2026-5241", "2025-14929", "2026-69112"}


def test_the_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "hostile-files.md").read_text(encoding="utf-8") == page()


def test_every_known_advisory_has_a_file() -> None:
    threats = REPOSITORY.parent / "shared" / "threats.md"
    if not threats.exists():
        pytest.skip(f"the list of advisories is missing: {threats}")
    known = {
        number
        for line in threats.read_text(encoding="utf-8").splitlines()
        if line.startswith("| CVE")
        for number in _numbers(line.split("|")[1])
    }
    covered = {number for case in all_cases() for number in _numbers(case.threat)}
    assert len(known) > 30
    assert known - covered - ELSEWHERE == set()


def _numbers(text: str) -> list[str]:
    """Return "2026-1" and so on of "CVE-2026-1, 2, 2025-3": a number alone is of the year before it."""
    found, year = [], ""
    for part in re.findall(r"(\d{4}-)?(\d{4,6})", text):
        year = part[0] or year
        found.append(f"{year}{part[1]}")
    return found
