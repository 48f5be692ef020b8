"""goodnet repair."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from goodnet import api, catalog
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import MethodCommand, json_option, model_options, out_option, seed_option, take_given
from goodnet.report.tables import repair_table


@click.command(
    "repair",
    cls=MethodCommand,
    find=partial(catalog.find, "repairers"),
    default="pruning",
    short_help="Repair a network with clean images alone.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--clean", type=click.Path(path_type=Path), required=True, help="Clean images with labels.")
@click.option("--method", default="pruning", show_default=True, help="Repairer; each has options of its own.")
@out_option("Folder for repaired networks, the GoodNet, tables, figures and run.json.", required=True)
@seed_option
@model_options
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, clean: Path, method: str, out: Path, as_json: bool, **given: Any
) -> None:
    """Repair MODEL with clean images alone; no trigger is needed, and none is seen.

    Writes the repaired networks in the format of the original, the GoodNet (original and repaired network in one) to
    OUT/goodnet, tables, figures and run.json. Options of other methods: goodnet repair --method NAME --help.
    """
    options = take_given(given, ctx.obj["options"])
    with progress_bar(f"repairing by {method}") as progress:
        repair = api.repair(model, clean, method=method, out=out, progress=progress, **given, **options)
    if as_json:
        click.echo((out / "run.json").read_text(encoding="utf-8"), nl=False)
        return
    console = output()
    console.print(repair_table(repair, {network.name: str(file) for network, file in _files(out, repair)}))
    goodnet, name = escape(str(out / "goodnet")), escape(repair.recommended.name)
    console.print(f"GoodNet of the original and '{name}': [b]{goodnet}[/b]", soft_wrap=True)
    console.print(f"next: goodnet evaluate {goodnet} --clean TEST --poisoned TRIGGERED", style="dim", soft_wrap=True)


def _files(out: Path, repair: Any) -> list[tuple[Any, Path]]:
    import json

    entries = json.loads((out / "run.json").read_text(encoding="utf-8"))["result"]["networks"]
    return [(network, out / entry["file"]) for network, entry in zip(repair.networks, entries, strict=True)]
