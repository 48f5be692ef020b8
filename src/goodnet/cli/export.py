"""goodnet export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from rich.markup import escape

from goodnet import api
from goodnet.api.exporting import Format
from goodnet.cli.console import output
from goodnet.cli.options import reading_options
from goodnet.core.errors import UnreadableData
from goodnet.formats.files import require_file

_PATH = click.Path(path_type=Path)


@click.command("export", short_help="Write a GoodNet as one file that runs without goodnet.")
@click.argument("goodnet", type=_PATH)
@click.option(
    "--format", type=click.Choice(get_args(Format)), default="onnx", show_default=True, help="Kind of file to write."
)
@click.option("--out", type=_PATH, required=True, help="File to write; its extension must match --format.")
@click.option("--class-names", type=_PATH, help="Text file with one class name per line, to store in the file.")
@reading_options("architecture", "image_shape", "key", "confine", "input_range", "resize")
def command(goodnet: Path, class_names: Path | None, **given: Any) -> None:
    """Write GOODNET, the folder OUT/goodnet that goodnet repair or goodnet guard wrote, as one file.

    The file takes any number of images at once, in the original network's layout and range. It gives N + 1 scores: the
    probabilities of the classes, or, for a refused input, 1 for class N. GOODNET may also be a plain model file; then there
    are N scores, and no input is refused. ONNX needs the extra goodnet[onnx].
    """
    path = api.export(goodnet, class_names=None if class_names is None else _read_names(class_names), **given)
    output().print(f"written: [b]{escape(str(path))}[/b]", soft_wrap=True)


def _read_names(path: Path) -> list[str]:
    try:
        return require_file(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UnreadableData(f"{path}: expected a text file (UTF-8) with one class name per line") from error
