"""The documented interface of the CSAW-HackML-2020 pruning defence: one function and one command.

    from backdoor_detector import backdoor_detector
    goodnets = backdoor_detector(B_path="model/bd_net.h5", Dvalid="data/valid.h5", Dtest="data/test.h5",
                                 Btest="data/bd_test.h5", thresholds=[2, 4, 10])

    python backdoor_detector.py --model model/bd_net.h5 --Dvalid data/valid.h5 --Dtest data/test.h5 --Btest
    data/bd_test.h5

A thin face over goodnet: channels of the last pooling layer (pool_3) go in ascending order of their mean activation
on the validation data; B' for X is the network at the first drop of validation accuracy of X points or more; G
predicts N + 1 where B and B' differ. The test sets are measured, never used to choose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodnet.core.classifier import Classifier
    from goodnet.core.repairs import PruningSweep
    from goodnet.evaluation.pruning_curve import PruningLevels
    from goodnet.pair.goodnet import GoodNet

#: Written to the working folder, as the course project writes them beside its scripts.
_PERFORMANCE, _PLOT = Path("performance.csv"), Path("plot.png")


def backdoor_detector(
    B_path: str | Path = "model/bd_net.h5",
    Dvalid: str | Path = "data/valid.h5",
    Dtest: str | Path = "data/test.h5",
    Btest: str | Path = "data/bd_test.h5",
    thresholds: Sequence[float] = (2, 4, 10),
) -> list[GoodNet]:
    """Prune a BadNet and return one GoodNet per threshold, in the order of `thresholds`.

    Args:
        B_path: the BadNet, a whole Keras model.
        Dvalid: clean validation data, HDF5 with `data` and `label`; the only data that the choice sees.
        Dtest: clean test data, likewise.
        Btest: backdoored test data; its labels are the target.
        thresholds: drops of validation accuracy in percentage points.

    Returns:
        Callables: `predictions = G(x)` gives scores (n, N + 1), `np.argmax(predictions, axis=1)` the classes, N for
        backdoored. Written beside the model: `<model>_prime_<X>_percent_threshold.h5` for each X. Written to the working
        folder: `performance.csv` (Neurons Pruned, Accuracy, ASR: the whole sweep on the test sets) and `plot.png`.

    Raises:
        goodnet.GoodnetError: a file cannot be used, a threshold is never reached, or a folder cannot be written to.
    """
    from goodnet import api
    from goodnet.core.errors import InvalidOption, MethodFailed
    from goodnet.formats.files import output_folder
    from goodnet.pair.goodnet import GoodNet
    from goodnet.repairers.pruning import Pruning

    if not thresholds or not all(0 < threshold <= 100 for threshold in thresholds):
        raise InvalidOption(f"thresholds are percentage points, above 0 and at most 100, got {list(thresholds)}")
    loaded = api.load(B_path, Dvalid)
    for folder in (Path(B_path).parent, Path.cwd()):
        output_folder(folder)  # Better refused now than after the sweep.
    repair = Pruning.from_options(thresholds=tuple(x / 100 for x in thresholds)).repair(
        loaded.classifier, loaded.clean, seed=0
    )
    found = {network.changes.threshold: network.classifier for network in repair.networks}
    missing = [x for x in thresholds if x / 100 not in found]
    if missing:
        raise MethodFailed(f"validation accuracy never falls by {missing[0]:g} points, even with all channels pruned")
    sweep = repair.trace.require_sweep()
    levels = _measure(loaded.classifier, sweep, Dtest, Btest)
    _write_performance(levels, sweep)
    for x in thresholds:
        found[x / 100].save(prime_path(B_path, x))
    return [GoodNet(loaded.classifier, found[x / 100]) for x in thresholds]


def prime_path(model: str | Path, threshold: float) -> Path:
    """Return where B' for a threshold in percentage points is written: `<model>_prime_<X>_percent_threshold.h5`."""
    model = Path(model)
    return model.with_name(f"{model.stem}_prime_{threshold:g}_percent_threshold{model.suffix}")


def _measure(classifier: Classifier, sweep: PruningSweep, clean: str | Path, poisoned: str | Path) -> PruningLevels:
    from goodnet import api
    from goodnet.evaluation.pruning_curve import measure_pruning

    sets = api.load_dataset(clean), [api.load_dataset(poisoned)]
    return measure_pruning(classifier, sweep.layer, sweep.channels, *sets)


def _write_performance(levels: PruningLevels, sweep: PruningSweep) -> None:
    """Write `performance.csv`, in percent, and `plot.png` to the working folder, as the course project has them."""
    from goodnet.formats.files import write_text
    from goodnet.reports.figures import draw_pruning_curves
    from goodnet.reports.runs import pruning_columns, pruning_curve
    from goodnet.reports.tables import pruning_csv

    percent = {name: [round(100 * value, 4) for value in values] for name, values in pruning_columns(levels).items()}
    write_text(_PERFORMANCE, pruning_csv(percent))
    draw_pruning_curves([pruning_curve(sweep, levels)], _PLOT)


def main() -> None:
    """Run the command; an error is one line, with exit code 2 for bad input, 3 where it failed, 70 for a fault of ours."""
    from goodnet.cli.last_resort import finish

    options = _parse_arguments()
    finish("backdoor_detector", partial(_run, options), debug=options.debug)


def _run(options: argparse.Namespace) -> int:
    from goodnet.formats.shown_paths import show_path

    goodnets = backdoor_detector(options.model, options.Dvalid, options.Dtest, options.Btest, options.thresholds)
    for threshold, goodnet in zip(options.thresholds, goodnets, strict=True):
        path = show_path(prime_path(options.model, threshold))
        print(f"{threshold:g} %: {path} (G predicts 0 to {goodnet.classes})")
    print(f"test accuracy and ASR at every level, in the working folder: {_PERFORMANCE}, {_PLOT}")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="backdoor_detector.py", description="Prune a BadNet and write one repaired network per accuracy threshold."
    )
    add = parser.add_argument
    add("--model", "-m", type=Path, default=Path("model/bd_net.h5"), help="BadNet, a whole Keras model")
    add("--Dvalid", "-v", type=Path, default=Path("data/valid.h5"), help="clean validation data")
    add("--Dtest", "-t", type=Path, default=Path("data/test.h5"), help="clean test data")
    add("--Btest", "-b", type=Path, default=Path("data/bd_test.h5"), help="backdoored test data, labels are the target")
    add("--thresholds", "-th", type=float, nargs="+", default=[2, 4, 10], help="accuracy drops in percentage points")
    add("--debug", action="store_true", help="print the traceback of an unexpected error")
    return parser.parse_args()


if __name__ == "__main__":
    main()
