"""Which arrays of a file are images, labels and true labels: by name, else by shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from goodnet.core.errors import UnreadableData
from goodnet.formats.shown_paths import show_path

#: Keys of images, labels and true labels (of poisoned data); of several the first is taken, and said in the notes.
_IMAGES = ("data", "images", "x")
_LABELS = ("label", "labels", "y")
_TRUE_LABELS = ("true_label", "true_labels")
#: Words in keys of images that no network was trained on.
_HELD_OUT = ("val", "test")
#: Images have at least so many pixels a side where their shape alone says that they are images.
_SMALLEST = 8

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Keys:
    """Under which keys a file has its images, labels and true labels, and what is to be said of the choice."""

    images: str
    labels: str | None
    true_labels: str | None
    notes: tuple[str, ...]


def find_keys(shown: str, shapes: Shapes) -> Keys:
    """Return the keys of images and labels among arrays of these shapes.

    Args:
        shown: the file, for messages.
        shapes: of each array, by its key.

    Raises:
        UnreadableData: no array, or several, can be the images.
    """
    images, labels, truth = ([key for key in kind if key in shapes] for kind in (_IMAGES, _LABELS, _TRUE_LABELS))
    if not images:
        return _by_shape(shown, shapes, next(iter(truth), None))
    several = [kind for kind in (images, labels, truth) if len(kind) > 1]
    notes = tuple(f"of the keys {quote(kind)} the first is read" for kind in several)
    return Keys(images[0], next(iter(labels), None), next(iter(truth), None), notes)


def _by_shape(shown: str, shapes: Shapes, truth: str | None) -> Keys:
    images = [key for key, shape in shapes.items() if _can_be_images(shape)]
    held_out = [key for key in images if any(word in key.lower() for word in _HELD_OUT)]
    chosen = images if len(images) == 1 else held_out
    if len(chosen) != 1:
        found = quote(list(shapes)) or "none"
        raise UnreadableData(
            f"{shown}: expected a key '{_IMAGES[0]}', found {found}; rename it or write the file again"
        )
    count, others = shapes[chosen[0]][0], [key for key in shapes if key != truth]
    fitting = [key for key in others if len(shapes[key]) in (1, 2) and shapes[key][0] == count and key not in chosen]
    labels = min(fitting, key=lambda key: (-_likeness(key, chosen[0]), key), default=None)
    alone = [key for key in images if key not in chosen]
    notes = [f"'{show_path(chosen[0])}' is read as the images, {_said(labels)}, by their shapes"]
    notes += [f"{quote(alone)} not read; give a file of what is meant"] if alone else []
    return Keys(chosen[0], labels, truth, tuple(notes))


def _said(labels: str | None) -> str:
    return "no labels were found" if labels is None else f"'{show_path(labels)}' as their labels"


def _can_be_images(shape: Sequence[int]) -> bool:
    """Whether an array has the shape (N, C, H, W), (N, H, W, C) or (N, H, W) of images."""
    if len(shape) == 4:
        sides = shape[2:] if shape[1] in (1, 3, 4) else shape[1:3]
        return (shape[1] in (1, 3, 4) or shape[3] in (1, 3, 4)) and min(sides) >= _SMALLEST
    return len(shape) == 3 and min(shape[1:]) >= _SMALLEST


def _likeness(key: str, images: str) -> int:
    """Return how much of its end a key of labels has in common with that of the images: y_test and x_test."""
    pairs = zip(reversed(key.lower()), reversed(images.lower()), strict=False)
    count = 0
    for one, other in pairs:
        if one != other:
            break
        count += 1
    return count + 10 * (key.lower().startswith(("y", "label", "target", "class")))


def quote(names: Sequence[str]) -> str:
    """Return keys as a message shows them."""
    return ", ".join(f"'{show_path(name)}'" for name in names)
