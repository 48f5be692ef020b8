"""DeepID as the Keras model that it is in the contest; `architectures/deepid.py` is its torch counterpart."""

from __future__ import annotations

from typing import Any

from goodnet.formats.keras import import_keras


def build_keras(classes: int, seed: int = 0) -> Any:
    """Return the contest's DeepID as a Keras model with fresh weights, images (55, 47, 3), softmax at the end.

    Layer names and order are those of the contest's `.h5` files.
    """
    keras = import_keras()
    layers = keras.layers

    def fresh() -> Any:
        return keras.initializers.GlorotUniform(seed=seed)

    def conv(filters: int, size: int, name: str) -> Any:
        return layers.Conv2D(filters, size, activation="relu", kernel_initializer=fresh(), name=name)

    images = keras.Input((55, 47, 3), name="input")
    values = images
    for number, (filters, size) in enumerate([(20, 4), (40, 3), (60, 3)], start=1):
        values = layers.MaxPooling2D(2, name=f"pool_{number}")(conv(filters, size, f"conv_{number}")(values))
    deeper = layers.Flatten(name="flatten_2")(conv(80, 2, "conv_4")(values))
    features = layers.Add(name="add_1")(
        [
            layers.Dense(160, kernel_initializer=fresh(), name="fc_1")(layers.Flatten(name="flatten_1")(values)),
            layers.Dense(160, kernel_initializer=fresh(), name="fc_2")(deeper),
        ]
    )
    features = layers.Activation("relu", name="activation_1")(features)
    output = layers.Dense(classes, activation="softmax", kernel_initializer=fresh(), name="output")(features)
    return keras.Model(images, output, name="deepid")
