"""Whole Keras models: softmax, nesting, layouts, training mode, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers as kl
from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5, save_weights_to_hdf5_group

from goodnet.core.errors import UnreadableModel, UnwritableOutput, WrongShape
from goodnet.formats.keras import from_keras, read_keras
from tests.formats.keras_networks import (
    FIRST,
    SHAPE,
    Layers,
    check,
    close,
    disturb,
    images_for,
    logits_of,
    randomise,
    run,
    sequential,
)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("end", ["dense softmax", "softmax layer", "activation layer", "none"])
def test_a_final_softmax_is_taken_off_and_put_back(end: str, suffix: str, tmp_path: Path) -> None:
    ends = {
        "dense softmax": [kl.Dense(3, activation="softmax")],
        "softmax layer": [kl.Dense(3), kl.Softmax()],
        "activation layer": [kl.Dense(3), kl.Activation("softmax")],
        "none": [kl.Dense(3)],
    }
    model = sequential([kl.Conv2D(4, 3, activation="relu"), kl.BatchNormalization(), kl.Flatten(), *ends[end]])
    theirs, ours = images_for(model)
    classifier = from_keras(model, suffix)
    disturb(classifier)
    logits = torch.from_numpy(run(classifier, ours))
    assert classifier.layers()[-1].kind == "Linear"
    assert not torch.allclose(logits.sum(1), torch.ones(4))
    saved = keras.models.load_model(classifier.save(tmp_path / f"m{suffix}"), compile=False)
    close(logits_of(saved, theirs), (logits if end == "none" else logits.softmax(1)).numpy())


def test_nested_and_shared_layers(tmp_path: Path) -> None:
    images = keras.Input((8, 8, 3))
    shared = kl.Conv2D(3, 3, padding="same", activation="tanh", name="shared")
    inner_images = keras.Input((8, 8, 3))
    inner = keras.Model(inner_images, kl.Add()([kl.Conv2D(3, 1, name="shared")(inner_images), inner_images]), name="in")
    block = keras.Sequential([keras.Input((8, 8, 3)), kl.Conv2D(4, 3), kl.BatchNormalization(), kl.ReLU()], name="b-1")
    values = shared(inner(shared(images)))
    model = randomise(keras.Model(images, kl.Dense(3)(kl.Flatten()(block(values)))))
    classifier = check(model, tmp_path, suffixes=(".keras", ".h5"))
    names = [layer.name for layer in classifier.layers()]
    assert len(names) == len(set(names))
    assert names[:2] == ["shared", "in__shared"]


def test_a_layer_shared_with_a_nested_model_is_saved_in_both_places(tmp_path: Path) -> None:
    layer, inner_images, images = kl.Conv2D(3, 3, padding="same"), keras.Input(SHAPE), keras.Input(SHAPE)
    inner = keras.Model(inner_images, layer(inner_images))
    model = randomise(keras.Model(images, kl.Dense(2)(kl.Flatten()(layer(inner(images))))))
    check(model, tmp_path)


CHANNELS_FIRST: dict[str, Layers] = {
    "conv": lambda: [
        kl.Conv2D(4, 3, strides=2, padding="same", data_format=FIRST),
        kl.BatchNormalization(axis=1),
    ],
    "depthwise": lambda: [kl.DepthwiseConv2D(3, depth_multiplier=2, data_format=FIRST)],
    "pool": lambda: [
        kl.Conv2D(4, 3, data_format=FIRST, activation="relu"),
        kl.MaxPooling2D(2, padding="same", data_format=FIRST),
        kl.AveragePooling2D(2, padding="same", data_format=FIRST),
    ],
    "global pool": lambda: [kl.Conv2D(4, 3, data_format=FIRST), kl.GlobalAveragePooling2D(data_format=FIRST)],
    "padding": lambda: [
        kl.ZeroPadding2D(((1, 0), (2, 0)), data_format=FIRST),
        kl.Conv2D(4, 3, data_format=FIRST),
    ],
    "rescaling": lambda: [kl.Rescaling(2.0, 0.5), kl.Conv2D(4, 3, data_format=FIRST)],
}


@pytest.mark.parametrize("flatten", ["channels_first", "channels_last"])
@pytest.mark.parametrize("trunk", CHANNELS_FIRST)
def test_channels_first(trunk: str, flatten: str, tmp_path: Path) -> None:
    layers = [*CHANNELS_FIRST[trunk](), kl.Flatten(data_format=flatten), kl.Dense(3)]
    classifier = check(sequential(layers, (3, 9, 7)), tmp_path, layout="NCHW")
    assert classifier.image_shape == (3, 9, 7)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: kl.Dense(4),
        kl.BatchNormalization,
        kl.LayerNormalization,
        lambda: kl.Reshape((6, 6, 6)),
        lambda: kl.PReLU(shared_axes=[1, 2]),
        lambda: kl.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        lambda: kl.Activation("softmax"),
        lambda: kl.MaxPooling2D(2, data_format="channels_last"),
    ],
)
def test_layers_on_the_last_axis_are_refused_with_channels_first(layer: Callable[[], Any]) -> None:
    """All sizes are 6 here: taking the width for the channels would go unnoticed."""
    layers = [kl.Conv2D(6, 3, data_format=FIRST), layer(), kl.Flatten(data_format=FIRST), kl.Dense(3)]
    with pytest.raises(UnreadableModel, match="cannot be translated"):
        from_keras(sequential(layers, (3, 8, 8)))


def test_training_mode_means_what_it_means_in_torch() -> None:
    model = sequential(
        [kl.Conv2D(4, 3), kl.BatchNormalization(momentum=0.9), kl.Dropout(0.5), kl.Flatten(), kl.Dense(3)]
    )
    _, ours = images_for(model, count=16)
    classifier = from_keras(model)
    name = next(layer.name for layer in classifier.layers() if layer.kind == "BatchNorm")
    norm = classifier.layer(name).module
    assert norm is not None
    before = norm.running_mean.clone()
    convolved = classifier.features(ours, classifier.layers()[0].name)
    first = run(classifier, ours)
    assert np.array_equal(first, run(classifier, ours))
    classifier.network.train()
    assert not np.array_equal(run(classifier, ours), run(classifier, ours))
    mean = convolved.mean(dim=(0, 2, 3)).detach()
    # Two passes with momentum 0.9: each moves a tenth of the way to the batch's mean.
    expected = mean + 0.9**2 * (before - mean)
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-4, atol=1e-5)
    classifier.network.eval()
    assert np.array_equal(run(classifier, ours), run(classifier, ours))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_silenced_channels_are_zero_in_keras(suffix: str, tmp_path: Path) -> None:
    model = sequential(
        [
            kl.Conv2D(6, 3, activation="relu", name="c"),
            kl.BatchNormalization(name="n"),
            kl.MaxPooling2D(2, name="p"),
            kl.Flatten(),
            kl.Dense(3),
        ]
    )
    theirs, ours = images_for(model)
    classifier = from_keras(model, suffix)
    classifier.layer("p").silence([1, 4])
    saved = keras.models.load_model(classifier.save(tmp_path / f"m{suffix}"), compile=False)
    maps = logits_of(keras.Model(saved.inputs, saved.get_layer("p").output), theirs)
    assert (maps[..., [1, 4]] == 0).all()
    original = logits_of(keras.Model(model.inputs, model.get_layer("p").output), theirs)
    np.testing.assert_array_equal(maps[..., [0, 2, 3, 5]], original[..., [0, 2, 3, 5]])
    close(logits_of(saved, theirs), run(classifier, ours))


def test_the_classifier_has_weights_of_its_own() -> None:
    model = sequential([kl.Conv2D(4, 3), kl.Flatten(), kl.Dense(3)])
    theirs, _ = images_for(model)
    before = logits_of(model, theirs)
    disturb(from_keras(model))
    assert np.array_equal(before, logits_of(model, theirs))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    "layers",
    [
        [kl.Rescaling(2.0), kl.Flatten(), kl.Dense(6, activation="relu"), kl.Dense(3)],
        [kl.Reshape((9, 7, 1)), kl.Conv2D(4, 3), kl.Flatten(), kl.Dense(3)],
    ],
)
def test_grey_images_without_an_axis_for_their_channel(layers: list[Any], suffix: str, tmp_path: Path) -> None:
    model = keras.models.clone_model(keras.Sequential([keras.Input((9, 7)), *layers]))
    images = np.random.default_rng(0).random((5, 9, 7), dtype=np.float32)
    classifier = from_keras(model, suffix)
    assert classifier.image_shape == (1, 9, 7)
    close(run(classifier, torch.from_numpy(images)[:, None]), logits_of(model, images))
    saved = keras.models.load_model(classifier.save(tmp_path / f"m{suffix}"), compile=False)
    close(logits_of(saved, images), logits_of(model, images))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: keras.Sequential([keras.Input((None, None, 3)), kl.GlobalMaxPooling2D(), kl.Dense(2)]),
            UnreadableModel,
            "known size",
        ),
        (lambda: keras.Sequential([keras.Input((12,)), kl.Dense(2)]), UnreadableModel, "known size"),
        (lambda: keras.Sequential([keras.Input(SHAPE), kl.Conv2D(3, 2)]), WrongShape, "at least 2 classes"),
    ],
)
def test_networks_that_are_no_image_classifiers_are_refused(make: Callable[[], Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        from_keras(make(), name="n.h5")


def test_several_inputs_or_outputs_and_subclassed_models_are_refused() -> None:
    one, two = keras.Input(SHAPE), keras.Input(SHAPE)
    features = kl.Flatten()(kl.Add()([one, two]))
    with pytest.raises(UnreadableModel, match="got 2 and 1"):
        from_keras(keras.Model([one, two], kl.Dense(2)(features)))
    flat = kl.Flatten()(one)
    with pytest.raises(UnreadableModel, match="got 1 and 2"):
        from_keras(keras.Model(one, [kl.Dense(2)(flat), kl.Dense(3)(flat)]))

    class Own(keras.Model):
        def call(self, images: Any) -> Any:
            return images

    with pytest.raises(UnreadableModel, match="subclassed Own"):
        from_keras(Own())


def test_what_keras_cannot_write_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keras 3.15 fails so on RandomContrast, in .h5 alone."""

    def fail(*_: object) -> None:
        raise TypeError("cannot pickle 'module' object")

    classifier = from_keras(sequential([kl.Flatten(), kl.Dense(2)]), ".h5")
    monkeypatch.setattr("keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5", fail)
    with pytest.raises(
        UnwritableOutput, match=r"m\.h5: Keras cannot write .* to \.h5: cannot pickle 'module' object; take"
    ):
        classifier.save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["layer", "operation"])
