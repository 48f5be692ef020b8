"""A GoodNet of two Keras networks as one Keras model, of stock layers and operations: it loads without goodnet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodnet.core.classifier import Classifier, Layout
from goodnet.core.errors import InvalidOption, MethodFailed
from goodnet.formats.files import replacing
from goodnet.formats.keras import KerasSource, import_keras
from goodnet.pair.deployment import DeployedCard, example_images
from goodnet.pair.refusal import RefusingPair

#: The largest difference between the file's scores and those of the GoodNet, on random images.
_TOLERANCE = 1e-3


def write_keras_goodnet(
    original: Classifier, repaired: Classifier, rule: RefusingPair, card: DeployedCard, path: str | Path
) -> Path:
    """Write a `.keras` file whose one output is the scores (n, N + 1), and try it before it takes the place of `path`.

    Keras runs both networks as a whole: it has no notion of the layers that they share.

    Raises:
        InvalidOption: one of the two did not come from Keras, or does not end in a softmax or in logits.
        MethodFailed: the file gives other scores than the GoodNet.
        UnwritableOutput: the path cannot be written.
    """
    for network in (original, repaired):
        if not isinstance(network.source, KerasSource):
            raise InvalidOption(
                f"{network.name} is no Keras model with its architecture, and Keras can only hold its own layers; choose "
                "--format onnx or pt2"
            )
        if network.notes:
            raise InvalidOption(
                f"{network.name}: {'; '.join(network.notes)}; a Keras file cannot hold that; choose --format onnx or pt2"
            )
    if rule.tolerance > _MOST_TOLERANCE:
        raise InvalidOption(
            f"{card.name}: a tolerance of {rule.tolerance:.0f} logits is beyond what probabilities can tell, and a Keras file "
            "gives probabilities; choose --format onnx or pt2"
        )
    keras = import_keras()
    images = example_images(card, count=7, seed=1)
    networks = {"original": original, "repaired": repaired}
    model = _join(keras, [_probabilities(keras, n, name, images) for name, n in networks.items()], card, rule.tolerance)
    with replacing(path) as temporary:
        model.save(temporary)
        loaded = keras.models.load_model(temporary, compile=False, safe_mode=True)
        scores = _numpy(keras, loaded(images.numpy()))
        with torch.inference_mode():
            expected = rule(_in_torch_order(images, card.layout).to(original.device))[0].cpu().numpy()
        if not np.abs(scores - expected).max() <= _TOLERANCE:
            raise MethodFailed(f"{card.name}: the Keras file gives other scores than the GoodNet; nothing was written")
    return Path(path)


def _probabilities(keras: Any, network: Classifier, name: str, images: torch.Tensor) -> Any:
    """Return a network as a Keras model that ends in probabilities, whether it came with a softmax or without."""
    model = network.to_model()
    model = keras.Model(model.inputs[0], model.outputs[0], name=name)
    with torch.inference_mode():
        logits = network.network(_in_torch_order(images, network.layout).to(network.device)).cpu().numpy()
    if not np.allclose(_numpy(keras, model(images.numpy())), logits, atol=1e-3):
        return model
    return keras.Model(model.inputs[0], keras.layers.Softmax()(model.outputs[0]), name=name)


def _join(keras: Any, models: Sequence[Any], card: DeployedCard, tolerance: float) -> Any:
    """Return the model of B, B' and the rule."""
    ops = keras.ops
    images = keras.Input(card.input_shape, name="images")
    probabilities, other = (model(images) for model in models)
    chosen = ops.argmax(probabilities, axis=-1)
    if tolerance:
        # Logarithms of probabilities differ as logits do.
        other = ops.log(ops.maximum(other, _TINY)) + tolerance * ops.one_hot(chosen, card.classes)
    refused = ops.expand_dims(ops.cast(ops.not_equal(chosen, ops.argmax(other, axis=-1)), "float32"), -1)
    if card.targets is not None:
        # A matrix product looks up whether the class can be refused: its weights are saved, a constant would not be.
        suspected = keras.layers.Dense(1, use_bias=False, trainable=False, name="suspected")
        refused = refused * suspected(ops.one_hot(chosen, card.classes))
        kernel = np.zeros((card.classes, 1), np.float32)
        kernel[list(card.targets)] = 1
        suspected.set_weights([kernel])
    scores = ops.concatenate([probabilities * (1.0 - refused), refused], axis=-1)
    return keras.Model(images, scores, name="goodnet")


#: The least probability that float32 keeps apart from 0, and a margin of logits that is well above it.
_TINY, _MOST_TOLERANCE = 1e-37, 80.0


def _in_torch_order(images: torch.Tensor, layout: Layout) -> torch.Tensor:
    return images.permute(0, 3, 1, 2) if layout == "NHWC" else images


def _numpy(keras: Any, value: Any) -> Any:
    return np.asarray(keras.ops.convert_to_numpy(value))
