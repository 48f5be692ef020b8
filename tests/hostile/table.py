"""`python -m tests.hostile.table > docs/hostile-files.md`: the hostile files as a table."""

from __future__ import annotations

from collections import defaultdict

from tests.hostile.corpus import Case, all_cases
from tests.hostile.fuzzing import READERS

_TOP = """# Hostile files

Made by `python -m tests.hostile.table > docs/hostile-files.md`; the files are made, and tried, by `pytest tests/hostile`.

Each file is read through the Python API and, where a verb takes it, through the command line; pictures and bodies of requests
through the server as well. It must be refused: exit code 2 (of the server a status from 400 on), one line of reason that can be
printed, nothing on standard output. And for each: no mark is made, no address called, no other file opened (an audit hook for
Python, inotify for libraries), at most 512 MiB and five seconds of the processor.

"""
_FUZZ = """
## Damaged files

`pytest tests/hostile/test_fuzzing.py` reads {count:,} damaged files in each run, and
`python benchmarks/fuzz.py READER --count N` as many as one likes, for each of: {names}.
Each must be taken or refused with an error of goodnet's own.
"""


def page() -> str:
    """Return the page: a line for each kind."""
    cases = all_cases()
    kinds: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        kinds[case.kind].append(case)
    lines = [
        f"{len(cases)} files of {len(kinds)} kinds:",
        "",
        "| kind | files | for example | stands for |",
        "|---|---|---|---|",
    ]
    lines += [_line(kind, found) for kind, found in kinds.items()]
    count = sum(reader.in_tests for reader in READERS.values())
    return _TOP + "\n".join(lines) + "\n" + _FUZZ.format(count=count, names=", ".join(READERS))


def _line(kind: str, cases: list[Case]) -> str:
    threats = dict.fromkeys(part for case in cases for part in case.threat.split(", ") if part)
    example = cases[0].name.partition(": ")[2]
    return f"| {kind} | {len(cases)} | {example} | {_join(threats)} |"


def _join(threats: dict[str, None]) -> str:
    """Return advisories, the word CVE once."""
    numbers = [threat.removeprefix("CVE-") for threat in threats if threat[:4] in ("CVE-", "2025", "2026", "2027")]
    others = [threat for threat in threats if threat.removeprefix("CVE-") not in numbers]
    return ", ".join([*([f"CVE-{', '.join(numbers)}"] if numbers else []), *others])


if __name__ == "__main__":
    print(page(), end="")
