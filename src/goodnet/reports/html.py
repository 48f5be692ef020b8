"""A report as one HTML file: everything that the runs left behind, for the person who must decide.

The file needs no network, runs no script, and everything that came from a model, a data set or a path is escaped: as HTML,
and what does not print as in messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import TypeVar

from goodnet.core.errors import InputError, UnreadableData
from goodnet.core.one_line import describe_error
from goodnet.core.results import Record, Run
from goodnet.formats.shown_paths import show_path
from goodnet.reports.evaluation_section import MeasuredSection, evaluation_section
from goodnet.reports.facts import Fact, list_facts
from goodnet.reports.guard_section import guard_section
from goodnet.reports.inline_pictures import inline_file
from goodnet.reports.repair_section import RepairSection, repair_section
from goodnet.reports.run_folders import RunFolder
from goodnet.reports.scan_section import Picture, ScanSection, scan_section
from goodnet.reports.verdicts import Statement, state

Section = TypeVar("Section")
#: What the sections raise on a result that is none of their verb's.
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, StopIteration, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class OtherSection:
    """A run that has no section of its own kind, as lines of name and value; `error` where it failed."""

    folder: str
    model: str
    verb: str
    facts: tuple[Fact, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures of a network or a data set that `inspect` drew."""

    folder: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Provenance:
    """What a run took: the run, where it lies, its inputs (role, path, SHA-256) and its options."""

    folder: str
    run: Run
    inputs: tuple[tuple[str, str, str], ...]
    options: tuple[Fact, ...]


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    statements: tuple[Statement, ...]
    scans: tuple[ScanSection, ...]
    repairs: tuple[RepairSection, ...]
    guards: tuple[MeasuredSection, ...]
    evaluations: tuple[MeasuredSection, ...]
    others: tuple[OtherSection, ...]
    galleries: tuple[Gallery, ...]
    provenance: tuple[Provenance, ...]
    made: str
    version: str = field(default_factory=lambda: metadata.version("goodnet"))

    @property
    def readings(self) -> tuple[Statement, ...]:
        """One statement for each kind of verdict, so that its explanation is printed once."""
        return tuple({statement.standing: statement for statement in self.statements}.values())


def html_report(folders: Sequence[RunFolder]) -> str:
    """Return the report on `folders` as HTML text.

    Raises:
        UnreadableData: a record or what lies beside it is damaged.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    def show(value: object) -> object:
        # What a template made itself says of itself that it is HTML.
        return show_path(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    environment = Environment(
        loader=PackageLoader("goodnet.reports", "templates"),
        autoescape=True,
        finalize=show,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(page=make_page(folders))


def make_page(folders: Sequence[RunFolder]) -> Page:
    """Return what the page shows of `folders`.

    Raises:
        UnreadableData: a record or what lies beside it is damaged.
    """
    scans = _sections(folders, "scan", scan_section)
    repairs = _sections(folders, "repair", repair_section)
    guards = _sections(folders, "guard", guard_section)
    evaluations = _sections(folders, "evaluate", evaluation_section)
    known = ("scan", "repair", "guard", "evaluate")
    others = [folder for folder in folders if folder.run is not None and folder.run.verb not in known]
    models = list(dict.fromkeys(folder.model for folder in folders if folder.run is not None))
    provenance = [_provenance(folder, folder.run) for folder in folders if folder.run is not None]
    name = ", ".join(models) or "the data"
    statements = tuple(scan.statement for scan in scans) or (
        state("not scanned", models[0] if models else "The network"),
    )
    return Page(
        title=f"goodnet report: {name}",
        statements=statements,
        scans=scans,
        repairs=repairs,
        guards=guards,
        evaluations=evaluations,
        others=tuple(map(_other_section, others)),
        galleries=tuple(_gallery(folder) for folder in folders if folder.pictures),
        provenance=tuple(sorted(provenance, key=lambda item: item.run.started)),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _sections(folders: Sequence[RunFolder], verb: str, make: Callable[[RunFolder], Section]) -> tuple[Section, ...]:
    found = []
    for folder in folders:
        if folder.run is None or folder.run.verb != verb:
            continue
        try:
            found.append(make(folder))
        except InputError:
            raise
        except _DAMAGE as error:
            path = folder.path / "run.json"
            raise UnreadableData(
                f"{path}: expected the result of {verb}, but it is damaged ({describe_error(error)})"
            ) from error
    return tuple(found)


def _other_section(folder: RunFolder) -> OtherSection:
    verb = "" if folder.run is None else folder.run.verb
    if not isinstance(folder.result, Record):
        return OtherSection(folder.name, folder.model, verb, error=folder.failure)
    return OtherSection(folder.name, folder.model, verb, list_facts(folder.result.model_dump()))


def _gallery(folder: RunFolder) -> Gallery:
    pictures = ((inline_file(path), shows) for path, shows in folder.pictures.items())
    return Gallery(folder.name, tuple(Picture(address, shows) for address, shows in pictures if address is not None))


def _provenance(folder: RunFolder, run: Run) -> Provenance:
    inputs = []
    for given, digest in run.inputs.items():
        role, _, path = given.partition(": ")
        inputs.append((role, path, digest))
    return Provenance(show_path(folder.path), run, tuple(inputs), list_facts(run.options))
