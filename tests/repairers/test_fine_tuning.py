import numpy as np
import torch
from torch import nn

from goodnet.core.dataset import Dataset
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy
from goodnet.repairers.fine_tuning import FineTuning

PIXELS = np.array([[0.1, 0.9, 0.4, 0.7], [0.8, 0.2, 0.6, 0.3], [0.5, 0.5, 1.0, 0.0]])
LABELS = np.array([0, 1, 1])


def test_two_steps_by_hand():
    """Momentum and weight decay, the rate falling as a cosine: rate, then half of it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    weight = module[1].weight.detach().double().numpy().copy()
    speed = 0.0
    for rate in (0.2, 0.1):
        logits = PIXELS @ weight.T
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        slope = (p - np.eye(2)[LABELS]).T @ PIXELS / 3 + 0.05 * weight
        speed = 0.8 * speed + slope
        weight = weight - rate * speed
    data = Dataset.from_arrays(PIXELS.reshape(3, 1, 2, 2).astype(np.float32), LABELS)
    method = FineTuning(epochs=2, learning_rate=0.2, momentum=0.8, weight_decay=0.05)
    repair = method.repair(from_module(module, (1, 2, 2)), data, seed=0)
    np.testing.assert_allclose(repair.classifier.layer("1").weight.numpy(), weight, rtol=1e-5)
    assert repair.recommended.changes.images == 3


def test_the_clean_twin_keeps_its_accuracy(clean_twin):
    repair = FineTuning().repair(clean_twin.classifier, clean_twin.clean, seed=0)
    before = measure_accuracy(clean_twin.classifier, clean_twin.test).value
    assert measure_accuracy(repair.classifier, clean_twin.test).value >= before - 0.02
