import torch
from torch import nn

from goodnet.formats.pytorch import from_module
from goodnet.triggers.universal_blend import Budget, universal_margins


def margins(twin, labels, budget=Budget(), seed=0, **more):  # noqa: B008
    return universal_margins(twin.classifier, twin.clean.images()[:40], labels, budget, seed=seed, **more)


def test_the_margin_of_a_linear_network_is_what_its_weights_allow():
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]))
        module[1].bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    linear = from_module(module, (1, 1, 2))
    # Grey images half covered by the corner (1, 0) are (0.75, 0.25): logits 3, 0.5 and 0.
    found = universal_margins(linear, torch.full((8, 1, 1, 2), 0.5), [0], Budget(opacity=0.5, steps=200), seed=0)
    torch.testing.assert_close(found, torch.tensor([2.5]), atol=0.05, rtol=0)


def test_a_class_gets_the_same_margin_whatever_others_are_asked_for(planted):
    alone, among = margins(planted, [7]), margins(planted, [1, 7, 3])
    torch.testing.assert_close(alone[0], among[1], atol=1e-4, rtol=0)
    assert not torch.equal(alone, margins(planted, [7], seed=1))


def test_a_stronger_blend_reaches_further(planted):
    faint, strong = (margins(planted, range(10), Budget(opacity=opacity)) for opacity in (0.05, 0.4))
    assert (strong > faint).all()


def test_classes_without_time_are_nan(planted):
    found = margins(
        planted, range(10), run_parts=lambda stage, function, common, parts, progress: [None for _ in parts]
    )
    assert torch.isnan(found).all()
