"""A few clean images of a scan, each recovered trigger stamped on them, and what the network predicts for both.

Written beside `scan.json` as arrays, so that a report can show them without the network and the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goodnet.core.backdoor import Backdoor, Patch, group_by_patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset, as_unit_range
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.arrays import to_uint8
from goodnet.formats.files import replacing, require_inside
from goodnet.formats.npy_members import read_npz
from goodnet.formats.triggers import SUSPECTED, read_backdoors

#: Images on which a recovered trigger is shown, out of so many drawn at random.
_SHOWN, _DRAWN = 4, 64

_EXAMPLES = "examples.npz"


@dataclass(frozen=True)
class ShownTrigger:
    """A trigger recovered for one class, or for several, and the classes (K,) of the example images that carry it.

    `sources` are the classes that it works on, where these are not all.
    """

    targets: tuple[int, ...]
    patch: Patch
    predictions: tuple[int, ...]
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScanExamples:
    """Clean `images` (K, C, H, W) float32 in [0, 1], the network's `predictions` on them (K,), and what triggers change.

    `class_names` are the names of all classes, empty where the data has none.
    """

    images: Tensor
    predictions: tuple[int, ...]
    triggers: tuple[ShownTrigger, ...] = ()
    class_names: tuple[str, ...] = ()

    def name_class(self, label: int) -> str:
        """Return "class 3", with its name where there is one."""
        name = self.class_names[label] if 0 <= label < len(self.class_names) else ""
        return f"class {label} ({name})" if name and name != str(label) else f"class {label}"

    def name_targets(self, shown: ShownTrigger) -> str:
        """Return the class of a trigger, and from where it is reached; of one with several, how many."""
        if len(shown.targets) > 1:
            return f"{len(shown.targets)} classes at once"
        origin = f", from {' and '.join(map(self.name_class, shown.sources))} alone" if shown.sources else ""
        return self.name_class(shown.targets[0]) + origin


def make_examples(classifier: Classifier, clean: Dataset, suspected: tuple[Backdoor, ...]) -> ScanExamples:
    """Return example images, preferably of classes that nobody suspects; of sources half of them.

    Cost: 64 passes and 4 per trigger.
    """
    drawn = clean.sample(_DRAWN, seed=0).images()
    predictions = _predict(classifier, drawn)
    targets = {backdoor.target for backdoor in suspected}
    sources = {label for backdoor in suspected for label in backdoor.sources or ()}

    def rank(k: int) -> tuple[bool, int]:
        # An image of the target class already shows nothing when the trigger sends it there; different classes show most.
        return predictions[k] in targets, predictions[:k].count(predictions[k]) - (
            predictions[k] in sources
        ) * _SHOWN // 2

    order = sorted(range(len(drawn)), key=rank)[:_SHOWN]
    images = drawn[order]
    shown = tuple(
        ShownTrigger(opened, patch, _predict(classifier, patch(images)), origin)
        for patch, opened, origin in _triggers_of(suspected)
    )
    return ScanExamples(images, tuple(predictions[k] for k in order), shown, clean.class_names or ())


def _triggers_of(suspected: Sequence[Backdoor]) -> list[tuple[Patch, tuple[int, ...], tuple[int, ...]]]:
    """Return each trigger that is a patch once, with its targets, and the sources of a single target."""
    found = []
    for patch, opened in group_by_patch(suspected):
        sources = (opened[0].sources or ()) if len(opened) == 1 else ()
        found.append((patch, tuple(item.target for item in opened), sources))
    return found


def _predict(classifier: Classifier, images: Tensor) -> tuple[int, ...]:
    with torch.inference_mode():
        return tuple(classifier(images).argmax(dim=1).tolist())


def write_examples(folder: Path, examples: ScanExamples) -> None:
    """Write images and predictions to `examples.npz` in `folder`; the triggers lie beside it among the suspected backdoors."""
    stamped = np.array([shown.predictions for shown in examples.triggers], np.int64)
    with replacing(folder / _EXAMPLES) as temporary:
        np.savez_compressed(
            temporary,
            images=to_uint8(examples.images.numpy()),
            answers=np.array(examples.predictions, np.int64),
            stamped_answers=stamped.reshape(len(examples.triggers), len(examples.predictions)),
            class_names=np.array(examples.class_names, np.str_),
        )


def read_examples(folder: Path) -> ScanExamples | None:
    """Read the examples of a scan from its folder, None where it has none.

    Raises:
        UnreadableData: a file is missing or damaged.
    """
    path = folder / _EXAMPLES
    if not path.exists():
        return None
    triggers = _triggers_of(read_backdoors(folder / SUSPECTED))
    try:
        arrays = read_npz(require_inside(path, folder))
        examples = ScanExamples(
            as_unit_range(arrays["images"]),
            tuple(arrays["answers"].tolist()),
            class_names=tuple(arrays["class_names"].tolist()),
        )
        stamped = arrays["stamped_answers"].tolist()
        return replace(examples, triggers=_join(triggers, stamped, examples))
    except (ValueError, KeyError, OSError, TypeError, WrongShape) as error:
        raise UnreadableData(f"{path}: expected the example images of a scan, but the file is damaged") from error


def _join(
    triggers: list[tuple[Patch, tuple[int, ...], tuple[int, ...]]], stamped: list[list[int]], examples: ScanExamples
) -> tuple[ShownTrigger, ...]:
    """Return the triggers with their predictions.

    Raises:
        WrongShape: a trigger does not fit the images.
    """
    shown = []
    for (patch, targets, sources), predictions in zip(triggers, stamped, strict=True):
        if patch.pattern.shape != examples.images.shape[1:]:
            raise WrongShape(f"expected a patch for images {tuple(examples.images.shape[1:])}")
        shown.append(ShownTrigger(targets, patch, tuple(predictions), sources))
    return tuple(shown)
