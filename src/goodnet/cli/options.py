"""Options that several verbs share, and those that a method's fields define."""

from __future__ import annotations

import functools
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from goodnet import catalog
from goodnet.catalog import Family
from goodnet.core.backdoor import Backdoor
from goodnet.core.preprocessing import FORMS
from goodnet.core.reading import Reading
from goodnet.core.resizing import FORMS as RESIZE_FORMS
from goodnet.execution import Execution

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class ImageShape(click.ParamType[tuple[int, int, int]]):
    """C,H,W as three numbers."""

    name = "C,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Return (C, H, W)."""
        parts = str(value).replace("x", ",").split(",")
        if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"expected channels,height,width, e.g. 3,32,32, got {value!r}", param, ctx)
        channels, height, width = (int(part) for part in parts)
        return channels, height, width


class _Duration(click.ParamType[float]):
    """A number of seconds: 90, 90s, 2m or 1h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(value).strip())
        if match is None:
            self.fail(f"expected a time such as 90s, 2m or 1h, got '{value}'", param, ctx)
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


confine_option = click.option(
    "--confine/--no-confine",
    default=True,
    show_default=True,
    help="Read model files in a sandboxed process that reaches no other file, no other computer and no other program.",
)

_READING = {
    "architecture": click.option(
        "--architecture", help="Architecture of a file that holds only weights: a name, or package.module:factory."
    ),
    "image_shape": click.option(
        "--image-shape", type=ImageShape(), help="Image size, if neither file nor architecture specifies it."
    ),
    "key": click.option("--key", metavar="NAME", help="Network to read, if a PyTorch checkpoint holds several."),
    "confine": confine_option,
    "input_range": click.option(
        "--input-range",
        metavar="RANGE",
        default="auto",
        show_default=True,
        help=f"Pixel range and normalisation of the network's inputs: {FORMS}. auto uses what the network's files state, "
        "otherwise the range that fits the clean images best.",
    ),
    "resize": click.option(
        "--resize", metavar="WAY", help=f"How images are resized to the network's size: {RESIZE_FORMS}."
    ),
    "strict": click.option(
        "--strict", is_flag=True, help="Refuse data with an unreadable image, instead of leaving the image out."
    ),
}
_EXECUTION = {
    "device": click.option(
        "--device", default="auto", show_default=True, help="auto (a GPU where there is one), cpu or cuda."
    ),
    "workers": click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Processes on this machine; default: one per core, or a single process where that is faster (on a GPU, and in "
        "scans of few classes).",
    ),
    "cluster": click.option("--cluster", metavar="auto|ADDRESS", help="Ray cluster that does the work (goodnet[ray])."),
    "budget": click.option(
        "--budget",
        type=_Duration(),
        metavar="90s|2m|1h",
        help="Time limit; the result says what was left out. A scan that is cut short is inconclusive.",
    ),
}


def reading_options(*fields: str) -> Decorator:
    """Return a decorator that adds the options of these fields of `Reading`, by default of all; it becomes `reading`."""
    return _record_options("reading", Reading, {name: _READING[name] for name in fields or _READING})


def execution_options(*fields: str) -> Decorator:
    """Return a decorator that adds the options of these fields of `Execution`; it becomes `where`."""
    return _record_options("where", Execution, {name: _EXECUTION[name] for name in fields})


def _record_options(parameter: str, record: Callable[..., object], options: Mapping[str, Decorator]) -> Decorator:
    """Return a decorator that adds options and hands their values to the command as one record."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*args: Any, **given: Any) -> Any:
            made = record(**{name: given.pop(name) for name in options})
            return function(*args, **given, **{parameter: made})

        for option in reversed(list(options.values())):
            option(command)
        return command

    return decorate


def out_option(text: str, *, required: bool = False) -> Decorator:
    """Return the option --out."""
    return click.option("--out", type=click.Path(path_type=Path), required=required, help=text)


