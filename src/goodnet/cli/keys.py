"""goodnet keys."""

from __future__ import annotations

from pathlib import Path

import click

from goodnet.cli.console import output
from goodnet.reports.signatures import make_keys


@click.command("keys", short_help="Make the keys that runs are signed with.")
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Write a new private key to PATH, and the public key that belongs to it to PATH.pub.

    Whoever has the private key can sign in your name: keep it where only you can read it. Give the public key to whoever is
    to check your runs. Both are PEM files (Ed25519), which OpenSSL reads too. An existing file is never overwritten.
    """
    private, public = make_keys(path)
    output().print(f"private key: {private}; public key: {public}", markup=False, soft_wrap=True)
