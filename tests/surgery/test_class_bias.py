import numpy as np
import pytest
import torch

from goodnet.core.dataset import Dataset
from goodnet.formats.pytorch import from_module
from goodnet.surgery.class_bias import raise_rare_predictions

#: Class 0 sees the first of two pixels, class 1 the second, class 2 neither.
SEES = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
BIAS = [0.0, 0.0, 0.1]
PIXELS = np.array([[255, 0], [204, 0], [153, 0], [0, 255]], dtype=np.uint8).reshape(4, 1, 1, 2)
CLEAN = Dataset.from_arrays(PIXELS, np.array([0, 0, 0, 1]))


def linear(bias, *after):
    """A network of two pixels and three classes: its logits are SEES @ pixels + bias."""
    layer = torch.nn.Linear(2, 3, bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(SEES))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return from_module(torch.nn.Sequential(torch.nn.Flatten(), layer, *after), (1, 1, 2))


def logits(classifier):
    with torch.no_grad():
        return classifier(CLEAN.images())


def test_a_bias_that_was_lowered_is_raised_to_where_it_was():
    original, repaired = linear(BIAS), linear([-0.75, 0.0, 0.1])
    assert logits(original).argmax(dim=1).tolist() == [0, 0, 0, 1]
    assert logits(repaired).argmax(dim=1).tolist() == [0, 2, 2, 1]
    assert raise_rare_predictions(original, repaired, CLEAN, (0,), 1.0) == (pytest.approx(0.75, abs=1e-5),)
    torch.testing.assert_close(logits(repaired), logits(original), atol=1e-5, rtol=0)


def test_the_rise_is_in_logits_whatever_the_temperature():
    original, repaired = linear(BIAS), linear([-0.75, 0.0, 0.1])
    assert raise_rare_predictions(original, repaired, CLEAN, (0,), 0.2) == (pytest.approx(0.75, abs=1e-5),)


def test_the_mean_probability_is_that_of_the_original():
    original, repaired = linear(BIAS), linear([-0.3, -0.5, 0.6])
    (rise,) = raise_rare_predictions(original, repaired, CLEAN, (1,), 1.0)
    assert rise > 0.5
    wanted, found = (logits(item).softmax(dim=1).mean(dim=0) for item in (original, repaired))
    assert found[1] == pytest.approx(float(wanted[1]), abs=1e-5)
    assert found[0] < wanted[0]


def test_a_class_that_is_not_rarer_keeps_its_bias():
    original, repaired = linear(BIAS), linear([0.5, 0.0, 0.1])
    before = logits(repaired)
    assert raise_rare_predictions(original, repaired, CLEAN, (0,), 1.0) == ()
    assert torch.equal(before, logits(repaired))


@pytest.mark.parametrize("repaired", [linear(None), linear([-9.0, 0.0, 0.1], torch.nn.ReLU())])
def test_without_a_last_layer_that_has_a_bias_nothing_changes(repaired):
    before = {name: value.clone() for name, value in repaired.network.state_dict().items()}
    assert raise_rare_predictions(linear(BIAS), repaired, CLEAN, (0,), 1.0) == ()
    assert all(torch.equal(before[name], value) for name, value in repaired.network.state_dict().items())
