"""Tasks that failed: most are a record, and the others go on."""

from __future__ import annotations

from goodnet.core.errors import UnwritableOutput
from goodnet.core.results import Failure
from goodnet.execution import Outcome


def note_failure(outcome: Outcome, failures: dict[str, Failure]) -> None:
    """Put the error of a task, if it had one, among the others, by the task's key.

    Raises:
        UnwritableOutput: the task could not write, and so no other one can.
    """
    if outcome.error is None:
        return
    if outcome.error.kind == UnwritableOutput.__name__:
        raise UnwritableOutput(outcome.error.message)
    failures[outcome.key] = outcome.error
