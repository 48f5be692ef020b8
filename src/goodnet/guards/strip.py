"""STRIP: a prediction that does not change when the image is blended with others comes from a trigger."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import BATCH, Dataset
from goodnet.guards.calibration import CalibratedGuard, Reader, Readings


class Strip(CalibratedGuard):
    """Refuses an input whose predictions stay certain when other images are laid over it.

    The input is blended with several clean images, one at a time. On blends of a clean input the network is uncertain, but
    a trigger shines through them, and the predictions agree. The score is minus the mean entropy of the predictions, in
    bits.

    **Source** Y. Gao, C. Xu, D. Wang, S. Chen, D. Ranasinghe, S. Nepal, "STRIP: A Defence Against Trojan Attacks on
    Deep Neural Networks", ACSAC 2019, section 4 (equations 2 to 4).
    **Differs** 16 blends instead of 100: few are enough to rank images, and a defender has few; the threshold is an
    order statistic instead of the quantile of a fitted normal distribution.
    **Needs** clean images; logits.
    **Cost** `blends` passes.
    **Fails when** the trigger is faint and drowns in the blend, or the target depends on the input's own class (all to
    all); a network that is certain of everything hides the difference.
    """

    blends: int = Field(16, ge=1, description="clean images that are laid over each input")
    weight: float = Field(0.5, gt=0, lt=1, description="share of the clean image in the blend")

    def make_reader(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
    ) -> Reader:
        """Draw the images that are laid over the inputs."""
        overlays = clean.sample(self.blends, seed=seed).images()

        def read(images: Tensor) -> Readings:
            blends = (torch.lerp(images, overlay.to(images.device), self.weight) for overlay in overlays)
            return (-torch.stack([entropy(classifier, blend) for blend in blends]).mean(dim=0),)

        return read


def entropy(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the entropy of the network's predictions in bits, (N,)."""
    log_p = torch.cat([classifier(part).cpu() for part in torch.split(images, BATCH)]).log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(2)