def suspects_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is suspected."""
    for option in (
        click.option(
            "--target",
            "targets",
            type=click.IntRange(min=0),
            multiple=True,
            help="Class to treat as a suspected target, without a scan; may be given several times.",
        ),
        click.option(
            "--suspected", type=click.Path(path_type=Path), help="Folder of a scan; without it, a scan runs if needed."
        ),
    ):
        function = option(function)
    return function


def take_suspects(given: dict[str, Any]) -> list[Backdoor] | Path | None:
    """Remove what is suspected from `given` and return it: a scan's folder, or targets without triggers; None: nothing said.

    Raises:
        click.UsageError: both are given.
    """
    suspected, targets = given.pop("suspected"), given.pop("targets")
    if suspected is not None and targets:
        raise click.UsageError("give the folder of a scan (--suspected) or classes of your own (--target), not both")
    return [Backdoor(None, target) for target in dict.fromkeys(targets)] or suspected


seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same result."
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class MethodCommand(click.Command):
    """A command whose further options are the fields of the method chosen with `flag`.

    `none` is a word that stands for no method; the fields of `extra` records are options too.
    """

    def __init__(
        self,
        *args: Any,
        family: Family,
        default: str,
        flag: str = "--method",
        none: str | None = None,
        extra: type[BaseModel] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.family, self.default, self.flag, self.none, self.extra = family, default, flag, none, extra

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the method's name first, then everything with the method's own options."""
        name = _peek(args, self.flag, self.default)
        method = None if name == self.none else catalog.find(self.family, name)
        own, more = field_options(method), field_options(self.extra)
        ctx.obj = {
            "method": self.none if method is None else method.name(),
            "options": [option.name for option in own],
            "extra": [option.name for option in more],
        }
        self.params = [*(param for param in self.params if not isinstance(param, _FieldOption)), *own, *more]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and below them the methods that there are."""
        super().format_options(ctx, formatter)
        with formatter.section(f"Choices of {self.flag}"):
            formatter.write_dl(list(catalog.describe(self.family).items()))


def take_given(given: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Remove the options `names` from `given` and return those that the user set."""
    taken = {name: given.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value is not None}


def _peek(args: list[str], flag: str, default: str) -> str:
    for position, arg in enumerate(args):
        if arg == flag and position + 1 < len(args):
            return args[position + 1]
        if arg.startswith(f"{flag}="):
            return arg.partition("=")[2]
    return default


class _FieldOption(click.Option):
    """An option made from a method's field."""


class _Several(click.ParamType[tuple[Any, ...]]):
    """Values separated by commas."""

    name = "A,B,..."

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the values as a tuple."""
        try:
            return tuple(self.kind(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"expected values separated by commas, got {value!r}", param, ctx)


def field_options(kind: type[BaseModel] | None) -> list[click.Option]:
    """Return an option for each field of a record; what is not given on the command line is None."""
    return [] if kind is None else [_field_option(name, field) for name, field in kind.model_fields.items()]


def _field_option(name: str, field: FieldInfo) -> click.Option:
    flag = f"--{name.replace('_', '-')}"
    kind = _click_type(field.annotation)
    if kind is bool:
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    default = "" if field.is_required() or field.default is None else f" [default: {_show(field.default)}]"
    text = f"{field.description or ''}{default}"
    # The default stays in the field: what is not given is not passed on.
    if isinstance(kind, _Several):
        return _FieldOption([flag], type=kind, multiple=True, required=field.is_required(), help=text, callback=_joined)
    return _FieldOption([flag], type=kind, default=None, required=field.is_required(), help=text)


def _joined(ctx: click.Context, param: click.Parameter, values: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...] | None:
    """Return the values of an option that was given several times, one after the other; None where it was not."""
    return tuple(item for value in values for item in value) or None


def _show(value: object) -> str:
    if isinstance(value, tuple) and any(isinstance(item, dict) for item in value):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _click_type(annotation: Any) -> Any:
    """Return the click type of a field's annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _click_type(next(item for item in arguments if item is not type(None)))
    if origin is Literal:
        return click.Choice([str(item) for item in arguments])
    if origin is tuple:
        return _Several(arguments[0]) if arguments[0] in (int, float, str) else str
    return annotation if annotation in (int, float, bool, str) else str
