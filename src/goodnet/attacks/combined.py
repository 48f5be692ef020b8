"""Several triggers with several targets in one network."""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

from pydantic import Field, field_serializer, field_validator

from goodnet.attacks.poisoning import TriggerAttack, poison_with
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption
from goodnet.core.method import Attack, Poisoned

_DEFAULT = (
    {"attack": "badnets", "target": 0, "rate": 0.05, "place": "bottom_right", "colour": "white"},
    {"attack": "badnets", "target": 1, "rate": 0.05, "place": "top_left", "colour": "red", "shape": "cross", "size": 5},
    {
        "attack": "badnets",
        "target": 2,
        "rate": 0.05,
        "place": "top_right",
        "colour": "blue",
        "shape": "frame",
        "size": 5,
    },
)


class Combined(Attack):
    """Plants several backdoors at once: several triggers, each with its own target.

    Each part is an attack by name with its options; the parts poison disjoint images, each at its own rate of the
    whole data set. Two triggers for one target are two parts with the same target.

    **Source** The multi-trigger multi-target networks of the CSAW-HackML-2020 contest; B. Wang et al., "Neural
    Cleanse", IEEE S&P 2019, which looks at several infected labels, and at several triggers for one label.
    **Differs** No image carries two triggers.
    **Needs** Labelled images, more of them than all parts together poison; what the parts need.
    **Cost** One pass over the poisoned images.
    **Fails when** the rates together leave too few clean images, or triggers look alike.
    """

    parts: tuple[TriggerAttack, ...] = Field(
        _DEFAULT,
        min_length=1,
        validate_default=True,
        description='list of {"attack": name, option: value, ...}; as text: JSON',
    )

    @field_validator("parts", mode="before")
    @classmethod
    def _read_parts(cls, value: Any) -> Any:
        """Make attacks of names and options, given as dictionaries or as JSON text."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise InvalidOption(f"combined: option 'parts': expected a JSON list of objects, {error}") from error
        if not isinstance(value, list | tuple):
            raise InvalidOption(f"combined: option 'parts': expected a list of objects, got {type(value).__name__}")
        return tuple(_make_attack(index, part) for index, part in enumerate(value))

    @field_serializer("parts")
    def _write_parts(self, parts: tuple[TriggerAttack, ...]) -> list[dict[str, Any]]:
        return [{"attack": part.name(), **part.model_dump(mode="json")} for part in parts]

    def poison(self, dataset: Dataset, *, seed: int) -> Poisoned:
        """Return `dataset`, in memory as uint8, with every part's poisoned images in it, and the truth about them.

        Raises:
            InvalidOption: a part's target or source is outside the classes, or the parts ask for too many images.
        """
        return poison_with(self.parts, dataset, seed=seed)


def _make_attack(index: int, part: Any) -> TriggerAttack:
    """Return one part as an attack; families cannot see the catalogue, so the name is looked up in this folder.

    Raises:
        InvalidOption: there is no such attack, or an option of it is misspelt or outside its bounds.
    """
    if isinstance(part, TriggerAttack):
        return part
    if not isinstance(part, dict):
        raise InvalidOption(f'combined: part {index}: expected {{"attack": name, option: value, ...}}, got {part!r}')
    options = dict(part)
    word = str(options.pop("attack", "")).replace("-", "_")
    package = importlib.import_module("goodnet.attacks")
    known = sorted({module.name for module in pkgutil.iter_modules(package.__path__)} - {"combined", "poisoning"})
    if word not in known:
        raise InvalidOption(
            f"combined: part {index}: unknown attack '{word}'; expected \"attack\" to be one of {', '.join(known)}"
        )
    module = importlib.import_module(f"goodnet.attacks.{word}")
    method: type[TriggerAttack] = getattr(module, "".join(piece.capitalize() for piece in word.split("_")))
    try:
        return method.from_options(**options)
    except InvalidOption as error:
        raise InvalidOption(f"combined: part {index}: {error}") from error
