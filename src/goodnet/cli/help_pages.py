"""Prebuilt pages for `goodnet VERB --help`, stored as text, so that help appears without importing torch.

A page shows the options of every verb's default method and the choices that goodnet comes with. Where another package brings
methods, where a method is named, or where the terminal is narrower than the pages, click writes the page instead.

    python -m goodnet.cli.help_pages        # writes them anew; a test compares them with what click writes
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

_FOLDER = Path(__file__).parent / "help"
#: A terminal at least so wide gets the pages; click then leaves a margin of two columns.
_WIDTH, _MARGIN = 80, 2


def page_of(words: Sequence[str]) -> str | None:
    """Return the page that a command line asks for; None for anything else, and for another method's options."""
    *verb, last = words or ("",)
    if last not in ("-h", "--help") or not verb or not all(word.isidentifier() for word in verb):
        return None
    path = _FOLDER / f"{'_'.join(verb)}.txt"
    if shutil.get_terminal_size().columns < _WIDTH or _others_bring_methods() or not path.is_file():
        return None
    return path.read_text(encoding="utf-8")


def _others_bring_methods() -> bool:
    families = ("scanners", "repairers", "guards", "attacks")
    return any(entry_points(group=f"goodnet.{family}") for family in families)


def verbs() -> list[tuple[str, ...]]:
    """Return the words of each verb: one or, where a verb has verbs of its own, two."""
    import click

    from goodnet.cli.verbs import goodnet

    context, found = click.Context(goodnet), []
    for name in goodnet.list_commands(context):
        command = goodnet.get_command(context, name)
        found += [(name,), *((name, part) for part in getattr(command, "commands", {}))]
    return found


def render(verb: Sequence[str]) -> str:
    """Return what click writes for `goodnet VERB --help`."""
    from click.testing import CliRunner

    from goodnet.cli.verbs import goodnet

    return CliRunner().invoke(goodnet, [*verb, "--help"], prog_name="goodnet", terminal_width=_WIDTH - _MARGIN).output


def main() -> None:
    """Write the pages."""
    _FOLDER.mkdir(exist_ok=True)
    for verb in verbs():
        (_FOLDER / f"{'_'.join(verb)}.txt").write_text(render(verb), encoding="utf-8")


if __name__ == "__main__":
    main()
