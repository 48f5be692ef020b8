import numpy as np
import pytest
import torch

from goodnet.formats.arrays import write_hdf5
from goodnet.formats.networks import read_network
from goodnet.inference.predictions import measure_accuracy
from goodnet.repairers.activation_bounds import ActivationBounds, largest_outputs
from tests.conftest import make_quadrants
from tests.repairers.twins import worth
from tests.weights import equal, weights


def test_largest_outputs_over_images_and_places(tiny_classifier, tiny_data):
    largest = largest_outputs(tiny_classifier, tiny_data, ["conv_1", "conv_2"])
    for name, values in largest.items():
        expected = tiny_classifier.features(tiny_data.images(), name).detach().numpy().max(axis=(0, 2, 3))
        np.testing.assert_allclose(values, np.maximum(expected, 0), rtol=1e-5)


def test_learnt_bounds_are_below_the_largest_outputs_and_keep_the_answers(tiny_classifier, tiny_data):
    largest = largest_outputs(tiny_classifier, tiny_data, ["conv_1", "conv_2"])
    learnt = ActivationBounds(steps=60).tighten(tiny_classifier, tiny_data, largest, seed=0)
    for name, values in learnt.items():
        assert (values >= 0).all()
        assert (values <= largest[name]).all()
        assert values.sum() < 0.9 * largest[name].sum()
    repair = ActivationBounds(steps=60).repair(tiny_classifier, tiny_data, seed=0)
    assert repair.recommended.accuracy == measure_accuracy(repair.classifier, tiny_data)
    assert repair.accuracy_before.value - repair.recommended.accuracy.value <= 0.02 + 1e-9


def test_a_budget_of_nothing_lets_the_bounds_out_until_it_holds(tiny_classifier):
    data = make_quadrants(60, seed=4, brightness=12)
    method = ActivationBounds(steps=80, learning_rate=0.2, max_accuracy_drop=0)
    repair = method.repair(tiny_classifier, data, seed=0)
    assert repair.recommended.accuracy.value >= repair.accuracy_before.value
    largest = largest_outputs(tiny_classifier, data, ["conv_1", "conv_2"])
    learnt = method.tighten(tiny_classifier, data, largest, seed=0)
    share = repair.recommended.changes.relaxed
    for name, values in repair.trace.bounds.items():
        np.testing.assert_allclose(values, learnt[name] + share * (largest[name] - learnt[name]), rtol=1e-5, atol=1e-6)


def test_the_attack_gets_weaker_and_the_clean_twin_stays_good(planted, clean_twin):
    before = worth(planted.classifier, planted)
    weights_before = weights(planted.classifier)
    after = worth(ActivationBounds().repair(planted.classifier, planted.clean, seed=0).classifier, planted)
    assert before.attack_success > 0.99
    assert after.attack_success < 0.8
    assert after.robust_accuracy > 0.2
    assert after.accuracy > before.accuracy - 0.01
    assert equal(weights(planted.classifier), weights_before)
    repaired = ActivationBounds().repair(clean_twin.classifier, clean_twin.clean, seed=0).classifier
    assert worth(repaired, clean_twin).accuracy > worth(clean_twin.classifier, clean_twin).accuracy - 0.02


def test_a_keras_network_comes_back_as_keras_network(badnet, tmp_path):
    classifier, clean = read_network(badnet.model), make_quadrants(60, seed=3, brightness=30)
    repaired = ActivationBounds(steps=20).repair(classifier, clean, seed=0).classifier
    repaired.save(tmp_path / "repaired.h5")
    again = read_network(tmp_path / "repaired.h5")
    assert torch.equal(again(clean.images()), repaired(clean.images()))
    assert "conv_1_bounded" in [layer.name for layer in again.layers()]


def test_what_cannot_be_saved_is_said_before_any_work(goodnet, planted, tmp_path, repository, monkeypatch):
    monkeypatch.setattr(ActivationBounds, "repair", lambda *_, **__: pytest.fail("work was begun"))
    out, clean = tmp_path / "out", write_hdf5(tmp_path / "clean.h5", planted.clean)
    ended = goodnet(
        *("repair", repository / "tests" / "data" / "planted.safetensors", "--clean", clean, "--out", out),
        *("--architecture", "tests.data.twin_network:build", "--method", "activation_bounds"),
    )
    assert ended.code == 2
    assert "a .safetensors file of weights alone cannot carry them" in " ".join(ended.err.split())
    assert not out.exists()


def test_from_python_such_a_network_comes_back_live(planted):
    repaired = ActivationBounds(steps=5).repair(planted.classifier, planted.clean, seed=0).classifier
    images = planted.test.images()[:20]
    assert torch.equal(repaired.to_model()(repaired.prepare(images)), repaired(images))


def test_a_keras_network_is_repaired_by_the_command(goodnet, badnet, tmp_path):
    out = tmp_path / "out"
    ended = goodnet(
        "repair",
        badnet.model,
        "--clean",
        badnet.validation,
        "--method",
        "activation_bounds",
        "--steps",
        10,
        "--out",
        out,
    )
    assert ended.code == 0, ended.err
    repaired = read_network(out / "repaired.h5")
    assert "conv_2_bound" in [layer.name for layer in repaired.layers()]
    assert (out / "goodnet").is_dir()
