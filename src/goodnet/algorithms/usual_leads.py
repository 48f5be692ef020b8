"""By how much the first class leads the second in clean networks, for each kind of evidence."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class UsualLead:
    """The `mean` lead over so many clean `networks`.

    Its unit is the robust deviation of the classes' values if `relative`, else that of the values.
    """

    mean: float
    relative: bool
    networks: int


def _read() -> dict[str, UsualLead]:
    table = tomllib.loads(files(__package__).joinpath("usual_leads.toml").read_text(encoding="utf-8"))
    return {kind: UsualLead(**row) for kind, row in table.items()}


#: Kind of evidence -> the usual lead; `benchmarks/scan_rule.py leads` prints the table.
USUAL_LEADS = _read()
