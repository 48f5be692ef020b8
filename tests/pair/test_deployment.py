"""GoodNets as `.pt2` files: what `torch.export.load` gives predicts as the GoodNet does."""

import json

import numpy as np
import pytest
import torch

from goodnet import api
from goodnet.core.errors import MethodFailed
from goodnet.formats.pytorch import from_module
from goodnet.pair.deployment import DeployedCard
from goodnet.pair.goodnet import GoodNet
from tests.conftest import make_quadrants
from tests.small_networks import Residual, Untraceable, settle


@pytest.mark.parametrize(("targets", "tolerance"), [(None, 0.0), ([0, 2], 0.0), (None, 0.5), ([0, 2], 0.5)])
def test_a_goodnet_in_pt2(targets, tolerance, tiny_classifier, tiny_data, tmp_path):
    repaired = tiny_classifier.copy()
    repaired.layer("pool_2").silence([1, 4])
    guard = GoodNet(tiny_classifier, repaired, input_range="0..255", targets=targets, tolerance=tolerance)
    path = api.export(guard, out=tmp_path / "tiny.pt2", format="pt2")
    extra = {"goodnet": ""}
    program = torch.export.load(path, extra_files=extra).module()
    images = tiny_data.images() * 255
    predictions = guard.predict_all(tiny_data)
    for size in (1, 2, 7, 120):
        scores, opinions = program(images[:size])
        torch.testing.assert_close(scores, guard(images[:size]), rtol=0, atol=1e-5)
        assert np.array_equal(opinions[:, 0], predictions.original[:size])
        asked = np.isin(predictions.original, range(4) if targets is None else targets)
        assert np.array_equal(opinions[:, 1], np.where(asked, predictions.repaired, -1)[:size])
    assert 4 in scores.argmax(dim=1)
    card = DeployedCard.model_validate(json.loads(extra["goodnet"]))
    assert (card.classes, card.input_range, card.layout) == (4, "0..255", "NCHW")
    assert card.targets == (None if targets is None else (0, 2))
    assert str(tmp_path.parent).encode() not in path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_alone_in_pt2(tmp_path):
    network = from_module(settle(Residual()), (3, 12, 12))
    program = torch.export.load(api.export(network, out=tmp_path / "net.pt2", format="pt2")).module()
    images = make_quadrants(20, seed=1).images()
    with torch.no_grad():
        torch.testing.assert_close(program(images)[0], network(images).softmax(dim=1), rtol=0, atol=1e-5)


def test_a_network_whose_answer_hangs_on_an_if(tmp_path):
    original = from_module(Untraceable().eval(), (3, 12, 12))
    with pytest.raises(MethodFailed, match="cannot be written as a graph"):
        api.export(original, out=tmp_path / "net.pt2", format="pt2")
    assert list(tmp_path.iterdir()) == []
