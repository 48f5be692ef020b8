"""Work that ends in time: a limit for a block of code, and the clock of a verb that has a budget."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from goodnet.core.errors import BudgetSpent, InvalidOption

#: Seconds after which work that is out of time, and goes on, is ended again.
_AGAIN = 1.0
#: With fewer seconds than this nothing is begun.
_LEAST_SECONDS = 0.01


class OutOfTime(BaseException):
    """The time of a block is up; no `except Exception` inside it shall take this for an error of its own."""


class TimeLimit:
    """Ends a `with` block after so many seconds, between two steps of Python: a single call into torch is not cut short.

    Works only in the main thread of a process, which alone receives signals; all engines run their tasks there. A limit
    inside another one that ends sooner leaves the end to that one. So who catches `OutOfTime` asks first whether this limit
    `is_over`, and raises it again if not.

    Attributes:
        seconds: None: there is no limit. Where hardly any are left, the block does not begin.
        is_over: whether this limit has ended the block.

    Raises:
        OutOfTime: the block took longer.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.is_over = seconds, False
        self._runs = False

    def __enter__(self) -> TimeLimit:
        if self.seconds is None:
            return self
        if self.seconds < _LEAST_SECONDS:
            self.is_over = True
            raise OutOfTime("no time was left for it")
        self._outer, self._outer_again = signal.getitimer(signal.ITIMER_REAL)
        if 0 < self._outer <= self.seconds:
            return self  # The block that this one is a part of ends before.
        self._began, self._runs = time.monotonic(), True
        self._before = signal.signal(signal.SIGALRM, self._end)
        # It rings again: what is raised while Python tidies up, or in a callback of a library, is lost.
        signal.setitimer(signal.ITIMER_REAL, self.seconds, _AGAIN)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if not self._runs:
            return
        self._runs = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        if self._outer:
            left = self._outer - (time.monotonic() - self._began)
            signal.setitimer(signal.ITIMER_REAL, max(left, _LEAST_SECONDS), self._outer_again)

    def _end(self, _: int, __: FrameType | None) -> None:
        if self._runs:
            self.is_over = True
            raise OutOfTime(f"it took longer than the {self.seconds:g} s that it may")


@contextmanager
def spend(seconds: float | None, complaint: str) -> Iterator[None]:
    """Give the block so many seconds.

    Raises:
        BudgetSpent: they were not enough; the message is the complaint.
    """
    limit = TimeLimit(seconds)
    try:
        with limit:
            yield
    except OutOfTime:
        if not limit.is_over:
            raise
        raise BudgetSpent(complaint) from None


class Clock:
    """How much is left of a budget in seconds, from when the clock is made; None: there is no limit."""

    def __init__(self, budget: float | None) -> None:
        self._ends = None if budget is None else time.monotonic() + budget

    @property
    def left(self) -> float | None:
        """Seconds that are left, 0 at the end."""
        return None if self._ends is None else max(self._ends - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether hardly any time is left."""
        return self.left is not None and self.left < _LEAST_SECONDS

    def share(self, fraction: float) -> float | None:
        """Return this fraction of the seconds that are left, at least a small positive number; None: there is no limit."""
        return None if self.left is None else max(fraction * self.left, _LEAST_SECONDS / 10)


def start_clock(who: str, budget: float | None) -> Clock:
    """Return the clock of a verb that ends work within its budget.

    Raises:
        InvalidOption: there is a budget, and work cannot be ended here: in another thread than the main one, or on a system
            without timers.
    """
    if budget is not None and threading.current_thread() is not threading.main_thread():
        raise InvalidOption(
            f"{who}: a budget can only be kept in the main thread; call it there, or leave the budget out"
        )
    if budget is not None and not hasattr(signal, "setitimer"):
        raise InvalidOption(f"{who}: this system has no timer that could keep a budget; leave it out")
    return Clock(budget)
