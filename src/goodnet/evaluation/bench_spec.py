"""The spec of a bench: which networks, which scanners, repairers and guards; checked before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

from pydantic import Field, model_validator

from goodnet import catalog
from goodnet.catalog import Family
from goodnet.core.errors import InvalidOption
from goodnet.core.method import Guard, Method
from goodnet.core.preprocessing import RangeOption
from goodnet.evaluation.badnet_files import Truth
from goodnet.evaluation.zoo import MadeData, MadePair, read_manifest
from goodnet.formats.files import require_file
from goodnet.formats.toml_files import Strict


class MethodSpec(Strict):
    """A method with options, under a label of its own.

    A repairer and a guard may be told the backdoors that a scanner suspects (`suspected_by`), a guard may be given the
    network that a repairer made (`repaired_by`); both name a label of this spec.
    """

    method: str
    label: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    suspected_by: str | None = None
    repaired_by: str | None = None

    @property
    def name(self) -> str:
        """The label in tables: the method's name where none is given."""
        return self.label or self.method.replace("-", "_")

    def kind(self, family: Family) -> type[Method]:
        """Return the method's class.

        Raises:
            UnknownMethod: there is no such method.
        """
        return catalog.find(family, self.method)

    def make(self, family: Family) -> Method:
        """Return the method with its options.

        Raises:
            InputError: there is no such method, or an option is misspelt or out of bounds.
        """
        return self.kind(family).from_options(**self.options)

    def module(self, family: Family) -> str:
        """Return the module that holds the method."""
        return self.kind(family).__module__


class Subject(Strict):
    """A network to be judged, and what to judge it by; paths.

    `clean` is what the defender gets; `test` and `triggered` (by trigger) are what only the bench sees. `attack` groups
    tables; the twin of an attacked network has the same. `targets` are the true target classes.
    """

    name: str
    model: str
    clean: str
    test: str
    triggered: dict[str, str] = Field(default_factory=dict)
    true_labels: str | None = None
    architecture: str | None = None
    input_range: RangeOption = "auto"
    attack: str = "listed"
    backdoored: bool | None = None
    targets: tuple[int, ...] = ()

    @property
    def has_backdoor(self) -> bool:
        """The truth: as stated, else whether there are triggered images."""
        return bool(self.triggered) if self.backdoored is None else self.backdoored

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is judged by."""
        more = [] if self.true_labels is None else [self.true_labels]
        return tuple(Path(item) for item in (self.model, self.clean, self.test, *self.triggered.values(), *more))


class BenchSpec(Strict):
    """What a bench compares."""

    name: str = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    clean_images: int | None = Field(None, ge=1, description="at most so many clean images for the defender")
    cell_seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="a cell that takes longer is ended, and has failed"
    )
    scanners: tuple[MethodSpec, ...] = ()
    repairers: tuple[MethodSpec, ...] = ()
    guards: tuple[MethodSpec, ...] = ()
    models: tuple[Subject, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.scanners or self.repairers or self.guards):
            raise ValueError("a bench needs at least one of scanners, repairers and guards")
        for entries in (self.scanners, self.repairers, self.guards):
            names = [item.name for item in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"two methods have one label: {', '.join(names)}; give each a label of its own")
        for item in self.repairers:
            _check_reference(item.name, "suspected_by", item.suspected_by, self.scanners)
        for item in self.guards:
            _check_reference(item.name, "suspected_by", item.suspected_by, self.scanners)
            _check_reference(item.name, "repaired_by", item.repaired_by, self.repairers)
        return self

    def check_methods(self) -> None:
        """Make every method once.

        Raises:
            InputError: a method or an option of it does not exist, is out of bounds, or a guard lacks what it works on.
        """
        for item in self.scanners:
            item.make("scanners")
        for item in self.repairers:
            item.make("repairers")
        for item in self.guards:
            guard = cast(Guard, item.make("guards"))
            _require(item, "suspected_by", "a scanner", needed=guard.needs_suspects)
            _require(item, "repaired_by", "a repairer", needed=guard.needs_repaired)


def _require(item: MethodSpec, key: str, whom: str, *, needed: bool) -> None:
    if needed and getattr(item, key) is None:
        raise InvalidOption(f"{item.name}: this guard needs '{key}', the label of {whom} of this spec")


def _check_reference(name: str, key: str, label: str | None, known: tuple[MethodSpec, ...]) -> None:
    names = [item.name for item in known]
    if label is not None and label not in names:
        raise ValueError(f"{name}: {key} names '{label}'; expected one of {', '.join(names) or 'none, there are none'}")


def list_subjects(spec: BenchSpec, zoo: str | Path | None) -> tuple[Subject, ...]:
    """Return the networks of the zoo, pair by pair, then those that the spec lists.

    Raises:
        InputError: there are none, two have one name, or a file is missing.
    """
    subjects = (*(read_zoo(Path(zoo)) if zoo is not None else ()), *spec.models)
    if not subjects:
        raise InvalidOption("a bench needs networks: give --zoo, or [[models]] in the spec")
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise InvalidOption("two networks of the bench have one name; give each a name of its own")
    for subject in subjects:
        for path in subject.files:
            require_file(path)
    return subjects


def read_zoo(zoo: Path) -> list[Subject]:
    """Return the networks of a zoo that were built; broken ones are in its manifest.

    Raises:
        InputError: there is no manifest, or it cannot be read.
    """
    manifest = read_manifest(zoo)
    return [
        _zoo_subject(zoo, pair, twin, truth)
        for pair in manifest.pairs
        for twin, truth in (("poisoned", pair.poisoned), ("clean", pair.clean))
        if isinstance(truth, Truth) and isinstance(manifest.data[pair.data], MadeData)
    ]


def _zoo_subject(zoo: Path, pair: MadePair, twin: str, truth: Truth) -> Subject:
    folder, data = zoo / "pairs" / pair.name / twin, zoo / "data" / pair.data
    return Subject(
        name=f"{pair.name}/{twin}",
        model=str(folder / truth.model.file),
        clean=str(data / "clean_validation_data.h5"),
        test=str(data / "clean_test_data.h5"),
        triggered={name: str(folder / item.file) for name, item in truth.triggered.items()},
        architecture=truth.model.architecture,
        input_range=truth.model.input_range,
        attack=pair.attack,
        backdoored=twin == "poisoned",
        targets=tuple(sorted({item.target for item in truth.backdoors})),
    )
