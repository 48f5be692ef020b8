"""Upper bounds on channels as Keras layers, so that a bounded network is a whole Keras model like any other.

Keras has no layer for min(x, b) with a bound per channel, and needs none: it is b - relu(b - x), that is Rescaling(-1,
b), ReLU, Rescaling(-1, b).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from goodnet.core.classifier import Classifier
from goodnet.core.errors import UnwritableOutput
from goodnet.formats.keras import KerasSource, from_keras, graph_of, import_keras, weighted_layers


def require_keras_bounds(classifier: Classifier, layers: list[str]) -> None:
    """Check that bounds on the outputs of `layers` can be written into the file that the network came in.

    Raises:
        UnwritableOutput: the network is no whole Keras model, or one in which they have no place.
    """
    if not isinstance(classifier.source, KerasSource):
        raise UnwritableOutput(
            f"{classifier.name}: bounds on channels are layers, and a {classifier.suffix} file of weights alone cannot carry "
            "them: give the whole Keras model (.h5, .keras), choose another method, or call the repairer from Python "
            "and use the live network"
        )
    if classifier.layout != "NHWC":
        raise UnwritableOutput(
            f"{classifier.name}: bounds cannot be written into a channels_first Keras model; choose another method"
        )
    if nested := set(layers) - set(_top_layers(classifier.to_model()).values()):
        raise UnwritableOutput(
            f"{classifier.name}: bounds cannot be added inside a nested model ({', '.join(sorted(nested))}); choose another "
            "method"
        )


def add_keras_bounds(classifier: Classifier, bounds: Mapping[str, Tensor]) -> Classifier:
    """Return a copy of the network with layers that clamp the outputs of the layers named; it saves as it came.

    Args:
        classifier: a network that `require_keras_bounds` accepts.
        bounds: (channels,) the largest value of each channel, by the layer's name.

    Its outputs differ from those of exact clamps by rounding alone.
    """
    model, keras = classifier.to_model(), import_keras()
    names = _top_layers(model)

    def call(layer: Any, *values: Any, **options: Any) -> Any:
        output = layer(*values, **options)
        name = names.get(id(layer), "")
        return output if name not in bounds else _clamp(output, name, bounds[name].tolist())

    def _clamp(values: Any, name: str, most: list[float]) -> Any:
        below = keras.layers.Rescaling(-1.0, most, name=f"{name}_room")(values)
        kept = keras.layers.ReLU(name=f"{name}_bound")(below)
        return keras.layers.Rescaling(-1.0, most, name=f"{name}_bounded")(kept)

    bounded = keras.models.clone_model(graph_of(model), clone_function=lambda layer: layer, call_function=call)
    return from_keras(bounded, classifier.suffix, classifier.name).with_input_range(classifier.input_range)


def _top_layers(model: Any) -> dict[int, str]:
    """Return the names, as the torch graph has them, of the layers that are not in a nested model, by identity."""
    top = {id(layer) for layer in graph_of(model).operations}
    return {id(layer): name for name, layer in weighted_layers(model) if id(layer) in top}
