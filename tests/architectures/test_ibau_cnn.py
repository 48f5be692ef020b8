"""ibau_cnn: the published checkpoints fit."""

from pathlib import Path

import pytest
import torch

from goodnet.architectures.ibau_cnn import IMAGE_SHAPE
from goodnet.attacks.badnets import Badnets
from goodnet.attacks.poisoning import poisoned_test_set
from goodnet.core.backdoor import Backdoor
from goodnet.core.dataset import as_unit_range
from goodnet.formats.data import read_data
from goodnet.formats.images import read_image
from goodnet.formats.networks import read_network
from goodnet.triggers.patterns import Additive

DATA = Path(__file__).parents[3] / "shared" / "data"
BADNETS_TRIGGER = Badnets(size=4).make_trigger(IMAGE_SHAPE, seed=0)


def read_added_picture(path: Path) -> Additive:
    """Return the trigger that adds a picture."""
    return Additive(as_unit_range(read_image(path)))


@pytest.mark.parametrize(
    ("name", "target"), [("badnets_8_02_ckpt.pth", 8), ("trojan_wm_2_02_ckpt.pth", 2), ("l2_inv_0_02_ckpt.pth", 0)]
)
def test_the_published_checkpoints_fit_and_are_as_accurate_and_as_backdoored_as_measured(name, target):
    if not (DATA / "ibau" / name).exists():
        pytest.skip(f"{DATA / 'ibau' / name} is missing")
    classifier = read_network(DATA / "ibau" / name, "ibau_cnn")
    clean = read_data(DATA / "cifar10" / "test.h5").sample(250, seed=0)
    trigger = (
        BADNETS_TRIGGER
        if target == 8
        else read_added_picture(DATA / "ibau" / name.replace(f"_{target}_02_ckpt.pth", ".png"))
    )
    with torch.no_grad():
        accuracy = (classifier(clean.images()).argmax(1).numpy() == clean.targets).mean()
        triggered = poisoned_test_set(clean, Backdoor(trigger, target))
        success = (classifier(triggered.images()).argmax(1) == target).float().mean()
    assert accuracy == pytest.approx(0.78, abs=0.06)
    assert success > 0.95
