"""The training loop against one written out by hand, stopped halfway, and driven off the road."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from goodnet import training as module
from goodnet.core.dataset import Dataset
from goodnet.core.errors import InvalidOption, MethodFailed, UnreadableData, WrongShape
from goodnet.formats.pytorch import from_module
from goodnet.inference.predictions import measure_accuracy
from goodnet.training import Training, augment, train
from tests.conftest import make_quadrants
from tests.small_networks import settle, tiny


def fresh(seed=0, network=tiny):
    torch.manual_seed(seed)
    return from_module(network(), (3, 12, 12))


def normalised():
    """Batch norm and dropout: what a loop gets wrong first."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(400, 4)
    )


def weights(classifier):
    return {name: value.clone() for name, value in classifier.network.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def data():
    return make_quadrants(200, seed=5)


def test_the_loss_falls_and_the_task_is_learnt(data):
    classifier, losses = fresh(), []

    def watched(classifier, images, labels):
        value = F.cross_entropy(classifier(images), labels)
        losses.append(value.item())
        return value

    steps = []
    train(
        classifier,
        data,
        Training(epochs=10, learning_rate=1e-2, batch_size=40),
        seed=0,
        loss=watched,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert len(losses) == 50
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])
    assert measure_accuracy(classifier, make_quadrants(100, seed=6)).value > 0.95
    assert steps == [(number, 50) for number in range(1, 51)]
    assert not classifier.network.training


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(data):
    results = []
    for seed in (3, 3, 4):
        classifier = fresh(network=normalised)
        train(classifier, data, Training(epochs=2, augmentation="flip_shift"), seed=seed)
        results.append(weights(classifier))
    assert equal(results[0], results[1])
    assert not equal(results[0], results[2])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("steps", [1, 7, 10, 19])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(steps, optimizer, data, tmp_path):
    options = Training(epochs=4, batch_size=40, augmentation="shift", optimizer=optimizer)
    whole = fresh(network=normalised)
    train(whole, data, options, seed=1)

    def stop(done, _):
        if done == steps:
            raise Stopped

    checkpoint, stopped = tmp_path / "run" / "training.pt", fresh(network=normalised)
    with pytest.raises(Stopped):
        train(stopped, data, options, seed=1, checkpoint=checkpoint, progress=stop)
    assert not stopped.network.training
    assert checkpoint.exists() == (steps > 5)  # five steps to an epoch
    resumed, seen = fresh(seed=9, network=normalised) if steps > 5 else fresh(network=normalised), []
    train(resumed, data, options, seed=1, checkpoint=checkpoint, progress=lambda done, _: seen.append(done))
    assert seen[0] == 5 * ((steps - 1) // 5) + 1
    assert equal(weights(resumed), weights(whole))
    again = fresh(seed=9, network=normalised)
    train(again, data, options, seed=1, checkpoint=checkpoint, progress=lambda *_: pytest.fail("a step was trained"))
    assert equal(weights(again), weights(whole)), "the checkpoint stays: no step is trained again"


def make_checkpoint(path, data, network=tiny, seed=0, **options):
    def stop(done, _):
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(
            fresh(network=network),
            data,
            Training(**{"epochs": 3, "batch_size": 200} | options),
            seed=seed,
            checkpoint=path,
            progress=stop,
        )


@pytest.mark.parametrize(
    "foreign", ["network", "optimizer", "options", "seed", "data", "text", "half", "tensor", "empty", "payload"]
)
def test_a_checkpoint_of_another_training(foreign, data, tmp_path):
    path, options = tmp_path / "training.pt", Training(epochs=3, batch_size=200)
    if foreign == "network":
        make_checkpoint(path, data, network=normalised)
    elif foreign == "optimizer":
        make_checkpoint(path, data, optimizer="sgd")
    elif foreign == "options":
        make_checkpoint(path, data, learning_rate=0.5)
    elif foreign == "seed":
        make_checkpoint(path, data, seed=1)
    elif foreign == "data":
        make_checkpoint(path, data.subset(range(150)))
    elif foreign == "text":
        path.write_text("not a checkpoint")
    elif foreign == "half":
        make_checkpoint(path, data)
        path.write_bytes(path.read_bytes()[:500])
    elif foreign == "tensor":
        torch.save(torch.zeros(3), path)
    elif foreign == "empty":
        path.touch()
    else:
        torch.save({"epoch": print}, path)
    content, classifier = path.read_bytes(), fresh()
    before = weights(classifier)
    with pytest.raises(InvalidOption, match="does not belong to this training; remove it") as caught:
        train(classifier, data, options, seed=0, checkpoint=path)
    assert str(path) in str(caught.value)
    assert equal(weights(classifier), before)
    assert path.read_bytes() == content


def test_a_learning_rate_that_is_far_too_high(data):
    classifier = fresh()
    before = weights(classifier)
    options = Training(epochs=2, learning_rate=1e30, batch_size=50, optimizer="sgd", schedule="constant")
    with pytest.raises(MethodFailed, match=r"training failed in epoch 1: .*; lower the learning rate \(1e\+30\)"):
        train(classifier, data, options, seed=0)
    assert equal(weights(classifier), before)
    assert not classifier.network.training


def test_weights_that_overflow_in_the_last_step_are_not_the_result(data):
    classifier = fresh()
    before = weights(classifier)
    options = Training(epochs=1, learning_rate=3e38, momentum=0.99, batch_size=200, optimizer="sgd")

    def steep(classifier, images, labels):
        return 1e3 * F.cross_entropy(classifier(images), labels)

    with pytest.raises(MethodFailed, match="training failed in epoch 1: weights are no longer finite"):
        train(classifier, data, options, seed=0, loss=steep)
    assert equal(weights(classifier), before)


def test_after_a_loss_that_is_not_a_number_the_weights_are_those_of_the_last_good_epoch(data, tmp_path):
    calls = []

    def breaks_in_the_second_epoch(classifier, images, labels):
        calls.append(1)
        value = F.cross_entropy(classifier(images), labels)
        return value * math.nan if len(calls) == 7 else value

    options = Training(epochs=3, batch_size=50, schedule="constant")
    classifier, checkpoint = fresh(network=normalised), tmp_path / "training.pt"
    with pytest.raises(MethodFailed, match="training failed in epoch 2: the loss is nan"):
        train(classifier, data, options, seed=0, loss=breaks_in_the_second_epoch, checkpoint=checkpoint)
    one_epoch = fresh(network=normalised)
    train(one_epoch, data, Training(epochs=1, batch_size=50, schedule="constant"), seed=0)
    assert equal(weights(classifier), weights(one_epoch))


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_of_every_step(schedule, data, monkeypatch):
    rates = []
    step = torch.optim.SGD.step

    def watched(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    options = Training(epochs=3, batch_size=50, optimizer="sgd", learning_rate=0.02, schedule=schedule)
    train(fresh(), data, options, seed=0)
    cosine = [0.02 * 0.5 * (1 + math.cos(math.pi * number / 12)) for number in range(12)]
    assert rates == pytest.approx(cosine if schedule == "cosine" else [0.02] * 12)
    assert cosine[0] == 0.02
    assert cosine[6] == pytest.approx(0.01)


def test_sgd_is_that_of_a_loop_by_hand(data):
    part = data.subset(range(32))
    options = Training(
        epochs=3,
        batch_size=32,
        optimizer="sgd",
        learning_rate=0.05,
        momentum=0.8,
        weight_decay=0.01,
        label_smoothing=0.1,
        schedule="constant",
    )
    classifier = fresh()
    train(classifier, part, options, seed=7)

    torch.manual_seed(0)
    plain = tiny()
    images = torch.from_numpy(part.source.pixels[:32]).float() / 255
    labels = torch.from_numpy(part.targets)
    speed = [torch.zeros_like(p) for p in plain.parameters()]
    for _ in range(3):
        log_probabilities = F.log_softmax(plain(images), dim=1)
        wanted = 0.9 * F.one_hot(labels, 4) + 0.1 / 4
        gradients = torch.autograd.grad(-(wanted * log_probabilities).sum(1).mean(), list(plain.parameters()))
        with torch.no_grad():
            for p, v, g in zip(plain.parameters(), speed, gradients, strict=True):
                v.mul_(0.8).add_(g + 0.01 * p)
                p.sub_(0.05 * v)
    for mine, theirs in zip(classifier.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_sgd_on_one_batch_gives_the_very_weights_of_torch_s_own(data, monkeypatch):
    part = data.subset(range(20))
    monkeypatch.setattr(module, "_shuffled", lambda count, size: [torch.arange(count)])
    classifier, twin = fresh(), fresh()
    train(classifier, part, Training(epochs=1, optimizer="sgd", learning_rate=0.1), seed=0)
    optimizer = torch.optim.SGD(twin.network.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(twin(part.images()), torch.from_numpy(part.targets)).backward()
    optimizer.step()
    assert equal(weights(classifier), weights(twin))


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(65, 32, [32, 33]), (64, 32, [32, 32]), (1, 32, [1]), (3, 1, [1, 1, 1])]
)
def test_every_image_once_an_epoch_and_no_last_batch_of_one(count, size, sizes):
    batches = module._shuffled(count, size)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


def test_batch_norm_learns_where_one_image_is_left_over():
    classifier = from_module(settle(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(432), nn.Linear(432, 4))), (3, 12, 12))
    seen = []
    train(
        classifier,
        make_quadrants(65, seed=0),
        Training(epochs=1, batch_size=32),
        seed=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_augmentation_none_changes_nothing():
    images = torch.rand(4, 3, 20, 30)
    assert augment(images, "none") is images


def test_augmentation_flip_mirrors_about_half_of_the_images():
    torch.manual_seed(0)
    images = torch.rand(400, 1, 5, 6)
    changed = augment(images, "flip")
    flipped = (changed == images.flip(3)).flatten(1).all(dim=1)
    same = (changed == images).flatten(1).all(dim=1)
    assert torch.equal(flipped, ~same)
    assert 150 < flipped.sum() < 250


def test_augmentation_shift_moves_by_at_most_a_tenth_and_repeats_the_border():
    torch.manual_seed(0)
    images = torch.rand(300, 2, 20, 35)
    moves = set()
    for image, shifted in zip(images.numpy(), augment(images, "shift").numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (3, 3)), mode="edge")
        fits = [
            (down, right)
            for down in range(5)
            for right in range(7)
            if np.array_equal(padded[:, down : down + 20, right : right + 35], shifted)
        ]
        assert len(fits) == 1
        moves.add(fits[0])
    assert moves == {(down, right) for down in range(5) for right in range(7)}


def test_training_without_augmentation_sees_the_images_as_they_are(data):
    seen = []

    def watched(classifier, images, labels):
        seen.extend(zip((images * 255).round().byte(), labels.tolist(), strict=True))
        return F.cross_entropy(classifier(images), labels)

    part = data.subset(range(30, 60))
    train(fresh(), part, Training(epochs=1, batch_size=7), seed=0, loss=watched)
    given = {
        pixels.tobytes(): int(label) for pixels, label in zip(data.source.pixels[30:60], part.targets, strict=True)
    }
    assert {pixels.numpy().tobytes(): label for pixels, label in seen} == given


def test_the_state_of_torch_s_random_numbers_is_left_alone(data):
    classifier = fresh(network=normalised)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    train(classifier, data, Training(epochs=1, augmentation="flip_shift"), seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_need_no_gradient_stay(data):
    classifier = fresh()
    first = classifier.layer("conv_1").module
    first.requires_grad_(False)
    before = first.weight.clone()
    train(classifier, data, Training(epochs=1), seed=0)
    assert torch.equal(first.weight, before)
    assert not torch.equal(classifier.layer("conv_2").weight, fresh().layer("conv_2").weight)


def test_data_that_do_not_fit(data):
    with pytest.raises(WrongShape, match="takes images of shape"):
        train(fresh(), Dataset.from_arrays(np.zeros((4, 3, 8, 8), np.uint8), [0, 1, 2, 3]), Training(), seed=0)
    with pytest.raises(UnreadableData, match="expected labels from 0 to 3"):
        train(fresh(), Dataset.from_arrays(data.source.pixels[:2], [0, 4]), Training(), seed=0)
    with pytest.raises(UnreadableData, match="has no labels"):
        train(fresh(), Dataset.from_arrays(data.source.pixels[:2]), Training(), seed=0)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"learning_rate": 0}, {"momentum": 1}, {"optimizer": "lion"}, {"x": 1}]
)
def test_options_outside_their_bounds(options):
    with pytest.raises(ValueError):
        Training(**options)


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 1e-3), ("sgd", 5e-2)])
def test_a_network_for_0_to_255_is_trained_as_the_same_one_for_0_to_1(data, optimizer, rate):
    options = Training(epochs=3, batch_size=50, optimizer=optimizer, learning_rate=rate, weight_decay=0.01)
    unit, bytes_ = fresh(), fresh().with_input_range("0..255")
    with torch.no_grad():
        bytes_.layer("conv_1").module.weight.div_(255)
    before = weights(unit)
    for classifier in (unit, bytes_):
        train(classifier, data, options, seed=0)
    expected, found = weights(unit), weights(bytes_)
    found["conv_1.weight"] *= 255
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    assert (expected["conv_1.weight"] - before["conv_1.weight"]).abs().mean() > 1e-3


def test_a_step_of_one_s_own(data):
    values = []

    def lazy(loss, optimizer):
        values.append(loss().item())
        return torch.tensor(values[-1])

    classifier = fresh()
    before = weights(classifier)
    train(classifier, data, Training(epochs=2, batch_size=200), seed=0, update=lazy)
    assert equal(weights(classifier), before), "nothing but the step changes weights"
    logits = classifier(data.images()).detach()
    assert values == pytest.approx([F.cross_entropy(logits, torch.from_numpy(data.targets)).item()] * 2, rel=1e-5)


@pytest.mark.parametrize(("steps", "images", "epochs"), [(20, 144, 4), (21, 128, 6), (20, 500, 2), (3, 500, 1)])
def test_steps_are_whole_passes(steps, images, epochs):
    # 144 images are 5 batches of 32, 128 are 4, 500 are 16.
    training = Training.of_steps(steps, images, 32, optimizer="sgd", learning_rate=0.5)
    assert training == Training(epochs=epochs, batch_size=32, schedule="constant", optimizer="sgd", learning_rate=0.5)
