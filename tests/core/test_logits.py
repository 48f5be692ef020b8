"""Networks that end in probabilities or in one number come out as networks that end in logits."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet.core.classifier import Classifier
from goodnet.core.graph import trace
from goodnet.formats.pytorch import from_module

SHAPE = (1, 4, 4)


class Ended(nn.Module):
    """A network and what stands behind its logits."""

    def __init__(self, net, ending):
        super().__init__()
        self.net, self.ending = net, ending

    def forward(self, images):
        return self.ending(self.net(images))


class Opaque(Ended):
    """The same, and it cannot be traced: which way it goes hangs on a value."""

    def forward(self, images):
        logits = self.net(images)
        return self.ending(logits * 2 if bool(logits.detach().sum() > 1e9) else logits)


class Head(nn.Module):
    """An ending deep inside, with layers behind it that leave the order of the classes as it is."""

    def __init__(self):
        super().__init__()
        self.last = nn.Sequential(nn.Softmax(dim=1), nn.Dropout(0.5))

    def forward(self, logits):
        return self.last(logits[:, :, None, None]).flatten(1)


ENDINGS = {
    "softmax, function": lambda z: torch.softmax(z, 1),
    "softmax, functional": lambda z: F.softmax(z, dim=-1),
    "softmax, method": lambda z: z.softmax(1),
    "softmax, module": nn.Softmax(dim=1),
    "softmax, inside a submodule": Head(),
    "log-softmax, function": lambda z: torch.log_softmax(z, dim=1),
    "log-softmax, functional": lambda z: F.log_softmax(z, 1),
    "log-softmax, method": lambda z: z.log_softmax(1),
    "log-softmax, module": nn.LogSoftmax(dim=1),
    "log-softmax, exponential": lambda z: z.log_softmax(1).exp(),
    "softmax, logarithm": lambda z: torch.log(torch.softmax(z, 1)),
    "sigmoid, function": torch.sigmoid,
    "sigmoid, method": lambda z: z.sigmoid(),
    "sigmoid, module": nn.Sequential(nn.Identity(), nn.Sigmoid()),
    "log-sigmoid, functional": F.logsigmoid,
    "softmax, percent": lambda z: 100 * torch.softmax(z, 1),
    "softmax, with bounds": lambda z: torch.softmax(z, 1).clamp(1e-7, 1 - 1e-7),
    "softmax, logarithm with a shift": lambda z: torch.log(z.softmax(1) + 1e-8),
    "softmax, of maps": lambda z: nn.functional.softmax(z[:, :, None, None], dim=1)[:, :, 0, 0].to(torch.float32),
    "softmax, special": lambda z: torch.special.softmax(z, 1),
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).eval()


@pytest.fixture
def images():
    return torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ending", ENDINGS, ids=str)
def test_what_makes_probabilities_of_logits_is_left_out_and_said(ending, net, images):
    classifier = from_module(Ended(net, ENDINGS[ending]), SHAPE)
    assert torch.equal(classifier(images), net(images))
    assert classifier.notes == (f"the {ending.split(',')[0]} at the end is left out: scores need logits",)
    assert classifier.copy().notes == classifier.notes


#: Those whose outputs are the probabilities themselves, or their logarithm.
SOFTMAX = [name for name in ENDINGS if name.startswith("softmax") and "bounds" not in name and "shift" not in name]


@pytest.mark.parametrize("ending", SOFTMAX, ids=str)
def test_probabilities_without_a_place_become_their_logarithm(ending, net, images):
    classifier = from_module(Opaque(net, ENDINGS[ending]), SHAPE)
    found = classifier(images)
    scale = 100.0 if "percent" in ending else 1.0
    torch.testing.assert_close(found, net(images).log_softmax(1) + math.log(scale), atol=1e-4, rtol=1e-4)
    assert ("logarithm" in " ".join(classifier.notes)) == (ending != "softmax, logarithm")


def test_independent_probabilities_without_a_place_become_log_odds(net, images):
    classifier = from_module(Opaque(net, torch.sigmoid), SHAPE)
    torch.testing.assert_close(classifier(images), net(images), atol=1e-4, rtol=1e-4)
    assert "odds" in classifier.notes[0]


def test_a_softmax_by_hand_that_overflows_far_outside_is_known(net, images):
    classifier = from_module(Ended(net, lambda z: z.exp() / z.exp().sum(1, keepdim=True)), SHAPE)
    torch.testing.assert_close(classifier(images), net(images).log_softmax(1), atol=1e-4, rtol=1e-4)
    assert "logarithm" in classifier.notes[0]


def test_one_class_of_a_softmax_is_a_network_of_two(net, images):
    classifier = from_module(Ended(net, lambda z: torch.softmax(z[:, :2], 1)[:, 1]), SHAPE)
    logits, expected = classifier(images), net(images)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], expected[:, 1] - expected[:, 0], atol=1e-4, rtol=1e-4)


def test_what_a_stranger_keeps_under_the_name_of_an_activation_stays(net, images):
    class Gated(Opaque):
        def __init__(self):
            super().__init__(net, nn.Identity())
            self.activation = nn.Sigmoid()

        def forward(self, images):
            return super().forward(images) * self.activation(images.mean())

    module = Gated()
    assert torch.equal(from_module(module, SHAPE)(images), module(images))
    assert isinstance(module.activation, nn.Sigmoid)


def test_a_scale_that_turns_the_order_round_is_no_part_of_an_ending(net, images):
    whole = Ended(net, lambda z: -1.0 * torch.softmax(z, 1))
    assert torch.equal(from_module(whole, SHAPE)(images), whole(images))


def test_a_logarithm_of_nothing_stays_finite(images):
    class Sure(nn.Module):
        def forward(self, images):
            share = (images.mean(dim=(1, 2, 3), keepdim=False) > 0.5).float()
            return torch.stack([share, 1 - share], dim=1)

    found = from_module(Sure(), SHAPE)(images)
    assert bool(torch.isfinite(found).all())
    assert float(found.min()) < -60


@pytest.mark.parametrize("module", [nn.Linear(16, 3), nn.Sequential(nn.Linear(16, 3), nn.ReLU())])
def test_logits_stay_as_they_are(module, images):
    whole = nn.Sequential(nn.Flatten(), module)
    classifier = from_module(whole, SHAPE)
    assert torch.equal(classifier(images), whole(images))
    assert classifier.notes == ()


def test_a_softmax_in_the_middle_stays(images):
    whole = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Softmax(dim=1), nn.Linear(4, 3))
    assert torch.equal(from_module(whole, SHAPE)(images), whole(images))


def test_a_softmax_over_the_images_is_no_ending(net, images):
    assert "left out" not in " ".join(from_module(Ended(net, lambda z: torch.softmax(z, 0)), SHAPE).notes)


@pytest.mark.parametrize("wrap", [Ended, Opaque])
@pytest.mark.parametrize(
    "ending", [nn.Identity(), nn.Sigmoid(), nn.Flatten(0), nn.Sequential(nn.Sigmoid(), nn.Flatten(0))], ids=str
)
def test_one_output_is_two_classes(wrap, ending, images):
    torch.manual_seed(0)
    one = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    classifier = from_module(wrap(one, ending), SHAPE)
    assert classifier.classes == 2
    torch.testing.assert_close(
        classifier(images)[:, 1] - classifier(images)[:, 0], one(images)[:, 0], atol=1e-4, rtol=0
    )
    assert "class 1 is what it speaks for" in classifier.notes[-1]


def test_the_network_is_written_back_with_its_ending(net, images, tmp_path):
    module = Ended(net, nn.Softmax(dim=1))
    classifier = from_module(module, SHAPE)
    state = torch.load(classifier.save(tmp_path / "net.pt"), weights_only=True)
    assert list(state) == list(module.state_dict())
    torch.testing.assert_close(classifier.to_model()(images), module(images))


def test_what_is_given_stays_as_it_is(net, images):
    network = trace(Ended(net, nn.Softmax(dim=1)))
    Classifier(network, image_shape=SHAPE)
    torch.testing.assert_close(network(images).sum(dim=1), torch.ones(8))
