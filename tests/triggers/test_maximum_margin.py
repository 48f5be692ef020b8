import pytest
import torch
from torch import nn

from goodnet.formats.pytorch import from_module
from goodnet.inference.last_layer import class_weights
from goodnet.triggers.maximum_margin import (
    margins_of,
    maximum_margins,
    normalised_margins,
    published_margins,
)


@pytest.fixture
def linear():
    """Three classes, logits linear in two pixels: the largest margins over the cube are known."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]))
        module[1].bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    return from_module(module, (1, 1, 2))


def test_margins_of():
    logits = torch.tensor([[1.0, 5.0, 2.0], [3.0, 0.0, 2.5]])
    assert margins_of(logits, torch.tensor([1, 2])).tolist() == [3.0, -0.5]


def test_margins_reach_the_corners_of_the_cube(linear):
    # Class 0 at (1, 0): 4 against max(0, 0); class 1 at (0, 1): 2 against 0; class 2 at (0, 0): 1 against 0.
    found = maximum_margins(linear, starts=2, readings=(300,), seed=0)[0]
    torch.testing.assert_close(found, torch.tensor([4.0, 2.0, 1.0]), atol=0.05, rtol=0)


def test_margins_are_divided_by_the_centred_row(linear):
    weights = class_weights(linear)
    rows = (weights - weights.mean(dim=0)).norm(dim=1)
    torch.testing.assert_close(normalised_margins(linear, torch.ones(3)), 1 / rows)


def test_same_seed_same_margins_and_weights_untouched(tiny_classifier):
    before = {name: value.clone() for name, value in tiny_classifier.network.state_dict().items()}
    first = maximum_margins(tiny_classifier, starts=1, readings=(2, 5), seed=3)
    assert torch.equal(first, maximum_margins(tiny_classifier, starts=1, readings=(2, 5), seed=3))
    assert not torch.equal(first, maximum_margins(tiny_classifier, starts=1, readings=(2, 5), seed=4))
    assert all(torch.equal(before[name], value) for name, value in tiny_classifier.network.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_classifier.network.parameters())


def test_the_first_reading_is_the_margin_of_the_clean_image_itself(linear):
    images = torch.tensor([[[[0.7, 0.3]]]])
    found = maximum_margins(linear, starts=3, readings=(1, 200), seed=0, images=images)
    torch.testing.assert_close(found[0], margins_of(linear(images).expand(3, 3), torch.arange(3)))
    torch.testing.assert_close(found[1], torch.tensor([4.0, 2.0, 1.0]), atol=0.1, rtol=0)


def test_black_and_white_pixels_of_clean_images_can_still_move(linear):
    images = torch.tensor([[[[0.0, 1.0]]]])
    start, end = maximum_margins(linear, starts=1, readings=(1, 60), seed=0, images=images)
    assert (end > start + 0.5).all()


def test_published_margins_are_where_plain_steps_on_clamped_pixels_end():
    """Of a linear network: each pixel ends at the bound that its weight points to."""
    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [-1.0, 0.0, 0.0, 3.0]])
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.copy_(weight)
        network[1].bias.copy_(torch.tensor([0.25, 0.0]))
    classifier = from_module(network, (1, 2, 2))
    found = published_margins(classifier, starts=3, steps=400, seed=0)
    difference = weight[0] - weight[1]
    expected = [0.25 + float(difference.clamp_min(0).sum()), -0.25 + float((-difference).clamp_min(0).sum())]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_class_without_time_has_no_published_margin(tiny_classifier):
    found = published_margins(
        tiny_classifier, starts=1, steps=1, seed=0, run_parts=lambda stage, f, common, parts, p: [None] * len(parts)
    )
    assert bool(found.isnan().all())
