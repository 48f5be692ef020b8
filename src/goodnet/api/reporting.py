"""The verb `report`: what runs left behind, as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from goodnet.formats.files import write_text
from goodnet.reports.html import html_report
from goodnet.reports.run_folders import find_runs


def report(runs: Sequence[str | Path], *, out: str | Path) -> Path:
    """Write one self-contained HTML file about runs of the other verbs and return its path.

    Args:
        runs: folders that scan, repair, guard, evaluate or inspect wrote, or folders that hold some of them.
        out: the HTML file.

    Raises:
        UnreadableData: there is no run, or one is damaged; nothing has been written.
        UnwritableOutput: the file cannot be written.
    """
    return write_text(out, html_report(find_runs(runs)))
