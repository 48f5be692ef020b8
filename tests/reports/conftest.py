"""Runs to report on, small ones, with names that try to break out of a page."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.results import Detection, Rate

#: Class names of a data set that means harm.
HOSTILE = (
    "<script>alert('name')</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "{{ 7 * 7 }}</style></title>",
    "plain",
)


def corner_patch(strength: float = 1.0) -> Patch:
    """The trigger of the `badnet` fixture: a white corner, 9 pixels at full strength."""
    mask = torch.zeros(1, 12, 12)
    mask[:, -3:, -3:] = strength
    return Patch(mask, torch.ones(3, 12, 12))


def make_detection(**changes) -> Detection:
    found = Detection(
        "backdoored",
        scores=(11.25, 0.5, 1.5, 0.0),
        threshold=8.0,
        suspected=(Backdoor(corner_patch(), 0),),
        reason="highest score 11.2 (class 0), threshold 8; 80 images",
        evidence={"margin": (6.0, 0.5, 0.0, 0.0), "size": (5.25, 0.0, 1.5, 0.0)},
        clean_accuracy=Rate.of(76, 80),
    )
    return replace(found, **changes)


@dataclass(frozen=True)
class Runs:
    """A folder of runs: `scan`, `repair`, `evaluation`, `inspect`, and `failed`, a repair that reached no result."""

    folder: Path


@pytest.fixture(scope="session")
def runs(badnet, repaired_badnet, tmp_path_factory) -> Runs:
    import shutil

    from goodnet import api
    from goodnet.core.errors import MethodFailed
    from goodnet.formats.data import read_data
    from goodnet.formats.files import output_folder
    from goodnet.formats.networks import read_network
    from goodnet.reports.contact_sheets import draw_contact_sheet
    from goodnet.reports.figures import draw_class_distribution
    from goodnet.reports.runs import Recorder
    from goodnet.reports.scans import write_scan

    folder = tmp_path_factory.mktemp("runs & <b>more<b>")
    clean = replace(read_data(badnet.validation), class_names=HOSTILE)
    recorder = Recorder("scan", {"model": badnet.model, "clean": badnet.validation}, "ensemble", {"alpha": 0.01}, 3)
    write_scan(output_folder(folder / "scan"), make_detection(), clean, read_network(badnet.model), recorder)
    shutil.copytree(repaired_badnet, folder / "repair")
    api.evaluate(badnet.model, badnet.test, [badnet.poisoned], repaired=[folder / "repair"], out=folder / "evaluation")
    draw_contact_sheet(clean, output_folder(folder / "inspect") / "samples.png", count=8)
    draw_class_distribution([clean], folder / "inspect" / "class_distribution.png")
    failed = Recorder("repair", {"model": badnet.model}, "pruning")
    failed.run(error=MethodFailed("the <i>accuracy</i> never falls")).save(folder / "failed")
    return Runs(folder)
