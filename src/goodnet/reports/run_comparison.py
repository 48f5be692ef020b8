"""The folder of a run against that of its repetition: results field by field, files by their bytes, networks by their weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from goodnet.core.classifier import Classifier
from goodnet.core.errors import InputError, UnreadableData
from goodnet.core.results import Run
from goodnet.core.tables import show_value
from goodnet.core.verification import Comparison
from goodnet.formats.files import leads_outside, require_inside, sha256
from goodnet.formats.json_texts import read_json
from goodnet.formats.networks import read_network
from goodnet.formats.shown_paths import show_path
from goodnet.reports.signatures import SIGNATURE_FILES

_RECORD = "run.json"
#: Fields of results that are not compared: they may hold paths.
_NOT_COMPARED = ("notes",)
#: What a file of this ending is called; of others nobody says that they hold no network.
_KINDS = {".png": "figure", ".csv": "table", ".npz": "arrays", ".json": "record"}
#: So many files that are no part of the run are named.
_NAMED = 5
#: A value in a message has at most so many characters.
_SHOWN = 60


def compare_runs(
    recorded: Path, repeated: Path, original: Classifier | None = None, *, confine: bool = True
) -> tuple[Comparison, ...]:
    """Compare what a run left in its folder with what its repetition left in another.

    Args:
        recorded, repeated: the two folders; the first may be a stranger's.
        original: networks whose files differ are read as this one was; without it they are not read.
        confine: let a process of its own, which can reach nothing, read them.

    Raises:
        UnreadableData: a record is damaged, or a file is a link that leads out of the first folder.
    """
    first, again = _read_result(recorded), _read_result(repeated)
    names = dict.fromkeys((*first, *again))
    fields = [_compare_field(name, first, again) for name in names if name not in _NOT_COMPARED]
    own = [name for name in _files(repeated) if str(name) not in _records(repeated)]
    return (*fields, *(_compare_file(recorded, repeated, name, original, confine) for name in own))


def other_files(recorded: Path, repeated: Path) -> str | None:
    """Return a note on what lies in a run's folder and is no part of the run, None where there is nothing."""
    own = {*_files(repeated), *map(Path, _records(repeated)), *map(Path, SIGNATURE_FILES)}
    others = [show_path(name) for name in _files(recorded) if name not in own]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f"no part of the run, not compared: {', '.join(others[:_NAMED])}{more}" if others else None


def compare_versions(recorded: Run, repeated: Run) -> list[str]:
    """Return a note for each version that is another one than recorded."""
    return [
        f"{name} {recorded.versions.get(name, 'of an unknown version')} is recorded, this is {version}"
        for name, version in repeated.versions.items()
        if recorded.versions.get(name) != version
    ]


def _read_result(folder: Path) -> dict[str, Any]:
    """Return the result in a run's folder as it is written, or the error that ended the run."""
    content = _read_object(folder, _RECORD)
    if content.get("error") is not None:
        return {"error": content["error"]}
    named = content.get("result_file")
    if named is not None:
        return _read_object(folder, Path(str(named)).name)
    result = content.get("result")
    if not isinstance(result, dict):
        raise UnreadableData(f"{show_path(folder / _RECORD)}: expected a result or an error, and there is neither")
    return result


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    path = require_inside(folder / name, folder)
    try:
        content = read_json(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnreadableData(f"{show_path(path)}: expected JSON, but the file is damaged") from error
    if not isinstance(content, dict):
        raise UnreadableData(f"{show_path(path)}: expected a record in JSON, found something else")
    return content


def _records(folder: Path) -> set[str]:
    """Return the names of the files that are compared field by field."""
    return {_RECORD, str(_read_object(folder, _RECORD).get("result_file") or _RECORD)}


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def _compare_field(name: str, first: dict[str, Any], again: dict[str, Any]) -> Comparison:
    for content, where in ((first, "record"), (again, "repetition")):
        if name not in content:
            return Comparison(what=name, difference=f"missing in the {where}")
    found = next(_differences(name, first[name], again[name]), None)
    return Comparison(what=name, difference=found)


def _differences(where: str, first: Any, again: Any) -> Iterator[str]:
    """Say how two values of JSON differ, one part after the other."""
    if isinstance(first, dict) and isinstance(again, dict) and first.keys() == again.keys():
        for key in first:
            yield from _differences(f"{where}.{key}", first[key], again[key])
    elif isinstance(first, list) and isinstance(again, list) and len(first) == len(again):
        for place, pair in enumerate(zip(first, again, strict=True)):
            yield from _differences(f"{where}[{place}]", *pair)
    elif first != again or type(first) is not type(again):
        yield f"{where} is {_show(first)} in the record, {_show(again)} now"


def _show(value: object) -> str:
    # Numbers in full: two that differ in the last digit must not look alike.
    text = repr(value) if isinstance(value, float | str) else show_value(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _compare_file(recorded: Path, repeated: Path, name: Path, original: Classifier | None, confine: bool) -> Comparison:
    kind, path = _KINDS.get(name.suffix, "network"), recorded / name
    what = f"{kind} {show_path(name)}"
    if not path.exists() and not path.is_symlink():
        return Comparison(what=what, difference="missing in the folder of the run")
    for place in (path, *path.parents[: len(name.parts) - 1]):
        if leads_outside(place, recorded):
            raise UnreadableData(
                f"{show_path(place)}: refused, it is a link that leads out of its folder; copy the file there"
            )
    if sha256(require_inside(path, recorded)) == sha256(repeated / name):
        return Comparison(what=what)
    if kind == "network" and original is not None:
        return Comparison(what=what, difference=_compare_weights(path, repeated / name, original, confine))
    return Comparison(what=what, difference="its bytes differ")


def _compare_weights(first: Path, again: Path, original: Classifier, confine: bool) -> str | None:
    """Say in which weights two networks differ whose files differ; None: in none."""
    how = (original.architecture, original.image_shape)
    try:
        networks = [read_network(path, *how, confine=confine) for path in (first, again)]
    except InputError as error:
        return f"its bytes differ, and it cannot be read as a network ({error})"
    weights, now = (network.network.state_dict() for network in networks)
    if weights.keys() != now.keys():
        return "it has other layers"
    for name, value in weights.items():
        if value.shape != now[name].shape or not torch.equal(value, now[name]):
            return f"the weights '{name}' differ"
    return None
