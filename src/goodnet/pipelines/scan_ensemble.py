"""The scan without a method named: cheap evidence on all classes, strong evidence on the candidates, one score per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from goodnet.algorithms.evidence import FEW_CLASSES, Evidence, Judgement
from goodnet.algorithms.held_out import Trial, hold_out, still_accused, try_triggers
from goodnet.algorithms.maximum_margin import class_weights, maximum_margins, normalised_margins
from goodnet.algorithms.outliers import Scores, robust_z
from goodnet.algorithms.patch_probe import ProbeSchedule, probe_shares
from goodnet.algorithms.trigger_inversion import Schedule, invert_shifts, invert_triggers
from goodnet.algorithms.universal_blend import Budget, universal_margins
from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection, Verdict
from goodnet.scanners.last_layer import row_scores

#: With more classes than this only candidates and a random sample of the rest get the evidence that needs images.
_ALL, _CANDIDATES, _CONTROLS = 200, 112, 32
#: Steps of ascent before which the margins of free images are read, early and late.
_FROM_CLEAN, _FROM_NOISE = (20, 40), (10, 40)
#: Images per class that ascend. With two, one class of a clean network leads by chance; where only candidates get
#: further evidence, two choose them.
_STARTS, _SCREENING = 8, 2
#: How triggers are sought that send every class to another: an all-to-all backdoor seldom works on all images.
_SHIFTS = Schedule(steps=150, images=8, success=0.55, least=0.6)
#: Clean images that triggers are optimised on; the rest tests them.
_IMAGES = 40


class ScanEnsemble(Scanner):
    """Calls a class a backdoor's target when it can be reached more easily than the other classes.

    The margin that free images reach by ascent, read early and late, does not care what the trigger looks like; the
    margin that one faint image, blended into clean ones, reaches finds triggers that cover the whole image; trigger
    inversion finds small triggers and shows them; small opaque patches, slid over the image, find those among them that
    gradients do not lead to. Each way, a class is compared with the others: by how many nats does it
    surprise? Negative evidence counts as none, and a class's score is the sum. With more than 20 classes the weights of
    the last layer count too, a little: they cost nothing, and an attacker can make them look innocent. Classes that are
    found are set aside and the others compared anew, so that one target does not hide another. Up to 20 classes, triggers
    are sought too that send every class c to c + k: among the k, that of an all-to-all backdoor stands out.

    The free images begin as clean images, from which no class is nearer than it should be; above 200 classes as noise,
    which resembles one class (the 8 among digits) but, among many, that one does not stand out.

    **Source** H. Wang et al., "MM-BD", IEEE S&P 2024; B. Wang et al., "Neural Cleanse", IEEE S&P 2019; S.-M.
    Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017; G. Fields et al., "Trojan Signatures in DNN
    Weights", ICCV Workshops 2021; the sum of surprises is ours.
    **Differs** see `algorithms/maximum_margin.py`, `trigger_inversion.py`, `universal_blend.py`, `outliers.py`.
    **Needs** clean images, at least 10 (labels are not used); gradients.
    **Cost** per class 320 passes for the margins, 128 for the blend, steps * images (480 or 1,600) for the trigger, and up to
    20 classes 1,200 for all-to-all; with more than 200 classes 80 for each, and all but 80 of the others for 144
    candidates. Forward and backward; and forward alone, for all classes at once, those of `scanners/patch_probe.py`.
    **Fails when** more than half of the classes are targets (all-to-all) and there are fewer than 5 or more than 20, or they
    are not moved by a fixed number; the trigger works on images of one class alone; every class is reached as easily.
    """

    steps: int | None = Field(None, ge=1, description="steps of inversion per class; default: 60, up to 20 classes 100")
    images: int | None = Field(None, ge=1, description="clean images per step; default: 8, up to 20 classes 16")
    threshold: float = Field(5.0, gt=0, description="score above which a class is suspected")
    doubt: float = Field(3.5, gt=0, description="score above which the network is not called clean")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return verdict, score of every class, and the suspected backdoors with their triggers.

        A trigger that fails on held-out images takes its accusation with it.
        """
        doubts = self._doubts(classifier)
        images, held_out = hold_out(clean.sample(2 * _IMAGES, seed=seed).images(), Budget.images)
        evidence = self._gather(classifier, images, seed, run_parts, progress)
        late = [f"the time was up with {evidence.unfinished} classes not done"] if evidence.unfinished else []
        trials = self._refute_shift(classifier, evidence, held_out)
        judgement = evidence.judge(self.threshold)
        trials += try_triggers(classifier, held_out, judgement.suspected)
        # Where the data cannot carry a verdict, it cannot carry an accusation either.
        suspected = () if doubts else still_accused(judgement.suspected, trials)
        doubts = [*doubts, *late]
        unscanned = np.flatnonzero(np.isnan(evidence.measured["free image, late"].values))
        return Detection(
            verdict=self._verdict(judgement, suspected, doubts),
            scores=tuple(float(score) for score in judgement.scores),
            threshold=self.threshold,
            suspected=tuple(replace(item, name=self.name()) for item in suspected),
            unscanned=tuple(int(label) for label in unscanned),
            reason=self._reason(judgement, suspected, trials, doubts),
            evidence={kind: tuple(float(value) for value in values) for kind, values in judgement.kinds.items()},
        )

    def _gather(
        self, classifier: Classifier, images: Tensor, seed: int, run_parts: RunParts, progress: Progress
    ) -> Evidence:
        """Return the evidence of all kinds; the second and third on the candidates alone where classes are many."""
        evidence, few = Evidence(classifier.classes), classifier.classes <= FEW_CLASSES
        margins, labels = climb(classifier, images, seed, run_parts, progress)
        for kind, reading in margins.items():
            evidence.add_margins(kind, range(classifier.classes), reading, normal=few)
        blended = universal_margins(classifier, images, labels, Budget(), seed=seed, run_parts=run_parts)
        evidence.add_margins("faint image", labels, normalised_margins(classifier, blended, labels))
        schedule = Schedule(self.steps or (100 if few else 60), self.images or (16 if few else 8))
        found = invert_triggers(classifier, images, labels, schedule, seed=seed, run_parts=run_parts, progress=progress)
        evidence.add_triggers(labels, found)
        evidence.add_patches(probe_shares(classifier, images, ProbeSchedule(), run_parts=run_parts, progress=progress))
        if not few and class_weights(classifier) is not None:
            evidence.add_rows(row_scores(classifier))
        if few:
            shifts = invert_shifts(classifier, images, _SHIFTS, seed=seed, run_parts=run_parts, progress=progress)
            evidence.add_shifts(shifts)
        return evidence

    def _doubts(self, classifier: Classifier) -> list[str]:
        few = classifier.classes < _LEAST_CLASSES
        return [f"{classifier.classes} classes are too few to say what is usual among them"] if few else []

    def _refute_shift(self, classifier: Classifier, evidence: Evidence, held_out: Tensor) -> list[Trial]:
        """Drop the trigger that sends each class to another if it fails on held-out images; return the trial if that matters."""
        if evidence.shift is None:
            return []
        (trial,) = try_triggers(classifier, held_out, evidence.shift.backdoors(classifier.classes))
        if not trial.refuted:
            return []
        nats, evidence.shift = evidence.shift.nats, None
        return [trial] if nats >= self.doubt else []

    def _verdict(self, judgement: Judgement, suspected: Sequence[Backdoor], doubts: Sequence[str]) -> Verdict:
        if suspected:
            return "backdoored"
        return "inconclusive" if doubts or judgement.scores.max() > self.doubt else "clean"

    def _reason(
        self, judgement: Judgement, suspected: Sequence[Backdoor], trials: Sequence[Trial], doubts: Sequence[str]
    ) -> str:
        scores = judgement.scores
        leader = "all to all" if judgement.of_all else f"class {int(scores.argmax())}"
        parts = [f"highest score {scores.max():.1f} ({leader}), threshold {self.threshold:g}"]
        if any(item.sources is not None for item in suspected):
            parts.append("all to all: one small trigger sends every class to another")
        return "; ".join([*parts, *map(str, trials), *doubts])


