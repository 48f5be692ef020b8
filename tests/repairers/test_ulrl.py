import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet.core.dataset import Dataset
from goodnet.core.errors import UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.repairers.ulrl import LearntAnew, Ulrl
from tests.weights import equal, weights


def test_one_step_of_forgetting_by_hand():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    rows, pixels = torch.randn(2, 3, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0)).numpy()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(rows))
    pixels, labels = np.abs(pixels) / 4, np.array([0, 1, 2])
    logits = pixels.astype(np.float32) @ rows.T
    labels = logits.argmax(axis=1)  # All right, so that there is something to forget.
    data = Dataset.from_arrays(pixels.reshape(3, 1, 2, 2).astype(np.float32), labels)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (p - np.eye(3)[labels]).T @ pixels
    expected = 0.05 * np.linalg.norm(rows) * np.abs(slope / np.linalg.norm(slope)).sum(axis=1)
    method = Ulrl(forgetting_epochs=1, forgetting_rate=0.05)
    np.testing.assert_allclose(method.forget(from_module(module, (1, 2, 2)), data, seed=0), expected, rtol=1e-4)


def test_even_a_network_that_is_sure_of_its_answers_forgets(tiny_classifier, tiny_data):
    before = weights(tiny_classifier)
    calls = []
    method = Ulrl(forgetting_epochs=60, forgetting_rate=0.01)
    moved = method.forget(tiny_classifier, tiny_data, seed=0, progress=lambda *steps: calls.append(steps))
    # It ends where guessing is right: at 1.5 of 4 classes.
    assert 1 < len(calls) < 60
    assert (moved > 0).all()
    assert equal(weights(tiny_classifier), before)


def test_rows_that_stand_out_among_their_own_kind_by_hand():
    # Classes 0 to 4 have images and move by about 10; of the others one moves by 5 and the rest hardly.
    moved = torch.tensor([10.0, 11.0, 9.0, 10.5, 9.5, 0.01, 0.0, 5.0, 0.02, 0.01])
    labels = np.array([0, 1, 2, 3, 4, 4])
    # Without images: median of the others 0.01, mean (floor) 1.008: (5 - 0.01) / 1.008 = 4.95.
    assert Ulrl().choose_rows(moved, labels) == [7]
    assert Ulrl(deviations=4.94).choose_rows(moved, labels) == [7]
    assert Ulrl(deviations=4.96).choose_rows(moved, labels) == []


def test_no_more_rows_than_allowed_the_farthest_first():
    moved = torch.ones(300)
    moved[[4, 200, 37, 150]] = torch.tensor([900.0, 2000.0, 1000.0, 800.0])
    every = np.arange(300)
    assert Ulrl().choose_rows(moved, every) == [200, 37, 4]
    assert Ulrl(most_rows=0.001).choose_rows(moved, every) == [200]


def test_only_the_rows_are_learnt_again_and_turn_away_from_what_they_were(tiny_classifier, tiny_data, monkeypatch):
    monkeypatch.setattr(Ulrl, "choose_rows", lambda self, moved, labels: [2])
    repair = Ulrl(epochs=60, learning_rate=0.01, max_accuracy_drop=0.2).repair(tiny_classifier, tiny_data, seed=0)
    old, new = weights(tiny_classifier), weights(repair.classifier)
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    assert changed == ["output.weight"]
    assert torch.equal(old["output.weight"][[0, 1, 3]], new["output.weight"][[0, 1, 3]])
    assert F.cosine_similarity(old["output.weight"][2], new["output.weight"][2], dim=0) < 0.5
    assert repair.recommended.accuracy.value > repair.accuracy_before.value - 0.2
    assert all(parameter.requires_grad for parameter in repair.classifier.network.parameters())


def test_where_no_row_stands_out_nothing_is_changed(tiny_classifier, tiny_data):
    repair = Ulrl(deviations=1e9).repair(tiny_classifier, tiny_data, seed=0)
    assert repair.recommended.changes == LearntAnew()
    assert equal(weights(repair.classifier), weights(tiny_classifier))


def test_the_twins_stay_as_they_are_since_another_row_stands_out_and_the_clean_images_need_it(planted, clean_twin):
    # The small patch leads to 7 by a way of its own, which forgetting does not take.
    for twin in (planted, clean_twin):
        repair = Ulrl().repair(twin.classifier, twin.clean, seed=0)
        assert repair.recommended.changes.rows == ()
        assert repair.recommended.changes.given_up not in ((), (twin.backdoor.target,))
        assert equal(weights(repair.classifier), weights(twin.classifier))


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(tiny_data):
    module = nn.Sequential(nn.Conv2d(3, 4, 12), nn.Flatten())
    with pytest.raises(UnknownMethod, match="does not end in a linear layer"):
        Ulrl().repair(from_module(module, (3, 12, 12)), tiny_data, seed=0)


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_network_for_0_to_255_forgets_as_the_same_one_for_0_to_1(tiny_classifier, tiny_data, epochs):
    bytes_ = tiny_classifier.with_input_range("0..255").copy()
    with torch.no_grad():
        bytes_.layer("conv_1").module.weight.div_(255)
    method = Ulrl(forgetting_epochs=epochs, forgetting_rate=0.05)
    expected, found = (method.forget(classifier, tiny_data, seed=0) for classifier in (tiny_classifier, bytes_))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert expected.min() > 0
