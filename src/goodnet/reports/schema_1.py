"""Records of goodnet before typed results (schema 1), in today's layout."""

from __future__ import annotations

from typing import Any

from goodnet.core.repairs import PruningSweep


def as_current(content: Any) -> Any:
    """Return the content of a `run.json` in today's layout; what is not of schema 1 stays as it is.

    Only the results of repairs differ: the pruning sweep lay flat in the trace, "class" was the label of an accuracy by
    class, and a network that was left as it was had been changed by the method "none".

    Raises:
        KeyError, TypeError, AttributeError: it is no record of schema 1.
    """
    if content["schema_version"] != 1:
        return content
    result = content.get("result")
    if content["verb"] == "repair" and result is not None:
        networks = [entry | {"changes": _change(entry["changes"])} for entry in result["networks"]]
        content = content | {"result": result | {"networks": networks, "trace": _trace(dict(result["trace"]))}}
    return content | {"schema_version": 2}


def _change(changes: Any) -> Any:
    return {name: value for name, value in changes.items() if (name, value) != ("method", "none")}


def _trace(trace: Any) -> Any:
    if "pruned_at_threshold" in trace:
        trace["sweep"] = {name: trace.pop(name) for name in PruningSweep.model_fields}
    if "diff" in trace:
        rows = [row | {"label": row["class"]} for row in trace["diff"]["per_class"]]
        for row in rows:
            del row["class"]
        trace["diff"] = trace["diff"] | {"per_class": rows}
    return trace
