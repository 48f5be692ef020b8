"""goodnet scan."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import MethodCommand, json_option, model_options, out_option
from goodnet.report.scans import scan_record, scan_table

_EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


@click.command(
    "scan",
    cls=MethodCommand,
    find=api.find_scanner,
    default="ensemble",
    short_help="Decide whether a network carries a backdoor.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--clean", type=click.Path(path_type=Path), required=True, help="Clean images.")
@click.option("--method", default="ensemble", show_default=True, help="Scanner; each has options of its own.")
@out_option("Folder for scan.json, the scores and pictures of the recovered triggers.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is random.")
@model_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, model: Path, clean: Path, method: str, as_json: bool, **given: Any) -> None:
    """Decide whether MODEL carries a backdoor, from clean images alone.

    Exit code 0: nothing found; 1: backdoored; 3: inconclusive. "Clean" means that nothing was found by the methods
    that ran.
    """
    own = {name: given.pop(name) for name in ctx.obj["options"]}
    options = {name: value for name, value in own.items() if value is not None}
    with progress_bar("inverting triggers") as progress:
        detection = api.scan(model, clean, method=method, progress=progress, **given, **options)
    if as_json:
        click.echo(json.dumps(scan_record(detection), indent=2))
    else:
        console = output()
        console.print(scan_table(detection))
        targets = ", ".join(str(backdoor.target) for backdoor in detection.suspected)
        console.print(f"verdict: [b]{detection.verdict}[/b]" + (f", target {targets}" if targets else ""))
        console.print(detection.reason, style="dim", markup=False)
        if given["out"]:
            console.print(f"written to {given['out']}", markup=False)
    sys.exit(_EXIT_CODES[detection.verdict])
