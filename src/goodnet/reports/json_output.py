"""Results as JSON for programs: the metric names are the keys."""

from __future__ import annotations

import json
from typing import Any

from goodnet.core.results import SCHEMA_VERSION, Evaluation, Row


def evaluation_json(evaluation: Evaluation) -> str:
    """Return an evaluation as JSON.

    The first keys are the metrics of the last row (the GoodNet, where there is one); `networks` holds every row by its
    name. A rate is `{value, n, low, high}`. Where there are poisoned sets, their rates are listed by file name.
    """
    networks = {row.name: _row(row) for row in evaluation.rows}
    content = _row(evaluation.subject) | {
        "subject": evaluation.subject.name,
        "networks": networks,
        "input_range": evaluation.input_range,
        "schema_version": SCHEMA_VERSION,
    }
    return json.dumps(content, indent=2)


def _row(row: Row) -> dict[str, Any]:
    how = row.model_dump(exclude={"metrics", "name"}, exclude_none=True)
    return row.metrics.model_dump() | how
