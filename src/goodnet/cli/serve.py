"""goodnet serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from goodnet.cli.options import field_options
from goodnet.core.errors import InvalidOption
from goodnet.formats.shown_paths import show_path
from goodnet.serve.options import ServeOptions


@click.command(
    "serve",
    params=[*field_options(ServeOptions)],
    short_help="Classify images over HTTP with a GoodNet.",
)
@click.argument("goodnet", type=click.Path(path_type=Path))
def command(goodnet: Path, **given: Any) -> None:
    """Serve GOODNET, a file that goodnet export wrote or the folder of a GoodNet. Send images with POST /predict.

    Other URL paths: / is a page to drop an image on, /docs describes the interface, /health gives the state, and
    /metrics has counters for Prometheus. The server has neither a login nor encryption. Put a proxy that has both in
    front of it before others use it.
    """
    options = ServeOptions.from_options(**{name: value for name, value in given.items() if value is not None})
    try:
        from goodnet.serve.server import serve
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"serve needs the package {error.name}; install it with: pip install 'goodnet[serve]'"
        ) from error

    def announce(address: str) -> None:
        guard = f"fails {options.fail}, " + (f"refusals go to {options.audit}" if options.audit else "no audit log")
        click.echo(f"{show_path(goodnet)} at {address} ({guard}); stop with Ctrl-C")

    try:
        serve(goodnet, options, announce=announce)
    except KeyboardInterrupt:
        click.echo("stopped; what was taken has been answered")
