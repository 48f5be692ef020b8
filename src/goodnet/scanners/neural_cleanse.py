"""Neural Cleanse: the smallest trigger that sends every image to a class is unusually small for a backdoor's target."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from goodnet.algorithms.outliers import Scores, anomaly_index
from goodnet.algorithms.trigger_inversion import Inversions, Schedule, invert_triggers
from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, Scanner, no_progress
from goodnet.core.results import Detection, Verdict


class NeuralCleanse(Scanner):
    """Calls a class infected when the trigger recovered for it is an outlier on the small side.

    For every class a mask and a pattern are optimised so that stamped clean images are called that class, with a
    small L1 norm of the mask. Norms are compared by their median absolute deviation: an anomaly index above 2 on the
    small side is an infected class. All classes are inverted in batches that share their images.

    **Source** B. Wang, Y. Yao, S. Shan, H. Li, B. Viswanath, H. Zheng, B. Y. Zhao, "Neural Cleanse: Identifying and
    mitigating backdoor attacks in neural networks", IEEE S&P 2019, sections IV and V.
    **Differs** Classes in batches, few images and steps by default; the paper's schedule is steps 1000, images 32.
    **Needs** clean images (labels are not used); gradients.
    **Cost** classes * steps * images passes forward and backward.
    **Fails when** the trigger is large (sunglasses), warps or blends, or more than a quarter of the classes are
    targets.
    """

    steps: int = Field(60, ge=1, description="optimisation steps per class")
    images: int = Field(8, ge=1, description="clean images per step")
    labels: tuple[int, ...] | None = Field(None, description="classes to invert; default: all")
    threshold: float = Field(2.0, gt=0, description="anomaly index above which a class is infected")

    def scan(self, classifier: Classifier, clean: Dataset, *, seed: int, progress: Progress = no_progress) -> Detection:
        """Return the anomaly index of every class that was inverted; classes left out are named."""
        labels = self.labels or tuple(range(classifier.classes))
        images = clean.sample(_MOST_IMAGES, seed=seed).images()
        found = invert_triggers(
            classifier, images, labels, Schedule(self.steps, self.images), seed=seed, progress=progress
        )
        index = anomaly_index(found.sizes.numpy())
        scores = np.full(classifier.classes, -np.inf)
        scores[list(labels)] = index
        suspected = self._suspects(found, index)
        unscanned = tuple(label for label in range(classifier.classes) if label not in set(labels))
        clean_verdict: Verdict = "clean" if not unscanned and len(labels) > 2 else "inconclusive"
        return Detection(
            verdict="backdoored" if suspected else clean_verdict,
            scores=tuple(float(score) for score in scores),
            threshold=self.threshold,
            suspected=suspected,
            unscanned=unscanned,
            reason=f"{len(suspected)} classes with an anomaly index above {self.threshold:g}",
        )

    def _suspects(self, found: Inversions, index: Scores) -> tuple[Backdoor, ...]:
        infected = [p for p in np.argsort(-index) if index[p] > self.threshold and bool(found.worked[p])]
        return tuple(Backdoor(found.patch(int(p)), found.labels[p], name=self.name()) for p in infected)


#: Clean images from which the optimisation draws: more do not change the triggers.
_MOST_IMAGES = 200
