"""Anchored unlearning: triggers that chase the suspected target are unlearned; the original's predictions hold the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.repairs import Change, Repair
from goodnet.inference.defender_labels import with_labels
from goodnet.inference.predictions import measured_repair, predict_classes, require_fit
from goodnet.inference.quick_networks import copy_for_search, in_mixed_precision
from goodnet.training import Training, augment, train
from goodnet.triggers.trigger_search import TriggerSearch


class Anchored(Change):
    """The `temperature` at which the original's predictions were held on to."""

    temperature: float


class AnchoredUnlearning(Repairer):
    """Unlearns adversarially updated triggers, and anchors the network to the original's logits on clean images.

    For each suspected target a few triggers are kept: small ones recovered by inversion, one universal blend over the whole
    image, and four opaque bands of a quarter of the image's height, whose patterns are free. The bands stand for
    sunglasses and similar accessories, which no recovered patch resembles. A small smooth warp, or faint stripes, are
    added if they send images to the target and not to most other classes. If any are added, they are stamped on half of the
    images. Then, and where a trigger sends classes to different targets, the two losses on triggered images weigh three times as
    much.

    In every step of training, the triggers are first moved by one gradient step towards the target on the current network,
    within a size limit. Then the network takes one step. On clean images its logits stay near the original's (the anchor). On
    triggered images the loss pushes the target's probability down and, with a smaller weight, asks for the original's
    prediction on the clean image. Because the triggers are updated, the repair also works for triggers that were not recovered.
    With the anchor few images are enough, since every image gives as many constraints as there are classes. Images with a
    covered part teach the network to ignore what covers it.

    **Source** our own combination: B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section VI-C (unlearning); Y. Zeng et
    al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022 (the minimax form); G. Hinton, O.
    Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015 (the anchor and its temperature).
    **Differs** from all: triggers have a size limit and a target; the original's logits, not labels, are learned.
    **Needs** clean images (labels are not used) and suspected targets, with or without triggers; gradients.
    **Cost** forward and backward: steps * 5 * 32 for training; 5,500 for the triggers of each suspected target; 13,000 to
    15,000 in all for up to five other classes to compare with. (Where one trigger moves every class: 7,200 instead of the last
    two.) Forward alone, to look for stripes: 7,000, and 320 for each target and each class to compare with.
    **Fails when** the suspected target is wrong; the trigger is not a patch, band, blend, smooth warp or stripes.
    """

    needs_suspects: ClassVar[bool] = True

    steps: int = Field(120, ge=1, description="training steps of 32 images, at most 100 passes over the images")
    learning_rate: float = Field(3e-4, gt=0, description="learning rate of Adam, cosine schedule")
    push: float = Field(
        3.0, gt=0, description="weight of the loss that lowers the target's probability on triggered images"
    )
    pull: float = Field(
        1.0,
        ge=0,
        description="weight of the loss that restores the original's prediction for the clean image on triggered ones",
    )
    occlusion: float = Field(
        1.0, ge=0, description="weight of the original's predictions on images with a covered part"
    )
    anchor: float = Field(10.0, ge=0, description="weight of the original's logits on clean images")
    triggers: int = Field(
        3, ge=1, description="patches, and warps where they work, recovered for each target, besides a universal blend"
    )

    def repair(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network after unlearning what leads to the suspected targets.

        Raises:
            MethodFailed: nothing is suspected.
        """
        search = self.start_search(classifier, clean, suspected, seed)
        return self.unlearn(classifier, clean, search, suspected=suspected, seed=seed, progress=progress)

    def start_search(
        self, classifier: Classifier, clean: Dataset, suspected: Sequence[Backdoor], seed: int
    ) -> TriggerSearch:
        """Recover the triggers that `unlearn` begins with; the same for every learning rate.

        Raises:
            MethodFailed: nothing is suspected.
        """
        require_fit(classifier, clean)
        if not suspected:
            raise MethodFailed("nothing to unlearn: no backdoor is suspected; scan first")
        images = _search_images(clean, seed)
        return TriggerSearch.start(copy_for_search(classifier, images), images, suspected, self.triggers, seed)

    def unlearn(
        self,
        classifier: Classifier,
        clean: Dataset,
        search: TriggerSearch,
        *,
        suspected: Sequence[Backdoor],
        seed: int,
        progress: Progress = no_progress,
    ) -> Repair:
        """Return the network after unlearning the triggers of `search`, which move: give each training its own copy."""
        labelled, images = with_labels(classifier, clean), _search_images(clean, seed)
        with torch.inference_mode():
            temperature = find_temperature(classifier(images))
        repaired = classifier.copy()
        quick, own = in_mixed_precision(repaired, images), _images_of(classifier, labelled, suspected)
        loss = _AnchoredLoss(self, classifier, quick, search, temperature, own)
        epochs = min(_PASSES, math.ceil(self.steps * _BATCH / len(clean)))
        training = Training(epochs=epochs, learning_rate=self.learning_rate, batch_size=_BATCH)
        train(repaired, labelled, training, seed=seed, loss=loss, progress=progress)
        targets = tuple(backdoor.target for backdoor in suspected)
        changes = Anchored(targets=targets, temperature=temperature)
        return measured_repair(self.name(), classifier, repaired, labelled, changes)


_BATCH = 32
#: Passes over the images at most: few images that are seen more often are learned by heart, and accuracy falls.
_PASSES = 100
#: Images of the target's own in each step.
_OWN = 8
#: Clean images that triggers are recovered on.
_SEARCHED = 40
#: How much more leaving the target and the prediction without the trigger weigh where one goal is not enough.
_ELUSIVE = 3.0
#: Confidence of the original on clean images to which predictions are softened.
_CONFIDENCE = 0.9


class _AnchoredLoss:
    """The loss of one training step; it moves the triggers before it measures them."""

    def __init__(
        self,
        options: AnchoredUnlearning,
        original: Classifier,
        quick: Classifier,
        search: TriggerSearch,
        temperature: float,
        own: Tensor,
    ) -> None:
        self._options, self._original, self._search, self._temperature = options, original, search, temperature
        # It shares the weights of the network that is trained.
        self._quick = quick
        self._own, self._weight = own, _ELUSIVE if search.elusive else 1.0

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        # Statistics of batch norm stay the original's: half of the images here carry triggers.
        classifier.network.eval()
        images = vary(images)
        # The target's own images are few and stand next to what is pushed away: some are in every step, and count as much
        # as all others, with a trigger and without.
        own = vary(self._own[torch.randperm(len(self._own))[:_OWN]]).to(classifier.device)
        images = images.to(classifier.device)
        turns = self._search.draw(len(images)).to(images.device)
        with torch.no_grad():
            wanted, wanted_own = self._original(images), self._original(own)
        calls = wanted.argmax(dim=1)
        self._search.step(self._quick, images, calls, turns, self._temperature)
        stamped = self._search.stamp(images, turns).detach()
        stamped_own = self._search.stamp(own, self._search.draw(len(own)).to(own.device)).detach()
        parts = [images, own, stamped, stamped_own, occlude(images)]
        kept, kept_own, triggered, triggered_own, occluded = torch.split(
            self._quick(torch.cat(parts)), [len(part) for part in parts]
        )
        anchor = self._anchor(kept, wanted)
        push = self._weight * self._options.push * self._escape(triggered, self._search.goals[turns, calls], calls)
        # The logarithm lets go of images that the trigger has destroyed and holds those that can be recognised.
        pull = self._weight * self._options.pull * self._divergence(triggered, wanted).log1p().mean()
        see_past = self._options.occlusion * self._divergence(occluded, wanted).log1p().mean()
        loss = anchor + push + pull + see_past
        if len(own):
            loss = (
                loss + self._anchor(kept_own, wanted_own) + self._divergence(triggered_own, wanted_own).log1p().mean()
            )
        return loss

    def _anchor(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Return how far clean logits (B, N) are from the original's."""
        return self._options.anchor * relative_distance(logits, wanted) + self._divergence(logits, wanted).mean()

    def _escape(self, logits: Tensor, goals: Tensor, calls: Tensor) -> Tensor:
        """Return the mean of -log(1 - p), p the probability of the goal (B,); an image's own class is nothing to leave."""
        success = F.softmax(logits / self._temperature, dim=1).gather(1, goals[:, None])[:, 0]
        away = goals != calls
        return -(torch.log1p(-success.clamp(max=0.9999)) * away).sum() / away.sum().clamp_min(1)

    def _divergence(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence from the softened wanted predictions, (B,)."""
        soft = F.softmax(wanted / self._temperature, dim=1)
        divergence = F.kl_div(F.log_softmax(logits / self._temperature, dim=1), soft, reduction="none").sum(dim=1)
        return divergence.clamp_min(0)


def _search_images(clean: Dataset, seed: int) -> Tensor:
    """Return the clean images that triggers are recovered on, (n, C, H, W)."""
    return clean.sample(_SEARCHED, seed=seed).images()


def _images_of(classifier: Classifier, labelled: Dataset, suspected: Sequence[Backdoor]) -> Tensor:
    """Return the clean images that the original calls a target, (n, C, H, W); none where most are, which need no protection."""
    called = np.isin(predict_classes(classifier, labelled), [backdoor.target for backdoor in suspected])
    if called.mean() > 0.5:
        return torch.zeros(0, *classifier.image_shape)
    return labelled.subset(np.flatnonzero(called)).images() if called.any() else torch.zeros(0, *classifier.image_shape)


def vary(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) shifted, some flipped, some mixed with others, brighter or darker: more of the input space."""
    images = augment(images, "flip_shift")
    count = (len(images), 1, 1, 1)
    mixed = torch.lerp(images, images[torch.randperm(len(images))], 0.5 * torch.rand(count))
    images = torch.where(torch.rand(count) < 0.5, mixed, images)
    return (images * (0.8 + 0.4 * torch.rand(count))).clamp(0, 1)


def occlude(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) with a rectangle of one colour, of noise or dark on each: up to a third of the height."""
    count, channels, height, width = images.shape
    covered = images.clone()
    for index in range(count):
        rows = int(torch.randint(height // 8, height // 3 + 1, ()))
        columns = int(torch.randint(width // 4, width, ()))
        top, left = int(torch.randint(height - rows + 1, ())), int(torch.randint(width - columns + 1, ()))
        kind = int(torch.randint(3, ()))
        paint = torch.rand(channels, rows, columns) if kind == 0 else torch.rand(channels, 1, 1)
        covered[index, :, top : top + rows, left : left + columns] = 0.3 * paint if kind == 1 else paint
    return covered


def relative_distance(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared distance of centred logits (B, N) over the squared length of the wanted ones."""
    logits = logits - logits.mean(dim=1, keepdim=True)
    wanted = wanted - wanted.mean(dim=1, keepdim=True)
    return ((logits - wanted).square().sum(dim=1) / wanted.square().sum(dim=1).clamp_min(1e-12)).mean()


def find_temperature(logits: Tensor) -> float:
    """Return the temperature at which the mean confidence of softmax(logits / T) is 0.9; networks differ in scale."""
    low, high = 0.05, 100.0
    for _ in range(30):
        middle = math.sqrt(low * high)
        confident = F.softmax(logits / middle, dim=1).amax(dim=1).mean() > _CONFIDENCE
        low, high = (middle, high) if confident else (low, middle)
    return math.sqrt(low * high)
