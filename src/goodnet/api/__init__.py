"""The verbs: what the command line does, as Python functions on files or on live objects. One file per verb."""

from goodnet.api.attacking import attack, preview_attack
from goodnet.api.benching import bench, build_zoo
from goodnet.api.evaluating import evaluate
from goodnet.api.exporting import export
from goodnet.api.guarding import guard
from goodnet.api.loading import (
    DataLike,
    Loaded,
    load,
    load_classifier,
    load_dataset,
    open_path,
)
from goodnet.api.predicting import predict
from goodnet.api.repairing import repair
from goodnet.api.reporting import report
from goodnet.api.scanning import scan
from goodnet.api.verifying import verify
from goodnet.formats.live_networks import ModelLike

__all__ = [
    "DataLike",
    "Loaded",
    "ModelLike",
    "attack",
    "bench",
    "build_zoo",
    "evaluate",
    "export",
    "guard",
    "load",
    "load_classifier",
    "load_dataset",
    "open_path",
    "predict",
    "preview_attack",
    "repair",
    "report",
    "scan",
    "verify",
]
