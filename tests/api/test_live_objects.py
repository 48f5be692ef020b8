"""Every verb on live objects: the user's own models, arrays and loaders in, models of the same kind out."""

import copy

import keras
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils import data as torch_data

import goodnet
from goodnet.core.errors import InvalidOption, UnreadableData, UnreadableModel
from goodnet.core.reading import Reading
from goodnet.formats.data import read_data
from goodnet.formats.keras_deepid import build_keras
from tests.data.twin_network import build


@pytest.fixture
def module(repository):
    """The planted twin as a user has it: an `nn.Module` of his own, in training mode."""
    module = build()
    module.load_state_dict(load_file(repository / "tests" / "data" / "planted.safetensors"))
    return module.train()


class Normalise(nn.Module):
    def forward(self, images):
        return (images - 0.5) / 0.25


class Pairs(torch_data.Dataset):
    """Images as float tensors with their labels, as a training script has them."""

    def __init__(self, dataset):
        self.images, self.labels = dataset.images(), dataset.targets

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


def loader(dataset):
    return torch_data.DataLoader(Pairs(dataset), batch_size=50, shuffle=True)


def classes_of(module, images):
    with torch.no_grad():
        return module(images).argmax(dim=1).numpy()


# --- torch --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_scan_a_module_with_images_alone(module, planted):
    detection = goodnet.scan(module, planted.clean.images().numpy())
    assert detection.verdict == "backdoored"
    assert [backdoor.target for backdoor in detection.suspected] == [planted.backdoor.target]


@pytest.mark.slow
def test_scan_of_the_clean_twin_suspects_nothing(clean_twin, module, repository):
    module.load_state_dict(load_file(repository / "tests" / "data" / "clean_twin.safetensors"))
    detection = goodnet.scan(module, loader(clean_twin.clean))
    assert detection.verdict != "backdoored"
    assert detection.suspected == ()


def test_repair_a_module_with_a_loader_that_shuffles(module, planted):
    before = copy.deepcopy(module.state_dict())
    repair = goodnet.repair(module, loader(planted.clean), method="pruning", thresholds=(0.1,))
    repaired = repair.classifier.to_model()
    assert type(repaired) is type(module)
    test, triggered = planted.test.images(), planted.triggered.images()
    classes = classes_of(repaired, test)
    assert np.array_equal(classes, classes_of(repair.classifier, test))
    changed = {name for name, value in repaired.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"conv_2.weight", "conv_2.bias"}
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert module.training

    # Repaired on the data of the loader's labels: the accuracy is that of the labels that belong to the images.
    module.eval()
    expected = (classes_of(module, planted.clean.images()) == planted.clean.targets).mean()
    assert repair.accuracy_before.value == pytest.approx(expected, abs=1e-9)

    guard = goodnet.GoodNet(module, repair.classifier)
    b, b_prime = classes_of(module, triggered), classes_of(repaired, triggered)
    assert goodnet.predict(guard, planted.triggered.images()) == np.where(b == b_prime, b, 10).tolist()
    evaluation = goodnet.evaluate(module, loader(planted.test), [triggered_pairs(planted)], repaired=[repaired])
    original, after, both = (row.metrics for row in evaluation.rows)
    assert original.clean_accuracy.value == np.mean(classes_of(module, test) == planted.test.targets)
    assert after.clean_accuracy.value == np.mean(classes == planted.test.targets)
    assert original.attack_success_rate["poisoned"].value == np.mean(b == planted.backdoor.target)
    assert both.refused_poisoned["poisoned"].value == np.mean(b != b_prime)


def triggered_pairs(twin):
    return twin.triggered.images().numpy().transpose(0, 2, 3, 1) * 255, twin.triggered.targets


def test_a_module_s_images_have_the_size_of_the_data(module, planted):
    assert goodnet.api.load(module, planted.clean).classifier.image_shape == (1, 16, 16)
    with pytest.raises(InvalidOption, match="image_shape"):
        goodnet.load_classifier(module)
    with pytest.raises(InvalidOption, match="image_shape"):
        goodnet.GoodNet(module, module)
    assert goodnet.GoodNet(module, module, image_shape=(1, 16, 16)).classes == 10


def test_normalised_images_are_refused_and_normalisation_inside_the_module_works(module, planted):
    module = nn.Sequential(Normalise(), module)
    normalised = Normalise()(planted.clean.images()), planted.clean.targets
    with pytest.raises(UnreadableData, match=r"clean: .* make the normalisation the network's first layer"):
        goodnet.scan(module, normalised)
    images = planted.test.images()
    loaded = goodnet.load_classifier(module, reading=Reading(image_shape=(1, 16, 16)))
    assert np.array_equal(classes_of(loaded, images), classes_of(module.eval(), images))
    assert "1.conv_1" in [layer.name for layer in loaded.layers()]


