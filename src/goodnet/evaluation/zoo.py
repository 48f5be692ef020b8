"""The zoo: pairs of twins, one with a backdoor and one without, and a manifest that holds the truth.

::

    OUT/manifest.json                      the truth about every pair, without times: the same bytes for the same spec
    OUT/seconds.csv                        how long each network took
    OUT/data/NAME/clean_*_data.h5          the defender's images and the test images of each data set
    OUT/pairs/NNN_DATA_ATTACK/poisoned/    model, backdoor.json, triggers, triggered test images
    OUT/pairs/NNN_DATA_ATTACK/clean/       its twin

Each network is made in a folder with a temporary name, which is renamed when it is complete. A build that was stopped
continues: a network is kept if the hash of everything that it depends on is unchanged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from goodnet import architectures
from goodnet.core.errors import UnreadableData
from goodnet.core.method import Progress, no_progress
from goodnet.core.results import SCHEMA_VERSION, Failure, Record
from goodnet.datasets.sources import Parts, source_files
from goodnet.devices import choose_device
from goodnet.evaluation.badnet_files import TRUTH, Origin, Truth, read_truth, write_clean_parts, write_planted
from goodnet.evaluation.failures import note_failure
from goodnet.evaluation.planting import plant
from goodnet.evaluation.provenance import hash_files, hash_json, hash_source
from goodnet.evaluation.zoo_spec import DataSpec, Pair, ZooSpec, describe_data, draw_pairs, fill_sources, read_data_spec
from goodnet.execution import Execution, Task, run_tasks
from goodnet.formats.files import output_folder, remove, replacing_folder, require_file, sha256, write_text

Twin = Literal["poisoned", "clean"]

MANIFEST = "manifest.json"
_DEPENDS = "depends.json"
#: Two networks over the same images, one after the other in a process, read them once.
_SETS_IN_MEMORY = 1


@dataclass(frozen=True)
class Entry:
    """One network to make: a twin of a pair, the images that it needs, and the hash of all that it depends on."""

    pair: Pair
    twin: Twin
    data: DataSpec
    origin: Origin
    test_images: int
    depends: str

    @property
    def key(self) -> str:
        """The folder under `pairs`."""
        return f"{self.pair.name}/{self.twin}"


def build_zoo(
    spec: ZooSpec,
    out: str | Path,
    *,
    data: Mapping[str, str] | None = None,
    where: Execution = Execution(),
    progress: Progress = no_progress,
) -> Manifest:
    """Build what is missing of a zoo and return its manifest.

    Args:
        spec: what it holds.
        out: its folder.
        data: sources for data sets of the spec, by name.
        where: where the networks are trained; each is one task.
        progress: called with the number of networks that are done.

    Raises:
        InputError: something in the spec or the data cannot work; nothing has been trained.
        UnwritableOutput: the disk is full, or `out` may no longer be written to; what was finished is kept.
    """
    where.require_place()
    spec = fill_sources(spec, data or {})
    pairs = draw_pairs(spec, {name: describe_data(item) for name, item in spec.data.items()})
    entries = _list_entries(spec, pairs)
    out = output_folder(out).resolve()
    _sweep(out)
    tasks = [Task(f"data {name}", _write_data, (item, _origin(name, item), out)) for name, item in spec.data.items()]
    tasks += [
        Task(e.key, _build_entry, (e, out, where.device)) for e in entries if _depends(_folder(out, e)) != e.depends
    ]
    total, done = len(entries) + len(spec.data), len(entries) + len(spec.data) - len(tasks)
    failures: dict[str, Failure] = {}
    for outcome in run_tasks(tasks, where.engine()):
        note_failure(outcome, failures)
        done += 1
        progress(done, total)
    return _write_manifest(out, spec, pairs, failures)


def _list_entries(spec: ZooSpec, pairs: tuple[Pair, ...]) -> list[Entry]:
    """Return the networks to make: those over the same data next to each other, data in the order of the spec."""
    origins = {name: _origin(name, item) for name, item in spec.data.items()}
    twins: tuple[Twin, ...] = ("poisoned", "clean")
    entries = []
    for pair in sorted(pairs, key=lambda item: list(spec.data).index(item.data)):
        item, origin = spec.data[pair.data], origins[pair.data]
        for twin in twins:
            depends = _hash_entry(pair, twin, item, origin, spec.test_images)
            entries.append(Entry(pair, twin, item, origin, spec.test_images, depends))
    return entries


def _origin(name: str, item: DataSpec) -> Origin:
    """Return the name of a data set and a hash of its files, or of the word and the code that makes it."""
    files = source_files(str(item.source), item.test)
    made = hash_source("goodnet.datasets.sources") if not files else ""
    return Origin(name, hash_json([hash_files(files) if files else str(item.source), item.seed, made]))


def _hash_entry(pair: Pair, twin: Twin, item: DataSpec, origin: Origin, test_images: int) -> str:
    own = f"goodnet.architectures.{architectures.find(pair.architecture).name}"
    code = hash_source("goodnet.evaluation.planting", "goodnet.evaluation.badnet_files", own)
    what: dict[str, Any] = {"pair": pair.model_dump(mode="json"), "data": origin.sha256, "seed": item.seed}
    what |= {"twin": twin, "test_images": test_images, "code": code, "torch": torch.__version__}
    if twin == "poisoned":
        what["attack"] = hash_source(f"goodnet.attacks.{pair.attack}")
    return hash_json(what)


def _folder(out: Path, entry: Entry) -> Path:
    return out / "pairs" / entry.key


def _depends(folder: Path) -> str | None:
    """Return the hash under which a network was made, None where it is missing or not whole."""
    try:
        content = json.loads((folder / _DEPENDS).read_text(encoding="utf-8"))
        return str(content["depends"]) if (folder / TRUTH).exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sweep(out: Path) -> None:
    """Remove the temporary folders that a killed build left behind."""
    for left in [*out.glob("pairs/*/.*"), *out.glob("data/.*"), *out.glob(".goodnet.*")]:
        if left.is_dir():
            remove(left)


@lru_cache(maxsize=_SETS_IN_MEMORY)
def _read_once(source: str, test: str | None, seed: int) -> Parts:
    return read_data_spec(DataSpec(source=source, test=test, seed=seed))


def _write_data(item: DataSpec, origin: Origin, out: Path) -> None:
    """Write the clean images of a data set, unless they are there."""
    folder = out / "data" / origin.data
    if _recorded(folder) == origin.sha256:
        return
    parts = _read_once(str(item.source), item.test, item.seed)
    with replacing_folder(folder) as temporary:
        files = write_clean_parts(temporary, parts)
        record = MadeData(origin=origin.sha256, files={path.name: sha256(path) for path in files})
        write_text(temporary / "data.json", record.model_dump_json(indent=2) + "\n")


def _recorded(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "data.json").read_text(encoding="utf-8"))["origin"])
    except (OSError, ValueError, KeyError):
        return None


def _build_entry(entry: Entry, out: Path, device: str) -> None:
    """Train one network and put its folder in place."""
    started = time.perf_counter()
    pair, folder = entry.pair, _folder(out, entry)
    parts = _read_once(str(entry.data.source), entry.data.test, entry.data.seed)
    checkpoint = out / "checkpoints" / f"{entry.depends}.pt"
    planted = plant(
        parts,
        pair.make_attack() if entry.twin == "poisoned" else None,
        pair.architecture,
        pair.training,
        seed=pair.seed,
        file_format=pair.file_format,
        device=choose_device(device),
        test_images=entry.test_images,
        checkpoint=checkpoint,
    )
    with replacing_folder(folder) as temporary:
        write_planted(temporary, planted, entry.origin)
        record = {"depends": entry.depends, "seconds": round(time.perf_counter() - started, 1)}
        write_text(temporary / _DEPENDS, json.dumps(record) + "\n")
    remove(checkpoint)


class MadeData(Record):
    """The files of a data set, with their hashes, and a hash of what they were made of (`origin`)."""

    origin: str
    files: dict[str, str]


class BrokenTwin(Record):
    """A network that could not be made."""

    error: Failure


class MadePair(Pair):
    """A pair with the truth about both twins, or why one of them is missing."""

    poisoned: Truth | BrokenTwin
    clean: Truth | BrokenTwin


class Manifest(Record):
    """What `manifest.json` holds: a zoo's data and pairs."""

    schema_version: int = SCHEMA_VERSION
    name: str
    seed: int
    data: dict[str, MadeData | Failure]
    pairs: tuple[MadePair, ...]


