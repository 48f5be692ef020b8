"""goodnet verify."""

from __future__ import annotations

from pathlib import Path

import click

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.last_resort import say
from goodnet.cli.options import confine_option, json_option
from goodnet.core.verification import Verification
from goodnet.reports.signatures import check_signature

_PATH = click.Path(path_type=Path)


@click.command("verify", short_help="Repeat a scan, repair, guard or evaluation and compare.")
@click.argument("run", type=_PATH)
@click.option("--search", type=_PATH, metavar="FOLDER", help="Folder to search for input files that have moved.")
@click.option("--architecture", help="The architecture that the record names, if it is code outside goodnet.")
@click.option(
    "--signed-by", type=_PATH, metavar="PUBLIC_KEY", help="Check first that the owner of this key signed the run."
)
@click.option("--signature-only", is_flag=True, help="Check the signature and run nothing; needs --signed-by.")
@confine_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: Path,
    search: Path | None,
    architecture: str | None,
    signed_by: Path | None,
    signature_only: bool,
    confine: bool,
    as_json: bool,
) -> None:
    """Repeat the run recorded in the folder RUN, and compare the results.

    The input files must have the hashes that the record names. The result is compared field by field, figures and other files
    byte by byte, and networks by their weights. Times, versions and paths are not compared.

    Exit code 0: equal; 1: something differs; 2: bad input, a file is missing or has another hash, or the signature does not
    match the key.
    """
    if signature_only and signed_by is None:
        raise click.UsageError("--signature-only needs --signed-by PUBLIC_KEY.")
    if signed_by is not None:
        names = check_signature(run, signed_by)
        say("goodnet", f"note: signed by {signed_by}: {len(names)} files")
        if signature_only:
            return
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
