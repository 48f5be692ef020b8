"""goodnet verify."""

from __future__ import annotations

from pathlib import Path

import click

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import confine_option, json_option
from goodnet.core.verification import Verification

_PATH = click.Path(path_type=Path)


@click.command("verify", short_help="Run a scan, repair, guard or evaluation again and compare.")
@click.argument("run", type=_PATH)
@click.option("--search", type=_PATH, metavar="FOLDER", help="Where input files may be that are not where they were.")
@click.option("--architecture", help="The architecture that the record names, where it is code outside goodnet.")
@confine_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, run: Path, search: Path | None, architecture: str | None, confine: bool, as_json: bool
) -> None:
    """Do the run in the folder RUN again, from its record, and compare the results.

    The input files must have the hashes that the record names. Compared are the result, field by field, figures and other
    files by their bytes, and networks by their weights; not times, versions and paths.

    Exit code 0: equal; 1: something differs; 2: bad input, a file is missing or has another hash.
    """
    with progress_bar("running it again") as progress:
        found = api.verify(run, search=search, architecture=architecture, confine=confine, progress=progress)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        _show(found)
    ctx.exit(0 if found.equal else 1)


def _show(found: Verification) -> None:
    console = output()
    for item in found.comparisons:
        line = f"equal      {item.what}" if item.difference is None else f"different  {item.what}: {item.difference}"
        console.print(line, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)
    console.print(found.table().title, markup=False)
