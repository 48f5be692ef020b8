"""What a person sees: tables on standard output, progress on standard error: a bar, or a line now and then in a log."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from goodnet.core.method import Progress as Report
from goodnet.formats.shown_paths import show_lines

#: Width of tables where the output is a file or a pipe.
_PIPE_WIDTH = 160
#: Seconds between lines of progress where standard error is a file or a pipe; what takes less time prints none.
_QUIET = 10.0


class _Console(Console):
    """A console that prints no control characters of untrusted text.

    If the output pipe is closed, the command decides how to end. (Rich would end it with exit code 1.)
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render; what came from a file or its name and would move the cursor or ring the bell comes out as an escape."""
        for segment in super().render(renderable, options):
            harmless = segment.control or segment.text == "\n" or all(map(_is_harmless, segment.text))
            yield segment if harmless else Segment(show_lines(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _is_harmless(letter: str) -> bool:
    """Whether a letter only shows. Bytes of a name that are no text (surrogates) are written as escapes by the stream itself."""
    return letter.isprintable() or "\ud800" <= letter <= "\udfff"


def output() -> Console:
    """Return the console for results."""
    console = _Console(highlight=False)
    return console if console.is_terminal else _Console(highlight=False, width=_PIPE_WIDTH)


@contextmanager
def progress_bar(description: str) -> Iterator[Report]:
    """Draw a bar with the time left while the block runs; where standard error is no terminal, print a line in ten seconds."""
    console = _Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(description)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)

        def report(done: int, total: int, /) -> None:
            bar.update(task, completed=done, total=total)

        yield report


class _Lines:
    """Progress for a log: what is done of the present step, and the time that its rest takes at the rate so far."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._began = self._last = time.monotonic()
        self._first, self._done, self._total = 0, 0, 0

    def __call__(self, done: int, total: int, /) -> None:
        now = time.monotonic()
        if total != self._total or done < self._done:  # Another step: its rate has nothing to do with the last one's.
            self._began, self._first = (now, done) if self._total else (self._began, 0)
        self._done, self._total = done, total
        if now - self._last < _QUIET or done <= self._first:
            return
        self._last = now
        left = (now - self._began) * (total - done) / (done - self._first)
        words = f"{self._description}: {done} of {total}, about {left:.0f} s left of this step"
        with suppress(OSError, ValueError):  # That nobody reads on is no reason to lose the work.
            print(words, file=sys.stderr, flush=True)
