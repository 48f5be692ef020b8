"""Live models: what they compute is kept, the user's own object is left alone, and one of its kind comes back."""

import copy
import threading

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from torch import nn

from goodnet.architectures import find
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, UnreadableModel, UnwritableOutput, WrongShape
from goodnet.core.graph import trace
from goodnet.formats.keras_weights import read_keras_weights
from goodnet.formats.live_networks import as_classifier
from goodnet.formats.pytorch import read_state_dict
from tests.small_networks import Residual, Untraceable, settle, tiny

SHAPE = (3, 12, 12)
IMAGES = torch.from_numpy(np.random.default_rng(0).random((5, *SHAPE), dtype=np.float32))


def disturb(classifier: Classifier) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def run(model: nn.Module | Classifier, images: torch.Tensor = IMAGES) -> np.ndarray:
    with torch.no_grad():
        return model(images).numpy()


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def wrong_by_purpose(truth, predictions):
    return keras.ops.mean(truth - predictions)


def keras_model() -> keras.Model:
    layers = [kl.Conv2D(4, 3, activation="relu"), kl.BatchNormalization(), kl.Flatten(), kl.Dense(3)]
    return keras.Sequential([keras.Input((12, 12, 3)), *layers, kl.Softmax()], name="mine")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_keras_model_there_and_back(compiled: bool) -> None:
    model = keras_model()
    if compiled:
        model.compile(optimizer="adam", loss=wrong_by_purpose)
    pixels = IMAGES.numpy().transpose(0, 2, 3, 1)
    before, weights = model.predict(pixels, verbose=0), [array.copy() for array in model.get_weights()]
    classifier = as_classifier(model)
    assert (classifier.name, classifier.image_shape, classifier.layout, classifier.suffix) == (
        *("mine", SHAPE, "NHWC", ".keras"),
    )
    close(torch.from_numpy(run(classifier)).softmax(1).numpy(), before)
    disturb(classifier)
    changed = torch.from_numpy(run(classifier)).softmax(1).numpy()
    assert np.abs(changed - before).max() > 1e-2
    back = classifier.to_model()
    assert isinstance(back, keras.Model)
    assert not back.compiled
    close(back.predict(pixels, verbose=0), changed)
    assert all(np.array_equal(old, new) for old, new in zip(weights, model.get_weights(), strict=True))
    assert model.compiled == compiled


@pytest.mark.parametrize("make", [Residual, lambda: Untraceable(4), tiny])
def test_a_module_there_and_back(make) -> None:
    module = settle(make())
    expected = run(copy.deepcopy(module))
    module.train()
    before = copy.deepcopy(module.state_dict())
    classifier = as_classifier(module, image_shape=SHAPE)
    assert (classifier.name, classifier.suffix) == (type(module).__name__, ".pt")
    close(run(classifier), expected)
    disturb(classifier)
    changed = run(classifier)
    assert np.abs(changed - expected).max() > 1e-2
    back = classifier.to_model()
    assert type(back) is type(module)
    assert not back.training
    close(run(back), changed)
    disturb(classifier)
    close(run(back), changed)
    # The user's own module: its weights, its mode, and operations that overwrite, which tracing turns off.
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert module.training
    assert all(inner.inplace for inner in module.modules() if isinstance(inner, nn.ReLU)) == (make is not tiny)


def test_what_forward_does_not_use_comes_back_as_it_was() -> None:
    class WithHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.unused = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(images.mean(dim=(2, 3)))

    module = WithHead()
    classifier = as_classifier(module, image_shape=SHAPE)
    disturb(classifier)
    back = classifier.to_model()
    assert torch.equal(back.unused.weight, module.unused.weight)
    assert not torch.equal(back.head.weight, module.head.weight)


class Compiled(nn.Module):
    """Holds its module as `torch.compile` does, which takes seconds to import."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


def test_a_module_inside_wrappers() -> None:
    module = settle(tiny())
    for wrapped in (nn.DataParallel(module), Compiled(module), Compiled(nn.DataParallel(module))):
        classifier = as_classifier(wrapped, image_shape=SHAPE)
        assert [layer.name for layer in classifier.layers()][:2] == ["conv_1", "relu_1"]
        close(run(classifier), run(module))


def test_files_come_back_as_models_too(tmp_path, csaw) -> None:
    module = settle(tiny())
    torch.save(module.state_dict(), tmp_path / "net.pt")
    classifier = read_state_dict(tmp_path / "net.pt", find("tests.small_networks:tiny"), SHAPE)
    disturb(classifier.copy())
    close(run(classifier.to_model()), run(module))
    deepid = read_keras_weights(csaw / "lab3_bd_weights.h5", find("deepid"))
    images = torch.rand(2, *deepid.image_shape)
    close(run(deepid.to_model(), images), run(deepid, images))


def test_a_network_that_goodnet_made_has_no_other_form() -> None:
    with pytest.raises(UnwritableOutput, match="did not come from a file or a live model"):
        Classifier(trace(tiny()), image_shape=SHAPE).to_model()


def test_classifiers_and_files_go_through(badnet, tiny_classifier) -> None:
    assert as_classifier(tiny_classifier) is tiny_classifier
    assert as_classifier(str(badnet.model)).name == "bd_net.h5"


def test_a_module_whose_layers_are_frozen_can_be_trained_and_stays_frozen_itself() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    module.requires_grad_(False)
    classifier = as_classifier(module, image_shape=(3, 2, 2))
    assert all(weight.requires_grad for weight in classifier.network.parameters())
    assert not any(weight.requires_grad for weight in module.parameters())


def test_modules_that_cannot_be_used_say_why() -> None:
    with pytest.raises(InvalidOption, match=r"Sequential: .* give image_shape=\(channels, height, width\)"):
        as_classifier(tiny())
    with pytest.raises(WrongShape, match=r"does not take images of shape \(1, 12, 12\)"):
        as_classifier(tiny(), image_shape=(1, 12, 12))
    with pytest.raises(UnreadableModel, match=r"got torch\.float16; give model\.float\(\)"):
        as_classifier(tiny().half(), image_shape=SHAPE)
    broken = tiny()
    broken.output.bias.data[0] = torch.nan
    with pytest.raises(UnreadableModel, match="found NaN or infinity"):
        as_classifier(broken, image_shape=SHAPE)
    locked = tiny()
    locked.lock = threading.Lock()
    with pytest.raises(UnreadableModel, match="cannot be copied") as caught:
        as_classifier(locked, image_shape=SHAPE)
    assert "\n" not in str(caught.value)


def test_keras_models_that_cannot_be_used_say_why() -> None:
    class Own(keras.Model):
        def call(self, images):
            return images

    with pytest.raises(UnreadableModel, match="subclassed Own"):
        as_classifier(Own())
    with pytest.raises(UnreadableModel, match=r"begin it with keras\.Input"):
        as_classifier(keras.Sequential([kl.Flatten(), kl.Dense(2)]))


def test_anything_else_is_named() -> None:
    with pytest.raises(
        UnreadableModel, match=r"expected a model file, .* got collections\.OrderedDict; save the model"
    ):
        as_classifier(tiny().state_dict())
