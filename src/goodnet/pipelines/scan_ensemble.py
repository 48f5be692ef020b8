"""The scan without a method named: several kinds of evidence for each class, and one p-value from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, Scanner, no_progress, run_here
from goodnet.core.results import Detection, Verdict
from goodnet.evidence.held_out import Trial, still_suspected, try_triggers
from goodnet.evidence.judgement import DOUBT, MARGIN, Evidence, Judgement
from goodnet.evidence.outliers import LEAST_CLASSES
from goodnet.evidence.rounds import describe_rounds, is_close
from goodnet.evidence.usual_leads import GROUPS
from goodnet.inference.quick_networks import copy_for_search
from goodnet.pipelines.scan_reasons import describe_leader, describe_reach, weigh_kinds
from goodnet.pipelines.scan_rounds import Gathering, split_images
from goodnet.scanners.clean_student import CleanStudent
from goodnet.triggers.inversion import Schedule

#: A trigger counts if it works on this share of the images of recent steps, and of one step's. Backdoors do not work on every
#: image, and the few images that move least would decide about the sizes of clean classes.
_OF_LATE, _OF_A_STEP = 0.7, 0.75


class ScanEnsemble(Scanner):
    """Suspects a class that is easier to reach than the other classes, by a margin that is rare in clean networks.

    It uses six kinds of evidence:

    * the maximum margin, by gradient ascent, which does not depend on the trigger's form;
    * one image blended into all clean ones (the universal blend), for triggers that cover the whole image;
    * small opaque patches, slid over the image, for patches that gradients do not find;
    * trigger inversion, which begins with these patches, for small triggers of any form. A trigger counts if it moves
      three of four images; the trigger in the report is optimised further until it moves nearly all images, if that succeeds;
    * up to 20 classes, adversarial patches: at each of 25 places, the colours of a small square are optimised for each class,
      for small triggers of any colours;
    * up to 20 classes, trigger inversion for pairs of classes, beside a student, for triggers that work on one class alone.

    In each kind, the lead of the first class over the second is compared with the leads below it and with those in
    clean networks. This gives a p-value, and so does the sum of a class's scores in all kinds. The class's p-value is their
    weighted harmonic mean (`docs/scan.md`).

    Up to 20 classes, the maximum margin never makes a class suspected; it can only make the verdict inconclusive. A further kind
    of evidence looks for a trigger that sends every class c to c + k. It counts only if it has fewer pixels than
    the smallest trigger for any single class.

    Where a p-value is between a tenth of alpha and ten times alpha, the verdict would depend on chance: the evidence is gathered
    twice more, from other images and other starts, and the measurements are averaged. Small patches are not measured again;
    all to all and pairs of classes are measured again only if their own p-value is at most ten times alpha.

    A class whose p-value is at most `alpha` is suspected, unless its trigger fails on held-out images. If it owes its
    p-value to a pair of classes, it is suspected as the target of that source alone. A p-value below five times alpha makes
    the verdict inconclusive; about 4 * alpha of the clean networks should be inconclusive for this reason.

    **Source** H. Wang et al., "MM-BD", IEEE S&P 2024; B. Wang et al., "Neural Cleanse", IEEE S&P 2019; S.-M.
    Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017; D. Wilson, "The harmonic mean p-value", PNAS
    2019; the p-value of a lead is ours.
    **Differs** see `maximum_margin.py`, `inversion.py`, `universal_blend.py`, `patch_probe.py`,
    `adversarial_patches.py`, `class_pairs.py` in `triggers/`, and `evidence/outliers.py`.
    **Needs** clean images, at least 10, for small patches 30, for pairs of classes 8 of a source class (labels are not
    used); gradients.
    **Cost** in passes, for one round. Where a p-value is near alpha there are two more, without small patches, and with all to
    all and pairs of classes only if their own p-value is at most ten times alpha:

    * forward and backward, for each class: 320 for the margins (with more than 200 classes 80, and the other 240 for 144
      classes alone) and 128 for the blend (with more than 200 classes for the same 144 alone); up to 20 classes also 1,800 for
      adversarial patches and 1,200 for all-to-all;
    * forward and backward, for trigger inversion: steps * images (1,600) for each of at most 20 classes, and again for each
      suspected class;
    * forward alone, for all classes at once: those of `scanners/patch_probe.py`;
    * up to 20 classes also those of `scanners/class_pairs.py`.

    **Fails when** more than a quarter of the classes are targets (unless the backdoor sends every class c to c + k, and there
    are at most 20 classes); the trigger works on images of one class alone and is no patch; the trigger works on images of
    one class alone and there are more than 20 classes; every class is as easy to reach as the target. With two or three
    classes `clean_student` decides, and its limits hold.
    """

    word: ClassVar[str | None] = "ensemble"
    alpha: float = Field(
        0.01, gt=0, lt=0.2, description="significance level: the share of clean networks that may be called backdoored"
    )
    steps: int = Field(100, ge=1, description="steps of inversion per class")
    images: int = Field(16, ge=1, description="clean images per step")

    def examine(
        self,
        classifier: Classifier,
        clean: Dataset,
        *,
        seed: int,
        run_parts: RunParts = run_here,
        progress: Progress = no_progress,
    ) -> Detection:
        """Return verdict, minus log of the p-value of every class, and the suspected backdoors with their triggers.

        A class whose trigger fails on held-out images is not suspected. Fewer than four classes are not compared with
        one another: `CleanStudent` looks at each of them by itself.
        """
        if classifier.classes < LEAST_CLASSES:
            alone = CleanStudent(alpha=self.alpha)
            return alone.examine(classifier, clean, seed=seed, run_parts=run_parts, progress=progress)
        draw = split_images(clean, seed)
        search = copy_for_search(classifier, draw.used)
        gathering = Gathering(self.schedule, seed, run_parts, progress)
        evidence = gathering.gather(search, draw.used, draw.more)
        if not evidence.unfinished and is_close(evidence.judge(self.least_score).scores, self.least_score):
            evidence = gathering.gather_again(search, clean, evidence, self.least_score)
        doubts = _doubts(evidence, self.least_score)
        trials = self._refute_shift(classifier, evidence, draw.held_out)
        judgement = evidence.judge(self.least_score)
        single = {item.target for item in judgement.suspected if item.sources is None}
        inverted = {label for label in single if evidence.small_patch(label) is None}
        if evidence.triggers is not None and inverted:
            evidence.triggers = gathering.sharpen(search, draw.used, evidence.triggers, inverted)
            judgement = evidence.judge(self.least_score)
        trials += try_triggers(classifier, draw.held_out, judgement.suspected)
        suspected = still_suspected(judgement.suspected, trials)
        unscanned = np.flatnonzero(np.isnan(evidence.values[MARGIN]))
        return Detection(
            verdict=self._verdict(judgement, suspected, doubts),
            scores=tuple(float(score) for score in judgement.scores),
            threshold=self.least_score,
            suspected=tuple(replace(item, name=self.name()) for item in suspected),
            unscanned=tuple(int(label) for label in unscanned),
            reason=self._reason(judgement, evidence, suspected, [*map(str, trials), *doubts, *_remarks(evidence)]),
            evidence={kind: tuple(float(value) for value in values) for kind, values in judgement.kinds.items()},
        )

    @property
    def schedule(self) -> Schedule:
        """How long triggers are inverted."""
        return Schedule(self.steps, self.images, success=_OF_LATE, least=_OF_A_STEP)

    @property
    def least_score(self) -> float:
        """Minus log of alpha: the score from which on a class is suspected."""
        return -math.log(self.alpha)

    def _refute_shift(self, classifier: Classifier, evidence: Evidence, held_out: Tensor) -> list[Trial]:
        """Drop the trigger that sends each class to another if it fails on held-out images; return the trial if that matters."""
        shift = evidence.shift
        if shift is None:
            return []
        (trial,) = try_triggers(classifier, held_out, shift.backdoors(classifier.classes))
        if not trial.refuted:
            return []
        mattered = evidence.judge(self.least_score - math.log(DOUBT)).of_all
        evidence.shifts = None
        return [trial] if mattered else []

    def _verdict(self, judgement: Judgement, suspected: Sequence[Backdoor], doubts: Sequence[str]) -> Verdict:
        if suspected:
            return "backdoored"
        doubtful = judgement.scores.max() >= self.least_score - math.log(DOUBT)
        return "inconclusive" if doubts or doubtful else "clean"

    def _reason(
        self, judgement: Judgement, evidence: Evidence, suspected: Sequence[Backdoor], further: Sequence[str]
    ) -> str:
        parts = [describe_leader(judgement, self.alpha)]
        if suspected and judgement.of_all:
            parts.append("all to all: one small trigger sends every class to another")
        else:
            parts += [weigh_kinds(judgement, item) for item in suspected]
        reach = None if suspected else describe_reach(evidence, self.least_score)
        return "; ".join([*parts, *further, *([reach] if reach else [])])


def _doubts(evidence: Evidence, least: float) -> list[str]:
    """Return why there can be no verdict."""
    doubts = []
    if evidence.unfinished:
        doubts.append(f"the time was up with {evidence.unfinished} classes not done")
    label = evidence.doubtful(least)
    if label is not None:
        doubts.append(
            f"gradient ascent reaches class {label} far more easily than the others: a large trigger may be the reason, but "
            f"clean networks of up to {GROUPS[0]} classes show it too"
        )
    return doubts


def _remarks(evidence: Evidence) -> list[str]:
    """Return what the user should know of the verdict."""
    untried = evidence.patches is not None and evidence.patches.complete and not evidence.patches.labels
    remarks = ["no small patches were tried: that takes 30 clean images"] if untried else []
    if evidence.classes <= GROUPS[0] and evidence.pairs is None and not evidence.unfinished:
        remarks.append(
            "triggers that work on one class alone were not looked for: that takes 60 clean images, and 8 of the class"
        )
    elif evidence.pairs is not None and evidence.pairs.unasked:
        few = ", ".join(map(str, evidence.pairs.unasked))
        remarks.append(
            f"triggers that work on one of these classes alone were not looked for: {few}; the network, or a student that learnt "
            "from it, gave them to too few of the clean images"
        )
    if evidence.rounds > 1:
        remarks.append(describe_rounds(evidence.rounds))
    return remarks
