import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet.core.errors import UnknownMethod
from goodnet.formats.pytorch import from_module
from goodnet.inference.attention_maps import find_stages
from goodnet.inference.predictions import measure_accuracy
from goodnet.repairers.neural_attention_distillation import NeuralAttentionDistillation, attention_loss
from tests.small_networks import Residual, settle


def networks(build=Residual):
    return (from_module(settle(build(), seed), (3, 12, 12)) for seed in (0, 1))


def test_the_loss_is_cross_entropy_and_the_weighted_distances(tiny_data):
    student, teacher = networks()
    images, labels = tiny_data.images()[:10], torch.from_numpy(tiny_data.targets[:10])
    stages = find_stages(student, 2)
    expected = F.cross_entropy(student(images), labels)
    for name, beta in zip(stages, (3.0, 50.0), strict=True):
        maps = []
        for network in (student, teacher):
            attention = (network.features(images, name) ** 2).sum(1)
            maps.append(attention / attention.flatten(1).norm(dim=1)[:, None, None])
        expected = expected + beta * ((maps[0] - maps[1]) ** 2).mean()
    loss = attention_loss(student, teacher, stages, (3.0, 50.0))(student, images, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert student.network.stem.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in teacher.network.parameters())


def test_the_teacher_s_statistics_stay_while_the_student_trains(tiny_data):
    student, teacher = networks()
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    loss = attention_loss(student, teacher, find_stages(student, 2), (1.0, 1.0))
    student.network.train()
    loss(student, tiny_data.images(), torch.from_numpy(tiny_data.targets))
    assert all(torch.equal(before[name], value) for name, value in teacher.network.state_dict().items())
    assert student.network.norm.num_batches_tracked > teacher.network.norm.num_batches_tracked


def test_networks_of_fewer_stages_take_the_last_weights(tiny_classifier, tiny_data):
    method = NeuralAttentionDistillation(epochs=1, teacher_epochs=1)
    changes = method.repair(tiny_classifier, tiny_data, seed=0).recommended.changes
    assert changes.stages == ("relu_1", "relu_2")


def test_a_network_without_convolutions(tiny_data):
    flat = from_module(nn.Sequential(nn.Flatten(), nn.Linear(432, 4)), (3, 12, 12))
    with pytest.raises(UnknownMethod, match="no layer of convolutions"):
        NeuralAttentionDistillation().repair(flat, tiny_data, seed=0)


def test_the_clean_twin_keeps_its_accuracy(clean_twin):
    repair = NeuralAttentionDistillation().repair(clean_twin.classifier, clean_twin.clean, seed=0)
    before = measure_accuracy(clean_twin.classifier, clean_twin.test).value
    assert measure_accuracy(repair.classifier, clean_twin.test).value >= before - 0.02