def test_a_goodnet_of_live_modules_feeds_them_as_the_user_would(module, planted):
    repaired = copy.deepcopy(module)
    with torch.no_grad():
        repaired.output.bias[planted.backdoor.target] -= 5
    guard = goodnet.GoodNet(module, repaired, image_shape=(1, 16, 16))
    images = planted.triggered.images()
    module.eval()
    expected = np.where(
        classes_of(module, images) == classes_of(repaired.eval(), images), classes_of(module, images), 10
    )
    assert guard(images).argmax(dim=1).tolist() == expected.tolist()
    assert guard(images.numpy().transpose(0, 2, 3, 1)).argmax(axis=1).tolist() == expected.tolist()
    with pytest.raises(InvalidOption, match="input range is not known"):
        goodnet.predict(guard, images)
    known = goodnet.GoodNet(module, repaired, image_shape=(1, 16, 16), input_range="0..1")
    assert goodnet.predict(known, images) == expected.tolist()


def test_what_a_repair_of_a_module_writes_opens_with_its_architecture(module, planted, tmp_path):
    repair = goodnet.repair(module, planted.clean, method="pruning", thresholds=(0.1,), out=tmp_path / "run")
    assert repair.classifier.suffix == ".pt"
    with pytest.raises(UnreadableModel, match="--architecture"):
        goodnet.GoodNet.load(tmp_path / "run")
    guard = goodnet.GoodNet.load(tmp_path / "run", architecture="tests.data.twin_network:build")
    images = planted.triggered.images()
    assert np.array_equal(classes_of(guard.repaired, images), classes_of(repair.classifier, images))
    build().load_state_dict(torch.load(tmp_path / "run" / "repaired.pt", weights_only=True))


def test_data_without_labels_where_they_are_needed(module, planted):
    with pytest.raises(UnreadableData, match=r"clean has no labels, .* or \(images, labels\)"):
        goodnet.repair(module, planted.clean.images(), method="pruning", reading=Reading(input_range="0..1"))


# --- Keras --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deepid():
    """A live DeepID and images that it tells apart: noise of ten colours, labelled by its own predictions."""
    model = build_keras(10, seed=2)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    images = (rng.random((60, 55, 47, 3)) * rng.random((60, 1, 1, 3)) * 255).astype(np.uint8)
    return model, images, model.predict(images / 255, verbose=0).argmax(axis=1)


def test_repair_a_keras_model_with_arrays(deepid):
    model, images, labels = deepid
    weights = model.get_weights()
    repair = goodnet.repair(
        model, (images, labels), method="pruning", reading=Reading(input_range="0..1"), thresholds=(0.3,)
    )
    repaired = repair.classifier.to_model()
    assert isinstance(repaired, keras.Model)
    assert [layer.name for layer in repaired.layers] == [layer.name for layer in model.layers]
    changes = repair.recommended.changes
    maps = keras.Model(repaired.inputs, repaired.get_layer(changes.layer).output).predict(images / 255, verbose=0)
    assert list(changes.channels_pruned)
    assert not maps[..., list(changes.channels_pruned)].any()
    predictions = repaired.predict(images / 255, verbose=0).argmax(axis=1)
    assert repair.recommended.accuracy.value == np.mean(predictions == labels)
    assert repair.accuracy_before.value == 1
    assert all(np.array_equal(old, new) for old, new in zip(weights, model.get_weights(), strict=True))
    assert model.compiled

    guard = goodnet.GoodNet(model, repaired, input_range="0..1")
    expected = np.where(predictions == labels, labels, 10).tolist()
    assert goodnet.predict(guard, images) == expected
    assert guard(images / 255).argmax(axis=1).tolist() == expected
    evaluation = goodnet.evaluate(
        model, (images / 255, labels), repaired=[repaired], reading=Reading(input_range="0..1")
    )
    assert [row.name for row in evaluation.rows] == ["original", "deepid", "GoodNet(deepid)"]
    assert evaluation.rows[2].metrics.refused_clean.value == np.mean(predictions != labels)


def test_the_badnet_live_does_what_its_file_does(badnet):
    model = keras.models.load_model(badnet.model)
    validation = read_data(badnet.validation)
    arrays = validation.source.read(np.arange(len(validation))).transpose(0, 2, 3, 1), validation.targets
    live = goodnet.repair(model, arrays, method="pruning")
    file = goodnet.repair(badnet.model, badnet.validation, method="pruning")
    assert live.trace == file.trace
    assert [network.changes for network in live.networks] == [network.changes for network in file.networks]
    one, other = live.classifier.to_model(), file.classifier.to_model()
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    poisoned = torch_data.TensorDataset(*map(torch.from_numpy, images_and_labels(badnet.poisoned)))
    metrics = goodnet.evaluate(model, badnet.test, [poisoned]).subject.metrics
    expected = goodnet.evaluate(badnet.model, badnet.test, [badnet.poisoned]).subject.metrics
    assert metrics.clean_accuracy == expected.clean_accuracy
    assert metrics.attack_success_rate["poisoned"] == expected.attack_success_rate["corner.h5"]


def images_and_labels(path):
    data = read_data(path)
    return data.source.read(np.arange(len(data))), data.targets
