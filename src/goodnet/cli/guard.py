"""goodnet guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
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
from goodnet.guards.calibration import Calibration
from goodnet.pipelines.guard_outcome import GuardOutcome
from goodnet.reports.guards import guard_record, guard_table


@click.command(
    "guard",
    cls=MethodCommand,
    family="guards",
    default="ensemble",
    short_help="Refuse triggered inputs of a network that is in use.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--clean", type=click.Path(path_type=Path), required=True, help="Clean images.")
@click.option("--method", default="ensemble", show_default=True, help="Guard; each has options of its own.")
@click.option(
    "--repaired",
    type=click.Path(path_type=Path),
    help="Repaired network, or the folder of a repair; without it, a repair runs first.",
)
@suspects_options
@out_option("Folder for the GoodNet, guard.json and run.json.", required=True)
@seed_option
@execution_options("device", "workers", "cluster", "budget")
@reading_options()
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, clean: Path, method: str, out: Path, as_json: bool, **given: Any
) -> None:
    """Fit a guard to MODEL with clean images alone, and estimate its refusal rates.

    The default method refuses an unusual input that the network assigns to a suspected target, and a highly unusual input in
    any case. goodnet guard also makes the GoodNet, which refuses an input that the original assigns to a suspected target (to
    any class, if none is suspected) and to which the repaired network gives another class by more than a tolerance.

    Writes the GoodNet, which predict, export and serve use, to OUT/goodnet; the guard fitted here is no part of it. guard.json
    has, for the guard and for the GoodNet, the expected share of clean inputs refused and of triggered inputs refused
    (measured with triggers like the recovered ones), and the guard's threshold.
    """
    options, suspected = take_given(given, ctx.obj["options"]), take_suspects(given)
    with progress_bar(f"guarding by {method}") as progress:
        outcome = api.guard(
            model, clean, method=method, out=out, suspected=suspected, progress=progress, **given, **options
        )
    if as_json:
        click.echo(guard_record(outcome).model_dump_json(indent=2))
        return
    console = output()
    console.print(guard_table(outcome))
    console.print(_summary(outcome), markup=False, soft_wrap=True)
    for words in outcome.warnings:
        console.print(words, style="yellow", markup=False, soft_wrap=True)
    console.print(f"written to [b]{escape(str(out))}[/b]", soft_wrap=True)
    if outcome.goodnet is not None:
        goodnet = escape(str(out / "goodnet"))
        console.print(f"next: goodnet predict {goodnet} PICTURE...", style="dim", soft_wrap=True)


def _summary(outcome: GuardOutcome) -> str:
    """Return the targets and the false refusals to be expected, in words."""
    targets = ", ".join(map(str, outcome.targets))
    parts = [f"suspected target {targets}" if targets else "no target is suspected"]
    promised = {"the guard": outcome.false_refusals, "the GoodNet": outcome.goodnet_false_refusals}
    parts += [_promise(name, calibration) for name, calibration in promised.items() if calibration is not None]
    return "\n".join(parts)


def _promise(name: str, calibration: Calibration) -> str:
    return (
        f"{name} is expected to refuse {calibration.expected:.3f} of further clean inputs, at most {calibration.bound:.3f} "
        f"with 95 % confidence (from {calibration.n})"
    )
