"""Kinds of `reach.py`: ONNX files of torch's two exporters and of Keras."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from reach_corpus import CLASSES, SMALL, Held, Images, Kind, Outputs, Shape, normalised, spread_predictions
from reach_torch import Small


def _run(layout: str, mean: float, std: float, path: Path, images: Images) -> Outputs:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    fed = normalised(images, (mean,) * images.shape[1], (std,) * images.shape[1]).numpy()
    fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1) if layout == "NHWC" else fed)
    size = 1 if entry.shape[0] == 1 else len(fed)
    return np.concatenate([session.run(None, {entry.name: fed[i : i + size]})[0] for i in range(0, len(fed), size)])


def export(
    module: nn.Module, shape: Shape, path: Path, opset: int | None, batch: int | None = None, **options: Any
) -> None:
    """Write a module with torch's present exporter, or up to opset 17 with the one before."""
    images = torch.rand(batch or 2, *shape)
    with contextlib.redirect_stdout(io.StringIO()):
        if opset is not None:
            axes = None if batch else {"images": {0: "n"}, "scores": {0: "n"}}
            names = {"input_names": ["images"], "output_names": ["scores"], "dynamic_axes": axes}
            torch.onnx.export(module, (images,), path, dynamo=False, opset_version=opset, **names)
        else:
            free = None if batch else ({0: torch.export.Dim("n")},)
            torch.onnx.export(module, (images,), path, dynamo=True, dynamic_shapes=free, verbose=False, **options)


def _exported(
    make: Callable[[], tuple[nn.Module, Shape]],
    opset: int | None,
    folder: Path,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    **options: Any,
) -> Held:
    torch.manual_seed(0)
    module, shape = make()
    logits = getattr(module, "logits", module)
    spread_predictions(module, logits, shape, lambda images: normalised(images.numpy(), (mean,) * 3, (std,) * 3))
    path = folder / "net.onnx"
    export(module, shape, path, opset, **{"external_data": False, **options} if opset is None else options)
    probabilities = getattr(module, "ending", "") == "softmax"
    return Held(path, partial(_run, "NCHW", mean, std), shape, probabilities=probabilities)


def _small(ending: str = "logits") -> tuple[nn.Module, Shape]:
    return Small(CLASSES, ending), SMALL


def _timm(name: str, size: int) -> tuple[nn.Module, Shape]:
    from goodnet.architectures.libraries import find_in_library

    build, _ = find_in_library(f"timm:{name}")
    return build(num_classes=CLASSES, image_shape=(3, size, size)), (3, size, size)


def _keras(folder: Path) -> Held:
    from goodnet.formats.keras import import_keras

    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.MaxPooling2D(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(
                CLASSES, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=30.0)
            ),
        ]
    )
    model(np.zeros((1, 32, 32, 3), np.float32))
    path = folder / "keras.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(path, format="onnx", verbose=False)
    return Held(path, partial(_run, "NHWC", 0.0, 1.0), SMALL, probabilities=True)


def onnx_kinds() -> list[Kind]:
    """Return the kinds of this module."""
    small = partial(_exported, _small)
    kinds = [
        Kind("ONNX", "ONNX of torch's exporter", partial(small, None)),
        Kind("ONNX", "ONNX with weights in a file beside it", partial(small, None, external_data=True)),
        Kind("ONNX", "ONNX of opset 13", partial(small, 13)),
        Kind("ONNX", "ONNX of opset 17", partial(small, 17)),
        Kind("ONNX", "ONNX for one image at a time", partial(small, 13, batch=1)),
        Kind("ONNX", "ONNX with a softmax at the end", partial(_exported, partial(_small, "softmax"), None)),
        Kind("ONNX", "ONNX of a network for -1..1", partial(small, None, mean=0.5, std=0.5)),
        Kind("ONNX", "ONNX of Keras", _keras),
    ]
    for name, size, opset in (
        ("resnet10t", 64, 13),
        ("mobilenetv3_small_050", 64, None),
        ("efficientnet_lite0", 64, 17),
        ("convnext_atto", 64, None),
        ("test_vit", 160, None),
    ):
        way = "torch's exporter" if opset is None else f"opset {opset}"
        kinds.append(Kind("ONNX", f"ONNX, timm {name}, {way}", partial(_exported, partial(_timm, name, size), opset)))
    return kinds
