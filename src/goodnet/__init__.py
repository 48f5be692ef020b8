"""goodnet finds, repairs and guards against backdoors in image classifiers that somebody else trained.

import goodnet
found = goodnet.scan("bd_net.h5", "clean.h5", out="scan")
repair = goodnet.repair("bd_net.h5", "clean.h5", suspected="scan", out="out")
guard = goodnet.GoodNet.load("out/goodnet")
print(goodnet.evaluate(guard, "test.h5", ["triggered.h5"]))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goodnet.api import evaluate as evaluate
    from goodnet.api import export as export
    from goodnet.api import guard as guard
    from goodnet.api import load_classifier as load_classifier
    from goodnet.api import load_dataset as load_dataset
    from goodnet.api import predict as predict
    from goodnet.api import repair as repair
    from goodnet.api import report as report
    from goodnet.api import scan as scan
    from goodnet.api import verify as verify
    from goodnet.core.backdoor import Backdoor as Backdoor
    from goodnet.core.backdoor import Patch as Patch
    from goodnet.core.classifier import Classifier as Classifier
    from goodnet.core.dataset import Dataset as Dataset
    from goodnet.core.errors import GoodnetError as GoodnetError
    from goodnet.core.errors import InputError as InputError
    from goodnet.core.errors import MethodFailed as MethodFailed
    from goodnet.core.reading import Reading as Reading
    from goodnet.core.repairs import Repair as Repair
    from goodnet.core.results import Detection as Detection
    from goodnet.core.results import Evaluation as Evaluation
    from goodnet.core.results import Metrics as Metrics
    from goodnet.core.results import Rate as Rate
    from goodnet.core.results import Run as Run
    from goodnet.core.verification import Verification as Verification
    from goodnet.execution import Execution as Execution
    from goodnet.pair.goodnet import GoodNet as GoodNet
    from goodnet.pipelines.guard_outcome import GuardOutcome as GuardOutcome

__version__ = "0.1.0"

#: Public names and where they live; loaded on first use, so that `goodnet --help` does not wait for torch.
_PUBLIC = {
    "evaluate": "goodnet.api",
    "export": "goodnet.api",
    "guard": "goodnet.api",
    "load_classifier": "goodnet.api",
    "load_dataset": "goodnet.api",
    "predict": "goodnet.api",
    "repair": "goodnet.api",
    "report": "goodnet.api",
    "scan": "goodnet.api",
    "verify": "goodnet.api",
    "Backdoor": "goodnet.core.backdoor",
    "Patch": "goodnet.core.backdoor",
    "Classifier": "goodnet.core.classifier",
    "Dataset": "goodnet.core.dataset",
    "GoodnetError": "goodnet.core.errors",
    "InputError": "goodnet.core.errors",
    "MethodFailed": "goodnet.core.errors",
    "Reading": "goodnet.core.reading",
    "Repair": "goodnet.core.repairs",
    "Detection": "goodnet.core.results",
    "Evaluation": "goodnet.core.results",
    "Metrics": "goodnet.core.results",
    "Rate": "goodnet.core.results",
    "Run": "goodnet.core.results",
    "Verification": "goodnet.core.verification",
    "Execution": "goodnet.execution",
    "GuardOutcome": "goodnet.pipelines.guard_outcome",
    "GoodNet": "goodnet.pair.goodnet",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'goodnet' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
