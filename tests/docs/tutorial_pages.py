"""Reads a tutorial's code blocks, and says whether a command printed what its page promises.

====================  ==============================================================================================
block                 what is done with it
====================  ==============================================================================================
```console            each line that starts with `$ ` is run; the lines below it are what it must print
```python             is run; a ```text block right below it is what it must print
first line `# PATH`   of a python or toml block: it is written to PATH, and not run
====================  ==============================================================================================

A line of `...` stands for lines left out, `...` within a line for anything. Each promised line must be printed, in that
order; frames of tables and runs of spaces do not count, and a number with a decimal point may be somewhat off, since
training differs in the last digits from machine to machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: How far a number may be from the one on the page: a fraction in [0, 1] by this much, a larger one by this share.
_FRACTION_OFF, _SHARE_OFF = 0.15, 0.6
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FRAME = re.compile(r"[\u2500-\u257f]+")
_DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]\d)")
_PATH = re.compile(r"# ([\w./-]+\.\w+)")
LEFT_OUT = "..."


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line on which it starts."""

    language: str
    text: str
    line: int

    @property
    def path(self) -> str | None:
        """The file that the block shows, None where it is something to run."""
        first = _PATH.fullmatch(self.text.partition("\n")[0].strip())
        return first[1] if first and self.language in ("python", "toml") else None

    def commands(self) -> list[tuple[str, list[str]]]:
        """Return the commands of a console block, each with the lines that it must print."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((re.sub(r"\s+", " ", line[2:]).strip(), []))
            elif not found:
                raise ValueError(f"line {self.line}: a console block starts with a command, `$ ...`")
            else:
                found[-1][1].append(line)
        return found


def read_blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order.

    Raises:
        ValueError: a fence is not one that is understood, so a block could be overlooked.
    """
    blocks = [Block(m[1], m[2], page[: m.start()].count("\n") + 1) for m in _FENCE.finditer(page)]
    fences = sum(line.lstrip().startswith(("```", "~~~")) for line in page.splitlines())
    if fences != 2 * len(blocks):
        raise ValueError(f"found {fences} fences and {len(blocks)} blocks; fences start at the margin, and end")
    return blocks


def missing_line(promised: list[str], printed: str) -> str | None:
    """Return the first promised line that was not printed after those before it, None where all were."""
    rest = iter([_plain(line) for line in printed.splitlines()])
    for line in promised:
        wanted = _plain(line)
        if wanted and wanted != LEFT_OUT and not any(_agree(wanted, line) for line in rest):
            return line
    return None


def _plain(line: str) -> str:
    return " ".join(_FRAME.sub(" ", line).split())


def _agree(wanted: str, line: str) -> bool:
    parts = re.split(r" ?\.\.\. ?", _DECIMAL.sub("\0", wanted))
    found = re.fullmatch(".*".join(map(re.escape, parts)).replace("\0", r"(\d+\.\d+)"), line)
    numbers = [float(number) for number in _DECIMAL.findall(wanted)]
    return found is not None and all(
        abs(float(came) - number) <= (_FRACTION_OFF if number <= 1 else _SHARE_OFF * number)
        for came, number in zip(found.groups(), numbers, strict=True)
    )
