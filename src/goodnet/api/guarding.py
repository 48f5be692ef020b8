"""`guard`: a network and clean images -> what refuses backdoored inputs, and how well that is to be expected to work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from goodnet import catalog
from goodnet.api.loading import DataLike, Loaded, load, networks_of, open_alike
from goodnet.api.suspects import Suspects, beyond_targets, look_for_suspects, read_suspects, told_targets
from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import MethodFailed
from goodnet.core.method import FittedGuard, Guard, Progress, Repairer, no_progress
from goodnet.core.reading import Reading
from goodnet.core.repairs import Repair
from goodnet.core.results import Detection
from goodnet.devices import CPU, on_device
from goodnet.execution import Execution
from goodnet.formats.files import output_folder
from goodnet.formats.live_networks import ModelLike
from goodnet.guards.calibration import Calibrated, Calibration, calibrate
from goodnet.inference.defender_labels import with_labels
from goodnet.pair.goodnet import GoodNet
from goodnet.pipelines.auto_repair import AutoRepair
from goodnet.pipelines.guard_outcome import GuardOutcome, count_refused, count_refused_of
from goodnet.pipelines.surrogate_triggers import measure_surrogates, stamp_surrogates
from goodnet.reports.guards import remove_previous_guard, write_guard
from goodnet.reports.runs import Recorder, read_repair
from goodnet.time_limits import Clock, spend, start_clock

#: Clean images that the refusals are counted on, at most.
_MEASURED = 1000


def guard(
    model: ModelLike,
    clean: DataLike,
    *,
    method: str | Guard = "ensemble",
    repaired: ModelLike | None = None,
    suspected: Suspects | None = None,
    out: str | Path | None = None,
    reading: Reading = Reading(),
    where: Execution = Execution(),
    seed: int = 0,
    progress: Progress = no_progress,
    **options: Any,
) -> GuardOutcome:
    """Fit a guard to a network with clean images alone, and say what to expect of it.

    Args:
        model: the network, a file or a live object, see `load_classifier`; it stays as it is.
        clean: clean images, with labels or without (a repair may need them), a file, a folder or a live object, see
            `load_dataset`.
        method: a guard, or its name; the `options` are the fields of the one named.
        repaired: the repaired network, or the folder of a repair; without it the network is repaired first, where the
            method needs that.
        suspected: the folder of a scan, or backdoors; without it the network is scanned first, where the method or
            the repair needs that.
        out: folder for the GoodNet, `guard.json` and `run.json`; None writes nothing.
        reading: how to read networks and pictures; `key` is of the original.
        where: the device, and what runs the scan. Of a `budget`, which is kept only in the main thread, the scan gets at
            most half, and the repair three quarters of what is left; if the guard is not fitted at its end, there is no
            result. What was left undone is among the outcome's `warnings`. What comes back is where the original was before.
        seed: of whatever is drawn at random.
        progress: called with the number of steps that are done.

    Returns:
        The guard, which gives scores, its expected false refusals, and what it does to triggers like the recovered ones.

    Raises:
        InputError: something that came in cannot be used; nothing has been written.
        MethodFailed: the method reached no result; `run.json` in `out` says why.
    """
    clock = start_clock("guard", where.budget)
    place = where.place()
    fitting = cast(Guard, catalog.make("guards", method, options))
    recorder = Recorder(
        "guard",
        {"model": model, "clean": clean, "repaired": repaired, "suspected": beyond_targets(suspected)},
        seed=seed,
    )
    recorder.note(fitting, reading, budget=where.budget, **told_targets(suspected))
    loaded = load(model, clean, reading=reading)
    recorder.know("model", loaded.classifier)
    network = None if repaired is None else _read_repaired(repaired, loaded.classifier, confine=reading.confine)
    backdoors = None if suspected is None else read_suspects(suspected, loaded.classifier)
    folder = None if out is None else output_folder(out)
    try:
        with on_device(place, loaded.classifier, *networks_of(network)):
            outcome = _fit(fitting, loaded, backdoors, network, seed, where, clock, progress)
    except MethodFailed as error:
        if folder is not None:
            remove_previous_guard(folder)
            recorder.run(error=error).save(folder)
        raise
    if network is None and outcome.goodnet is not None:
        outcome.goodnet.repaired.to(loaded.classifier.device)
    if folder is not None:
        with on_device(CPU, *networks_of(outcome.goodnet)):
            write_guard(folder, outcome, recorder)
    return outcome


def _read_repaired(repaired: ModelLike, original: Classifier, *, confine: bool) -> Classifier:
    """Return the repaired network, of a repair's folder the recommended one, in the original's input range."""
    if isinstance(repaired, str | Path) and Path(repaired).is_dir():
        network = read_repair(repaired, original.architecture, original, confine=confine).classifier
    else:
        network = open_alike(repaired, original, confine=confine)
    return network.with_input_range(original.input_range)


def _fit(
    fitting: Guard,
    loaded: Loaded,
    suspected: tuple[Backdoor, ...] | None,
    repaired: Classifier | None,
    seed: int,
    where: Execution,
    clock: Clock,
    progress: Progress,
) -> GuardOutcome:
    """Scan and repair where that is needed and has not been done, and fit the guard."""
    classifier, clean = loaded.classifier, loaded.clean
    to_repair = fitting.needs_repaired and repaired is None
    unseen, warnings = None, list[str]()  # What a repair was fitted to does not tell what it does to further images.
    if suspected is None and (fitting.needs_suspects or to_repair):
        scanning = replace(where, budget=clock.share(0.5))
        scan = look_for_suspects(classifier, clean, seed=seed, where=scanning, progress=progress)
        suspected, warnings = scan.suspected, _doubts(scan)
    suspected = suspected or ()
    if to_repair:
        seen, unseen = clean.in_canonical_order().split(1 - _UNSEEN, seed=seed) if len(clean) > 1 else (clean, None)
        repair = _repair(classifier, seen, suspected, seed, clock.share(0.75), progress)
        repaired, warnings = repair.classifier, [*warnings, *filter(None, [repair.trace.out_of_time])]
    budget = f"the budget of {where.budget or 0:g} s"
    complaint = f"{budget} ended before the guard was fitted; give a larger one, or fewer clean images"
    with spend(clock.left, complaint):
        fitted = fitting.fit(classifier, clean, suspected=suspected, repaired=repaired, seed=seed, progress=progress)
        allowed = getattr(fitting, "false_refusals", _FALSE_REFUSALS)
        goodnet = None if repaired is None else _pair(classifier, repaired, suspected, unseen or clean, allowed)
        outcome = _judge(fitting.name(), fitted, loaded, suspected, goodnet, unseen or clean, seed)
    return replace(outcome, warnings=tuple(warnings))


def _doubts(scan: Detection) -> list[str]:
    """Return what a guard that rests on an inconclusive scan must say."""
    return (
        [f"the scan is inconclusive, and no target is taken from it: {scan.reason}"]
        if scan.verdict == "inconclusive"
        else []
    )


def _repair(
    classifier: Classifier,
    clean: Dataset,
    suspected: tuple[Backdoor, ...],
    seed: int,
    seconds: float | None,
    progress: Progress,
) -> Repair:
    clean = clean if clean.labels is not None else with_labels(classifier, clean)
    if suspected:
        return AutoRepair().within(seconds).repair(classifier, clean, suspected=suspected, seed=seed, progress=progress)
    # With nothing suspected there is nothing to unlearn; a pruned network is then the second opinion, and goes by labels.
    pruning = cast(Repairer, catalog.find("repairers", "pruning").from_options())
    with spend(seconds, f"the time for the repair ({seconds or 0:.3g} s) was up; give a larger budget"):
        return pruning.repair(classifier, clean, seed=seed, progress=progress)


def _pair(
    classifier: Classifier, repaired: Classifier, suspected: tuple[Backdoor, ...], unseen: Dataset, allowed: float
) -> tuple[GoodNet, Calibration]:
    """Return the GoodNet, so tolerant that of further clean images no more than `allowed` are refused, and what that costs.

    `unseen` are clean images that the repair was not fitted to, where it is ours; one that was given may have seen them, and
    the bound is then too low.
    """
    targets = targets_of(suspected) or None
    bare = GoodNet(classifier, repaired, targets=targets)
    with torch.inference_mode():
        margins = torch.cat([bare.disagreements(batch.images) for batch in unseen.batches()])
    calibration = calibrate(margins.cpu().numpy(), allowed, at_least=0.0)
    return GoodNet(classifier, repaired, targets=targets, tolerance=calibration.threshold), calibration


#: The share of the clean images that is held out from the repair, to calibrate the GoodNet.
_UNSEEN = 0.25
#: Of guards that have no such option of their own.
_FALSE_REFUSALS = 0.01


def _judge(
    method: str,
    fitted: FittedGuard,
    loaded: Loaded,
    suspected: tuple[Backdoor, ...],
    pair: tuple[GoodNet, Calibration] | None,
    unseen: Dataset,
    seed: int,
) -> GuardOutcome:
    """Measure the guard and the GoodNet on the clean images, and on those that carry surrogates of the triggers."""
    classifier, sample = loaded.classifier, loaded.clean.sample(_MEASURED, seed=seed)
    goodnet, calibration = pair or (None, None)
    targets = targets_of(suspected)
    labelled = with_labels(classifier, loaded.clean)
    stamped = stamp_surrogates(classifier, loaded.clean, suspected, seed=seed)
    return GuardOutcome(
        method=method,
        guard=fitted,
        suspected=suspected,
        false_refusals=fitted.calibration if isinstance(fitted, Calibrated) else None,
        refused_clean=count_refused(fitted, sample),
        of_targets=count_refused_of(fitted, labelled, targets),
        surrogates=measure_surrogates(fitted, stamped),
        goodnet=goodnet,
        goodnet_false_refusals=calibration,
        goodnet_refused=None if goodnet is None else count_refused(goodnet, sample),
        goodnet_of_targets=()
        if goodnet is None
        else count_refused_of(goodnet, with_labels(classifier, unseen), targets),
        goodnet_surrogates=() if goodnet is None else measure_surrogates(goodnet, stamped),
    )
