"""The GoodNet against the plain predictions of its two networks."""

import json
import shutil
from collections import Counter

import h5py
import keras
import numpy as np
import pytest
import torch
from torch import nn

from goodnet import api
from goodnet.core.errors import InputError, InvalidOption, UnreadableModel, WrongShape
from goodnet.formats.data import read_data
from goodnet.formats.keras import from_keras
from goodnet.formats.networks import read_network
from goodnet.formats.pytorch import from_module
from goodnet.guards.disagreement import Disagreement, GoodNet, is_goodnet
from goodnet.repairers.pruning import Pruning
from tests.small_networks import settle, tiny


@pytest.fixture
def pair(tiny_classifier):
    """A network, and a copy of it without two channels of its last pooling layer."""
    repaired = tiny_classifier.copy()
    repaired.layer("pool_2").silence([1, 4])
    return tiny_classifier, repaired


@pytest.fixture(scope="module")
def images():
    return torch.rand(150, 3, 12, 12, generator=torch.Generator().manual_seed(3))


def combine(original, repaired):
    """The classes of a GoodNet, from the logits or probabilities (n, N) of its two networks, in plain numpy."""
    original, repaired = np.argmax(original, axis=1), np.argmax(repaired, axis=1)
    classes = original.copy()
    classes[original != repaired] = 4
    return classes


def logits(classifier, images):
    with torch.no_grad():
        return classifier(images).numpy()


def test_the_class_where_both_agree_and_n_where_they_differ(pair, images):
    expected = combine(logits(pair[0], images), logits(pair[1], images))
    assert 0 < (expected == 4).sum() < len(images)
    scores = GoodNet(*pair)(images)
    assert scores.shape == (150, 5)
    assert np.array_equal(scores.argmax(1).numpy(), expected)
    torch.testing.assert_close(scores.sum(1), torch.ones(150))


def test_the_scores_are_the_original_s_probabilities_or_all_on_n(pair, images):
    expected = combine(logits(pair[0], images), logits(pair[1], images))
    exponentials = np.exp(logits(pair[0], images).astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    probabilities[expected == 4] = 0
    scores = GoodNet(*pair)(images).numpy()
    np.testing.assert_allclose(scores[:, :4], probabilities, atol=1e-6)
    assert np.array_equal(scores[:, 4], (expected == 4).astype(np.float32))


@pytest.mark.parametrize("input_range", ["0..1", "0..255"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_every_way_to_give_the_same_images_gives_the_same_answer(input_range, layout, pair, tiny_data):
    guard = GoodNet(*pair, input_range=input_range)
    pixels = tiny_data.source.pixels[:70]
    expected = combine(*(logits(net.with_input_range(input_range), torch.from_numpy(pixels) / 255) for net in pair))
    assert len(set(expected)) > 2
    given = pixels if layout == "NCHW" else pixels.transpose(0, 2, 3, 1)
    floats = given.astype(np.float32) / (1 if input_range == "0..255" else 255)
    for version in (given, floats, floats.astype(np.float64)):
        in_numpy, in_torch = guard(version), guard(torch.from_numpy(version.copy()))
        assert isinstance(in_numpy, np.ndarray)
        assert isinstance(in_torch, torch.Tensor)
        assert np.array_equal(in_numpy.argmax(axis=1), expected)
        assert np.array_equal(in_torch.argmax(1).numpy(), expected)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_shape_that_could_be_either_layout_is_read_as_the_original_s(layout):
    module = settle(nn.Sequential(nn.Flatten(), nn.Linear(27, 4)))
    original = from_module(module, (3, 3, 3))
    original.layout = layout
    given = np.random.default_rng(0).random((20, 3, 3, 3), dtype=np.float32)
    as_nchw = given if layout == "NCHW" else given.transpose(0, 3, 1, 2)
    expected = logits(original, torch.from_numpy(as_nchw.copy())).argmax(axis=1)
    assert np.array_equal(GoodNet(original, original.copy())(given).argmax(axis=1), expected)


@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 3, 12, 13), (2, 1, 12, 12), (2, 12, 3, 12), (2, 3 * 144)])
def test_images_of_another_shape(shape, pair):
    with pytest.raises(WrongShape, match=r"expected images \(n, 12, 12, 3\) or \(n, 3, 12, 12\), got "):
        GoodNet(*pair)(np.zeros(shape, np.float32))


