"""The scan without a method named: cheap evidence on all classes, strong evidence on the candidates, one score per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field

from goodnet.algorithms.outliers import Scores, robust_z
from goodnet.algorithms.trigger_inversion import Inversions, Schedule, invert_triggers, measure_success
from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnreadableModel
from goodnet.core.method import Progress, Scanner, no_progress
from goodnet.core.results import Detection, Verdict
from goodnet.scanners.max_margin import margin_scores

#: With more classes than this only candidates and a random sample of the rest are inverted.
_INVERT_ALL, _CANDIDATES, _CONTROLS = 200, 128, 64
#: Up to this many classes a longer inversion costs little, and the fewer classes to compare with need it.
_FEW_CLASSES = 20
#: Clean images that triggers are optimised on; the rest tests them.
_IMAGES = 40
#: Least deviation of log mask sizes that is believed: a factor of 1.2.
_SIZE_FLOOR = 0.2


class ScanEnsemble(Scanner):
    """Calls a class a backdoor's target when the margin it can reach and the trigger recovered for it stand out together.

    The maximum margin of every class needs no data and does not care what the trigger looks like; trigger inversion
    finds small triggers and shows them. Each is compared with the other classes by a robust z, negative evidence
    counts as none, and a class's score is the sum. A further target must stand out like the first: a class close to
    the true target in the features inherits some of its margin.

    **Source** H. Wang et al., "MM-BD", IEEE S&P 2024, and B. Wang et al., "Neural Cleanse", IEEE S&P 2019; the sum is
    ours.
    **Differs** see `scanners/max_margin.py` and `scanners/neural_cleanse.py`.
    **Needs** clean images, at least 10 (labels are not used); gradients.
    **Cost** classes * 40 passes for the margins (twice that up to 200 classes), and
    min(classes, 192) * steps * images for the triggers; forward and backward.
    **Fails when** the trigger leaves neither a margin nor a small mask (sinusoidal stripes on a weak network); more
    than half of the classes are targets.
    """

    steps: int | None = Field(None, ge=1, description="steps of inversion per class; default: 60, up to 20 classes 100")
    images: int | None = Field(None, ge=1, description="clean images per step; default: 8, up to 20 classes 16")
    threshold: float = Field(8.0, gt=0, description="score above which a class is suspected")
    doubt: float = Field(6.0, gt=0, description="score above which the network is not called clean")

    def scan(self, classifier: Classifier, clean: Dataset, *, seed: int, progress: Progress = no_progress) -> Detection:
        """Return verdict, score of every class, and the suspected backdoors with their triggers.

        Raises:
            UnreadableModel: the network's outputs are not finite.
        """
        doubts = self_check(classifier, clean)
        margins = margin_scores(classifier, starts=2 if classifier.classes <= _INVERT_ALL else 1, steps=40, seed=seed)
        images = clean.sample(2 * _IMAGES, seed=seed).images()
        fitting, held_out = images[: max(2, len(images) * 2 // 3)], images[max(2, len(images) * 2 // 3) :]
        labels = choose_labels(margins, seed)
        few = classifier.classes <= _FEW_CLASSES
        schedule = Schedule(self.steps or (100 if few else 60), self.images or (16 if few else 8))
        found = invert_triggers(classifier, fitting, labels, schedule, seed=seed, progress=progress)
        evidence = combine(margins, found)
        suspects = evidence.suspects(self.threshold)
        backdoors = tuple(Backdoor(evidence.trigger(label), label, name=self.name()) for label in suspects)
        return Detection(
            verdict=self._verdict(evidence, suspects, doubts),
            scores=tuple(float(score) for score in evidence.scores),
            threshold=self.threshold,
            suspected=backdoors,
            reason=self._reason(classifier, evidence, suspects, held_out, doubts),
        )

    def _verdict(self, evidence: Evidence, suspects: Sequence[int], doubts: str) -> Verdict:
        if suspects:
            return "backdoored"
        return "inconclusive" if doubts or evidence.scores.max() > self.doubt else "clean"

    def _reason(
        self, classifier: Classifier, evidence: Evidence, suspects: Sequence[int], held_out: torch.Tensor, doubts: str
    ) -> str:
        top = int(evidence.scores.argmax())
        parts = [f"highest score {evidence.scores[top]:.1f} (class {top}), threshold {self.threshold:g}"]
        for label in suspects:
            trigger = evidence.trigger(label)
            if trigger is not None and len(held_out):
                success = measure_success(classifier, held_out, trigger, label)
                parts.append(f"class {label}: its trigger works on {success:.2f} of {len(held_out)} held-out images")
        return "; ".join([*parts, doubts] if doubts else parts)


@dataclass(frozen=True)
class Evidence:
    """What is known of each class: `margins` and `sizes` are robust z (classes,), higher is more suspicious."""

    margins: Scores
    sizes: Scores
    triggers: Inversions

    @property
    def scores(self) -> Scores:
        """The sum of the positive evidence, each kind capped so that none decides by its tail alone."""
        total: Scores = np.clip(self.margins, 0, _CAP) + np.clip(self.sizes, 0, _CAP)
        return total

    def suspects(self, threshold: float) -> list[int]:
        """Return the classes above `threshold`, the most suspicious first, those in the first one's wake left out."""
        ranked = [int(label) for label in np.argsort(-self.scores) if self.scores[label] >= threshold]
        return [label for label in ranked if self._stands_alone(label, ranked[0])]

    def _stands_alone(self, label: int, first: int) -> bool:
        return bool(
            self.margins[label] >= _WAKE_MARGIN * self.margins[first]
            or self.sizes[label] >= _WAKE_SIZE * self.sizes[first]
        )

    def trigger(self, label: int) -> Patch | None:
        """Return the trigger recovered for a class, None where none was tried or none worked."""
        if label not in self.triggers.labels:
            return None
        position = self.triggers.labels.index(label)
        return self.triggers.patch(position) if bool(self.triggers.worked[position]) else None


