import threading
import time

import pytest
import torch

from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.execution import Engine
from goodnet.shards import Shards


def square(offset, numbers):
    return (torch.tensor(numbers, dtype=torch.float32) ** 2 + offset,)


def fail(numbers):
    raise ValueError(f"no {numbers}")


PARTS = [(1, 2), (3,), (4, 5)]


def flat(values):
    return [None if value is None else value[0].tolist() for value in values]


@pytest.mark.parametrize("engine", [Engine(), Engine(workers=2)], ids=["here", "processes"])
def test_parts_come_back_in_order_wherever_they_ran(engine):
    told = []
    values = Shards(engine)("squares", square, (10,), PARTS, lambda done, total: told.append((done, total)))
    assert flat(values) == [[11, 14], [19], [26, 35]]
    assert sorted(told)[-1] == (5, 5)


def test_what_was_done_is_not_done_again(tmp_path):
    shards = Shards()
    shards.open_memory(tmp_path / "kept", "a", resume=False)
    shards("squares", square, (0,), PARTS)
    again = Shards()
    again.open_memory(tmp_path / "kept", "a", resume=True)
    # The function would fail: that it is not called shows that the values were kept.
    assert flat(again("squares", fail, (), PARTS)) == [[1, 4], [9], [16, 25]]
    again.close_memory()
    assert not (tmp_path / "kept").exists()


def test_a_damaged_part_is_done_again(tmp_path):
    shards = Shards()
    shards.open_memory(tmp_path, "a", resume=False)
    shards("squares", square, (0,), PARTS)
    (tmp_path / "squares_00001.pt").write_bytes(b"half a file")
    assert flat(shards("squares", square, (0,), PARTS)) == [[1, 4], [9], [16, 25]]


def test_parts_of_something_else_are_refused_and_without_resume_removed(tmp_path):
    Shards().open_memory(tmp_path / "kept", "a", resume=False)
    with pytest.raises(InvalidOption, match="another network"):
        Shards().open_memory(tmp_path / "kept", "b", resume=True)
    (tmp_path / "kept" / "squares_00000.pt").touch()
    Shards().open_memory(tmp_path / "kept", "b", resume=False)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["mark.txt"]


def test_parts_without_a_mark_are_not_used(tmp_path):
    shards = Shards()
    shards.open_memory(tmp_path / "kept", "another", resume=False)
    shards("squares", square, (9,), PARTS)
    (tmp_path / "kept" / "mark.txt").unlink()  # As a run leaves it that is killed while it removes another's.
    again = Shards()
    again.open_memory(tmp_path / "kept", "a", resume=True)
    assert flat(again("squares", square, (0,), PARTS)) == [[1, 4], [9], [16, 25]]


def test_no_part_begins_after_the_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("goodnet.time_limits.time.monotonic", lambda: now[0])

    def square_in_six_seconds(numbers):
        now[0] += 6.0
        return square(0, numbers)

    assert flat(Shards(seconds=10)("squares", square_in_six_seconds, (), PARTS)) == [[1, 4], [9], None]


def test_an_error_in_a_part_ends_the_run():
    with pytest.raises(MethodFailed, match="ValueError: no"):
        Shards()("squares", fail, (), PARTS)


def square_unless_three(numbers):
    while 3 in numbers:
        time.sleep(0.01)
    return square(0, numbers)


@pytest.mark.parametrize("engine", [Engine(), Engine(workers=2)], ids=["here", "processes"])
def test_a_part_that_takes_too_long_is_ended(engine):
    started = time.monotonic()
    values = flat(Shards(engine, seconds=4.0)("squares", square_unless_three, (), PARTS))
    assert time.monotonic() - started < 60
    assert (values[0], values[1]) == ([1, 4], None)
    if engine.workers == 1:
        assert values[2] is None, "nothing is begun after the time"


def test_beside_the_main_thread_parts_are_not_ended():
    found = []
    thread = threading.Thread(target=lambda: found.append(flat(Shards(seconds=60.0)("squares", square, (0,), PARTS))))
    thread.start()
    thread.join()
    assert found == [[[1, 4], [9], [16, 25]]]
