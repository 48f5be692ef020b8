"""A block ends in time, and a clock says what is left of a budget."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from goodnet import time_limits
from goodnet.core.errors import InvalidOption
from goodnet.time_limits import Clock, OutOfTime, TimeLimit, start_clock


def work_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def timer_of_others() -> Iterator[None]:
    """What rang before rings after (pytest has a timer of its own); here it is set aside."""
    seconds, again = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.setitimer(signal.ITIMER_REAL, seconds, again)


def test_a_block_ends_when_its_time_is_up_and_leaves_no_timer_behind() -> None:
    before, started = signal.getsignal(signal.SIGALRM), time.monotonic()
    limit = TimeLimit(0.1)
    with pytest.raises(OutOfTime, match=r"it took longer than the 0\.1 s that it may"), limit:
        work_for(60.0)
    assert limit.is_over
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
    with pytest.raises(OutOfTime), TimeLimit(0.1):
        stubborn()
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.005])
def test_where_no_time_is_left_nothing_begins(seconds: float) -> None:
    begun, limit = [], TimeLimit(seconds)
    with pytest.raises(OutOfTime, match="no time was left for it"), limit:
        begun.append(True)
    assert (begun, limit.is_over) == ([], True)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_of_two_limits_the_one_that_ends_first_says_so() -> None:
    outer, inner = TimeLimit(0.2), TimeLimit(60.0)
    with pytest.raises(OutOfTime, match=r"0\.2 s"), outer, inner:
        work_for(60.0)
    assert (outer.is_over, inner.is_over) == (True, False)
    outer, inner = TimeLimit(60.0), TimeLimit(0.2)
    with outer:
        with pytest.raises(OutOfTime, match=r"0\.2 s"), inner:
            work_for(60.0)
        left, again = signal.getitimer(signal.ITIMER_REAL)
        assert 10 < left < 60, "the outer limit goes on"
        assert again == 1.0
    assert (outer.is_over, inner.is_over) == (False, True)


def test_no_limit_inside_a_limit_leaves_it_alone() -> None:
    outer, inner = TimeLimit(0.2), TimeLimit(None)
    with pytest.raises(OutOfTime), outer, inner:
        work_for(60.0)
    assert (outer.is_over, inner.is_over) == (True, False)


def test_without_a_limit_a_block_takes_its_time() -> None:
    limit = TimeLimit(None)
    with limit:
        work_for(0.05)
    assert not limit.is_over


def test_a_clock_counts_down_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time_limits.time, "monotonic", lambda: now[0])
    clock = Clock(20.0)
    assert (clock.left, clock.share(0.5), clock.is_over) == (20.0, 10.0, False)
    now[0] = 115.0
    assert (clock.left, clock.share(0.5)) == (5.0, 2.5)
    now[0] = 200.0
    assert (clock.left, clock.is_over) == (0.0, True)
    assert 0.0 < (clock.share(0.5) or 0.0) < 0.01, "a budget of nothing is refused elsewhere"
    assert (Clock(None).left, Clock(None).share(0.5), Clock(None).is_over) == (None, None, False)


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
