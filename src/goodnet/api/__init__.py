"""The verbs: what the command line does, as Python functions on files or on live objects. One file per verb."""

from goodnet.api.attacking import attack as attack
from goodnet.api.attacking import preview_attack as preview_attack
from goodnet.api.benching import bench as bench
from goodnet.api.benching import build_zoo as build_zoo
from goodnet.api.evaluating import evaluate as evaluate
from goodnet.api.exporting import export as export
from goodnet.api.guarding import guard as guard
from goodnet.api.loading import load as load
from goodnet.api.loading import load_classifier as load_classifier
from goodnet.api.loading import load_dataset as load_dataset
from goodnet.api.loading import open_path as open_path
from goodnet.api.predicting import predict as predict
from goodnet.api.repairing import repair as repair
from goodnet.api.reporting import report as report
from goodnet.api.scanning import scan as scan
from goodnet.api.verifying import verify as verify
