"""The verbs: what the command line does, as Python functions on files or on live objects. One file per verb."""

from goodnet.api.attacking import attack, preview_attack
from goodnet.api.benching import bench, build_zoo
from goodnet.api.evaluating import evaluate
from goodnet.api.loading import (
    DataLike,
    Loaded,
    ModelLike,
    Shape,
    load,
    load_classifier,
    load_dataset,
    open_path,
)
from goodnet.api.predicting import predict
from goodnet.api.repairing import repair
from goodnet.api.scanning import find_scanner, scan

__all__ = [
    "DataLike",
    "Loaded",
    "ModelLike",
    "Shape",
    "attack",
    "bench",
    "build_zoo",
    "evaluate",
    "find_scanner",
    "load",
    "load_classifier",
    "load_dataset",
    "open_path",
    "predict",
    "preview_attack",
    "repair",
    "scan",
]
