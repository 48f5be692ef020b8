"""goodnet bench."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.markup import escape

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import execution_options, json_option, out_option
from goodnet.execution import Execution
from goodnet.reports.bench_tables import bench_tables


@click.command("bench", short_help="Try every defence on every network of a zoo, and make one table.")
@click.argument("spec")
@click.option("--zoo", type=click.Path(path_type=Path), help="Folder of a zoo; more networks may be listed in SPEC.")
@out_option("Folder for cells and tables; a bench that was stopped is continued there.", required=True)
@execution_options("device", "workers", "cluster")
@json_option
def command(spec: str, zoo: Path | None, out: Path, where: Execution, as_json: bool) -> None:
    """Run the scanners, repairers and guards of SPEC (TOML) on every network; tables go to OUT as CSV.

    A cell (one method on one network) is not run again if its files, options, seed and code are unchanged.
    """
    with progress_bar("running the bench") as progress:
        result = api.bench(spec, out=out, zoo=zoo, where=where, progress=progress)
    if as_json:
        cells = [record.model_dump(mode="json") for record in result.records]
        click.echo(json.dumps({"name": result.name, "cells": cells}, indent=1))
        return
    console = output()
    for table in bench_tables(result):
        console.print(table)
    failed = sum(record.error is not None for record in result.records)
    console.print(f"{len(result.records)} cells, {failed} failed; written to [b]{escape(str(out))}[/b]")
