"""A block ends in time, and a clock says what is left of a budget."""

import signal
import threading
import time

import pytest

from goodnet import time_limits
from goodnet.core.errors import InvalidOption
from goodnet.time_limits import Clock, OutOfTime, start_clock, time_limit


def work_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def test_a_block_ends_when_its_time_is_up_and_leaves_no_timer_behind() -> None:
    before, started = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(OutOfTime, match=r"it took longer than the 0\.1 s that it may"), time_limit(0.1):
        work_for(60.0)
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_no_exception_handler_of_the_block_keeps_it_going() -> None:
    def stubborn() -> None:
        try:
            work_for(60.0)
        except Exception:
            work_for(60.0)

    started = time.monotonic()
    with pytest.raises(OutOfTime), time_limit(0.1):
        stubborn()
    assert time.monotonic() - started < 30


def test_where_no_time_is_left_nothing_begins() -> None:
    begun = []
    with pytest.raises(OutOfTime, match="no time was left for it"), time_limit(0.0):
        begun.append(True)
    assert begun == []


def test_without_a_limit_a_block_takes_its_time() -> None:
    with time_limit(None):
        work_for(0.05)


def test_a_clock_counts_down_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time_limits.time, "monotonic", lambda: now[0])
    clock = Clock(20.0)
    assert (clock.left, clock.share(0.5)) == (20.0, 10.0)
    now[0] = 115.0
    assert (clock.left, clock.share(0.5)) == (5.0, 2.5)
    now[0] = 200.0
    assert clock.left == 0.0
    assert 0.0 < (clock.share(0.5) or 0.0) < 0.01, "a budget of nothing is refused elsewhere"
    assert (Clock(None).left, Clock(None).share(0.5)) == (None, None)


def test_a_budget_is_kept_in_the_main_thread_alone() -> None:
    caught: list[Exception] = []

    def call() -> None:
        assert start_clock("repair", None).left is None
        try:
            start_clock("repair", 5.0)
        except InvalidOption as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "repair: a budget can only be kept in the main thread" in str(caught[0])
    assert start_clock("repair", 5.0).left == pytest.approx(5.0, abs=4.0)
