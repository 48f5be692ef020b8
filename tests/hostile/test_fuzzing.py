"""Some hundred damaged files for every reader, in each test run; `benchmarks/fuzz.py` reads as many as one likes.

What a campaign finds becomes a hostile file in its family, with a note that says so.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

from tests.hostile.fuzzing import READERS, chain, make_input, refusals

MOST_SECONDS = 5


def read(name: str, number: int, folder: Path) -> bool:
    """Read an input; return whether it was taken. Anything but a refusal is an error of the test."""
    reader = READERS[name]
    content = make_input(reader, number)
    folder.mkdir()
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(content, folder)
    except refusals() as error:
        if any(isinstance(item, MemoryError) for item in chain(error)):
            pytest.fail(f"{name} {number}: memory was asked for, {error!r}")
        return False
    except Exception as error:
        pytest.fail(f"{name} {number}: {error!r}")
    finally:
        assert time.perf_counter() - started < MOST_SECONDS, f"{name} {number}"
    return True


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_taken_or_refused(name: str, tmp_path: Path) -> None:
    count = READERS[name].in_tests
    taken = sum(read(name, number, tmp_path / str(number)) for number in range(count))
    assert taken < count, "nothing was refused: the damage does nothing"


@pytest.mark.parametrize("name", READERS)
def test_the_sound_files_are_read(name: str, tmp_path: Path) -> None:
    for number, content in enumerate(READERS[name].seeds()):
        (tmp_path / str(number)).mkdir()
        READERS[name].read(content, tmp_path / str(number))