def test_no_images_give_no_answers(pair):
    assert GoodNet(*pair)(np.zeros((0, 12, 12, 3), np.uint8)).shape == (0, 5)


def test_two_networks_for_different_jobs(pair):
    other = from_module(tiny(classes=5), (3, 12, 12), name="other.pt")
    with pytest.raises(WrongShape, match=r"other\.pt takes .* knows 5; a GoodNet needs two networks for the same job"):
        GoodNet(pair[0], other)


def test_scores_are_above_zero_exactly_where_the_input_is_refused(pair, images):
    guard = GoodNet(*pair)
    original, repaired = logits(pair[0], images), logits(pair[1], images)
    refused = original.argmax(axis=1) != repaired.argmax(axis=1)
    scores = guard.scores(images).detach().numpy()
    assert guard.threshold == 0
    assert np.array_equal(scores > guard.threshold, refused)
    # The margin, image by image.
    for score, b, b_prime in zip(scores, original, repaired, strict=True):
        chosen = b.argmax()
        assert score == pytest.approx(np.delete(b_prime, chosen).max() - b_prime[chosen], abs=1e-5)


def test_answers_over_a_data_set(pair, tiny_data):
    answers = GoodNet(*pair).answers(tiny_data)
    expected = [logits(net, tiny_data.images()) for net in pair]
    assert np.array_equal(answers.original, expected[0].argmax(axis=1))
    assert np.array_equal(answers.repaired, expected[1].argmax(axis=1))
    assert np.array_equal(answers.goodnet, combine(*expected))
    assert np.array_equal(answers.refused, combine(*expected) == 4)


def calls_of_layers(guard, images):
    """Run a GoodNet and count how often each layer, of B or B', runs."""
    calls = Counter()
    hooks = []
    for network in (guard.original.network, guard.repaired.network):
        for name, module in network.named_modules():
            if name and not list(module.children()):
                hooks.append(module.register_forward_hook(lambda *_, name=name: calls.update([name])))
    guard(images)
    for hook in hooks:
        hook.remove()
    return calls


def change(classifier, *layers):
    changed = classifier.copy()
    with torch.no_grad():
        for name in layers:
            changed.layer(name).weight.mul_(1.5)
    return changed


def test_shared_layers_run_once(deepid):
    guard = GoodNet(deepid, change(deepid, "conv_3"))
    images = torch.rand(5, 3, 55, 47, generator=torch.Generator().manual_seed(0))
    calls = calls_of_layers(guard, images)
    once = {"conv_1", "relu_1", "pool_1", "conv_2", "relu_2", "pool_2"}
    assert {name for name, count in calls.items() if count == 1} == once
    twice = {"conv_3", "relu_3", "pool_3", "conv_4", "relu_4", "fc_1", "fc_2", "activation_1", "output"}
    assert {name for name, count in calls.items() if count == 2} == twice
    for mine, plain in zip(guard.logits(images), (guard.original(images), guard.repaired(images)), strict=True):
        torch.testing.assert_close(mine, plain)


def test_pruned_channels_cost_no_second_convolution(deepid):
    pruned = deepid.copy()
    pruned.layer("pool_3").silence([0, 7, 30])
    guard = GoodNet(deepid, pruned)
    images = torch.rand(5, 3, 55, 47, generator=torch.Generator().manual_seed(0))
    assert calls_of_layers(guard, images)["conv_3"] == 1
    torch.testing.assert_close(guard.logits(images)[0], deepid(images))
    torch.testing.assert_close(guard.logits(images)[1], pruned(images))
    assert not torch.allclose(pruned(images), deepid(images))


