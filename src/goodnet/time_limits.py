"""Work that ends in time: a limit for a block of code, and the clock of a verb that has a budget."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from goodnet.core.errors import InvalidOption

#: Seconds after which a task that is out of time, and goes on, is ended again.
_AGAIN = 1.0
#: The least budget: what is begun with it ends at once.
_LEAST_SECONDS = 1e-3


class OutOfTime(BaseException):
    """The time of a block is up; no `except Exception` inside it shall take this for an error of its own."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End the block after so many seconds, between two steps of Python: a single call into torch is not cut short.

    Works only in the main thread of a process, which alone receives signals; all engines run their tasks there.

    Raises:
        OutOfTime: the block took longer.
    """
    if seconds is None:
        yield
        return
    if seconds <= 0:
        raise OutOfTime("no time was left for it")
    running = True

    def end(*_: object) -> None:
        if running:
            raise OutOfTime(f"it took longer than the {seconds:g} s that it may")

    before = signal.signal(signal.SIGALRM, end)
    # It rings again: what is raised while Python tidies up, or in a callback of a library, is lost.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            yield
        finally:
            running = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Clock:
    """How much is left of a budget in seconds, from when the clock is made; None: there is no limit."""

    def __init__(self, budget: float | None) -> None:
        self._ends = None if budget is None else time.monotonic() + budget

    @property
    def left(self) -> float | None:
        """Seconds that are left, 0 at the end."""
        return None if self._ends is None else max(self._ends - time.monotonic(), 0.0)

    def share(self, fraction: float) -> float | None:
        """Return this fraction of the seconds that are left, which is never quite nothing."""
        return None if self.left is None else max(fraction * self.left, _LEAST_SECONDS)


def start_clock(who: str, budget: float | None) -> Clock:
    """Return the clock of a verb that ends work within its budget.

    Raises:
        InvalidOption: there is a budget, and this is not the main thread, which alone can end work.
    """
    if budget is not None and threading.current_thread() is not threading.main_thread():
        raise InvalidOption(
            f"{who}: a budget can only be kept in the main thread; call it there, or leave the budget out"
        )
    return Clock(budget)
