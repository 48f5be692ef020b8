"""The command line: arguments in, exit code out. Each verb is a module that is loaded when it is called."""

from __future__ import annotations

import importlib
import sys
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from goodnet.cli.last_resort import finish

if TYPE_CHECKING:
    from goodnet.cli.verbs import goodnet as goodnet


def main() -> None:
    """Run the command line; errors are one line, and the exit code says how it ended.

    It is the verb's own where it came to its end, 2 for bad input, 3 where a method failed, 70 for a fault of goodnet,
    130 after Ctrl-C, 143 after SIGTERM, and 141 where what reads the output went away.
    """
    before_the_verb = takewhile(lambda word: word.startswith("-"), sys.argv[1:])
    finish("goodnet", _run_verb, debug="--debug" in before_the_verb)


def _run_verb() -> int:
    # Imported under the last resort: a package may be missing or broken.
    from goodnet.cli.help_pages import page_of

    page = page_of(sys.argv[1:])
    if page is not None:
        print(page, end="")
        return 0
    from goodnet.cli.verbs import run

    return run()


def __getattr__(name: str) -> Any:
    # The group of verbs is loaded on first use, after the last resort is in place.
    if name != "goodnet":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return importlib.import_module("goodnet.cli.verbs").goodnet
