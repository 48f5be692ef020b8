"""`python -m tests.hostile.table > docs/hostile-files.md`: the hostile files as a table."""

from __future__ import annotations

from collections import defaultdict

from tests.hostile.corpus import Case, all_cases
from tests.hostile.fuzzing import READERS

_TOP = """# Hostile files

`python -m tests.hostile.table > docs/hostile-files.md` makes this page; `pytest tests/hostile` makes the files and reads them.

Each file is read through the Python API and, where a verb takes it, through the command line. Pictures and request bodies are
also sent to the server. Every file must be refused. The refusal

* ends with exit code 2, or an HTTP status of 400 or more;
* prints one line with the reason, and nothing on standard output;
* runs no payload, and opens no connection and no other file (watched by an audit hook in Python, and by inotify for libraries);
* takes at most 512 MiB of memory and five seconds of processor time.

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