def test_what_keras_cannot_keep_in_hdf5_is_written_as_keras(kind: str, tmp_path: Path) -> None:
    images = keras.Input((6, 7, 3))
    hidden = kl.RandomBrightness(0.1, value_range=(0, 1))(images) if kind == "layer" else images / 2.0
    model = keras.Model(images, kl.Dense(2)(kl.Flatten()(hidden)))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        if kind == "operation":
            save_model_to_hdf5(model, file, include_optimizer=False)
        else:  # As Keras 2 could write it.
            file.attrs["model_config"], file.attrs["keras_version"] = model.to_json(), keras.__version__
            save_weights_to_hdf5_group(file.create_group("model_weights"), model)
    classifier = read_keras(tmp_path / "m.h5")
    assert classifier.suffix == ".keras"
    assert "a repaired network is written as .keras: Keras cannot write or read this one as .h5" in classifier.notes
    close(run(classifier, images_for(model)[1]), logits_of(model, images_for(model)[0]))
    written = keras.models.load_model(classifier.save(tmp_path / "out.keras"), compile=False)
    close(logits_of(written, images_for(model)[0]), logits_of(model, images_for(model)[0]))


def test_weights_that_are_not_finite_are_refused() -> None:
    model = sequential([kl.Flatten(), kl.Dense(2, name="head")])
    model.get_layer("head").set_weights([np.full((189, 2), np.nan), np.zeros(2)])
    with pytest.raises(UnreadableModel, match="NaN or infinity in layer 'head'"):
        from_keras(model)