def test_identical_networks_refuse_nothing_and_run_once(tiny_classifier, images):
    guard = GoodNet(tiny_classifier, tiny_classifier.copy())
    assert set(calls_of_layers(guard, images[:10]).values()) == {1}
    assert np.array_equal(guard(images).argmax(1).numpy(), logits(tiny_classifier, images).argmax(axis=1))


def test_networks_that_share_nothing(tiny_classifier, images):
    other = from_module(settle(tiny()), (3, 12, 12))
    guard = GoodNet(tiny_classifier, other)
    calls = calls_of_layers(guard, images[:10])
    assert set(calls.values()) == {2}
    expected = combine(logits(tiny_classifier, images), logits(other, images))
    assert np.array_equal(guard(images).argmax(1).numpy(), expected)


def test_networks_of_different_structure(tiny_classifier, images):
    other = from_module(settle(nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(256, 4))), (3, 12, 12))
    expected = combine(logits(tiny_classifier, images), logits(other, images))
    assert 4 in expected
    assert np.array_equal(GoodNet(tiny_classifier, other)(images).argmax(1).numpy(), expected)


def test_the_repaired_network_is_fed_as_the_original_is(pair):
    guard = GoodNet(pair[0].with_input_range("0..255"), pair[1])
    assert (guard.original.input_range, guard.repaired.input_range) == ("0..255", "0..255")


# --- in files -----------------------------------------------------------------------------------------------------


def keras_pair(suffix):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(),
            layers.Dense(4, activation="softmax", name="output"),
        ]
    )
    original = from_keras(model, suffix)
    repaired = original.copy()
    repaired.layer("pool").silence([0, 2, 3])
    return original, repaired


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pt", ".safetensors"])
def test_round_trip(suffix, tiny_classifier, images, tmp_path):
    if suffix in (".h5", ".keras"):
        original, repaired = keras_pair(suffix)
    else:
        original = from_module(
            tiny_classifier.copy().network, (3, 12, 12), architecture="tests.small_networks:tiny", suffix=suffix
        )
        repaired = original.copy()
        repaired.layer("pool_2").silence([1, 4])
    guard = GoodNet(original, repaired, input_range="0..255")
    folder = guard.save(tmp_path / "run" / "goodnet")
    assert {path.name for path in folder.iterdir()} == {"goodnet.json", f"original{suffix}", f"repaired{suffix}"}

    for place in (folder, folder.parent):
        assert is_goodnet(place)
        loaded = GoodNet.load(place, architecture=original.architecture)
        assert loaded.original.input_range == loaded.repaired.input_range == "0..255"
        torch.testing.assert_close(loaded(images), guard(images), rtol=0, atol=1e-5)
    assert len(set(guard(images).argmax(1).tolist())) > 1


def test_a_goodnet_of_keras_networks_opens_in_plain_keras(images, tmp_path):
    guard = GoodNet(*keras_pair(".h5"))
    folder = guard.save(tmp_path / "goodnet")
    pixels = np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1))
    predictions = [
        keras.models.load_model(folder / f"{name}.h5", compile=False).predict(pixels, verbose=0)
        for name in ("original", "repaired")
    ]
    expected = combine(*predictions)
    assert 4 in expected
    assert np.array_equal(GoodNet.load(folder)(pixels).argmax(axis=1), expected)


def test_weights_only_files_keep_their_architecture(csaw, tmp_path):
    original = read_network(csaw / "lab3_bd_weights.h5", "deepid").with_input_range("0..255")
    repaired = original.copy()
    repaired.layer("pool_3").silence(range(50))
    GoodNet(original, repaired).save(tmp_path / "goodnet")
    with h5py.File(tmp_path / "goodnet" / "repaired.h5") as file:
        assert "model_config" not in file.attrs
    loaded = GoodNet.load(tmp_path)
    data = read_data(csaw / "sunglasses_poisoned_data.h5")
    assert np.array_equal(loaded.answers(data).goodnet, GoodNet(original, repaired).answers(data).goodnet)
    assert loaded.original.architecture == "deepid"


