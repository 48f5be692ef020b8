"""Files that Keras 2 itself has written: its applications as a tutorial trains them, and operations between layers.

    pip install tensorflow-cpu tf_keras             # in an environment of its own
    python benchmarks/keras_2_files.py write DIR    # there
    python benchmarks/keras_2_files.py check DIR    # where goodnet is

`write` makes each network with random weights, saves it as .h5 and as .keras, and keeps what TensorFlow computes for a few
images. `check` reads every file, compares the outputs, saves it and reads it again. It prints the largest difference as a
share of the largest output; exit code 1 where one is above 1e-4.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Applications, the sides of their images, and whether they prepare their images themselves.
APPLICATIONS = {
    "mobilenet.MobileNet": (64, False),
    "mobilenet_v2.MobileNetV2": (64, False),
    "mobilenet_v3.MobileNetV3Small": (64, True),
    "efficientnet.EfficientNetB0": (64, True),
    "efficientnet_v2.EfficientNetV2B0": (64, True),
    "resnet50.ResNet50": (64, False),
    "resnet_v2.ResNet50V2": (64, False),
    "densenet.DenseNet121": (64, False),
    "inception_v3.InceptionV3": (96, False),
    "xception.Xception": (96, False),
    "vgg16.VGG16": (64, False),
    "nasnet.NASNetMobile": (96, False),
    "convnext.ConvNeXtTiny": (64, True),
    "regnet.RegNetX002": (64, True),
}
EQUAL = 1e-4


def operations(tf: Any) -> dict[str, Callable[[Any], Any]]:
    """Return what a network may begin with."""
    return {
        "reversed": lambda x: x[..., ::-1] / 255.0,
        "doubled": lambda x: 2.0 * (x / 255.0) - 1.0,
        "cast": lambda x: tf.cast(x, tf.float32) / 255.0,
        "bias": lambda x: tf.nn.bias_add(x, [-103.939, -116.779, -123.68]) / 100.0,
        "relu": lambda x: tf.nn.relu(x / 255.0 - 0.4),
        "resized": lambda x: tf.image.resize(x / 255.0, (24, 24)),
        "joined": lambda x: tf.concat([x / 255.0, x / 127.5], -1),
        "standardised": lambda x: (x - 127.5) / [58.0, 57.0, 57.5],
        "inverted": lambda x: (255.0 - x) / 255.0,
        "reshaped": lambda x: tf.reshape(x / 255.0, (-1, 32, 32, 3)),
    }


def networks() -> Iterator[tuple[str, Any]]:
    """Yield networks by name; each application behind augmentation and its own preprocess_input, with a head of its own."""
    import tensorflow as tf
    import tf_keras as keras

    layers = keras.layers
    for name, operation in operations(tf).items():
        images = keras.Input((32, 32, 3))
        maps = layers.Conv2D(6, 3, activation="relu")(operation(images))
        yield name, keras.Model(images, layers.Dense(4)(layers.GlobalAveragePooling2D()(maps)))
    for name, (side, prepared) in APPLICATIONS.items():
        module, kind = (getattr(keras.applications, part) for part in name.split("."))
        base = kind(include_top=False, weights=None, input_shape=(side, side, 3))
        images = keras.Input((side, side, 3))
        turned = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.2)])(images)
        maps = base(turned if prepared else module.preprocess_input(turned), training=False)
        features = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(maps))
        yield name.split(".")[1], keras.Model(images, layers.Dense(5)(features))
        keras.backend.clear_session()


def write(folder: Path) -> None:
    for name, model in networks():
        rng = np.random.default_rng(0)
        for weight in model.weights:
            # Statistics and biases are 0 and 1 in a fresh network, where a mistake would not show.
            if "variance" in weight.name or "gamma" in weight.name:
                weight.assign(1 + 0.2 * rng.random(weight.shape))
            elif len(weight.shape) < 2 and weight.dtype.is_floating:
                weight.assign(0.05 * rng.normal(size=weight.shape))
        images = (rng.random((3, *model.input_shape[1:])) * 255).astype(np.float32)
        np.savez(folder / f"{name}.npz", images=images, outputs=model(images, training=False).numpy())
        for ending in ("h5", "keras"):
            try:
                model.save(folder / f"{name}.{ending}")
            except TypeError as error:  # Keras 2 cannot write an ellipsis into .keras
                print(f"{name}.{ending}: not written, {str(error)[:60]}")


def check(folder: Path) -> None:
    import torch

    from goodnet.formats.networks import read_network

    worst = 0.0
    for path in sorted((*folder.glob("*.h5"), *folder.glob("*.keras"))):
        known = np.load(path.with_suffix(".npz"))
        images = torch.from_numpy(known["images"].transpose(0, 3, 1, 2).copy())
        classifier = read_network(path)
        again = read_network(classifier.save(folder / "again" / path.name))
        with torch.inference_mode():
            found = [network(images).numpy() for network in (classifier, again)]
        largest = max(float(np.abs(item - known["outputs"]).max() / np.abs(known["outputs"]).max()) for item in found)
        print(f"{path.name}: {largest:.1e}", flush=True)
        worst = max(worst, largest)
    sys.exit(0 if worst <= EQUAL else 1)


if __name__ == "__main__":
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "CUDA_VISIBLE_DEVICES": ""}
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
