"""goodnet evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import execution_options, json_option, out_option, reading_options
from goodnet.reports.json_output import evaluation_json
from goodnet.reports.tables import evaluation_tables

_PATH = click.Path(path_type=Path)


@click.command("evaluate", short_help="Measure networks and GoodNets on clean and triggered images.")
@click.argument("model", type=_PATH)
@click.option("--clean", type=_PATH, help="Labelled clean images that the repair did not use.")
@click.option(
    "--poisoned",
    type=_PATH,
    multiple=True,
    help="Triggered images; their labels are the targets, unless --target is given. May be repeated.",
)
@click.option("--repaired", type=_PATH, multiple=True, help="Repaired network or folder of a repair; may be repeated.")
@click.option("--true-labels", type=_PATH, help="Data whose labels are the true classes of the triggered images.")
@click.option(
    "--target", type=int, help="The attacker's class, if the labels of the --poisoned sets are the true classes."
)
@out_option("Folder for tables, figures and run.json.")
@execution_options("device")
@reading_options()
@json_option
def command(model: Path, as_json: bool, **given: Any) -> None:
    """Measure MODEL on clean and triggered images. MODEL is a network, or the folder or ONNX file of a GoodNet.

    --repaired compares the original, the repaired network and the GoodNet made of the two, side by side. If --repaired is the
    folder of a pruning repair and --out is given, accuracy and attack success rate are measured at every level of pruning.
    """
    with progress_bar("evaluating") as progress:
        evaluation = api.evaluate(model, progress=progress, **given)
    if as_json:
        click.echo(evaluation_json(evaluation))
        return
    console = output()
    for table in evaluation_tables(evaluation, console.width):
        console.print(table)
    for row in evaluation.rows:
        if row.metrics.worst_class_drop is not None:
            console.print(f"{escape(row.name)}: {row.metrics.worst_class_drop}")
    console.print(f"input range {evaluation.input_range} ({escape(evaluation.input_range_reason)})", style="dim")
    if given["out"]:
        console.print(f"written to [b]{escape(str(given['out']))}[/b]", soft_wrap=True)