def climb(
    classifier: Classifier, images: Tensor, seed: int, run_parts: RunParts, progress: Progress
) -> tuple[dict[str, Tensor], list[int]]:
    """Return the evidence of free images, kind -> normalised margins (classes,), and the classes to look into."""
    if classifier.classes > _ALL:
        return _climb_from_noise(classifier, seed, run_parts, progress)
    found = maximum_margins(
        classifier,
        starts=_STARTS,
        readings=_FROM_CLEAN,
        seed=seed,
        images=images,
        run_parts=run_parts,
        progress=progress,
    )
    early, late = (normalised_margins(classifier, reading) for reading in found)
    # What is gained after the first steps does not tell which classes are neighbours by nature, as the 8 is of all digits.
    kinds = {"free image, early": early, "free image, late": late - early}
    if classifier.classes <= FEW_CLASSES:
        del kinds["free image, early"]
    return kinds, choose_labels(late[None].double().cpu().numpy(), seed)


def _climb_from_noise(
    classifier: Classifier, seed: int, run_parts: RunParts, progress: Progress
) -> tuple[dict[str, Tensor], list[int]]:
    """Let two images of noise ascend for each class, and more of them for those to look into."""
    first = maximum_margins(
        classifier, starts=_SCREENING, readings=_FROM_NOISE, seed=seed, run_parts=run_parts, progress=progress
    )
    margins = torch.stack([normalised_margins(classifier, reading) for reading in first])
    labels = choose_labels(margins.double().cpu().numpy(), seed)
    more = maximum_margins(
        classifier,
        starts=_STARTS - _SCREENING,
        readings=_FROM_NOISE,
        seed=seed + 1,
        labels=labels,
        run_parts=run_parts,
    )
    more = torch.stack([normalised_margins(classifier, reading, labels) for reading in more])
    known = margins[:, labels]
    margins[:, labels] = torch.where(more.isnan(), known, torch.lerp(more, known, _SCREENING / _STARTS))
    return {"free image, early": margins[0], "free image, late": margins[1]}, labels


def choose_labels(margins: Scores, seed: int) -> list[int]:
    """Return the classes to look into: all, or those that stand highest in one reading and a random sample of the others.

    `margins` (readings, classes), NaN where there was no time.
    """
    known = np.flatnonzero(np.isfinite(margins).all(axis=0))
    if len(known) <= _ALL:
        return [int(label) for label in known] or list(range(margins.shape[1]))
    heights = np.max([robust_z(reading[known]) for reading in margins], axis=0)
    ranked = [int(label) for label in known[np.argsort(-heights, kind="stable")]]
    controls = np.random.default_rng(seed).choice(ranked[_CANDIDATES:], _CONTROLS, replace=False)
    return [*ranked[:_CANDIDATES], *(int(label) for label in controls)]


#: Of fewer classes nobody knows what is usual among them.
_LEAST_CLASSES = 4
