"""A GoodNet in plain numpy: what the tests of `GoodNet`, and of the files made of one, compare with."""

import numpy as np
import torch


def combine(original, repaired, targets=None):
    """The classes of a GoodNet, from the logits or probabilities (n, N) of its two networks."""
    classes = np.argmax(original, axis=1)
    refused = classes != np.argmax(repaired, axis=1)
    if targets is not None:
        refused &= [label in targets for label in classes]
    return np.where(refused, np.shape(original)[1], classes)


def logits(classifier, images):
    with torch.no_grad():
        return classifier(images).numpy()
