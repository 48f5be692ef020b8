"""The command line: arguments in, exit code out. Each verb is a module that is loaded when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from goodnet import __version__
from goodnet.core.errors import GoodnetError, InputError

#: Verbs in the order of the job, with their one-line help, so that `goodnet --help` loads none of them.
_VERBS = {
    "inspect": "Show what a network or a data set is.",
    "scan": "Decide whether a network carries a backdoor.",
    "repair": "Repair a network with clean images alone.",
    "guard": "Refuse backdoored inputs of a network that is in use.",
    "evaluate": "Measure networks and GoodNets on clean and poisoned data.",
    "report": "Write one page about runs, for the person who must decide.",
    "predict": "Classify images with a GoodNet; backdoored ones get class N.",
    "export": "Write a GoodNet as one file that runs without goodnet.",
    "serve": "Answer requests for classifications over HTTP with a GoodNet.",
    "attack": "Make a BadNet whose truth is known, to try defences on.",
    "zoo": "Build pairs of twins: BadNets and clean networks of the same make.",
    "bench": "Try every defence on every network of a zoo; one table.",
    "demo": "Make a BadNet of rendered faces and go through the whole job.",
}


class _Verbs(click.Group):
    """Loads a verb's module when it is called, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f"goodnet.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="goodnet")
def goodnet() -> None:
    """Find, repair and guard against backdoors in image classifiers that somebody else trained.

    You need the network and some clean images. `goodnet VERB --help` explains each verb.
    """


def main() -> None:
    """Run the command line; errors are one line, exit code 2 for bad input and 3 where a method failed."""
    try:
        goodnet.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "goodnet")
        click.echo(f"goodnet: {error.format_message()} See {where} --help.", err=True)
        sys.exit(2)
    except GoodnetError as error:
        click.echo(f"goodnet: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 3)
