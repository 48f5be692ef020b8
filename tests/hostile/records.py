"""Folders of runs whose records, arrays and pictures are a stranger's."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import zips
from tests.hostile.corpus import Family, Place
from tests.hostile.npz_files import described, header, npy
from tests.hostile.torch_files import Calls

FAMILY = Family("records")
RUN: dict[str, Any] = {
    "schema_version": 1,
    "verb": "scan",
    "method": "ensemble",
    "options": {},
    "seed": 0,
    "seconds": 1.0,
    "started": "2026-01-01T00:00:00+00:00",
    "versions": {},
    "inputs": {"model: net.h5": "0" * 64},
    "result": {"verdict": "clean"},
    "error": None,
}


def write(place: Place, text: str) -> Path:
    """Write the folder of a run."""
    folder = place.folder / "run"
    folder.mkdir()
    (folder / "run.json").write_text(text)
    return folder


def run(**changes: Any) -> str:
    return json.dumps(RUN | changes)


RECORDS: dict[str, str] = {
    "a duplicate key": run()[:-1] + ', "verb": "repair"}',
    "nested without end": run().replace('"clean"', "[" * 100_000 + "]" * 100_000),
    "a number of ten thousand digits": run().replace('"seed": 0', '"seed": ' + "9" * 10_000),
    "a key too many": run(evil=1),
    "half a record": run()[:80],
    "a list": "[]",
    "nothing": "",
    "a result of another verb": run(result={"networks": 3}),
    "a result of texts": run(result={"verdict": ["<script>"], "scores": "x", "threshold": None}),
    "a repair of nothing": run(verb="repair", result={"networks": [{"file": "../../x"}]}),
    # Found by fuzzing: a number without end has no whole number.
    "a class without end": run(
        result={
            **{"verdict": "backdoored", "suspected": [], "reason": "", "threshold": 1.0, "scores": [1.0]},
            **{"evidence": {}, "clean_accuracy": None, "notes": [], "unscanned": [float("inf")]},
        }
    ),
    "a guard of nothing": run(verb="guard", result={"guard": 1}),
    "an evaluation of nothing": run(verb="evaluate", result={"rows": [{}]}),
    "an evaluation without rows": run(
        verb="evaluate", result={"rows": [], "input_range": "0..1", "input_range_reason": ""}
    ),
}
for _name, _text in RECORDS.items():

    def _recorded(place: Place, text: str = _text) -> Path:
        return write(place, text)

    FAMILY.add("not a record", "runs", "", _recorded, f"a record with {_name}")


def _pipe(folder: Path, _: Place) -> None:
    os.mkfifo(folder / "run.json")


def _link(folder: Path, place: Place) -> None:
    (folder / "run.json").symlink_to(place.secret)


for _name, _change, _says in (
    ("a record that is a pipe", _pipe, "no run"),
    ("a record that is a link", _link, "leads out"),
):

    def _replaced(place: Place, change: Callable[[Path, Place], None] = _change) -> Path:
        folder = place.folder / "run"
        folder.mkdir()
        change(folder, place)
        return folder

    FAMILY.add("not a file", "runs", _says, _replaced, _name)


def backdoors(**members: bytes) -> dict[str, bytes]:
    """Return the members of suspected.npz."""
    sound = {
        "targets": npy(np.array([0])),
        "mask_0": npy(np.zeros((1, 4, 4), np.float32)),
        "pattern_0": npy(np.zeros((3, 4, 4), np.float32)),
    }
    return {f"{name}.npy": content for name, content in (sound | members).items()}


ARRAYS: dict[str, bytes] = {
    "targets that lie": zips.pack(backdoors(targets=header(described("(1099511627776,)", "<i8")))),
    "targets that are texts": zips.pack(backdoors(targets=npy(np.array(["x"])))),
    "targets without end": zips.pack(backdoors(targets=npy(np.array([[0]])))),
    "a mask of objects": zips.pack(backdoors(mask_0=npy(np.array([None])))),
    "a mask of words": zips.pack(backdoors(mask_0=npy(np.array(["x"])))),
    "a zip bomb": zips.pack(backdoors(mask_0=npy(np.zeros((1, 1 << 13, 1 << 13), np.float32))), zipfile.ZIP_DEFLATED),
    "no archive": b"PK\3\4",
}
for _name, _content in ARRAYS.items():

    def _suspected(place: Place, content: bytes = _content) -> Path:
        folder = place.folder / "scan"
        folder.mkdir()
        (folder / "suspected.npz").write_bytes(content)
        return folder

    FAMILY.add("suspected backdoors", "backdoors", "", _suspected, f"suspected.npz with {_name}")


@FAMILY.file("suspected backdoors", "backdoors", "holds objects")
def a_payload_among_the_backdoors(place: Place) -> Path:
    folder = place.folder / "scan"
    folder.mkdir()
    payload = npy(np.array([Calls(os.system, place.command)], dtype=object))
    (folder / "suspected.npz").write_bytes(zips.pack(backdoors(sources_0=payload)))
    return folder


@FAMILY.file("suspected backdoors", "backdoors", "leads out")
def suspected_npz_that_is_a_link(place: Place) -> Path:
    folder = place.folder / "scan"
    folder.mkdir()
    (folder / "suspected.npz").symlink_to(place.secret)
    return folder
