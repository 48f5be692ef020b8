"""`Classifier`: one face for every framework. `Layer`: what can be seen, cut and changed inside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, fx, nn

from goodnet.core import graph
from goodnet.core.errors import InvalidOption, UnknownMethod, UnwritableOutput, WrongShape
from goodnet.core.logits import Logits, as_logits
from goodnet.core.one_line import describe_error
from goodnet.core.preprocessing import InputRange, Preprocessing

Layout = Literal["NCHW", "NHWC"]

#: Nodes that map 0 to 0 channel by channel: a channel that is zero before them is zero after them.
_KEEPS_ZERO = frozenset(
    {
        "relu",
        "relu_",
        "relu6",
        "elu",
        "celu",
        "selu",
        "gelu",
        "silu",
        "mish",
        "tanh",
        "leaky_relu",
        "leakyrelu",
        "prelu",
    }
    | {"hardswish", "hardtanh", "softsign", "dropout", "dropout2d", "identity", "contiguous", "zeropad2d"}
    | {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "maxpool2d", "avgpool2d"}
    | {"adaptiveavgpool2d", "adaptivemaxpool2d", "globalaveragepool2d", "globalmaxpool2d"}
)


class ModelSource(Protocol):
    """Where a network came from, and hence how it is written back."""

    @property
    def suffix(self) -> str:
        """The file name ending of the format."""

    def write(self, network: nn.Module, path: Path) -> None:
        """Write `network`'s weights to `path` in the format that it came in."""

    def rebuild(self, network: nn.Module) -> Any:
        """Return a live model of the framework that it came from, filled with `network`'s weights."""


@dataclass(frozen=True)
class Layer:
    """One step of a network.

    `name` as in the file it came from; `kind` the operation; `output_shape` without the batch dimension
    ((C, H, W) for feature maps); `parameters` the number of weights; `producer` the layer whose weights make
    this layer's channels, or None where channels cannot be silenced exactly.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    module: nn.Module | None = field(repr=False, compare=False)
    producer: nn.Module | None = field(repr=False, compare=False)

    @property
    def channels(self) -> int:
        """Number of output channels (features for a vector)."""
        return self.output_shape[0] if self.output_shape else 0

    @property
    def prunable(self) -> bool:
        """Whether single channels of this layer can be set to zero by changing weights alone."""
        return self.producer is not None and len(self.output_shape) in (1, 3) and self.channels > 1

    @property
    def is_pooling(self) -> bool:
        """Whether this layer is a pooling layer."""
        return "pool" in self.kind.lower()

    @property
    def weight(self) -> Tensor:
        """The layer's kernel as a view, outputs first."""
        weight = getattr(self.module, "weight", None)
        if not isinstance(weight, Tensor):
            raise UnknownMethod(f"layer '{self.name}' ({self.kind}) has no weight")
        return weight.data

    def silence(self, channels: Sequence[int]) -> None:
        """Set `channels` of this layer's output to zero for every input, by zeroing the weights that make them."""
        if self.producer is None:
            raise UnknownMethod(f"the channels of layer '{self.name}' ({self.kind}) cannot be silenced exactly")
        index = torch.as_tensor(list(channels), dtype=torch.long)
        with torch.no_grad():
            for name in ("weight", "bias"):
                parameter = getattr(self.producer, name, None)
                if isinstance(parameter, Tensor):
                    parameter[index.to(parameter.device)] = 0


