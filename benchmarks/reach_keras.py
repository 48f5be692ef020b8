"""Kinds of `reach.py`: Keras models as they are met, whole and as weights alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from goodnet.formats.keras import import_keras
from reach_corpus import CLASSES, Held, Images, Kind, Outputs, Shape, smooth_images, unit

keras = import_keras()
kl = keras.layers
SIZE = 32


def _spread(model: Any, images: np.ndarray) -> None:
    """Change the last Dense layer so that all classes are met."""
    classes = model(images[:1], training=False).shape[-1]
    last = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if getattr(layer, "units", 0) == classes
    ][-1]
    ending, last.activation = last.activation, keras.activations.linear
    logits = np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))
    kernel, bias = last.get_weights()
    factor = 3 / np.maximum(logits.std(axis=0), 1e-9)
    if last.units > 1:
        last.set_weights([kernel * factor, (bias - logits.mean(axis=0)) * factor])
    else:
        last.set_weights([kernel * factor, (bias - np.median(logits)) * factor])
    last.activation = ending


def _as_keras_takes(shape: Shape, images: Images) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _outputs(feed: Callable[[Images], np.ndarray], path: Path, images: Images) -> Outputs:
    model = keras.models.load_model(path, compile=False)
    scores = np.asarray(keras.ops.convert_to_numpy(model(feed(images), training=False)))
    return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores


def _saved(
    make: Callable[[], Any],
    folder: Path,
    *,
    name: str = "net.keras",
    feed: Any = None,
    shape: Shape = (3, SIZE, SIZE),
    **options: Any,
) -> Held:
    keras.utils.set_random_seed(0)
    model = make()
    feed = feed or partial(_as_keras_takes, shape)
    _spread(model, feed(unit(smooth_images(shape))))
    path = folder / name
    model.save(path)
    return Held(path, partial(_outputs, feed), shape, options, probabilities=True)


def _head(units: int = CLASSES, activation: str = "softmax") -> list[Any]:
    return [kl.GlobalAveragePooling2D(), kl.Dense(units, activation=activation)]


def _with(
    *layers: Callable[[], Any], before: Callable[[], list[Any]] = lambda: [], shape: Any = (SIZE, SIZE, 3)
) -> Callable[[], Any]:
    def make() -> Any:
        first = [kl.Conv2D(8, 3, strides=2, padding="same", activation="relu")]
        return keras.Sequential([keras.Input(shape), *before(), *first, *(layer() for layer in layers), *_head()])

    return make


def _functional(prepare: Callable[[Any], Any]) -> Any:
    images = keras.Input((SIZE, SIZE, 3))
    hidden = kl.Conv2D(8, 3, strides=2, activation="relu")(prepare(images))
    hidden = kl.GlobalAveragePooling2D()(hidden)
    return keras.Model(images, kl.Dense(CLASSES, activation="softmax")(hidden))


def _nested() -> Any:
    """As Teachable Machine makes them: a Sequential of a Sequential with a MobileNet-like body, and a Sequential head."""
    body = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            kl.Conv2D(8, 3, strides=2),
            kl.DepthwiseConv2D(3),
            kl.ReLU(6.0),
            kl.GlobalAveragePooling2D(),
        ]
    )
    head = keras.Sequential(
        [keras.Input((8,)), kl.Dense(12, activation="relu"), kl.Dense(CLASSES, activation="softmax", use_bias=True)]
    )
    return keras.Sequential([keras.Sequential([body]), head])


def _attention() -> Any:
    images = keras.Input((SIZE, SIZE, 3))
    tokens = kl.Reshape((16, 16))(kl.Conv2D(16, 8, strides=8)(images))
    tokens = kl.Add()([tokens, kl.MultiHeadAttention(2, 8)(tokens, tokens)])
    return keras.Model(images, kl.Dense(CLASSES, activation="softmax")(kl.Flatten()(tokens)))


def _application(name: str, **options: Any) -> Any:
    body = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg", **options
    )
    return keras.Sequential([keras.Input((64, 64, 3)), body, kl.Dense(CLASSES, activation="softmax")])


def _sequential(*layers: Callable[[], Any], shape: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *(layer() for layer in layers)])


def _custom_metric() -> Any:
    model = _with()()

    def closeness(truth: Any, answer: Any) -> Any:
        return keras.ops.mean(keras.ops.abs(truth - answer))

    model.compile("adam", "categorical_crossentropy", metrics=[closeness])
    return model


def make_weights_only() -> Any:
    """The factory that a user gives for weights alone."""
    return _with()()


def _weights(folder: Path) -> Held:
    keras.utils.set_random_seed(0)
    model = make_weights_only()
    _spread(model, _as_keras_takes((3, SIZE, SIZE), unit(smooth_images((3, SIZE, SIZE)))))
    path = folder / "net.weights.h5"
    model.save_weights(path)

    def outputs(place: Path, images: Images) -> Outputs:
        read = make_weights_only()
        read.load_weights(place)
        return np.asarray(keras.ops.convert_to_numpy(read(_as_keras_takes((3, SIZE, SIZE), images), training=False)))

    return Held(path, outputs, options={"architecture": "reach_keras:make_weights_only"}, probabilities=True)


def keras_kinds() -> list[Kind]:
    """Return the kinds of this module."""
    grey = lambda images: np.ascontiguousarray(images[:, 0])  # noqa: E731
    flat = lambda images: images.reshape(len(images), -1)  # noqa: E731
    made: dict[str, partial[Held]] = {
        "Keras .keras": partial(_saved, _with()),
        "Keras .h5": partial(_saved, _with(), name="net.h5"),
        "Keras with a custom metric": partial(_saved, _custom_metric),
        "Keras with nested models (Teachable Machine)": partial(_saved, _nested, name="keras_model.h5"),
        "Keras, one sigmoid": partial(
            _saved,
            lambda: keras.Sequential([keras.Input((SIZE, SIZE, 3)), kl.Conv2D(8, 3, strides=2), *_head(1, "sigmoid")]),
        ),
        "Keras, Rescaling to -1..1": partial(
            _saved,
            _with(before=lambda: [kl.Rescaling(1 / 127.5, offset=-1)]),
            feed=lambda i: _as_keras_takes((3, 32, 32), i * 255),
        ),
        "Keras, Normalization": partial(
            _saved, _with(before=lambda: [kl.Normalization(mean=(0.4, 0.5, 0.6), variance=(0.04, 0.05, 0.06))])
        ),
        "Keras, random augmentation layers": partial(
            _saved,
            _with(before=lambda: [kl.RandomFlip(), kl.RandomRotation(0.1), kl.RandomZoom(0.1), kl.RandomContrast(0.1)]),
        ),
        "Keras, Resizing": partial(_saved, _with(before=lambda: [kl.Resizing(24, 24)])),
        "Keras, CenterCrop": partial(_saved, _with(before=lambda: [kl.CenterCrop(24, 24)])),
        "Keras, RandomCrop": partial(_saved, _with(before=lambda: [kl.RandomCrop(24, 24)])),
        "Keras, AlphaDropout": partial(_saved, _with(partial(kl.AlphaDropout, 0.2))),
        "Keras, GroupNormalization": partial(_saved, _with(partial(kl.GroupNormalization, 4))),
        "Keras, Permute": partial(_saved, _with(partial(kl.Permute, (2, 1, 3)))),
        "Keras, UnitNormalization": partial(_saved, _with(partial(kl.UnitNormalization, -1))),
        "Keras, activations given as layers": partial(
            _saved, _with(lambda: kl.Conv2D(6, 3, activation=kl.LeakyReLU(0.1)))
        ),
        "Keras, MultiHeadAttention": partial(_saved, _attention),
        "Keras, x / 255": partial(
            _saved, partial(_functional, lambda x: x / 255.0), feed=lambda i: _as_keras_takes((3, 32, 32), i * 255)
        ),
        "Keras, preprocess_input of tf mode": partial(
            _saved,
            partial(_functional, lambda x: x / 127.5 - 1.0),
            feed=lambda i: _as_keras_takes((3, 32, 32), i * 255),
        ),
        "Keras, preprocess_input of caffe mode": partial(
            _saved,
            partial(_functional, keras.applications.resnet50.preprocess_input),
            feed=lambda i: _as_keras_takes((3, 32, 32), i * 255),
        ),
        "Keras, a mean of each channel taken off": partial(
            _saved,
            partial(_functional, lambda x: x - np.array([103.939, 116.779, 123.68], np.float32)),
            feed=lambda i: _as_keras_takes((3, 32, 32), i * 255),
        ),
        "Keras, greyscale without a channel axis": partial(
            _saved,
            partial(
                _sequential,
                kl.Flatten,
                partial(kl.Dense, 16, activation="relu"),
                partial(kl.Dense, CLASSES, activation="softmax"),
                shape=(28, 28),
            ),
            feed=grey,
            shape=(1, 28, 28),
        ),
        "Keras, flat images": partial(
            _saved,
            partial(
                _sequential,
                partial(kl.Dense, 16, activation="relu"),
                partial(kl.Dense, CLASSES, activation="softmax"),
                shape=(784,),
            ),
            feed=flat,
            shape=(1, 28, 28),
        ),
        "Keras, images of any size": partial(_saved, _with(shape=(None, None, 3)), image_shape=(3, SIZE, SIZE)),
        "Keras MobileNetV2": partial(_saved, partial(_application, "MobileNetV2", alpha=0.35), shape=(3, 64, 64)),
        "Keras MobileNetV3Small": partial(
            _saved,
            partial(_application, "MobileNetV3Small"),
            feed=lambda i: _as_keras_takes((3, 64, 64), i * 255),
            shape=(3, 64, 64),
        ),
        "Keras EfficientNetB0": partial(
            _saved,
            partial(_application, "EfficientNetB0"),
            feed=lambda i: _as_keras_takes((3, 64, 64), i * 255),
            shape=(3, 64, 64),
        ),
        "Keras ConvNeXtTiny": partial(
            _saved,
            partial(_application, "ConvNeXtTiny"),
            feed=lambda i: _as_keras_takes((3, 64, 64), i * 255),
            shape=(3, 64, 64),
        ),
    }
    kinds = [Kind("Keras", name, make) for name, make in made.items()]
    return [*kinds, Kind("Keras", "Keras weights alone, --architecture factory", _weights)]
