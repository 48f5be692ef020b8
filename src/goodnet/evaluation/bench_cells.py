"""One cell of a bench: one method on one network. What it measures, as a record ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from goodnet.core.backdoor import Backdoor
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnwritableOutput, WrongShape
from goodnet.core.method import Guard, Repairer, Scanner
from goodnet.core.results import Metrics, Rate
from goodnet.devices import CPU, on_device
from goodnet.evaluation.bench_records import CellFamily, CellMetrics, GuardCell, RepairCell, ScanCell, TriggerCell
from goodnet.evaluation.bench_spec import MethodSpec, Subject
from goodnet.evaluation.comparison import evaluate_network
from goodnet.evaluation.ranking import area_with_interval, detected_at
from goodnet.formats.data import read_data
from goodnet.formats.networks import read_network
from goodnet.formats.triggers import SUSPECTED, read_backdoors, write_backdoors
from goodnet.guards.calibration import score_all
from goodnet.inference.input_range import choose_input_range
from goodnet.inference.predictions import require_fit


@dataclass(frozen=True)
class Cell:
    """One method on one network with one seed.

    `scan` and `repair` are the folders of the cells whose outcome this one uses: a scan's suspects, a repair's network;
    `key`, the hash of all that the cell depends on, names its folder.
    """

    family: CellFamily
    method: MethodSpec
    subject: Subject
    seed: int
    clean_images: int | None
    key: str
    scan: Path | None = None
    repair: Path | None = None

    @property
    def suspected(self) -> tuple[Backdoor, ...]:
        """The backdoors that the scan suspects, none where there was no scan."""
        return () if self.scan is None else read_backdoors(self.scan / SUSPECTED)


@dataclass(frozen=True)
class Exhibit:
    """A cell's network and images, opened; `triggered` holds the test images with each trigger."""

    classifier: Classifier
    clean: Dataset
    test: Dataset
    triggered: list[Dataset]


def measure_cell(cell: Cell, folder: Path, device: torch.device) -> ScanCell | RepairCell | GuardCell:
    """Run the cell's method on `device` and return its figures; files for later cells go into `folder`.

    Raises:
        GoodnetError: the method did not succeed, or the files do not fit one another.
    """
    exhibit = open_subject(cell)
    original = exhibit.classifier
    repaired = None if cell.repair is None else _read_repaired(cell.repair, cell.subject, original)
    with on_device(device, original, *(() if repaired is None else (repaired,))):
        if cell.family == "scanners":
            return _measure_scan(cell, exhibit, folder)
        if cell.family == "repairers":
            return _measure_repair(cell, exhibit, folder)
        return _measure_guard(cell, exhibit, repaired)


def open_subject(cell: Cell) -> Exhibit:
    """Open a cell's network and images; the defender's images are drawn by the cell's seed where there are too many.

    Raises:
        InputError: a file cannot be read, or they do not fit one another.
    """
    subject = cell.subject
    clean = read_data(subject.clean)
    classifier = read_network(subject.model, subject.architecture, clean.image_shape)
    channels = classifier.image_shape[0]
    if clean.image_shape[0] != channels:
        clean = read_data(subject.clean, channels)
    test = read_data(subject.test, channels)
    require_fit(classifier, clean)
    classifier = choose_input_range(classifier, clean, subject.input_range).classifier
    if cell.clean_images is not None:
        clean = clean.sample(cell.clean_images, seed=cell.seed)
    triggered = [_read_triggered(subject, name, path, channels) for name, path in subject.triggered.items()]
    return Exhibit(classifier, clean, test, triggered)


def _read_triggered(subject: Subject, name: str, path: str, channels: int) -> Dataset:
    dataset = replace(read_data(path, channels), name=name)
    if subject.true_labels is None:
        return dataset
    truth = read_data(subject.true_labels).targets
    if len(truth) != len(dataset):
        raise WrongShape(f"{path}: expected one true label for each of {len(dataset)} images, got {len(truth)}")
    return replace(dataset, true_labels=truth)


