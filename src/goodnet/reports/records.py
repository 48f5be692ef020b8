"""What verbs wrote to their folders, read back by the classes that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from goodnet.core.errors import UnreadableData
from goodnet.core.repairs import RepairRecord
from goodnet.core.results import Detection, Evaluation, Rate, Record, Run
from goodnet.evaluation.badnet_files import AttackRecord
from goodnet.formats.files import require_inside
from goodnet.formats.json_texts import read_json
from goodnet.guards.calibration import Calibration
from goodnet.pipelines.guard_outcome import TargetRefusals
from goodnet.pipelines.surrogate_triggers import SurrogateRate
from goodnet.reports.schema_1 import as_current

Content = TypeVar("Content")


class FalseRefusals(Record):
    """The false-refusal rate to be expected, from `n` clean images, and what it lies below with 95 % confidence."""

    n: int
    expected: float
    bound: float

    @classmethod
    def of(cls, calibration: Calibration | None) -> FalseRefusals | None:
        """Return the share of false refusals that a calibration promises; None if there is no calibration."""
        if calibration is None:
            return None
        return cls(n=calibration.n, expected=calibration.expected, bound=calibration.bound)


class GoodNetRecord(Record):
    """What `guard.json` holds of the GoodNet in `folder`: what it refuses, of clean images and of triggered ones."""

    folder: str
    targets: tuple[int, ...] | None
    tolerance: float
    false_refusals: FalseRefusals | None
    refused_clean: Rate
    of_targets: tuple[TargetRefusals, ...] = ()
    surrogates: tuple[SurrogateRate, ...]


class GuardRecord(Record):
    """What `guard.json` holds: the guard, what it refuses, of clean images and of triggered ones, and its GoodNet."""

    method: str
    threshold: float
    targets: tuple[int, ...]
    false_refusals: FalseRefusals | None
    refused_clean: Rate
    of_targets: tuple[TargetRefusals, ...] = ()
    surrogates: tuple[SurrogateRate, ...]
    goodnet: GoodNetRecord | None
    warnings: tuple[str, ...] = ()


class OtherResult(Record):
    """The result of a verb that no reader knows better."""

    model_config = ConfigDict(extra="allow")


#: What each verb leaves.
_RESULTS: dict[str, Any] = {
    "scan": Detection,
    "repair": RepairRecord,
    "guard": GuardRecord,
    "evaluate": Evaluation,
    "attack": AttackRecord,
}


def read_run(path: Path) -> Run:
    """Read a `run.json` and its result, also where that lies in a file of its own.

    Raises:
        UnreadableData: a file is missing, damaged, or of another version of goodnet.
    """
    text = require_inside(path, path.parent).read_bytes()
    try:
        content = as_current(read_json(text))
        run = Run.model_validate(content | {"result": None})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableData(
            f"{path}: expected the record of a run, but it is damaged or of another version"
        ) from error
    kind = _RESULTS.get(run.verb, OtherResult)
    if run.result_file is not None:
        result = read_record(path.with_name(Path(run.result_file).name), kind)
    elif content["result"] is None:
        return run
    else:
        try:
            result = TypeAdapter(kind).validate_python(content["result"])
        except ValidationError as error:
            raise UnreadableData(f"{path}: expected the result of {run.verb}, but it is damaged") from error
    return run.model_copy(update={"result": result})


def read_record(path: str | Path, kind: type[Content]) -> Content:
    """Read a record of this kind from a JSON file.

    Raises:
        UnreadableData: the file is missing, damaged, or holds something else.
    """
    path = require_inside(Path(path), Path(path).parent)
    text = path.read_bytes()
    try:
        read_json(text)
        return TypeAdapter(kind).validate_json(text)
    # Of what a validator raises pydantic turns a ValueError alone into its own error.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableData(
            f"{path}: expected a record of the kind {kind.__name__}, but the file is damaged or holds something else"
        ) from error