def _write_manifest(out: Path, spec: ZooSpec, pairs: tuple[Pair, ...], failures: Mapping[str, Failure]) -> Manifest:
    """Write the truth about all pairs and the table of seconds; return the truth."""
    manifest = Manifest(
        name=spec.name,
        seed=spec.seed,
        data={
            name: failures.get(f"data {name}") or MadeData(**_read_json(out / "data" / name / "data.json"))
            for name in sorted(spec.data)
        },
        pairs=tuple(
            MadePair(
                **dict(pair),
                poisoned=_read_twin(out, f"{pair.name}/poisoned", failures),
                clean=_read_twin(out, f"{pair.name}/clean", failures),
            )
            for pair in pairs
        ),
    )
    if not failures:  # A network that could not be written goes on from its checkpoint.
        remove(out / "checkpoints")
    write_text(out / "seconds.csv", _seconds(out, pairs))
    write_text(out / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _read_twin(out: Path, key: str, failures: Mapping[str, Failure]) -> Truth | BrokenTwin:
    return BrokenTwin(error=failures[key]) if key in failures else read_truth(out / "pairs" / key)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _seconds(out: Path, pairs: tuple[Pair, ...]) -> str:
    lines = ["network,seconds"]
    for pair in pairs:
        for twin in ("poisoned", "clean"):
            path = out / "pairs" / pair.name / twin / _DEPENDS
            lines += [f"{pair.name}/{twin},{_read_json(path)['seconds']}"] if path.exists() else []
    return "\n".join(lines) + "\n"


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of a zoo.

    Raises:
        UnreadableData: there is no zoo in the folder, or its manifest is damaged.
    """
    path = require_file(Path(folder) / MANIFEST)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UnreadableData(
            f"{path}: expected the manifest of a zoo (goodnet zoo build writes it), but the file is damaged"
        ) from error
