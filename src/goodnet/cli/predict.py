"""goodnet predict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from goodnet import api
from goodnet.api.loading import open_goodnet
from goodnet.cli.options import execution_options, json_option, reading_options
from goodnet.core.reading import Reading
from goodnet.execution import Execution
from goodnet.formats.shown_paths import show_path


@click.command("predict", short_help="Classify images with a GoodNet; triggered ones get class N.")
@click.argument("goodnet", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@execution_options("device")
@reading_options("architecture", "confine", "resize")
@json_option
def command(goodnet: Path, images: tuple[Path, ...], where: Execution, reading: Reading, as_json: bool) -> None:
    """Print the class number of each image; N, one more than the last class, means that the image seems to carry a trigger.

    GOODNET is the folder OUT/goodnet that goodnet repair or goodnet guard wrote, or the ONNX file that goodnet export made of
    it. For several images, each line has the class, a tab and the file.
    """
    guard = open_goodnet(goodnet, reading)
    classes = api.predict(guard, images, reading=replace(reading, architecture=None), where=where)
    if as_json:
        predictions = [
            {"image": str(path), "class": label, "backdoored": label == guard.classes}
            for path, label in zip(images, classes, strict=True)
        ]
        click.echo(json.dumps({"classes": guard.classes, "predictions": predictions}, indent=2))
    elif len(images) == 1:
        click.echo(classes[0])
    else:
        for path, label in zip(images, classes, strict=True):
            click.echo(f"{label}\t{show_path(path)}")
