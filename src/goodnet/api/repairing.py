"""`repair`: a network and clean images -> repaired networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from goodnet import catalog
from goodnet.api.loading import DataLike, fit_data, load, read_stored
from goodnet.api.suspects import Suspects, beyond_targets, look_for_suspects, read_suspects, told_targets
from goodnet.core.backdoor import Backdoor, targets_of
from goodnet.core.classifier import Classifier
from goodnet.core.dataset import Dataset
from goodnet.core.errors import BudgetSpent, InvalidOption, MethodFailed, UnreadableData
from goodnet.core.method import Progress, Repairer, no_progress
from goodnet.core.reading import Reading
from goodnet.core.repairs import CheckpointChoice, Repair, ScanSummary, UnlabelledUse
from goodnet.core.results import Detection
from goodnet.devices import CPU, on_device
from goodnet.execution import Execution
from goodnet.formats.files import output_folder
from goodnet.formats.live_networks import ModelLike
from goodnet.formats.pytorch import StateDictSource
from goodnet.inference.unlabelled_images import widen, without_labels
from goodnet.pipelines.auto_repair import AutoRepair
from goodnet.reports.runs import Recorder, record_repair, remove_previous, write_repair
from goodnet.time_limits import Clock, start_clock


def repair(
    model: ModelLike,
    clean: DataLike,
    *,
    method: str | Repairer = "auto",
    out: str | Path | None = None,
    suspected: Suspects | None = None,
    unlabelled: DataLike | None = None,
    keep_all: bool = False,
    reading: Reading = Reading(),
    where: Execution = Execution(),
    seed: int = 0,
    progress: Progress = no_progress,
    **options: Any,
) -> Repair:
    """Repair a network with clean images alone.

    Args:
        model: the network, a file or a live object, see `load_classifier`; it stays as it is.
        clean: clean images, a file, a folder or a live object, see `load_dataset`; without labels the network's own predictions
            stand for them, except for methods that go by labels alone.
        method: a repairer, or its name; the `options` are the fields of the one named. "auto" scans and unlearns what is found.
        suspected: the folder of a scan, or backdoors; None: methods that need suspects scan first, and "auto" scans the
            repaired network too: what hid behind the first targets is unlearned with them, from the original on.
        unlabelled: further images to repair with, of the network's own world; labels, if any, are not looked at. What the
            network predicts is their label; those that it sends to a suspected target are left out, as they may carry the
            trigger, so that without `suspected` a scan comes first. Accuracies are measured on `clean` alone.
        out: folder for the repaired networks, the GoodNet, tables, figures and `run.json`; None writes nothing.
        keep_all: also write intermediate networks, and for Keras models a file of weights alone.
        reading: how to read both. Of a checkpoint of several networks the one under `key` is repaired, and the others are
            in none of the files that are written.
        where: the device, and what runs the scans. Of a `budget`, which only "auto" keeps, and only in the main thread, the
            first scan gets at most half; then the best repair that is finished is taken, and the repaired network is scanned
            if time is left. What comes back is where the original was before.
        seed: seed of whatever the method draws at random.
        progress: called with the number of steps that are done.

    Returns:
        The repaired networks; `.classifier.to_model()` is the recommended one as a live model of the original's kind.

    Raises:
        InputError: something that came in cannot be used; nothing has been written.
        MethodFailed: the method reached no result; `run.json` in `out` says why.
    """
    clock = start_clock("repair", where.budget)
    place = where.place()
    repairer = cast(Repairer, catalog.make("repairers", method, options))
    if where.budget is not None and not isinstance(repairer, AutoRepair):
        raise InvalidOption(
            f"repair: --budget works only with --method auto, {repairer.name()} cannot end early; leave out --budget or --method"
        )
    recorder = Recorder(
        "repair",
        {"model": model, "clean": clean, "unlabelled": unlabelled, "suspected": beyond_targets(suspected)},
        seed=seed,
    )
    recorder.note(repairer, reading, keep_all=keep_all, budget=where.budget, **told_targets(suspected))
    loaded = load(model, clean, reading=reading)
    recorder.know("model", loaded.classifier)
    further = None if unlabelled is None else load_unlabelled(loaded.classifier, unlabelled, reading)
    given = None if suspected is None else read_suspects(suspected, loaded.classifier)
    repairer.refuse(loaded.classifier, loaded.clean)
    if out is not None:
        repairer.refuse_unwritable(loaded.classifier)
        out = output_folder(out)
    work = _Work(repairer, loaded.classifier, loaded.clean, further, seed, where, progress, clock)
    try:
        with on_device(place, loaded.classifier):
            result, backdoors = work.run(given)
    except MethodFailed as error:
        if out is not None:
            remove_previous(out)
            recorder.run(error=error).save(out)
        raise
    made = [item.classifier.to(loaded.classifier.device) for item in (*result.steps, *result.networks)]
    result = _tell(result, checkpoint=_describe_choice(loaded.classifier), notes=loaded.notes)
    result = record_repair(
        loaded.classifier,
        result,
        recorder,
        targets=targets_of(backdoors),
        keep_all=keep_all,
        input_range_reason=loaded.reason,
        out=out,
    )
    if out is not None:
        with on_device(CPU, loaded.classifier, *made):
            write_repair(out, result)
    return result


def load_unlabelled(classifier: Classifier, unlabelled: DataLike, reading: Reading) -> Dataset:
    """Return further images without their labels.

    Raises:
        InputError: they cannot be read or do not fit the network.
    """
    data = read_stored(unlabelled, "unlabelled", reading)
    return without_labels(classifier, fit_data(classifier, data, unlabelled, reading))


@dataclass(frozen=True)
class _Work:
    """What a repair works with, whatever is suspected; `unlabelled` images are used besides where there are some."""

    repairer: Repairer
    classifier: Classifier
    clean: Dataset
    unlabelled: Dataset | None
    seed: int
    where: Execution
    progress: Progress
    clock: Clock

    def run(self, suspected: Sequence[Backdoor] | None) -> tuple[Repair, tuple[Backdoor, ...]]:
        """Repair from what is suspected; None: scan first where that is needed. Return the suspected backdoors too.

        Raises:
            MethodFailed: the method reached no result, or works on suspects and the scan found none.
        """
        if suspected is not None:
            return self.repair(suspected), tuple(suspected)
        if isinstance(self.repairer, AutoRepair):
            return self.repair_and_look_again()
        if not self.repairer.needs_suspects and self.unlabelled is None:
            return self.repair(()), ()
        scan = self.scan(self.classifier)
        if self.repairer.needs_suspects and not scan.suspected:
            raise MethodFailed(
                f"{self.repairer.name()} works on suspected targets and the scan suspects none ({scan.verdict}: {scan.reason}); "
                "to repair for a class that you suspect yourself, give it (--target CLASS)"
            )
        result = self.repair(scan.suspected)
        return _tell(result, scans=(ScanSummary.of(scan),)), scan.suspected

    def scan(self, classifier: Classifier) -> Detection:
        """Scan a network with the clean images, for at most half of the time that is left."""
        where = replace(self.where, budget=self.clock.share(0.5))
        return look_for_suspects(classifier, self.clean, seed=self.seed, where=where, progress=self.progress)

    def repair(self, suspected: Sequence[Backdoor]) -> Repair:
        """Repair with the clean images and the unlabelled ones, if any, that are not classified as a suspected target.

        Raises:
            MethodFailed: the method reached no result.
            UnreadableData: no unlabelled image can be used.
        """
        clean, used = self.clean, None
        labels = "none: the network's own predictions stand for them" if self.clean.labels is None else None
        if self.unlabelled is not None:
            targets = targets_of(suspected)
            widened = widen(self.classifier, self.clean, self.unlabelled, targets)
            clean, used = widened.dataset, UnlabelledUse(used=widened.used, left_out=widened.left_out)
        repairer = self.repairer
        if isinstance(repairer, AutoRepair) and self.clock.left is not None:
            repairer = repairer.within(self.clock.left)
        result = repairer.repair(self.classifier, clean, suspected=suspected, seed=self.seed, progress=self.progress)
        return _tell(result, labels=labels, unlabelled=used)

    def repair_and_look_again(self) -> tuple[Repair, tuple[Backdoor, ...]]:
        """Scan, repair, and scan again, until the scan of the repaired network finds no target that is new.

        Returns:
            The repair, with what each scan found in its trace, and all suspected backdoors.
        """
        first = self.scan(self.classifier)
        suspected = found = first.suspected
        scans, result = [ScanSummary.of(first)], self.repair(suspected)
        while found and result.unchanged_because is None and len(scans) <= _LOOKS:
            if self.clock.is_over:
                return _tell(result, scans=tuple(scans), out_of_time=_join(result, _NOT_SCANNED)), suspected
            again = self.scan(result.classifier)
            scans.append(ScanSummary.of(again))
            found = tuple(item for item in again.suspected if item.target not in targets_of(suspected))
            suspected = (*suspected, *found)
            further, late = self._repair_further(suspected) if found else (result, None)
            if further is None:
                # The first repair stays; the GoodNet is held to the new targets too.
                told = {"scans": tuple(scans), "found_and_left": targets_of(found), "out_of_time": _join(result, late)}
                return _tell(result, **told), suspected
            result = further
        return _tell(result, scans=tuple(scans)), suspected

    def _repair_further(self, suspected: Sequence[Backdoor]) -> tuple[Repair | None, str | None]:
        """Return a repair of more targets, None where it is rolled back or cannot be made; and whether time was the reason."""
        try:
            result = self.repair(suspected)
        except BudgetSpent as error:
            return None, str(error)
        except (MethodFailed, UnreadableData):
            return None, None
        if (late := result.trace.out_of_time) and not getattr(result.recommended.changes, "holds", True):
            return None, late  # What was finished in time does not hold, and the first repair may.
        return (result if result.unchanged_because is None else None), None


#: What there was no time for.
_NOT_SCANNED = "the time was up before the repaired network could be scanned for further targets"


def _join(result: Repair, words: str | None) -> str | None:
    """Return what the time did not suffice for, of a repair and after it."""
    return "; ".join(filter(None, [result.trace.out_of_time, words])) or None


#: A repaired network is scanned at most so many times.
_LOOKS = 3


def _tell(repair: Repair, **told: Any) -> Repair:
    """Return the repair with what the verb knows of it, fields of its `Trace`."""
    return replace(repair, trace=repair.trace.model_copy(update=told))


def _describe_choice(classifier: Classifier) -> CheckpointChoice | None:
    """Return which network of a checkpoint of several was repaired; None where there was one."""
    source = classifier.source
    if not isinstance(source, StateDictSource) or not source.left_out:
        return None
    return CheckpointChoice(key=source.key, left_out=source.left_out)
