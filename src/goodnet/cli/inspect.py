"""goodnet inspect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape

from goodnet import api
from goodnet.cli.console import output
from goodnet.cli.options import out_option, reading_options
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.reading import Reading
from goodnet.formats.files import output_folder
from goodnet.formats.shown_paths import show_path
from goodnet.reports.architecture import draw_architecture
from goodnet.reports.contact_sheets import draw_contact_sheet
from goodnet.reports.figures import draw_class_distribution
from goodnet.reports.tables import class_table, data_table, layer_table


@click.command("inspect", short_help="Show what a network or a data set is.")
@click.argument("path", type=click.Path(path_type=Path))
@out_option("Folder for pictures: the architecture of a network, or the class distribution and samples of a data set.")
@reading_options("architecture", "image_shape", "key", "confine")
def command(path: Path, out: Path | None, reading: Reading) -> None:
    """Describe the network or the data set at PATH.

    For a network: the kind, output shape (channels x height x width) and number of parameters of each layer, and whether it
    can be pruned; the names of its classes with their numbers, if it has them.
    For a data set: the number of images and classes, their shape, range and distribution, and what was left out. For
    class folders: which folder is which class.
    """
    found = api.open_path(path, reading=reading)
    console = output()
    if isinstance(found, Classifier):
        console.print(layer_table(found))
        console.print(
            f"[b]{escape(show_path(path))}[/b]: {found.classes} classes, images {_size(found.image_shape)}, "
            f"{found.parameters:,} parameters",
            soft_wrap=True,
        )
        if found.class_names:
            console.print(f"class names: {escape(_number(found.class_names))}", soft_wrap=True)
        _print_notes(found.notes)
        if out:
            _print_written(draw_architecture(found, output_folder(out) / "architecture.png"))
        return
    _print_dataset(found)
    if out:
        folder = output_folder(out)
        if found.labels is not None:
            _print_written(draw_class_distribution([found], folder / "class_distribution.png"))
        _print_written(draw_contact_sheet(found, folder / "samples.png"))


def _print_dataset(dataset: Dataset) -> None:
    console = output()
    console.print(data_table(dataset))
    if dataset.class_names:
        console.print(class_table(dataset))
    _print_notes(dataset.notes)


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        output().print(escape(note), soft_wrap=True)


def _print_written(path: Path) -> None:
    output().print(f"written: {escape(show_path(path))}", soft_wrap=True)


def _number(names: Sequence[str]) -> str:
    """Return names, which a stranger chose, with their numbers, on one line."""
    return ", ".join(f"{number} {show_path(name)}" for number, name in enumerate(names))


def _size(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
