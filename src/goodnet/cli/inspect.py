"""goodnet inspect."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from goodnet import api
from goodnet.cli.console import output
from goodnet.cli.options import ImageShape, out_option
from goodnet.core.classifier import Classifier
from goodnet.formats.files import output_folder
from goodnet.reports.architecture import draw_architecture
from goodnet.reports.contact_sheets import draw_contact_sheet
from goodnet.reports.figures import draw_class_distribution
from goodnet.reports.tables import data_table, layer_table


@click.command("inspect", short_help="Show what a network or a data set is.")
@click.argument("path", type=click.Path(path_type=Path))
@out_option("Folder for pictures: the architecture; or class distribution and samples with labels.")
@click.option("--architecture", help="Network of a weights-only file: a name, or package.module:factory.")
@click.option("--image-shape", type=ImageShape(), help="Image size, where neither file nor architecture says it.")
def command(path: Path, out: Path | None, architecture: str | None, image_shape: tuple[int, int, int] | None) -> None:
    """Show what PATH is.

    A network: its layers, their kinds, output shapes (channels x height x width), parameters, and which can be pruned.
    A data set: how many images and classes, their shape, range and distribution.
    """
    found = api.open_path(path, architecture=architecture, image_shape=image_shape)
    console = output()
    if isinstance(found, Classifier):
        console.print(layer_table(found))
        console.print(
            f"[b]{escape(str(path))}[/b]: {found.classes} classes, images {_size(found.image_shape)}, "
            f"{found.parameters:,} parameters",
            soft_wrap=True,
        )
        if out:
            _print_written(draw_architecture(found, output_folder(out) / "architecture.png"))
        return
    console.print(data_table(found))
    if out:
        folder = output_folder(out)
        if found.labels is not None:
            _print_written(draw_class_distribution([found], folder / "class_distribution.png"))
        _print_written(draw_contact_sheet(found, folder / "samples.png"))


def _print_written(path: Path) -> None:
    output().print(f"written: {escape(str(path))}", soft_wrap=True)


def _size(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
