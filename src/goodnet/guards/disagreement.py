"""The GoodNet as a guard: where the original network and a repaired one differ, the input is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption
from goodnet.core.method import Guard, Progress, no_progress
from goodnet.inference.predictions import require_fit
from goodnet.pair.goodnet import GoodNet


class Disagreement(Guard):
    """Refuses an input on which the original network and a repaired one give different classes.

    The repaired network has lost the backdoor, or part of it, so a triggered input makes the two differ; a clean
    input does so only where the repair cost accuracy. The layers that the two share run once. Where targets are
    suspected, only inputs that the original assigns to one of them can be refused, so clean images hardly ever are.

    **Source** the GoodNet of CSAW-HackML-2020 (NYU), after K. Liu, B. Dolan-Gavitt, S. Garg, "Fine-Pruning", RAID 2018.
    **Differs** any repaired network will do, not only a pruned one; suspected targets.
    **Needs** logits of both networks; no data to fit.
    **Cost** one pass, and a second one of the layers that differ.
    **Fails when** the repaired network still follows the trigger, the trigger's target is the true class, or targets
    are suspected and the true one is not among them.
    """

    needs_repaired: ClassVar[bool] = True

    def fit(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        suspected: Sequence[Backdoor] = (),
        repaired: Classifier | None = None,
        seed: int,
        progress: Progress = no_progress,
    ) -> GoodNet:
        """Return the GoodNet of `classifier` and the repaired network; nothing is fitted.

        Raises:
            InvalidOption: there is no repaired network.
        """
        require_fit(classifier, clean)
        if repaired is None:
            raise InvalidOption("disagreement: expected a repaired network beside the original; repair it first")
        targets = targets_of(suspected)
        return GoodNet(classifier, repaired, targets=targets or None)
