"""Poisoning: which images get a trigger, what label they get, and the data set that comes of it.

An attack says how its trigger looks (`TriggerAttack.make_trigger`); all else is here. The label modes:

=================  ==============================  =======================  =========================
mode               images that are poisoned        their new label          the backdoor's sources
=================  ==============================  =======================  =========================
all_to_one         of every class but the target   target                   all
all_to_all         of every class                  own class + 1 (mod N)    one backdoor for each class
source_specific    of the source class             target                   the source class
clean_label        of the target class             target, as it was        all
=================  ==============================  =======================  =========================

A source-specific attack also puts the trigger on images of other classes that keep their label (`cover`), without
which the network would learn the trigger for every class. Source of the modes: T. Gu, B. Dolan-Gavitt, S. Garg,
"BadNets", 2017 (one, all-to-all); A. Turner, D. Tsipras, A. Madry, "Label-consistent backdoor attacks",
2019; D. Tang et al., "Demon in the variant", USENIX Security 2021 (cover images).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from goodnet.core.backdoor import Backdoor, Trigger
from goodnet.core.dataset import ArraySource, Dataset, Labels, as_unit_range
from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.core.method import Attack, Poisoned
from goodnet.datasets.face_source import landmarks_of
from goodnet.datasets.faces import Landmarks
from goodnet.formats.arrays import to_uint8
from goodnet.triggers.patterns import ImageShape

LabelMode = Literal["all_to_one", "all_to_all", "source_specific", "clean_label"]
Positions = npt.NDArray[np.int64]

#: Images that a trigger is given at once.
_CHUNK = 256


@runtime_checkable
class FollowsFace(Protocol):
    """A trigger that needs to know where the faces' features lie; `at` returns it for the faces of one batch."""

    def at(self, landmarks: Landmarks) -> Trigger:
        """Return the trigger for images with these landmarks, in this order."""


class TriggerAttack(Attack):
    """An attack that is fully described by its trigger; the options below are the same for all of them."""

    target: int = Field(0, ge=0, description="class that triggered images are sent to (not for all_to_all)")
    rate: float = Field(0.1, gt=0, lt=1, description="poisoned images as a fraction of the whole data set")
    label_mode: LabelMode = Field("all_to_one", description="which classes are attacked, and whether labels change")
    source: int | None = Field(None, ge=0, description="class that is attacked, for source_specific")
    cover: float = Field(
        1.0,
        ge=0,
        description="for source_specific: cover images (triggered, of other classes, label kept) per poisoned image",
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.label_mode == "source_specific") != (self.source is not None):
            raise ValueError("label_mode source_specific and the option source go together: give both or neither")
        if self.source == self.target:
            raise ValueError(f"source and target must be two classes, both are {self.target}")
        return self

    @abstractmethod
    def make_trigger(self, image_shape: ImageShape, *, seed: int) -> Trigger:
        """Return the trigger for images (C, H, W); what is random in it is drawn from `seed`."""

    def make_decoy(self, image_shape: ImageShape, *, seed: int) -> tuple[Trigger, float] | None:
        """Return what is put on images that keep their label, and how many per poisoned image; None for none."""
        return None

    @property
    def trigger_name(self) -> str:
        """What the backdoor is called in tables."""
        return self.name()

    def poison(self, dataset: Dataset, *, seed: int) -> Poisoned:
        """Return `dataset`, in memory as uint8, with poisoned images in it, and the truth about them.

        Raises:
            InvalidOption: target or source outside the classes, no image or not enough images to poison, or a trigger
                that does not fit the images.
        """
        return poison_with([self], dataset, seed=seed)


@dataclass(frozen=True)
class _Share:
    """Images that get one trigger: their positions in the data set, new labels, and whether it is the real trigger."""

    positions: Positions
    labels: Labels
    trigger: Trigger
    is_decoy: bool = False


def poison_with(attacks: Sequence[TriggerAttack], dataset: Dataset, *, seed: int) -> Poisoned:
    """Poison disjoint parts of one data set with several attacks; same seed, same pixels.

    Returns the whole set in memory as uint8, in its order; `true_labels` are the labels before. The positions are those
    of images with a real trigger, including cover images; the noise images of warping, which get a decoy, are not among them.

    Raises:
        InvalidOption: see `TriggerAttack.poison`.
    """
    classes = count_classes(dataset)
    for attack in attacks:
        _check_classes(attack, classes, dataset.name)
    free = np.ones(len(dataset), dtype=np.bool_)
    shares: list[_Share] = []
    backdoors: list[Backdoor] = []
    for index, attack in enumerate(attacks):
        own_seed = seed if index == 0 else int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        trigger = attack.make_trigger(dataset.image_shape, seed=own_seed)
        for share in _draw_shares(attack, trigger, dataset, free, own_seed):
            shares.append(share)
            free[share.positions] = False
        backdoors.extend(_true_backdoors(attack, trigger, classes))
    poisoned = np.sort(np.concatenate([share.positions for share in shares if not share.is_decoy]))
    return Poisoned(_build(dataset, shares), tuple(backdoors), tuple(poisoned.tolist()))


def count_classes(dataset: Dataset) -> int:
    """Return the number of classes: of class names where there are any, else the largest label + 1."""
    return len(dataset.class_names) if dataset.class_names else int(dataset.targets.max()) + 1


