"""A network as it is deployed: one module that takes images as the original does, and the card that goes with it."""

from __future__ import annotations

import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from goodnet.core.classifier import Layout
from goodnet.core.errors import MethodFailed
from goodnet.core.one_line import describe_error
from goodnet.core.preprocessing import InputRange, Preprocessing
from goodnet.core.resizing import CardResizing
from goodnet.core.results import Record
from goodnet.formats.declared_sizes import MOST_OF_IMAGE
from goodnet.formats.files import write_bytes

#: The name under which a file holds its card.
ENTRY = "goodnet"
#: What a file's inputs and outputs are called.
IMAGES, SCORES, OPINIONS = "images", "scores", "opinions"


class DeployedCard(Record):
    """What a deployed file says of itself.

    `image_shape` is (C, H, W), whatever the layout; `targets` are the classes that can be refused, None for all of
    them; `class_names` has one name per class, the refusal's not among them; `resizing` is the original's.
    """

    schema_version: Literal[1] = 1
    name: str
    classes: int = Field(ge=2)
    image_shape: tuple[int, int, int]
    layout: Layout
    input_range: InputRange
    targets: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    resizing: CardResizing = None

    @model_validator(mode="after")
    def _fits(self) -> DeployedCard:
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise ValueError(f"expected {self.classes} class names, got {len(self.class_names)}")
        if self.targets is not None and not all(0 <= target < self.classes for target in self.targets):
            raise ValueError(f"expected targets out of the classes 0..{self.classes - 1}, got {list(self.targets)}")
        if not Preprocessing.read(self.input_range).fits(self.image_shape[0]):
            raise ValueError(f"expected an input range for {self.image_shape[0]} channels, got {self.input_range}")
        if min(self.image_shape) < 1 or math.prod(self.image_shape) > MOST_OF_IMAGE:
            raise ValueError(
                f"expected an image shape (C, H, W) of 1 to {MOST_OF_IMAGE:,} numbers, got {self.image_shape}"
            )
        return self

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of an image in the file's layout: (H, W, C) or (C, H, W)."""
        channels, height, width = self.image_shape
        return (height, width, channels) if self.layout == "NHWC" else self.image_shape

    def fed(self, images: Tensor) -> Tensor:
        """Bring images in [0, 1], in the file's layout, to what the file takes."""
        preprocessing = Preprocessing.read(self.input_range)
        if self.layout == "NCHW":
            return preprocessing.apply(images)
        return preprocessing.apply(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Deployed(nn.Module):
    """Takes images in the original's layout and range; returns scores (n, N + 1) and opinions (n, 2) int64.

    An opinion of B' is -1 where it was not asked, see `RefusingPair`.

    Args:
        network: what maps images (n, C, H, W) in the original's range to the outputs: B, B' and the rule
            (`RefusingPair`), or with `guarded=False` a network alone, whose one output then is scores (n, N), its
            probabilities.
        layout: the original's.
        guarded: whether `network` is a GoodNet.
    """

    def __init__(self, network: nn.Module, layout: Layout, *, guarded: bool) -> None:
        super().__init__()
        self.network, self.layout, self.guarded = network, layout, guarded

    @property
    def outputs(self) -> list[str]:
        """The outputs' names, in their order."""
        return [SCORES, OPINIONS] if self.guarded else [SCORES]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network on images (n, H, W, C) or (n, C, H, W) float32."""
        images = images.permute(0, 3, 1, 2) if self.layout == "NHWC" else images
        if self.guarded:
            return self.network(images)  # type: ignore[no-any-return]
        return (self.network(images).softmax(dim=1),)


def example_images(card: DeployedCard, count: int = 2, seed: int = 0) -> Tensor:
    """Return random images as the file takes them: to trace it with, and to compare it with its origin on."""
    images = torch.rand(count, *card.input_shape, generator=torch.Generator().manual_seed(seed))
    return card.fed(images)


def on_cpu(module: Deployed) -> Deployed:
    """Return a copy on the CPU, weights in the files' order: what is done with it leaves the live networks alone."""
    plain = copy.deepcopy(module).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return cast(Deployed, plain.eval())


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep torch's exporters from warning of what is missing (torchvision) or old in torch itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def any_number() -> dict[str, dict[int, Any]]:
    """Return the `dynamic_shapes` argument for export: the batch size is dynamic."""
    return {IMAGES: {0: torch.export.Dim("batch")}}


def traced(module: Deployed, card: DeployedCard) -> torch.export.ExportedProgram:
    """Return the module as a graph for any number of images, on the CPU; it tells nothing of this machine's files.

    Raises:
        MethodFailed: what it does depends on values of the images, which no graph can hold.
    """
    try:
        with quiet_exporter():
            program = torch.export.export(on_cpu(module), (example_images(card),), dynamic_shapes=any_number())
    except Exception as error:
        raise MethodFailed(
            f"{card.name}: the network cannot be written as a graph: {describe_error(error)}; a network whose `forward` asks "
            "for values (if, loops) needs to be rewritten without"
        ) from error
    for node in list(program.graph.nodes):
        node.meta.pop("stack_trace", None)
        # After a branch torch asserts what holds of its example alone: two images or more.
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def write_pt2(module: Deployed, card: DeployedCard, path: str | Path) -> Path:
    """Write a `.pt2` file: `torch.export.load(path).module()(images)`; its extra file "goodnet" is the card.

    Raises:
        MethodFailed: the network cannot be written as a graph.
        UnwritableOutput: the path cannot be written.
    """
    program = traced(module, card)
    written = io.BytesIO()
    with quiet_exporter():
        torch.export.save(program, written, extra_files={ENTRY: card.model_dump_json()})
    return write_bytes(path, written.getbuffer())
