"""Keras models with telling weights, and the comparison of what Keras and goodnet make of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras import layers as kl

from goodnet.core.classifier import Classifier
from goodnet.formats.keras import from_keras, read_keras

SHAPE = (9, 7, 3)
FIRST = "channels_first"
Layers = Callable[[], list[Any]]


def randomise(model: Any, seed: int = 0) -> Any:
    """Give every array of a model values with which a wrong order of axes, or a forgotten array, shows."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if hasattr(layer, "layers"):
            continue
        arrays = []
        for variable in layer.weights:
            positive = any(word in variable.name for word in ("variance", "gamma"))
            values = rng.uniform(0.3, 2, variable.shape) if positive else rng.normal(0, 0.4, variable.shape)
            arrays.append(np.asarray(variable) if "count" in variable.name else values)
        if arrays:
            layer.set_weights(arrays)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def sequential(layers: list[Any], shape: tuple[int, int, int] = SHAPE) -> Any:
    return randomise(keras.Sequential([keras.Input(shape), *layers]))


def images_for(model: Any, layout: str = "NHWC", count: int = 4) -> tuple[np.ndarray, torch.Tensor]:
    """Return the same images as the Keras model takes them and as the Classifier does."""
    nhwc = np.random.default_rng(5).random((count, *model.input_shape[1:]), dtype=np.float32)
    nchw = nhwc.transpose(0, 3, 1, 2) if layout == "NHWC" else nhwc
    return nhwc, torch.from_numpy(np.ascontiguousarray(nchw))


def logits_of(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))


def run(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return classifier(images).numpy()


def disturb(classifier: Classifier) -> None:
    """Change every parameter and every statistic."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in classifier.network.named_buffers():
            if "running" in name:
                buffer.add_(0.1 * torch.rand(buffer.shape, generator=generator))


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def check(model: Any, folder: Path, layout: str = "NHWC", suffixes: tuple[str, ...] = (".keras",)) -> Classifier:
    """Pin a model without a softmax: reading, and writing what was changed."""
    theirs, ours = images_for(model, layout)
    classifier = from_keras(model)
    assert classifier.layout == layout
    before = run(classifier, ours)
    close(before, logits_of(model, theirs))
    disturb(classifier)
    changed = run(classifier, ours)
    assert not list(classifier.network.parameters()) or np.abs(changed - before).max() > 1e-3
    for suffix in suffixes:
        path = classifier.save(folder / f"saved{suffix}")
        close(logits_of(keras.models.load_model(path, compile=False), theirs), changed)
        close(run(read_keras(path), ours), changed)
    return classifier


def merged(merge: Callable[[Any, Any], Any]) -> Any:
    images = keras.Input(SHAPE)
    left = kl.Conv2D(4, 3, padding="same", activation="relu")(images)
    right = kl.Conv2D(4, 1)(images)
    output = kl.Dense(3)(kl.Flatten()(merge(left, right)))
    return randomise(keras.Model(images, output))
