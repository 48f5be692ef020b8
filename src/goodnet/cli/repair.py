"""goodnet repair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import (
    MethodCommand,
    execution_options,
    json_option,
    out_option,
    reading_options,
    seed_option,
    suspects_options,
    take_given,
    take_suspects,
)
from goodnet.core.repairs import Repair, RepairRecord
from goodnet.reports.tables import repair_table


@click.command(
    "repair",
    cls=MethodCommand,
    family="repairers",
    default="auto",
    short_help="Repair a network with clean images alone.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--clean", type=click.Path(path_type=Path), required=True, help="Clean images; most methods do not need labels."
)
@click.option("--method", default="auto", show_default=True, help="Repairer; each has options of its own.")
@out_option("Folder for repaired networks, the GoodNet, tables, figures and run.json.", required=True)
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path),
    help="Further images; their labels are not used, and images that the network classifies as a suspected target are left out.",
)
@suspects_options
@click.option(
    "--keep-all", is_flag=True, help="Also write intermediate networks, and for Keras models a file of weights alone."
)
@seed_option
@execution_options("device", "workers", "cluster", "budget")
@reading_options()
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, clean: Path, method: str, out: Path, as_json: bool, **given: Any
) -> None:
    """Repair MODEL with clean images alone. A repair never needs or uses the attacker's trigger.

    Writes the repaired networks in the format of the original, tables, figures and run.json. Writes the GoodNet, which
    combines original and repaired network, to OUT/goodnet. Options of other methods: goodnet repair --method NAME --help.

    Exit code 0: done, or nothing suspected; 2: bad input; 3: the scan was inconclusive, the method failed, or the repair cost too
    much and was rolled back.
    """
    options, suspected = take_given(given, ctx.obj["options"]), take_suspects(given)
    with progress_bar(f"repairing by {method}") as progress:
        repair = api.repair(
            model, clean, method=method, out=out, suspected=suspected, progress=progress, **given, **options
        )
    run, record, _ = repair.require_run()
    if as_json:
        click.echo(run.to_json(), nl=False)
    else:
        _tell(output(), repair, record, out)
    if repair.unchanged_because and (record.targets or _in_doubt(repair)):
        ctx.exit(3)


def _in_doubt(repair: Repair) -> bool:
    """Whether the scan of the original could not decide."""
    return any(scan.verdict == "inconclusive" for scan in (repair.trace.scans or ())[:1])


def _tell(console: Console, repair: Repair, record: RepairRecord, out: Path) -> None:
    """Print what the repair made, what it rests on, and what to do next."""
    files = {entry.name: str(out / entry.file) for entry in record.networks}
    _tell_of_closed(console, repair)
    console.print(repair_table(repair, files))
    console.print(f"input range {record.input_range} ({escape(record.input_range_reason)})", style="dim")
    _tell_of_checkpoint(console, repair)
    _tell_of_scans(console, repair)
    _tell_of_unlabelled(console, repair)
    _tell_of_held_out(console, repair)
    _tell_of_time(console, repair)
    _warn_of_few(console, repair)
    if why := repair.unchanged_because:
        console.print(f"the network is as it was, and its GoodNet refuses nothing: {why}", style="yellow", markup=False)
        return
    goodnet, name = escape(str(out / "goodnet")), escape(repair.recommended.name)
    console.print(f"GoodNet of the original and '{name}': [b]{goodnet}[/b]", soft_wrap=True)
    console.print(f"next: goodnet evaluate {goodnet} --clean TEST --poisoned TRIGGERED", style="dim", soft_wrap=True)


def _tell_of_closed(console: Console, repair: Repair) -> None:
    """Say which classes are not predicted any more: what a user must know before all else."""
    if closed := repair.recommended.changes.quarantined:
        one = len(closed) == 1
        named = f"class {closed[0]} is" if one else f"classes {_listed(closed)} are"
        console.print(
            f"{named} not predicted any more: {'its' if one else 'their'} images get other classes",
            style="yellow",
            soft_wrap=True,
        )


def _listed(labels: Sequence[int]) -> str:
    shown = ", ".join(map(str, labels[:_NAMED]))
    return f"{shown} and {len(labels) - _NAMED} more" if len(labels) > _NAMED else shown


#: Classes that a line names.
_NAMED = 10


def _tell_of_checkpoint(console: Console, repair: Repair) -> None:
    """Say which network of a checkpoint of several was repaired, and that the others are not written."""
    if choice := repair.trace.checkpoint:
        console.print(
            f"repaired: {choice.key} of the checkpoint; not in the files that are written: {', '.join(choice.left_out)}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _tell_of_scans(console: Console, repair: Repair) -> None:
    """Say what the scan of the original found, and those of the repaired networks."""
    scans = repair.trace.scans or ()
    for number, scan in enumerate(scans):
        whose = f"network after repair {number}" if number else "original"
        words = f"suspects target {', '.join(map(str, scan.targets))}" if scan.targets else "suspects no target"
        if scan.verdict == "inconclusive":
            words = f"inconclusive, {scan.reason}"
        console.print(f"scan of the {whose}: {words}", style="dim", markup=False)
    if _in_doubt(repair):
        console.print(
            "nothing is repaired on a doubt; a class that you suspect yourself: --target CLASS; without one, as a precaution: "
            "--method activation_bounds",
            style="yellow",
        )
    if left := repair.trace.found_and_left:
        console.print(
            f"target {', '.join(map(str, left))} was found in the repaired network and could not be unlearned "
            + ("in time" if repair.trace.out_of_time else "at a bearable cost"),
            style="yellow",
        )


def _tell_of_unlabelled(console: Console, repair: Repair) -> None:
    """Say what stood for labels, how many of the unlabelled images took part, and why the others did not."""
    if repair.trace.labels is not None:
        console.print(f"labels: {repair.trace.labels}", style="dim")
    if counts := repair.trace.unlabelled:
        left = f", {counts.left_out} left out: classified as a suspected target" if counts.left_out else ""
        console.print(f"{counts.used} unlabelled images took part{left}", style="dim")


def _tell_of_held_out(console: Console, repair: Repair) -> None:
    """Say what the repair cost on images that it was not trained on, and that the budget allows for chance."""
    if (held_out := repair.trace.held_out_accuracy) is None:
        return
    words = f"accuracy lost on {held_out.of} held-out images: {held_out.lost:.3f}, allowed: {held_out.allowed:g}"
    if held_out.lost > held_out.allowed:
        console.print(f"{words}; so few images cannot tell the difference from chance", style="yellow")
    else:
        console.print(words, style="dim")


def _tell_of_time(console: Console, repair: Repair) -> None:
    """Say what the budget did not suffice for."""
    if words := repair.trace.out_of_time:
        console.print(words, style="yellow", markup=False, soft_wrap=True)


def _warn_of_few(console: Console, repair: Repair) -> None:
    """Say so where single images decide: thresholds finer than one image cannot be told apart."""
    n = repair.accuracy_before.n
    thresholds = [item.changes.threshold for item in repair.networks if item.changes.threshold is not None]
    if thresholds and 1 / n > min(thresholds):
        console.print(
            f"few images: one of {n} is {1 / n:.2f} of the accuracy, so a threshold of {min(thresholds):g} means one image",
            style="yellow",
        )
