"""goodnet sign."""

from __future__ import annotations

from pathlib import Path

import click

from goodnet.cli.console import output
from goodnet.reports.signatures import sign_run

_PATH = click.Path(path_type=Path)


@click.command("sign", short_help="Sign the folder of a run, so that others can check that it comes from you.")
@click.argument("run", type=_PATH)
@click.option("--key", type=_PATH, required=True, help="Private key, as `goodnet keys` writes it.")
def command(run: Path, key: Path) -> None:
    """Sign all files in RUN, the folder that a scan, repair, guard or another verb wrote.

    SHA256SUMS lists the hash of each file, and SHA256SUMS.sig is the signature of that list. The run's record holds the hashes
    of the network and the data. `goodnet verify RUN --signed-by PUBLIC_KEY` checks the signature and runs the verb again.
    """
    names = sign_run(run, key)
    output().print(f"signed: {len(names)} files in {run}", markup=False, soft_wrap=True)