#: One kind of evidence counts at most this much.
_CAP = 12.0
#: A further target must reach this share of the first one's margin z, or of its size z.
_WAKE_MARGIN, _WAKE_SIZE = 0.25, 0.8


def combine(margins: Scores, found: Inversions) -> Evidence:
    """Return the evidence for all classes; those that were not inverted have none from sizes."""
    sizes = np.zeros_like(margins)
    sizes[list(found.labels)] = robust_z(-np.log(found.sizes.clamp_min(0.5).numpy()), floor=_SIZE_FLOOR)
    return Evidence(margins, sizes, found)


def choose_labels(margins: Scores, seed: int) -> list[int]:
    """Return the classes to invert: all, or those with the largest margins and a random sample of the others."""
    if len(margins) <= _INVERT_ALL:
        return list(range(len(margins)))
    ranked = np.argsort(-margins)
    controls = np.random.default_rng(seed).choice(ranked[_CANDIDATES:], _CONTROLS, replace=False)
    return [int(label) for label in (*ranked[:_CANDIDATES], *controls)]


def self_check(classifier: Classifier, clean: Dataset) -> str:
    """Return why a verdict "clean" could not be trusted, in words; empty where nothing speaks against it.

    Raises:
        UnreadableModel: the network's outputs are not finite.
    """
    sample = clean.sample(2 * _IMAGES, seed=0)
    with torch.inference_mode():
        logits = classifier(sample.images())
    if not torch.isfinite(logits).all():
        raise UnreadableModel(
            f"{classifier.name}: expected finite outputs, got NaN or infinity; the network is damaged"
        )
    if len(sample) < _LEAST_IMAGES:
        return f"only {len(sample)} clean images, at least {_LEAST_IMAGES} are needed to call a network clean"
    if len(np.unique(logits.argmax(dim=1).cpu().numpy())) == 1:
        return "the network gives all clean images the same class"
    if sample.labels is not None and len(np.unique(sample.targets)) == 1:
        return "all clean images are of one class"
    return ""


_LEAST_IMAGES = 10
