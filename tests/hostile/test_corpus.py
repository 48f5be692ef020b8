"""Every hostile file: nothing runs, nothing else is opened, memory and time are bounded, and one line gives the reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.conftest import Worker
from tests.hostile.corpus import Case, all_cases

MOST_MEBIBYTES, MOST_SECONDS = 512, 5
CASES = all_cases()
#: One model file of each kind: a process of its own for each would take minutes for all of them.
CONFINED = list({case.kind: case for case in CASES if case.reader in ("model", "weights", "goodnet")}.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_file_is_refused(case: Case, worker: Worker, tmp_path: Path) -> None:
    seen = worker.read(case, worker.place(tmp_path), confine=False)
    assert "ended" not in seen, seen
    assert "fault" not in seen, seen
    assert (seen["mark"], seen["secret"], seen["called"], seen["opened"]) == (False, False, False, []), seen
    assert seen["seconds"] < MOST_SECONDS
    assert seen["mebibytes"] < MOST_MEBIBYTES
    assert seen["raised"] is not None, "it was read"
    assert seen["raised"]["known"], seen["traceback"]
    assert "MemoryError" not in seen["chain"], "only the limit of the test held it"
    message = seen["raised"]["message"]
    assert case.says in message
    assert message.isprintable()
    if "code" in seen:
        assert (seen["code"], seen["out"]) == (2, "")
        assert seen["err"].startswith("goodnet: ")
        assert seen["err"].count("\n") == 1
        assert seen["err"].rstrip("\n").isprintable()


@pytest.mark.parametrize("case", CONFINED, ids=lambda case: case.name)
def test_a_confined_process_refuses_it_too(case: Case, worker: Worker, tmp_path: Path) -> None:
    seen = worker.read(case, worker.place(tmp_path), confine=True)
    assert "ended" not in seen, seen
    assert "fault" not in seen, seen
    assert (seen["mark"], seen["secret"], seen["called"], seen["opened"]) == (False, False, False, []), seen
    assert seen["raised"] is not None, "it was read"
    assert seen["raised"]["known"], seen["traceback"]
    assert seen["raised"]["message"].isprintable()


def test_the_corpus_is_as_large_as_is_promised() -> None:
    assert len(CASES) >= 100
    assert len({case.kind for case in CASES}) >= 30
    assert max(Counter(case.name for case in CASES).values()) == 1
