"""goodnet zoo."""

from __future__ import annotations

from pathlib import Path

import click

from goodnet import api
from goodnet.cli.console import output, progress_bar
from goodnet.cli.options import execution_options, json_option, out_option
from goodnet.core.errors import MethodFailed
from goodnet.core.results import Failure
from goodnet.evaluation.zoo import BrokenTwin
from goodnet.execution import Execution
from goodnet.reports.bench_tables import zoo_table


@click.group("zoo", short_help="Build pairs of networks: a backdoored one and its clean twin.")
def command() -> None:
    """Build pairs of networks with the same architecture, data and seed: one with a backdoor and one without."""


@command.command(
    "build", short_help="Build a zoo from a spec; an interrupted build continues with the missing networks."
)
@click.argument("spec")
@out_option("Folder of the zoo; a build that was stopped is continued there.", required=True)
@click.option(
    "--data", multiple=True, metavar="NAME=PATH", help="Your files for a data set of the spec; may be repeated."
)
@execution_options("device", "workers", "cluster")
@json_option
def build(spec: str, out: Path, data: tuple[str, ...], where: Execution, as_json: bool) -> None:
    """Build the zoo that SPEC describes: a TOML file, or small or standard, which come with goodnet."""
    sources = dict(_split(item) for item in data)
    with progress_bar("building the zoo") as progress:
        manifest = api.build_zoo(spec, out=out, data=sources, where=where, progress=progress)
    if as_json:
        click.echo(manifest.model_dump_json(indent=1))
    else:
        output().print(zoo_table(manifest))
        output().print(f"written: {out / 'manifest.json'}", markup=False, soft_wrap=True)
    broken = [
        f"{pair.name}/{name}: {twin.error.message}"
        for pair in manifest.pairs
        for name, twin in (("poisoned", pair.poisoned), ("clean", pair.clean))
        if isinstance(twin, BrokenTwin)
    ]
    broken += [f"data {name}: {item.message}" for name, item in manifest.data.items() if isinstance(item, Failure)]
    if broken:
        raise MethodFailed(f"{len(broken)} parts of the zoo are broken, the first is {broken[0]}")


def _split(item: str) -> tuple[str, str]:
    name, separator, path = item.partition("=")
    if not separator or not name or not path:
        raise click.BadParameter(f"expected NAME=PATH, got '{item}'", param_hint="--data")
    return name, path