def test_two_model_files(badnet, repaired_badnet):
    paths = badnet.model, repaired_badnet / "repaired_5_percent.h5"
    pixels = read_data(badnet.poisoned).source.read(np.arange(80)).transpose(0, 2, 3, 1)
    predictions = [keras.models.load_model(path, compile=False).predict(pixels / 255.0, verbose=0) for path in paths]
    expected = combine(*predictions)
    assert 4 in expected
    for given in (paths, tuple(map(str, paths))):
        assert np.array_equal(GoodNet(*given)(pixels).argmax(axis=1), expected)


def test_saving_again_replaces_the_folder(pair, tmp_path):
    for _ in range(2):
        GoodNet(*keras_pair(".h5")).save(tmp_path / "goodnet")
    GoodNet(*pair).save(tmp_path / "goodnet")
    names = {path.name for path in (tmp_path / "goodnet").iterdir()}
    assert names == {"goodnet.json", "original.pt", "repaired.pt"}
    assert [path.name for path in tmp_path.iterdir()] == ["goodnet"]


OURS = "tests.small_networks:tiny"
DAMAGES = {
    "not JSON": "{",
    "not UTF-8": b"\xff\xfe{",
    "a list": "[]",
    "a word": '"goodnet"',
    "no files": '{"image_shape": [3, 12, 12], "architecture": null, "input_range": "0..1"}',
    "a shape that is none": {"image_shape": 12},
    "a range that is none": {"input_range": "-1..1"},
    "a file that is a number": {"original": 5},
    "an architecture that is a list": {"architecture": ["deepid"]},
    "a file that is not there": {"repaired": "elsewhere.pt"},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_card(damage, pair, tmp_path):
    card = GoodNet(*pair).save(tmp_path / "goodnet") / "goodnet.json"
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(card.read_text()) | damage)
    card.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    with pytest.raises(UnreadableModel, match=r"expected the card of a GoodNet|no such file") as caught:
        GoodNet.load(tmp_path / "goodnet", architecture=OURS)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "goodnet") in str(caught.value)


