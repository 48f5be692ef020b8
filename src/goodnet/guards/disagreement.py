"""The GoodNet: two networks in one, the original B and a repaired B'; where they differ, the input is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, overload

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from goodnet.algorithms.predictions import require_fit
from goodnet.algorithms.shared_layers import share_layers
from goodnet.core.classifier import Classifier, InputRange
from goodnet.core.dataset import BATCH, Dataset, Labels
from goodnet.core.errors import InvalidOption, UnreadableModel, WrongShape
from goodnet.core.method import Guard, Progress, no_progress
from goodnet.formats.files import replacing_folder, require_file, write_text
from goodnet.formats.networks import read_network

_CARD = "goodnet.json"


class Disagreement(Guard):
    """Refuses an input on which the original network and a repaired one give different classes.

    The repaired network has lost the backdoor, or part of it, so a triggered input makes the two differ; a clean
    input does so only where the repair cost accuracy. The layers that the two share run once.

    **Source** the GoodNet of CSAW-HackML-2020 (NYU), after K. Liu, B. Dolan-Gavitt, S. Garg, "Fine-Pruning", RAID 2018.
    **Differs** any repaired network will do, not only a pruned one.
    **Needs** logits of both networks; no data to fit.
    **Cost** one pass, and a second one of the layers that differ.
    **Fails when** the repaired network still follows the trigger, or the trigger's target is the true class.
    """

    repaired: str = Field(..., description="model file of the repaired network")
    architecture: str | None = Field(None, description="its architecture, where the file holds weights alone")

    def fit(self, classifier: Classifier, clean: Dataset, *, seed: int, progress: Progress = no_progress) -> GoodNet:
        """Return the GoodNet of `classifier` and the repaired network; nothing is fitted."""
        require_fit(classifier, clean)
        return GoodNet(classifier, read_network(self.repaired, self.architecture, classifier.image_shape))


@dataclass(frozen=True)
class Answers:
    """What B, B' and the GoodNet say of N images, each (N,) int64; class `classes` of the GoodNet means refused."""

    original: Labels
    repaired: Labels
    classes: int

    @property
    def refused(self) -> npt.NDArray[np.bool_]:
        """Whether the two differ, (N,)."""
        differ: npt.NDArray[np.bool_] = self.original != self.repaired
        return differ

    @property
    def goodnet(self) -> Labels:
        """The GoodNet's class of each image."""
        return np.where(self.refused, self.classes, self.original)


