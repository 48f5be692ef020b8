"""The verbs as one group of click commands; each is a module that is loaded when it is called."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from goodnet import __version__
from goodnet.cli.last_resort import say

#: Verbs in the order of the job, with their one-line help, so that `goodnet --help` loads none of them.
_VERBS = {
    "inspect": "Show what a network or a data set is.",
    "scan": "Decide whether a network carries a backdoor.",
    "repair": "Repair a network with clean images alone.",
    "guard": "Refuse triggered inputs of a network that is in use.",
    "evaluate": "Measure networks and GoodNets on clean and triggered images.",
    "report": "Write one page about runs, for the person who decides whether to use the network.",
    "verify": "Repeat a scan, repair, guard or evaluation and compare.",
    "keys": "Make the keys that runs are signed with.",
    "sign": "Sign the folder of a run, so that others can check that it comes from you.",
    "predict": "Classify images with a GoodNet; triggered ones get class N.",
    "export": "Write a GoodNet as one file that runs without goodnet.",
    "serve": "Classify images over HTTP with a GoodNet.",
    "attack": "Make a backdoored network with known ground truth, to try defences on.",
    "zoo": "Build pairs of networks: a backdoored one and its clean twin.",
    "bench": "Try every defence on every network of a zoo, and make one table.",
    "demo": "Train a backdoored network on rendered faces, then scan, repair and evaluate it.",
}


class _Unseen(Exception):
    """Carries an error past click, as its cause."""


@contextmanager
def _past_click() -> Iterator[None]:
    """Hide what click would take for its own: a closed pipe (exit code 1), a file that ends too early (Ctrl-C), SIGTERM."""
    try:
        yield
    except (EOFError, SystemExit, KeyboardInterrupt) as error:
        raise _Unseen from error
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        raise _Unseen from error


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

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _past_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _past_click():
            return super().invoke(ctx)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="goodnet")
@click.option("--debug", is_flag=True, expose_value=False, help="Print the traceback of an unexpected error.")
def goodnet() -> None:
    """Find, repair and guard against backdoors in image classifiers that somebody else trained.

    You need the network and some clean images. `goodnet VERB --help` explains each verb.
    """


def run() -> int:
    """Run the verb that the command line names and return the exit code; 2 where click cannot make sense of it."""
    try:
        return goodnet.main(prog_name="goodnet", standalone_mode=False) or 0
    except _Unseen as unseen:
        raise (unseen.__cause__ or unseen) from None
    except SystemExit as stop:  # Of click itself, which has completed a word for the shell.
        return int(stop.code or 0)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
    except click.ClickException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "goodnet")
        say("goodnet", f"{error.format_message()} See {where} --help.")
    return 2
