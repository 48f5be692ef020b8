"""What a person sees: tables on standard output, progress on standard error, none of it in a pipe."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from goodnet.core.method import Progress as Report
from goodnet.formats.shown_paths import show_lines

#: Width of tables where the output is a file or a pipe.
_PIPE_WIDTH = 160


class _Console(Console):
    """A console that prints no stranger's control characters, and leaves it to the command how to end when nobody reads on.

    (Rich would end it with exit code 1.)
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
    """Draw a bar with the time left while the block runs; draws nothing where standard error is no terminal."""
    console = _Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)

        def report(done: int, total: int, /) -> None:
            bar.update(task, completed=done, total=total)

        yield report
