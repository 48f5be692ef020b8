"""What plain Keras predicts, to compare the verbs with."""

import keras
import numpy as np

from goodnet.formats.data import read_data


def plain_classes(path, data):
    """What plain Keras predicts, for a network that takes 0..1."""
    pixels = np.ascontiguousarray(read_data(data).images().numpy().transpose(0, 2, 3, 1))
    return keras.models.load_model(path, compile=False).predict(pixels, verbose=0).argmax(axis=1)
