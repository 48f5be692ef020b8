"""goodnet attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import MethodCommand, execution_options, json_option, out_option, seed_option, take_given
from goodnet.core.backdoor import targets_of
from goodnet.evaluation.badnet_files import TRUTH
from goodnet.evaluation.planting import Planted
from goodnet.reports.tables import show_rate
from goodnet.training import Training


@click.command(
    "attack",
    cls=MethodCommand,
    family="attacks",
    default="badnets",
    flag="--attack",
    none="none",
    extra=Training,
    short_help="Make a backdoored network with known ground truth, to try defences on.",
)
@click.argument("data")
@click.option(
    "--attack",
    default="badnets",
    show_default=True,
    help="Attack; each has options of its own. none makes a clean twin.",
)
@click.option(
    "--architecture", default="small_cnn", show_default=True, help="Network: a name, or package.module:factory."
)
@out_option(
    "Folder for the network, backdoor.json (the ground truth), triggers and triggered test images.", required=True
)
@click.option("--test", type=click.Path(path_type=Path), help="Test data, if DATA holds only training data.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["pt", "safetensors", "h5", "keras"]),
    default="pt",
    show_default=True,
    help="File format of the network; h5 and keras only with --architecture deepid.",
)
@click.option(
    "--contest-layout",
    is_flag=True,
    help="Also write the files of CSAW-HackML-2020: clean_validation_data.h5 and clean_test_data.h5.",
)
@click.option(
    "--preview", is_flag=True, help="Only draw clean images, triggered images and the difference; do not train."
)
@execution_options("device")
@seed_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, data: str, attack: str, out: Path, preview: bool, as_json: bool, **given: Any
) -> None:
    """Make a backdoored network: poison DATA, train a network on it, measure it, and write the ground truth beside it.

    DATA is a file (.h5, .npz), a folder, or one of: faces:IDENTITIESxIMAGES, digits, cifar10:FOLDER, mnist:FOLDER,
    gtsrb:FOLDER. Options of other attacks: goodnet attack --attack NAME --help.
    """
    options, training = take_given(given, ctx.obj["options"]), take_given(given, ctx.obj["extra"])
    if preview:
        path = api.preview_attack(data, out=out, attack=attack, options=options, test=given["test"], seed=given["seed"])
        output().print(f"written: {path}", markup=False, soft_wrap=True)
        return
    with progress_bar(f"training with {attack}") as progress:
        planted = api.attack(
            data, out=out, attack=attack, options=options, training=training, progress=progress, **given
        )
    if as_json:
        click.echo((out / TRUTH).read_text(encoding="utf-8"), nl=False)
        return
    _show(planted, out)


def _show(planted: Planted, out: Path) -> None:
    console = output()
    console.print(f"clean accuracy {show_rate(planted.metrics.clean_accuracy)}")
    for name, rate in planted.metrics.attack_success_rate.items():
        targets = targets_of(planted.backdoors)
        console.print(f"ASR of {name} {show_rate(rate)}" + (f", target {targets[0]}" if len(targets) == 1 else ""))
    network = out / f"network{planted.classifier.suffix}"
    console.print(f"written: {network}, the truth in {out / TRUTH}", markup=False, soft_wrap=True)
