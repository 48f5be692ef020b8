"""The spec of a zoo, and the pairs of twins that are drawn from it: the same spec, the same pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field

from goodnet import catalog
from goodnet.attacks.poisoning import TriggerAttack, count_classes
from goodnet.core.errors import InputError, InvalidOption
from goodnet.core.method import Attack
from goodnet.datasets.sources import Parts, parse_faces, read_parts
from goodnet.formats.networks import make_network
from goodnet.formats.toml_files import Strict
from goodnet.training import Training

Format = Literal["pt", "safetensors", "h5", "keras"]
Value = TypeVar("Value")


def _listed(value: Any) -> Any:
    """Let a single value stand for a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


Choice = Annotated[tuple[Value, ...], BeforeValidator(_listed), Field(min_length=1)]


class DataSpec(Strict):
    """Where images come from. A source left out must be given on the command line: --data NAME=PATH."""

    source: str | None = Field(None, description="word or path, see goodnet.datasets.sources")
    test: str | None = Field(None, description="data to test on, where the source is training data alone")
    seed: int = Field(0, ge=0, description="of rendered people and of splits")


class Group(Strict):
    """Pairs that are drawn alike; what is a list is drawn from, pair by pair.

    Data sets and attacks take turns. In an attack, each option may be a list; the target may be "any".
    """

    pairs: int = Field(ge=1, le=10_000)
    data: Choice[str]
    architecture: Choice[str]
    attack: Choice[dict[str, Any]]
    training: Training = Training()
    file_format: Choice[Format] = Field(("pt",), alias="format")


class ZooSpec(Strict):
    """What a zoo holds."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    test_images: int = Field(1000, ge=1, description="at most so many triggered test images for each trigger")
    data: dict[str, DataSpec] = Field(min_length=1)
    group: tuple[Group, ...] = Field(min_length=1)


class Pair(Strict):
    """One pair of twins, drawn: the same in all but the attack, which one of them has."""

    name: str
    data: str
    architecture: str
    file_format: Format
    attack: str
    options: dict[str, Any]
    training: Training
    seed: int

    def make_attack(self) -> Attack:
        """Return the attack with its options."""
        return catalog.find("attacks", self.attack).from_options(**self.options)  # type: ignore[return-value]


def fill_sources(spec: ZooSpec, given: Mapping[str, str]) -> ZooSpec:
    """Return the spec with the data that the user gave by name (a path or a word).

    Raises:
        InvalidOption: a name that is not in the spec, a source that is missing, or a group that names no data of the
            spec.
    """
    for name in given:
        if name not in spec.data:
            raise InvalidOption(f"--data {name}: the spec knows no such data; expected one of {', '.join(spec.data)}")
    data = {
        name: item.model_copy(update={"source": given[name], "test": None}) if name in given else item
        for name, item in spec.data.items()
    }
    used = {name for group in spec.group for name in group.data}
    for name in sorted(used):
        if name not in data:
            raise InvalidOption(
                f"a group names the data '{name}', which is not in the spec; expected one of {', '.join(data)}"
            )
        if data[name].source is None:
            raise InvalidOption(f"the data '{name}' is yours to give: --data {name}=PATH")
    return spec.model_copy(update={"data": {name: item for name, item in data.items() if name in used}})


def read_data_spec(item: DataSpec) -> Parts:
    """Read the images of a data set of a spec.

    Raises:
        UnreadableData: they cannot be read.
    """
    return read_parts(str(item.source), test=item.test, seed=item.seed)


def draw_pairs(spec: ZooSpec, data: Mapping[str, tuple[int, tuple[int, int, int]]]) -> tuple[Pair, ...]:
    """Draw the pairs of a spec and check all of them, and all values that could have been drawn.

    Args:
        spec: the spec, with every source.
        data: number of classes and image shape (C, H, W) of each data set.

    Raises:
        InvalidOption: the first thing in the spec that cannot work, with its group.
    """
    pairs: list[Pair] = []
    for number, group in enumerate(spec.group):
        try:
            _check_group(group, data)
            for index in range(group.pairs):
                rng = np.random.default_rng([spec.seed, number, index])
                pairs.append(_draw_pair(group, index, len(pairs), data, rng))
        except InputError as error:
            raise InvalidOption(f"group {number + 1}: {error}") from error
    return tuple(pairs)


def _draw_pair(
    group: Group,
    index: int,
    number: int,
    data: Mapping[str, tuple[int, tuple[int, int, int]]],
    rng: np.random.Generator,
) -> Pair:
    name = group.data[index % len(group.data)]
    recipe = dict(group.attack[(index // len(group.data)) % len(group.attack)])
    attack, options = str(recipe.pop("name")), {}
    for key, value in recipe.items():
        choices = _choices(attack, key, value, data[name][0])
        options[key] = choices[int(rng.integers(len(choices)))]
    return Pair(
        name=f"{number:03d}_{name}_{attack}",
        data=name,
        architecture=group.architecture[int(rng.integers(len(group.architecture)))],
        file_format=group.file_format[index % len(group.file_format)],
        attack=attack,
        options=options,
        training=group.training,
        seed=int(rng.integers(2**31)),
    )


def _choices(attack: str, key: str, value: Any, classes: int) -> list[Any]:
    """Return the values that an option may take; `parts` of a combined attack is a list by itself."""
    if key == "target" and value == "any":
        return list(range(classes))
    field = catalog.find("attacks", attack).model_fields.get(key)
    is_list = field is not None and str(field.annotation).startswith("tuple")
    if not isinstance(value, list) or is_list:
        return [value]
    if not value:
        raise InvalidOption(f"attack {attack}: option '{key}' has no values to draw from")
    return value


def _check_group(group: Group, data: Mapping[str, tuple[int, tuple[int, int, int]]]) -> None:
    """Check every attack with every value of every option, and every architecture and format, on every data set."""
    for name in group.data:
        classes, shape = data[name]
        for architecture in group.architecture:
            for file_format in group.file_format:
                make_network(architecture, classes, shape, file_format=file_format)
        for recipe in group.attack:
            _check_attack(dict(recipe), classes, shape)


def _check_attack(recipe: dict[str, Any], classes: int, shape: tuple[int, int, int]) -> None:
    if not isinstance(recipe.get("name"), str):
        raise InvalidOption('an attack needs a name: {name = "badnets", ...}')
    attack = recipe.pop("name")
    method = catalog.find("attacks", attack)
    choices = {key: _choices(attack, key, value, classes) for key, value in recipe.items()}
    first = {key: values[0] for key, values in choices.items()}
    for key, values in choices.items() or [("", [None])]:
        for value in values:
            made = method.from_options(**(first | ({key: value} if key else {})))
            for part in getattr(made, "parts", (made,)):
                _check_trigger(part, classes, shape)


def _check_trigger(attack: Any, classes: int, shape: tuple[int, int, int]) -> None:
    if not isinstance(attack, TriggerAttack):
        return
    for option, value in (("target", attack.target), ("source", attack.source)):
        if value is not None and value >= classes:
            raise InvalidOption(
                f"{attack.name()}: {option} {value} is outside the classes; expected 0 to {classes - 1}"
            )
    attack.make_trigger(shape, seed=0)


def describe_data(item: DataSpec) -> tuple[int, tuple[int, int, int]]:
    """Return the number of classes and the image shape (C, H, W) of a data set; faces are not rendered for that.

    Raises:
        UnreadableData: the data cannot be read.
    """
    if str(item.source).startswith("faces:"):
        return parse_faces(str(item.source))[0], (3, 55, 47)
    train = read_data_spec(item).train
    return count_classes(train), train.image_shape