def _measure_scan(cell: Cell, exhibit: Exhibit, folder: Path) -> ScanCell:
    scanner = cast(Scanner, cell.method.make("scanners"))
    detection = scanner.scan(exhibit.classifier, exhibit.clean, seed=cell.seed)
    write_backdoors(folder / SUSPECTED, detection.suspected)
    scored = [score for score in detection.scores if np.isfinite(score)]
    return ScanCell(
        verdict=detection.verdict,
        score=max(scored) if scored else None,
        threshold=detection.threshold,
        suspected_targets=detection.targets,
        true_targets=cell.subject.targets,
        unscanned=len(detection.unscanned),
        reason=detection.reason,
        evidence={kind: _finite_or_none(values) for kind, values in detection.evidence.items()},
    )


def _finite_or_none(values: Sequence[float]) -> tuple[float | None, ...]:
    """JSON knows no NaN."""
    return tuple(float(value) if np.isfinite(value) else None for value in values)


def _measure_repair(cell: Cell, exhibit: Exhibit, folder: Path) -> RepairCell:
    repairer = cast(Repairer, cell.method.make("repairers"))
    repair = repairer.repair(exhibit.classifier, exhibit.clean, suspected=cell.suspected, seed=cell.seed)
    # What cannot be written can be measured; a guard that wants to read it says that the file is missing.
    with suppress(UnwritableOutput), on_device(CPU, repair.classifier):
        repair.classifier.save(folder / f"repaired{exhibit.classifier.suffix}")
    before = evaluate_network(exhibit.classifier, exhibit.test, exhibit.triggered).metrics
    after = evaluate_network(repair.classifier, exhibit.test, exhibit.triggered).metrics
    return RepairCell(
        network=repair.recommended.name,
        before=CellMetrics.of(before),
        after=CellMetrics.of(after),
        defence_effectiveness=rate_defence(before, after),
    )


def rate_defence(before: Metrics, after: Metrics) -> float | None:
    """Return the defence effectiveness rating in [0, 1], the mean over the triggers; None where there are none.

    (max(0, drop of ASR) - max(0, drop of clean accuracy) + 1) / 2, from M. Zhu et al., "Enhancing fine-tuning based
    backdoor defense with sharpness-aware minimization", ICCV 2023.
    """
    if before.clean_accuracy is None or after.clean_accuracy is None or not before.attack_success_rate:
        return None
    lost = max(0.0, before.clean_accuracy.value - after.clean_accuracy.value)
    gained = [
        max(0.0, rate.value - after.attack_success_rate[name].value)
        for name, rate in before.attack_success_rate.items()
    ]
    return float(np.mean([(gain - lost + 1) / 2 for gain in gained]))


def _measure_guard(cell: Cell, exhibit: Exhibit, repaired: Classifier | None) -> GuardCell:
    guard = cast(Guard, cell.method.make("guards"))
    fitted = guard.fit(exhibit.classifier, exhibit.clean, suspected=cell.suspected, repaired=repaired, seed=cell.seed)
    clean = score_all(fitted, exhibit.test)
    refused = Rate.of(int((clean > fitted.threshold).sum()), len(clean))
    triggers = {
        item.name: _measure_trigger(score_all(fitted, item), clean, fitted.threshold) for item in exhibit.triggered
    }
    return GuardCell(refused_clean=refused, triggers=triggers)


def _read_repaired(folder: Path, subject: Subject, original: Classifier) -> Classifier:
    repaired = read_network(folder / f"repaired{original.suffix}", subject.architecture, original.image_shape)
    return repaired.with_input_range(original.input_range)


def _measure_trigger(scores: npt.NDArray[np.float64], clean: npt.NDArray[np.float64], threshold: float) -> TriggerCell:
    area = area_with_interval(cast(Sequence[float], scores), cast(Sequence[float], clean))
    return TriggerCell(
        auroc=area,
        detected_at_1_percent=detected_at(scores, clean, 0.01),
        detected_at_5_percent=detected_at(scores, clean, 0.05),
        refused=Rate.of(int((scores > threshold).sum()), len(scores)),
    )