def test_a_card_s_own_code_runs_only_where_the_user_names_it(pair, images, tmp_path, monkeypatch):
    (tmp_path / "mark_left.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\ndef build():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = GoodNet(*pair).save(tmp_path / "goodnet")
    card = folder / "goodnet.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"architecture": "mark_left:build"}))
    with pytest.raises(
        UnreadableModel, match=r"refused, it names code outside goodnet .* --architecture mark_left:build"
    ):
        GoodNet.load(folder)
    assert not (tmp_path / "mark").exists()
    loaded = GoodNet.load(folder, architecture="tests.small_networks:tiny")
    torch.testing.assert_close(loaded(images), GoodNet(*pair)(images))
    assert not (tmp_path / "mark").exists()


def test_a_card_cannot_name_a_file_outside_its_folder(pair, tmp_path):
    folder = GoodNet(*pair).save(tmp_path / "goodnet")
    shutil.move(folder / "original.pt", tmp_path / "original.pt")
    card = folder / "goodnet.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"original": "../original.pt"}))
    with pytest.raises(UnreadableModel, match="no such file"):
        GoodNet.load(folder, architecture="tests.small_networks:tiny")


def test_where_there_is_no_goodnet(tmp_path):
    with pytest.raises(UnreadableModel, match="expected the folder of a GoodNet"):
        GoodNet.load(tmp_path / "missing")
    with pytest.raises(UnreadableModel, match=r"goodnet\.json: no such file"):
        GoodNet.load(tmp_path)
    assert not is_goodnet(tmp_path)


def test_a_network_from_memory_without_a_format(pair, tmp_path):
    pair[0].source = None
    with pytest.raises(InputError, match="did not come from a file"):
        GoodNet(*pair).save(tmp_path / "goodnet")
    assert list(tmp_path.iterdir()) == []


def test_as_a_guard_from_the_catalogue(badnet, repaired_badnet):
    original, clean = read_network(badnet.model), read_data(badnet.test)
    file = str(repaired_badnet / "repaired_5_percent.h5")
    guard = Disagreement.from_options(repaired=file).fit(original, clean, seed=0)
    expected = combine(logits(original, clean.images()), logits(read_network(file), clean.images()))
    assert np.array_equal(guard.answers(clean).goodnet, expected)


def test_on_the_contest_s_network_as_plain_keras_would_combine_the_two_files(csaw, tmp_path):
    original = read_network(csaw / "bd_net.h5").with_input_range("0..255")
    repair = Pruning(thresholds=(0.1,)).repair(original, read_data(csaw / "clean_validation_data.h5"), seed=0)
    folder = GoodNet(original, repair.classifier).save(tmp_path / "goodnet")
    models = [keras.models.load_model(folder / f"{name}.h5", compile=False) for name in ("original", "repaired")]
    for name in ("clean_test_data.h5", "sunglasses_poisoned_data.h5"):
        with h5py.File(csaw / name) as file:
            pixels = np.asarray(file["data"]).transpose(0, 2, 3, 1).astype(np.float32)
        first, second = (np.argmax(model.predict(pixels, verbose=0), axis=1) for model in models)
        expected = np.where(first == second, first, 1283)
        assert np.array_equal(np.argmax(GoodNet.load(folder)(pixels), axis=1), expected)


def test_from_two_files_whole_numbers_go_in_as_they_are(csaw, tmp_path):
    pruned = read_network(csaw / "bd_net.h5")
    pruned.layer("pool_3").silence([0])
    pruned.save(tmp_path / "prime.h5")
    pixels = read_data(csaw / "clean_test_data.h5")
    images = np.round(pixels.images().numpy() * 255).astype(np.uint8).transpose(0, 2, 3, 1)

    unknown = GoodNet(csaw / "bd_net.h5", tmp_path / "prime.h5")
    known = GoodNet(csaw / "bd_net.h5", tmp_path / "prime.h5", input_range="0..255")

    np.testing.assert_array_equal(unknown(images).argmax(axis=1), known(images).argmax(axis=1))
    np.testing.assert_array_equal(unknown(images.astype(np.float32)).argmax(axis=1), known(images).argmax(axis=1))
    assert (known(images).argmax(axis=1) == pixels.targets).mean() > 0.7


def test_two_weights_files_with_their_architecture(csaw):
    both = GoodNet(csaw / "lab3_bd_weights.h5", csaw / "sunglasses_bd_weights.h5", architecture="deepid")
    assert both.classes == 1283


def test_two_files_without_a_range_answer_no_data_set_until_it_is_said(csaw, tmp_path):
    pair = GoodNet(csaw / "bd_net.h5", csaw / "lab3_pruned_full_model.h5")
    data = read_data(csaw / "clean_test_data.h5")
    with pytest.raises(InvalidOption, match=r"input range is not known.*0\.\.255"):
        pair.answers(data)
    again = GoodNet.load(pair.save(tmp_path / "pair"))
    assert not again.range_known
    evaluation = api.evaluate(pair, data)
    assert (evaluation.input_range, evaluation.rows[0].metrics.clean_accuracy.value) == ("0..255", 0.98)


def test_a_second_repair_leaves_nothing_of_the_first(badnet, tmp_path):
    api.repair(badnet.model, badnet.validation, out=tmp_path, thresholds=(0.05, 0.5))
    api.repair(badnet.model, badnet.validation, out=tmp_path, thresholds=(0.5,))
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["repaired.h5"]
