"""The GoodNet: two networks in one, the original B and a repaired B'; where they differ, the input is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from goodnet.architectures.libraries import is_library
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH, Dataset
from goodnet.core.errors import InvalidOption, UnreadableModel, WrongShape
from goodnet.core.method import Progress, no_progress
from goodnet.core.preprocessing import InputRange
from goodnet.core.resizing import CardResizing
from goodnet.core.results import Record
from goodnet.formats.files import replacing_folder, require_inside, write_text
from goodnet.formats.json_texts import read_json
from goodnet.formats.live_networks import ModelLike, as_classifier
from goodnet.formats.networks import read_network
from goodnet.inference.predictions import require_fit
from goodnet.pair.refusal import PairPredictions, RefusingPair, favour
from goodnet.pair.shared_layers import share_layers

_CARD = "goodnet.json"


class GoodNet:
    """B and B' in one: the class where they agree, class N where they differ.

    Args:
        original: the network as it came, a `Classifier`, a model file, a live `keras.Model` or `torch.nn.Module`.
        repaired: the repaired network, likewise; it is fed in the same input range.
        targets: the classes that a backdoor is suspected to lead to: what B calls otherwise is never refused. None
            suspects every class.
        tolerance: the margin in logits by which B' may prefer another class than B without refusing.
        input_range: the range in which both were trained, by default that of a `Classifier` among the two. Without it
            whole numbers (uint8) go into the network as they are, as they would in Keras or torch.
        architecture: for files that hold weights alone, a name or `package.module:factory`.
        image_shape: (C, H, W), for modules and architectures that do not know theirs, where `repaired` does not either.
        confine: let a process of its own, which can reach nothing, read the bytes of model files.

    Raises:
        WrongShape: the two do not take the same images or know the same classes.
        InvalidOption: a target is none of the classes, or the tolerance is below 0.
    """

    threshold = 0.0

    def __init__(
        self,
        original: ModelLike,
        repaired: ModelLike,
        *,
        targets: Sequence[int] | None = None,
        tolerance: float = 0.0,
        input_range: InputRange | None = None,
        architecture: str | None = None,
        image_shape: tuple[int, int, int] | None = None,
        confine: bool = True,
    ) -> None:
        given = [network for network in (original, repaired) if isinstance(network, Classifier)]
        shape = image_shape or next((known.image_shape for known in given), None)
        b = as_classifier(original, architecture, shape, confine=confine)
        b_prime = as_classifier(repaired, b.architecture, b.image_shape, confine=confine)
        if (b.image_shape, b.classes) != (b_prime.image_shape, b_prime.classes):
            raise WrongShape(
                f"{b.name} takes {b.image_shape} and knows {b.classes} classes, {b_prime.name} takes {b_prime.image_shape} and "
                f"knows {b_prime.classes}; a GoodNet needs two networks for the same job"
            )
        fed_in = input_range or next((known.input_range for known in given), None)
        self.original = b if fed_in is None else b.with_input_range(fed_in)
        self._range_known = fed_in is not None
        self.repaired = b_prime.with_input_range(self.original.input_range)
        self.targets = _checked_targets(targets, b)
        pair = share_layers(self.original.network, self.repaired.network)
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise InvalidOption(f"expected a finite tolerance of 0 or more, in logits, got {tolerance}")
        self.tolerance = float(tolerance)
        self.module = RefusingPair(pair, self.classes, self.targets, self.tolerance)

    @property
    def classes(self) -> int:
        """N: the number of classes that B knows, and the class that means "refused"."""
        return self.original.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that both networks take."""
        return self.original.image_shape

    @property
    def resizing(self) -> str | None:
        """How pictures of other sizes are brought to the networks', see `Classifier`."""
        return self.original.resizing

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of B and of B', each (n, N), for images (n, C, H, W) float32 in [0, 1]."""
        return self.module.pair(self.original.prepare(images))  # type: ignore[no-any-return]

    def scores(self, images: Tensor) -> Tensor:
        """Return (n,) margins in logits: above 0 means refused.

        The margin by which B' prefers another class to that of B, less the tolerance; with targets, no more than the margin
        by which B prefers a target to all other classes, so that both must be above 0.
        """
        margins, towards = self._margins(images)
        return torch.minimum(margins - self.tolerance, towards)

    def disagreements(self, images: Tensor) -> Tensor:
        """Return (n,) margins in logits: what lies above the tolerance is refused.

        The margin by which B' prefers another class to that of B; what can never be refused has none above 0.
        """
        margins, towards = self._margins(images)
        return torch.where(towards > 0, margins, -margins.abs())

    def _margins(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much B' prefers another class to that of B, and B a target to all others, each (n,)."""
        original, repaired = self.logits(images)
        chosen = original.argmax(dim=1, keepdim=True)
        others = repaired.scatter(1, chosen, -torch.inf)
        margins = others.amax(dim=1) - repaired.gather(1, chosen)[:, 0]
        if self.targets is None:
            return margins, torch.full_like(margins, torch.inf)
        suspected = self.module.suspected.to(original.device)
        of_targets = original.masked_fill(~suspected, -torch.inf).amax(dim=1)
        of_others = original.masked_fill(suspected, -torch.inf).amax(dim=1)
        return margins, of_targets - of_others

    @overload
    def __call__(self, images: Tensor) -> Tensor: ...
    @overload
    def __call__(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...

    def __call__(self, images: Tensor | npt.NDArray[Any]) -> Tensor | npt.NDArray[np.float32]:
        """Return scores (n, N + 1): B's class probabilities, or for what is refused 1 for class N alone.

        Args:
            images: as the original network takes them, (n, H, W, C) or (n, C, H, W), floats in its input range;
                uint8 are plain pixels, 0..255 and RGB, which are normalised and reordered here. The
                scores come in the same framework.

        Raises:
            WrongShape: the images have neither of the two layouts.
        """
        tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
        with torch.inference_mode():
            batches = torch.split(self._to_unit_range(tensor), BATCH)
            scores = torch.cat([self.module(self.original.prepare(images))[0] for images in batches])
        return scores if isinstance(images, Tensor) else scores.cpu().numpy()

    def _to_unit_range(self, images: Tensor) -> Tensor:
        channels, height, width = self.original.image_shape
        accepted = {"NCHW": (channels, height, width), "NHWC": (height, width, channels)}
        shape = tuple(images.shape[1:])
        if images.ndim != 4 or shape not in accepted.values():
            raise WrongShape(
                f"expected images (n, {height}, {width}, {channels}) or (n, {channels}, {height}, {width}), "
                f"got {tuple(images.shape)}"
            )
        if shape != accepted["NCHW"] or (shape == accepted["NHWC"] and self.original.layout == "NHWC"):
            images = images.permute(0, 3, 1, 2)
        if images.dtype == torch.uint8 and self._range_known:
            return images.to(torch.float32) / 255
        return self.original.preprocessing.undo(images.to(torch.float32))

    def with_original(self, original: Classifier, *, input_range: InputRange | None = None) -> GoodNet:
        """Return the same pair and rule with another record of B, as one that is fed in another range."""
        return GoodNet(original, self.repaired, targets=self.targets, tolerance=self.tolerance, input_range=input_range)

    def predict_all(self, dataset: Dataset, *, progress: Progress = no_progress) -> PairPredictions:
        """Return what B, B' and the GoodNet say of every image. Cost: one pass and one of the layers that differ."""
        self._require_range()
        require_fit(self.original, dataset)
        original: list[Tensor] = []
        repaired: list[Tensor] = []
        with torch.inference_mode():
            for number, batch in enumerate(dataset.batches(), start=1):
                of_b, of_b_prime = self.logits(batch.images)
                original.append(of_b.argmax(dim=1))
                repaired.append(favour(of_b_prime, original[-1], self.tolerance).argmax(dim=1))
                progress(min(number * BATCH, len(dataset)), len(dataset))
        b, b_prime = (torch.cat(part).cpu().numpy() for part in (original, repaired))
        return PairPredictions(b, b_prime, self.classes, self.targets)

    @property
    def range_known(self) -> bool:
        """Whether the networks' input range was given, or came with the classifiers."""
        return self._range_known

    def _require_range(self) -> None:
        if not self._range_known:
            raise InvalidOption(
                f"{self.original.name}: the input range is not known; make the pair with GoodNet(..., input_range='0..1') "
                "or '0..255'"
            )

    def save(self, folder: str | Path) -> Path:
        """Write both networks, in the formats that they came in, and a card that names them; return the folder."""
        files = {"original": f"original{self.original.suffix}", "repaired": f"repaired{self.repaired.suffix}"}
        card = _Card(
            **files,
            architecture=self.original.architecture,
            input_range=self.original.input_range if self._range_known else None,
            image_shape=self.original.image_shape,
            classes=self.classes,
            targets=self.targets,
            tolerance=self.tolerance,
            resizing=self.resizing,
        )
        with replacing_folder(folder) as temporary:
            self.original.save(temporary / files["original"])
            self.repaired.save(temporary / files["repaired"])
            write_text(temporary / _CARD, card.model_dump_json(indent=2) + "\n")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, architecture: str | None = None, confine: bool = True) -> GoodNet:
        """Read a GoodNet from the folder that `save` wrote, or from the run folder in which it lies.

        Args:
            folder: where it is.
            architecture: the networks' own `package.module:factory`; a card that names one does not run it unasked.
            confine: let a process of its own, which can reach nothing, read the networks' bytes.

        Raises:
            UnreadableModel: there is no GoodNet there, its card or its networks are damaged, or it needs the user's
                code.
        """
        folder = goodnet_folder(folder)
        card = _read_card(folder / _CARD)
        known = card.architecture
        if known is not None and ":" in known and not is_library(known) and architecture is None:
            raise UnreadableModel(
                f"{folder / _CARD}: refused, it names code outside goodnet as its architecture; if it is yours, say so: "
                f"--architecture {known}"
            )
        # Names alone: a card cannot point outside its folder.
        paths = (
            require_inside(folder / Path(name).name, folder, UnreadableModel) for name in (card.original, card.repaired)
        )
        read = partial(read_network, architecture=architecture or known, image_shape=card.image_shape, confine=confine)
        try:
            original, repaired = map(read, paths)
            if card.resizing is not None:
                original = original.with_resizing(card.resizing)
            pair = cls(original, repaired, targets=card.targets, tolerance=card.tolerance, input_range=card.input_range)
        except InvalidOption as error:
            raise _damaged_card(folder / _CARD) from error
        pair._range_known = card.input_range is not None
        return pair


class _Card(Record):
    """What a GoodNet's folder says of itself; every entry is there, but for the last two in older ones."""

    kind: Literal["disagreement"] = "disagreement"
    schema_version: Literal[2] = 2
    original: str
    repaired: str
    architecture: str | None
    input_range: InputRange | None
    image_shape: tuple[int, int, int]
    classes: int
    targets: tuple[int, ...] | None
    tolerance: float = 0.0
    resizing: CardResizing = None


def _read_card(path: Path) -> _Card:
    text = require_inside(path, path.parent, UnreadableModel).read_bytes()
    try:
        read_json(text)
        return _Card.model_validate_json(text, strict=True)
    except (ValueError, RecursionError) as error:
        raise _damaged_card(path) from error


def _damaged_card(path: Path) -> UnreadableModel:
    return UnreadableModel(
        f"{path}: expected the card of a GoodNet, schema version 2, but it is damaged or of another version; make it again"
    )


def _checked_targets(targets: Sequence[int] | None, original: Classifier) -> tuple[int, ...] | None:
    """Return the targets in order, each once."""
    if targets is None:
        return None
    if not targets or not all(0 <= target < original.classes for target in targets):
        raise InvalidOption(
            f"{original.name}: expected targets out of its classes 0..{original.classes - 1}, at least one of them, or none "
            f"given to suspect every class; got {list(targets)}"
        )
    return tuple(sorted({int(target) for target in targets}))


def is_goodnet(folder: str | Path) -> bool:
    """Whether `folder`, or `folder`/goodnet, holds a GoodNet."""
    return (goodnet_folder(folder) / _CARD).exists()


def goodnet_folder(folder: str | Path) -> Path:
    """Return the folder that holds the GoodNet's card: `folder` itself or `folder`/goodnet."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableModel(f"{folder}: expected the folder of a GoodNet (goodnet repair writes one), found none")
    return folder / "goodnet" if (folder / "goodnet" / _CARD).exists() else folder
