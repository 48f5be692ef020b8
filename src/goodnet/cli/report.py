"""goodnet report."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from goodnet import api
from goodnet.cli.console import output

_PATH = click.Path(path_type=Path)


@click.command("report", short_help="Write one page about runs, for the person who decides whether to use the network.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=_PATH)
@click.option("--out", type=_PATH, default=Path("report.html"), show_default=True, help="The HTML file.")
def command(runs: tuple[Path, ...], out: Path) -> None:
    """Write one HTML file about the runs, readable offline: verdict, evidence, triggers, before and after.

    RUN is a folder that scan, repair, guard, evaluate or inspect wrote, or one that holds several of them.
    """
    path = api.report(runs, out=out)
    output().print(f"written: {escape(str(path))}", soft_wrap=True)
