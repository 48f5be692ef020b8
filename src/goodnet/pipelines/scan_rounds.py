"""Gathers the evidence of the scan: of all kinds, cheap ones first, and in further rounds where chance would decide."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.method import Progress, RunParts, no_progress, run_here
from goodnet.evidence.held_out import hold_out
from goodnet.evidence.judgement import ALL_TO_ALL, BLEND, EARLY, MARGIN, PAIR, SQUARE, Evidence
from goodnet.evidence.outliers import Scores, robust_z
from goodnet.evidence.pair_sizes import compare_pairs
from goodnet.evidence.rounds import average, further_seeds, kinds_near, name_round, name_stage
from goodnet.evidence.square_margins import compare_squares
from goodnet.evidence.usual_leads import USUAL_LEADS
from goodnet.triggers.class_pairs import PairSchedule
from goodnet.triggers.inversion import Inversions, Schedule, invert_shifts, invert_triggers
from goodnet.triggers.maximum_margin import maximum_margins, normalised_margins
from goodnet.triggers.patch_probe import Probes, ProbeSchedule, Shares, probe_shares
from goodnet.triggers.universal_blend import Budget, universal_margins

#: With more classes than this only candidates and a random sample of the rest get the evidence that needs images.
_ALL, _CANDIDATES, _CONTROLS = 200, 112, 32
#: Triggers are inverted for so many classes: those that come first in the evidence that costs less.
_INVERTED = 20
#: Steps of ascent before which the maximum margin is read. From clean images what is gained in between counts, as it
#: does not tell which classes are neighbours by nature, as the 8 is of all digits.
_FROM_CLEAN, _FROM_NOISE = (20, 40), (10, 40)
#: Images per class that ascend. With two, one class of a clean network leads by chance; where only candidates get
#: further evidence, two choose them.
_STARTS, _SCREENING = 8, 2
#: How triggers are sought that send every class to another: an all-to-all backdoor seldom works on all images.
_SHIFTS = Schedule(steps=150, images=8, success=0.55, least=0.6)
#: Clean images that are read: evidence comes from two thirds, the rest tests the triggers.
_IMAGES = 160
#: How triggers for pairs of classes are sought, and the images that they take, at most.
_PAIRS, _MORE = PairSchedule(), 480


@dataclass(frozen=True)
class Gathering:
    """How evidence is gathered: the `schedule` of trigger inversion, the `seed` of draws and starts, and where the work runs."""

    schedule: Schedule
    seed: int
    run_parts: RunParts = run_here
    progress: Progress = no_progress

    def gather(self, classifier: Classifier, images: Tensor, more: Dataset) -> Evidence:
        """Return the evidence of all kinds from clean images (n, C, H, W); what costs most on the first classes alone.

        `more` are the images for pairs of classes.
        """
        evidence = Evidence(classifier.classes)
        self._add_margins(evidence, classifier, images)
        shares = probe_shares(classifier, images, ProbeSchedule(), run_parts=self.run_parts, progress=self.progress)
        evidence.add_patches(shares)
        self._add_triggers(evidence, classifier, images, choose_inverted(evidence, shares), shares.probes)
        if classifier.classes <= _INVERTED:
            self._add_shifts(evidence, classifier, images)
            self._add_pairs(evidence, classifier, more.images())
        return evidence

    def gather_like(
        self, first: Evidence, least: float, classifier: Classifier, images: Tensor, more: Dataset
    ) -> Evidence:
        """Return the evidence of a further round, on the classes and pairs of the `first` one.

        What costs most is measured again only if it could decide: small patches never, as the first round tried them on most
        of its images; shifts and pairs of classes if their p-value is near alpha or below it.
        """
        evidence, decisive = Evidence(classifier.classes), kinds_near(first, least)
        among = [int(label) for label in np.flatnonzero(np.isfinite(first.values[BLEND]))]
        self._add_margins(evidence, classifier, images, among)
        if first.triggers is not None:
            probes = None if first.patches is None else first.patches.probes
            self._add_triggers(evidence, classifier, images, first.triggers.labels, probes)
        if ALL_TO_ALL in decisive:
            self._add_shifts(evidence, classifier, images)
        if PAIR in decisive and first.pairs is not None:
            self._add_pairs(evidence, classifier, more.images(), first.pairs.triggers.labels)
        return evidence

    def _add_margins(
        self, evidence: Evidence, classifier: Classifier, images: Tensor, among: list[int] | None = None
    ) -> None:
        """Add what gradient ascent and universal blends reach, of the classes `among`, or of all or the first ones."""
        margins, labels = climb(classifier, images, self.seed, self.run_parts, self.progress, among)
        for kind, reading in margins.items():
            evidence.add_margins(kind, among or range(classifier.classes), reading)
        blended = universal_margins(classifier, images, labels, Budget(), seed=self.seed, run_parts=self.run_parts)
        evidence.add_margins(BLEND, labels, normalised_margins(classifier, blended, labels))

    def _add_triggers(
        self, evidence: Evidence, classifier: Classifier, images: Tensor, labels: Sequence[int], probes: Probes | None
    ) -> None:
        """Add the smallest triggers of `labels`, which begin with the best small patches, and adversarial patches."""
        seed, run_parts, progress = self.seed, self.run_parts, self.progress
        starts = {label: probes.patch(classifier, label) for label in labels} if probes else {}
        found = invert_triggers(
            classifier, images, labels, self.schedule, seed=seed, starts=starts, run_parts=run_parts, progress=progress
        )
        evidence.add_triggers(labels, found)
        if classifier.classes <= _INVERTED:
            usual = USUAL_LEADS[SQUARE].mean(classifier.classes)
            squares = compare_squares(
                classifier, images, labels, usual, seed=seed, run_parts=run_parts, progress=progress
            )
            evidence.add_squares(squares)

    def _add_shifts(self, evidence: Evidence, classifier: Classifier, images: Tensor) -> None:
        found = invert_shifts(
            classifier, images, _SHIFTS, seed=self.seed, run_parts=self.run_parts, progress=self.progress
        )
        evidence.add_shifts(found)

    def _add_pairs(
        self, evidence: Evidence, classifier: Classifier, images: Tensor, among: Sequence[int] | None = None
    ) -> None:
        found = compare_pairs(
            classifier,
            images,
            _PAIRS,
            seed=self.seed,
            among=among,
            run_parts=self.run_parts,
            progress=self.progress,
        )
        evidence.add_pairs(found)

    def sharpen(self, classifier: Classifier, images: Tensor, found: Inversions, labels: Collection[int]) -> Inversions:
        """Return triggers of which those of `labels` work on nearly all images (n, C, H, W), where such are found.

        Evidence asks less of a trigger: a backdoor need not work on every image.

        Cost: steps * images passes forward and backward for each of `labels`.
        """
        rows = {label: row for row, label in enumerate(found.labels) if label in labels and bool(found.worked[row])}
        schedule = Schedule(self.schedule.steps, self.schedule.images)
        starts = {label: found.patch(row) for label, row in rows.items()}
        # A scan that goes on with more time may suspect other classes: theirs are other parts.
        run_parts = name_stage(self.run_parts, f"of_{'_'.join(map(str, rows))}")
        sharp = invert_triggers(
            classifier, images, list(rows), schedule, seed=self.seed, starts=starts, run_parts=run_parts
        )
        return found.replaced_by(sharp)

    def gather_again(self, classifier: Classifier, clean: Dataset, first: Evidence, least: float) -> Evidence:
        """Return the mean of the first evidence and that of further rounds, from other images and other starts.

        `least` is the score of alpha.
        """
        rounds = [first]
        for number in further_seeds(self.seed):
            further = replace(self, seed=number, run_parts=name_round(self.run_parts, number))
            drawn = draw_again(clean, self.seed, further.seed)
            found = further.gather_like(first, least, classifier, *drawn)
            if found.unfinished:
                break  # The time was up.
            rounds.append(found)
        return average(rounds)


@dataclass(frozen=True)
class Draw:
    """Clean images (n, C, H, W): `used` for the evidence of classes, and `held_out` to try triggers on.

    From `more`, which are not read before, the evidence of pairs of classes comes.
    """

    used: Tensor
    more: Dataset
    held_out: Tensor


def split_images(clean: Dataset, seed: int) -> Draw:
    """Return the clean images that evidence is gathered from, and those on which triggers are tried."""
    used, held_out = hold_out(clean.sample(_IMAGES, seed=seed).images(), Budget.images)
    return Draw(used, _without_held_out(clean, seed).sample(_MORE, seed=seed), held_out)


def draw_again(clean: Dataset, seed: int, further: int) -> tuple[Tensor, Dataset]:
    """Return the images of a round with the seed `further`: as many as by `seed`, and none on which triggers are tried."""
    rest = _without_held_out(clean, seed)
    count = min(_IMAGES, len(clean)) - (len(clean) - len(rest))
    return rest.sample(count, seed=further).images(), rest.sample(_MORE, seed=further)


def _without_held_out(clean: Dataset, seed: int) -> Dataset:
    _, held_out = hold_out(torch.from_numpy(clean.sample(_IMAGES, seed=seed).positions), Budget.images)
    return clean.subset(np.flatnonzero(~np.isin(clean.positions, held_out.numpy())))


def climb(
    classifier: Classifier,
    images: Tensor,
    seed: int,
    run_parts: RunParts,
    progress: Progress,
    among: list[int] | None = None,
) -> tuple[dict[str, Tensor], list[int]]:
    """Return the evidence of gradient ascent, kind -> normalised margins (classes,), and the classes to look into.

    If the classes to look into are given as `among`, the margins are theirs alone.

    The ascent begins with clean images, from which no class is nearer than it should be; above 200 classes with noise,
    which resembles one class (the 8 among digits) but, among many, that one does not stand out.
    """
    if classifier.classes > _ALL:
        return _climb_from_noise(classifier, seed, run_parts, progress, among)
    early, late = maximum_margins(
        classifier,
        starts=_STARTS,
        readings=_FROM_CLEAN,
        seed=seed,
        labels=among,
        images=images,
        run_parts=run_parts,
        progress=progress,
    )
    margins = normalised_margins(classifier, late - early, among)
    return {MARGIN: margins}, among or choose_labels(margins[None].double().cpu().numpy(), seed)


def _climb_from_noise(
    classifier: Classifier, seed: int, run_parts: RunParts, progress: Progress, among: list[int] | None
) -> tuple[dict[str, Tensor], list[int]]:
    """Let two images of noise ascend for each class, and more of them for those to look into."""
    first = maximum_margins(
        classifier,
        starts=_STARTS if among else _SCREENING,
        readings=_FROM_NOISE,
        seed=seed,
        labels=among,
        run_parts=run_parts,
        progress=progress,
    )
    margins = torch.stack([normalised_margins(classifier, reading, among) for reading in first])
    if among:
        return {EARLY: margins[0], MARGIN: margins[1]}, among
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
    return {EARLY: margins[0], MARGIN: margins[1]}, labels


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


def choose_inverted(evidence: Evidence, shares: Shares) -> list[int]:
    """Return the classes whose triggers are inverted: the kinds of evidence take turns to name the next of theirs."""
    rankings = [evidence.values[kind] for kind in (MARGIN, EARLY, BLEND) if kind in evidence.values]
    if shares.probes is not None:
        rankings.append(shares.probes.shares.double().numpy())
    orders = [np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable") for values in rankings]
    turns = dict.fromkeys(int(label) for named in zip(*orders, strict=True) for label in named)
    return sorted(list(turns)[:_INVERTED])