class Classifier:
    """An image classifier: images (N, C, H, W) float32 in [0, 1] -> logits (N, classes).

    Args:
        network: the graph that computes logits from images in the network's own range, NCHW. Where it computes
            probabilities, or one number, it is changed so that logits come out, see `as_logits`.
        image_shape: (C, H, W).
        input_range: what is done to pixels in [0, 1] before they enter the network, a name of `Preprocessing.read`:
            the range that it was trained on, or a normalisation. `__call__` does it.
        layout: the layout in which the original took its images; the core is NCHW throughout.
        source: writes the weights back in the format they came in.
        name: for messages, usually the file name.
        architecture: the architecture's name, which a weights-only file needs to be opened again.
        notes: what was done to the network so that logits come out, in words; None finds out.
        resizing: how pictures of other sizes are brought to the network's, a text of `Resizing.read`; None: nobody says.
        class_names: the name of each class, where the network has them.

    Raises:
        WrongShape: the network does not give one row of at least two logits per image.
        InvalidOption: there is no such input range, or it is one for another number of channels.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        *,
        image_shape: tuple[int, int, int],
        input_range: InputRange = "0..1",
        layout: Layout = "NCHW",
        source: ModelSource | None = None,
        name: str = "network",
        architecture: str | None = None,
        notes: tuple[str, ...] | None = None,
        resizing: str | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        known = as_logits(network, image_shape) if notes is None else Logits(network, notes)
        self.notes = known.notes
        self.network = known.network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image_shape = image_shape
        self.input_range: InputRange = input_range
        self.layout: Layout = layout
        self.source = source
        self.name = name
        self.architecture = architecture
        self.resizing, self.class_names = resizing, class_names
        self.preprocessing = self._read_preprocessing(input_range)
        self.classes = self._count_classes()
        #: SHA-256 of the bytes from which it was read, where the reading took care that these and no others were read.
        self.sha256: str | None = None

    def _read_preprocessing(self, input_range: InputRange) -> Preprocessing:
        preprocessing = Preprocessing.read(input_range)
        if not preprocessing.fits(self.image_shape[0]):
            raise InvalidOption(
                f"{self.name}: the input range '{input_range}' does not go with images of {self.image_shape[0]} channels"
            )
        return preprocessing

    def _count_classes(self) -> int:
        try:
            with torch.no_grad():
                logits = self(torch.zeros(2, *self.image_shape, device=self.device))
        except Exception as error:
            raise WrongShape(
                f"{self.name}: the network does not take images of shape {self.image_shape} (C, H, W): {describe_error(error)}"
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != 2 or logits.shape[1] < 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise WrongShape(
                f"{self.name}: expected logits of shape (images, classes) with at least 2 classes, got {shape}"
            )
        return int(logits.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Classifier:
        """Move the weights to `device`, and with them every network that shares them; return self."""
        # In place: `nn.Module.to` alone would leave the buffers of networks cut out of this one where they were.
        for buffer in self.network.buffers():
            buffer.data = buffer.data.to(device)
        self.network.to(device)
        return self

    @property
    def parameters(self) -> int:
        """Number of weights that training changes."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def scale(self) -> float:
        """What an image in [0, 1] is multiplied by before it enters the network, on average over its channels."""
        return self.preprocessing.scale

    def prepare(self, images: Tensor) -> Tensor:
        """Bring images (N, C, H, W) in [0, 1] to the network's device, range and memory format."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise WrongShape(
                f"{self.name} takes images of shape {self.image_shape} (C, H, W), got {tuple(images.shape[1:])}"
            )
        images = images.to(self.device, torch.float32, memory_format=torch.channels_last)
        return self.preprocessing.apply(images)

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) for images (N, C, H, W) float32 in [0, 1]; gradients flow."""
        return self.network(self.prepare(images))  # type: ignore[no-any-return]

    def layers(self) -> list[Layer]:
        """Return the layers in the order in which they run."""
        shapes = self._shapes
        return [self._layer_at(node, shapes) for node in graph.compute_nodes(self.network) if node.name in shapes]

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`.

        Raises:
            UnknownMethod: there is none; the message lists those there are.
        """
        return self._layer_at(self._node(name), self._shapes)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return graph.output_shapes(self.network, torch.zeros(1, *self.image_shape, device=self.device))

    def _layer_at(self, node: fx.Node, shapes: dict[str, tuple[int, ...]]) -> Layer:
        module = self.network.get_submodule(str(node.target)) if node.op == "call_module" else None
        return Layer(
            name=graph.name_of(node),
            kind=graph.kind_of(self.network, node),
            output_shape=shapes[node.name],
            parameters=sum(p.numel() for p in module.parameters()) if module is not None else 0,
            module=module,
            producer=self._producer(node),
        )

    def _producer(self, node: fx.Node) -> nn.Module | None:
        """Walk back over nodes that keep zeros to the convolution or normalisation that makes the channels."""
        while True:
            module = self.network.get_submodule(str(node.target)) if node.op == "call_module" else None
            if module is not None and self._is_shared(node, module):
                return None
            if isinstance(module, nn.Conv2d):
                return module if keeps_zero(getattr(module, "activation", None)) else None
            if isinstance(module, nn.BatchNorm2d):
                return module if module.weight is not None else None
            if graph.kind_of(self.network, node).lower() not in _KEEPS_ZERO:
                return None
            inputs = node.all_input_nodes
            if not inputs or len(inputs[0].users) > 1:
                return None
            node = inputs[0]

    def _is_shared(self, node: fx.Node, module: nn.Module) -> bool:
        """Whether the weights of the module called at `node` make the channels of another layer too."""
        calls = [n for n in graph.compute_nodes(self.network) if n.op == "call_module" and n.target == node.target]
        return len(calls) > 1 and next(module.parameters(), None) is not None

    def _node(self, name: str) -> fx.Node:
        nodes = [node for node in graph.compute_nodes(self.network) if node.name in self._shapes]
        for node in nodes:
            if graph.name_of(node) == name:
                return node
        known = ", ".join(graph.name_of(node) for node in nodes)
        raise UnknownMethod(f"{self.name} has no layer '{name}'; its layers are: {known}")

    def split(self, layer: str) -> tuple[fx.GraphModule, fx.GraphModule]:
        """Cut after `layer`: (head, tail), see `graph.cut`. The head takes what `prepare` returns."""
        return graph.cut(self.network, self._node(layer))

    def features(self, images: Tensor, layer: str) -> Tensor:
        """Return the output of `layer` for images (N, C, H, W) in [0, 1]."""
        head, _ = self.split(layer)
        return head(self.prepare(images))[0]  # type: ignore[no-any-return]

    def copy(self) -> Classifier:
        """Return a classifier with weights of its own; what is done to it leaves this one as it is."""
        return self._with(copy.deepcopy(self.network), self.input_range)

    def with_input_range(self, input_range: InputRange) -> Classifier:
        """Return the same network (weights shared) read with another input range."""
        same = self._with(self.network, input_range)
        same.sha256 = self.sha256
        return same

    def with_resizing(self, resizing: str) -> Classifier:
        """Return the same network (weights shared), for which pictures of other sizes are resized in another way."""
        same = copy.copy(self)
        same.resizing = resizing
        return same

    def _with(self, network: fx.GraphModule, input_range: InputRange) -> Classifier:
        return Classifier(
            network,
            image_shape=self.image_shape,
            input_range=input_range,
            layout=self.layout,
            source=self.source,
            name=self.name,
            architecture=self.architecture,
            notes=self.notes,
            resizing=self.resizing,
            class_names=self.class_names,
        )

    @property
    def suffix(self) -> str:
        """The file name ending of the format that this network came in."""
        return self.source.suffix if self.source else ".safetensors"

    def save(self, path: str | Path) -> Path:
        """Write the network to `path` in the format that it came in and return the path.

        Raises:
            UnwritableOutput: the network was made in memory and has no format.
        """
        self._known_source().write(self.network, Path(path))
        return Path(path)

    def to_model(self) -> Any:
        """Return the network as a live model of the framework that it came from, with weights of its own.

        A Keras network (file or live model) gives a `keras.Model`, not compiled; any other an `nn.Module` of the
        class that it was, in evaluation mode. It takes images in the network's own range and layout; a softmax
        at the end of a Keras model is there again.

        Raises:
            UnwritableOutput: the network is a graph that goodnet made and has no other form.
        """
        return self._known_source().rebuild(self.network)

    def _known_source(self) -> ModelSource:
        if self.source is None:
            raise UnwritableOutput(
                f"{self.name} did not come from a file or a live model, so there is no format to bring it to"
            )
        return self.source


def keeps_zero(activation: object) -> bool:
    """Whether an activation (None: the identity) maps 0 to 0."""
    return activation is None or type(activation).__name__.lower() in _KEEPS_ZERO