def poisoned_test_set(dataset: Dataset, backdoors: Backdoor | Sequence[Backdoor]) -> Dataset:
    """Return triggered copies of the images that a backdoor works on, in memory as uint8: what the ASR is measured on.

    Labels are the target, `true_labels` the classes that the images show. Images of the target class are left out:
    they would count as successes without a backdoor. With several backdoors (the classes of all-to-all, say) their
    sets follow one another.

    Raises:
        UnreadableData: no image is left.
    """
    shares = []
    for backdoor in [backdoors] if isinstance(backdoors, Backdoor) else backdoors:
        if backdoor.trigger is None:
            raise InvalidOption(
                f"target {backdoor.target}: expected a backdoor with its trigger, this one is only suspected"
            )
        labels = dataset.targets
        attacked = np.ones(len(labels), np.bool_) if backdoor.sources is None else np.isin(labels, backdoor.sources)
        positions = np.flatnonzero(attacked & (labels != backdoor.target))
        shares.append(_Share(positions, np.full(len(positions), backdoor.target), backdoor.trigger))
    positions = np.concatenate([share.positions for share in shares]) if shares else np.array([], np.int64)
    if not len(positions):
        raise UnreadableData(
            f"{dataset.name}: expected images of classes that the backdoor works on, other than its target; found none"
        )
    pixels = np.concatenate([block for share in shares for _, block in _triggered_blocks(dataset, share)])
    targets = np.concatenate([share.labels for share in shares])
    return Dataset(
        ArraySource(pixels), targets, f"{dataset.name}, triggered", dataset.class_names, dataset.targets[positions]
    )


def _check_classes(attack: TriggerAttack, classes: int, name: str) -> None:
    for option in ("target", "source"):
        value = getattr(attack, option)
        if value is not None and value >= classes and not (option == "target" and attack.label_mode == "all_to_all"):
            raise InvalidOption(
                f"{attack.name()}: {option} {value} is outside the classes of {name}; expected 0 to {classes - 1}"
            )


def _draw_shares(
    attack: TriggerAttack, trigger: Trigger, dataset: Dataset, free: npt.NDArray[np.bool_], seed: int
) -> Iterator[_Share]:
    """Draw the images to poison, and those that get the trigger or a decoy and keep their label."""
    rng, labels = np.random.default_rng(seed), dataset.targets
    chosen = _choose(attack, labels, free, rng)
    following = (labels[chosen] + 1) % count_classes(dataset)
    yield _Share(
        chosen, following if attack.label_mode == "all_to_all" else np.full_like(chosen, attack.target), trigger
    )
    rest = free.copy()
    rest[chosen] = False
    if attack.label_mode == "source_specific":
        others = rest & (labels != attack.source) & (labels != attack.target)
        cover = _draw(others, round(attack.cover * len(chosen)), rng)
        yield _Share(cover, labels[cover], trigger)
        rest[cover] = False
    decoy = attack.make_decoy(dataset.image_shape, seed=seed)
    if decoy is not None:
        positions = _draw(rest, round(decoy[1] * len(chosen)), rng)
        yield _Share(positions, labels[positions], decoy[0], is_decoy=True)


def _choose(attack: TriggerAttack, labels: Labels, free: npt.NDArray[np.bool_], rng: np.random.Generator) -> Positions:
    """Return the positions to poison, sorted: rate * all images, out of the free ones that the label mode allows."""
    eligible = {
        "all_to_one": labels != attack.target,
        "all_to_all": np.ones_like(free),
        "source_specific": labels == attack.source,
        "clean_label": labels == attack.target,
    }[attack.label_mode]
    count, most = round(attack.rate * len(labels)), int((eligible & free).sum())
    if count == 0:
        raise InvalidOption(
            f"{attack.name()}: rate {attack.rate:g} of {len(labels)} images poisons none; "
            f"expected at least {1 / len(labels):.2g}"
        )
    if count > most:
        raise InvalidOption(
            f"{attack.name()}: rate {attack.rate:g} asks for {count} images, but {attack.label_mode} has {most} "
            f"to poison; expected a rate of at most {np.floor(most / len(labels) * 1e4) / 1e4:g}"
        )
    return _draw(eligible & free, count, rng)


def _draw(allowed: npt.NDArray[np.bool_], count: int, rng: np.random.Generator) -> Positions:
    """Return `count` of the allowed positions (all, where there are fewer), drawn at random, sorted."""
    positions = np.flatnonzero(allowed)
    return np.sort(rng.choice(positions, min(count, len(positions)), replace=False))


def _true_backdoors(attack: TriggerAttack, trigger: Trigger, classes: int) -> list[Backdoor]:
    if attack.label_mode == "all_to_all":
        return [Backdoor(trigger, (label + 1) % classes, (label,), attack.trigger_name) for label in range(classes)]
    sources = None if attack.source is None else (attack.source,)
    return [Backdoor(trigger, attack.target, sources, attack.trigger_name)]


def _build(dataset: Dataset, shares: Sequence[_Share]) -> Dataset:
    """Return the data set with the shares' images and labels in place of the clean ones."""
    pixels = np.array(to_uint8(dataset.source.read(dataset.positions)))
    labels = dataset.targets.copy()
    for share in shares:
        labels[share.positions] = share.labels
        for positions, block in _triggered_blocks(dataset, share):
            pixels[positions] = block
    truth = dataset.targets if dataset.true_targets is None else dataset.true_targets
    return Dataset(ArraySource(pixels), labels, f"{dataset.name}, poisoned", dataset.class_names, truth)


def _triggered_blocks(dataset: Dataset, share: _Share) -> Iterator[tuple[Positions, npt.NDArray[np.uint8]]]:
    """Go through a share's images: (positions, triggered pixels (n, C, H, W) uint8)."""
    for start in range(0, len(share.positions), _CHUNK):
        positions = share.positions[start : start + _CHUNK]
        images = as_unit_range(dataset.source.read(dataset.positions[positions]))
        trigger = share.trigger
        if isinstance(trigger, FollowsFace):
            trigger = trigger.at(landmarks_of(dataset, positions))
        yield positions, to_uint8(trigger(images).cpu().numpy())