class GoodNet:
    """B and B' in one: the class where they agree, class N where they differ.

    Args:
        original: the network as it came, a `Classifier` or a model file.
        repaired: the repaired network, likewise; it is fed in the same input range.
        input_range: for model files, the range in which both were trained; without it whole numbers (uint8) go into the
            network as they are, as they would in Keras or torch.
        architecture: for files that hold weights alone, a name or `package.module:factory`.

    Raises:
        WrongShape: the two do not take the same images or know the same classes.
    """

    threshold = 0.0

    def __init__(
        self,
        original: Classifier | str | Path,
        repaired: Classifier | str | Path,
        *,
        input_range: InputRange | None = None,
        architecture: str | None = None,
    ) -> None:
        b = original if isinstance(original, Classifier) else read_network(original, architecture)
        b_prime = (
            repaired if isinstance(repaired, Classifier) else read_network(repaired, b.architecture, b.image_shape)
        )
        if (b.image_shape, b.classes) != (b_prime.image_shape, b_prime.classes):
            raise WrongShape(
                f"{b.name} takes {b.image_shape} and knows {b.classes} classes, {b_prime.name} takes {b_prime.image_shape} and "
                f"knows {b_prime.classes}; a GoodNet needs two networks for the same job"
            )
        self.original = b if input_range is None else b.with_input_range(input_range)
        self._range_known = input_range is not None or isinstance(original, Classifier)
        self.repaired = b_prime.with_input_range(self.original.input_range)
        self._pair = share_layers(self.original.network, self.repaired.network)

    @property
    def classes(self) -> int:
        """N: the number of classes that B knows, and the class that means "refused"."""
        return self.original.classes

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of B and of B', each (n, N), for images (n, C, H, W) float32 in [0, 1]."""
        return self._pair(self.original.prepare(images))

    def scores(self, images: Tensor) -> Tensor:
        """Return (n,) margins by which B' prefers another class to that of B: above 0 means refused."""
        original, repaired = self.logits(images)
        chosen = original.argmax(dim=1, keepdim=True)
        others = repaired.scatter(1, chosen, -torch.inf)
        return others.amax(dim=1) - repaired.gather(1, chosen)[:, 0]

    @overload
    def __call__(self, images: Tensor) -> Tensor: ...
    @overload
    def __call__(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]: ...

    def __call__(self, images: Tensor | npt.NDArray[Any]) -> Tensor | npt.NDArray[np.float32]:
        """Return scores (n, N + 1): B's class probabilities where B and B' agree, else 1 for class N alone.

        Args:
            images: as the original network takes them, (n, H, W, C) or (n, C, H, W), floats in its input range;
                uint8 is always 0..255. The answer comes in the same framework.

        Raises:
            WrongShape: the images have neither of the two layouts.
        """
        tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
        with torch.inference_mode():
            parts = [self._score_batch(part) for part in torch.split(self._to_unit_range(tensor), BATCH)]
        scores = torch.cat(parts)
        return scores if isinstance(images, Tensor) else scores.cpu().numpy()

    def _score_batch(self, images: Tensor) -> Tensor:
        original, repaired = self.logits(images)
        refused = original.argmax(dim=1) != repaired.argmax(dim=1)
        return torch.cat([original.softmax(dim=1) * ~refused[:, None], refused[:, None].to(original.dtype)], dim=1)

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
        scale = 255.0 if images.dtype == torch.uint8 and self._range_known else self.original.scale
        return images.to(torch.float32) / scale

    def answers(self, dataset: Dataset, *, progress: Progress = no_progress) -> Answers:
        """Return what B, B' and the GoodNet say of every image. Cost: one pass and one of the layers that differ."""
        self._require_range()
        require_fit(self.original, dataset)
        original: list[Tensor] = []
        repaired: list[Tensor] = []
        with torch.inference_mode():
            for number, batch in enumerate(dataset.batches(), start=1):
                of_b, of_b_prime = self.logits(batch.images)
                original.append(of_b.argmax(dim=1))
                repaired.append(of_b_prime.argmax(dim=1))
                progress(min(number * BATCH, len(dataset)), len(dataset))
        return Answers(torch.cat(original).cpu().numpy(), torch.cat(repaired).cpu().numpy(), self.classes)

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
        card = {
            "kind": "disagreement",
            "schema_version": 1,
            **files,
            "architecture": self.original.architecture,
            "input_range": self.original.input_range if self._range_known else None,
            "image_shape": self.original.image_shape,
            "classes": self.classes,
        }
        with replacing_folder(folder) as temporary:
            self.original.save(temporary / files["original"])
            self.repaired.save(temporary / files["repaired"])
            write_text(temporary / _CARD, json.dumps(card, indent=2) + "\n")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, architecture: str | None = None) -> GoodNet:
        """Read a GoodNet from the folder that `save` wrote, or from the run folder in which it lies.

        Args:
            folder: where it is.
            architecture: the networks' own `package.module:factory`; a card that names one does not run it unasked.

        Raises:
            UnreadableModel: there is no GoodNet there, its card or its networks are damaged, or it needs the user's
                code.
        """
        folder = goodnet_folder(folder)
        try:
            card = json.loads(require_file(folder / _CARD, UnreadableModel).read_text(encoding="utf-8"))
            paths = [folder / Path(card[key]).name for key in ("original", "repaired")]
            shape, known, input_range = tuple(card["image_shape"]), card["architecture"], card["input_range"]
            if input_range not in (None, *get_args(InputRange)) or not isinstance(known, str | None):
                raise ValueError(input_range, known)
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableModel(
                f"{folder / _CARD}: expected the card of a GoodNet, but it is damaged; make it again"
            ) from error
        if known is not None and ":" in known and architecture is None:
            raise UnreadableModel(
                f"{folder / _CARD}: refused, it names code outside goodnet as its architecture; if it is yours, say so: "
                f"--architecture {known}"
            )
        networks = (read_network(path, architecture or known, shape) for path in paths)
        pair = cls(*networks, input_range=input_range)
        pair._range_known = input_range is not None
        return pair


def is_goodnet(folder: str | Path) -> bool:
    """Whether `folder`, or `folder`/goodnet, holds a GoodNet."""
    return (goodnet_folder(folder) / _CARD).exists()


def goodnet_folder(folder: str | Path) -> Path:
    """Return the folder that holds the GoodNet's card: `folder` itself or `folder`/goodnet."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableModel(f"{folder}: expected the folder of a GoodNet (goodnet repair writes one), found none")
    return folder / "goodnet" if (folder / "goodnet" / _CARD).exists() else folder
