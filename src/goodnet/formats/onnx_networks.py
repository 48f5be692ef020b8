"""ONNX files of classifiers <-> `Classifier`: the graph in torch, compared with onnxruntime before anything else happens.

The converters that are kept up were tried first on files of torch's two exporters (benchmarks/reach.py): onnx2torch 1.5
knows no operators of torch's present exporter, onnx2pytorch 0.6 gives a graph that cannot be taken apart, and both fail where
two layers share an initializer and need a torchvision that fits torch.

A file is hostile until shown otherwise: it is bytes until checked, weights outside it are read only from plain files
beside it, and a graph that computes something else than onnxruntime says is refused.
"""

from __future__ import annotations

import copy
import importlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from goodnet.core.classifier import Classifier, Layout
from goodnet.core.errors import InvalidOption, UnknownImageSize, UnreadableModel, UnwritableOutput
from goodnet.core.one_line import describe_error, one_line
from goodnet.formats.files import replacing
from goodnet.formats.onnx_lowering import Lowering, Weight
from goodnet.formats.onnx_operators import UnsupportedOperator
from goodnet.formats.shown_paths import show_path

#: The largest difference of two outputs that are called equal, as a share of the largest output.
_TOLERANCE = 1e-3
_CHANNELS = (1, 3)
#: Weights that layers share may be copied up to this many times the size of all.
_MOST_COPIES = 8
#: Where onnxruntime takes an address in memory for a file's name.
_MEMORY_TAG = "_MEM_ADDR_"


def read_onnx_network(
    path: Path, image_shape: tuple[int, int, int] | None = None, read: Callable[[], bytes] | None = None
) -> Classifier:
    """Read the classifier in an ONNX file.

    Args:
        path: the file; weights may lie in plain files beside it.
        image_shape: (C, H, W), for files that leave the size open.
        read: gives the file's bytes; None reads the file here.

    Raises:
        UnreadableModel: the file is damaged or hostile, has an operator without counterpart, or computes something else.
        UnknownImageSize: it leaves the size open and none is given.
        InvalidOption: the extra goodnet[onnx] is not installed.
    """
    onnx = require_package("onnx")
    from goodnet.formats.onnx_trees import parse_graph  # it needs that package

    # Nothing else holds the bytes, which are as many as the weights.
    model = parse_graph((read or path.read_bytes)(), path)
    _bring_weights_in(onnx, model, path)
    _unshare_weights(model, path)
    entry = _image_input(path, model)
    layout, shape = _image_shape(path, entry, image_shape)
    lowering, network = _lower(onnx, path, model, entry.name, layout)
    _compare(path, model, network, layout, shape)
    source = OnnxSource(model.SerializeToString(), lowering.weights)
    return Classifier(network, image_shape=shape, layout=layout, source=source, name=show_path(path.name))


def _bring_weights_in(onnx: Any, model: Any, path: Path) -> None:
    """Read weights that lie in files beside the graph into it."""
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {item.key: item.value for item in tensor.external_data}
        tensor.raw_data = _read_beside(path, entries)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _read_beside(path: Path, entries: Mapping[str, str]) -> bytes:
    """Return a part of a plain file in the graph's folder; links of either kind are refused, they may lead anywhere."""
    name = entries.get("location", "")
    if not name or Path(name).name != name or "\\" in name or _MEMORY_TAG in name:
        raise UnreadableModel(
            f"{path}: refused, '{show_path(name)[:60]}' is no plain name of a file beside it; export it as one file"
        )
    try:
        handle = os.open(path.parent / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(handle)
            start, length = int(entries.get("offset", 0)), int(entries.get("length", facts.st_size))
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise UnreadableModel(f"{path}: refused, its weights '{name}' are a link; export it as one file")
            if start < 0 or length < 0 or start + length > facts.st_size:
                raise UnreadableModel(f"{path}: its weights '{name}' are cut; export it again")
            file.seek(start)
            return file.read(length)
    except (OSError, ValueError) as error:
        raise UnreadableModel(
            f"{path}: its weights '{show_path(name)}' cannot be read beside it ({describe_error(error)}); copy both files"
        ) from error


def _unshare_weights(model: Any, path: Path) -> None:
    """Give each use of a weight a copy of its own: exporters store equal weights once, and a repair makes them differ."""
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    room = _MOST_COPIES * sum(tensor.ByteSize() for tensor in known.values())
    alike: dict[str, str] = {}
    for node in [node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in {*known, *alike}]:
        alike[node.output[0]] = alike.get(node.input[0], node.input[0])
        model.graph.node.remove(node)
    used: set[str] = set()
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            own = alike.get(name, name)
            if own in used:
                room -= known[own].ByteSize()
                if room < 0:
                    raise UnreadableModel(
                        f"{path}: refused, its layers share weights thousands of times; export it again"
                    )
                twin = model.graph.initializer.add()
                twin.CopyFrom(known[own])
                twin.name = f"{own}/{len(model.graph.initializer)}"
                own = twin.name
            elif own in known:
                used.add(own)
            node.input[place] = own


def _image_input(path: Path, model: Any) -> Any:
    known = {tensor.name for tensor in model.graph.initializer}
    entries = [item for item in model.graph.input if item.name not in known]
    if len(entries) != 1:
        raise UnreadableModel(f"{path}: expected a graph that takes images alone, got {len(entries)} inputs")
    return entries[0]


def _image_shape(path: Path, entry: Any, given: tuple[int, int, int] | None) -> tuple[Layout, tuple[int, int, int]]:
    """Return layout and (C, H, W) of the images; sizes that the file leaves open are those given."""
    sizes = [item.dim_value if item.HasField("dim_value") else 0 for item in entry.type.tensor_type.shape.dim]
    if len(sizes) != 4:
        raise UnreadableModel(
            f"{path}: expected an image classifier, whose input has 4 axes (n, C, H, W) or (n, H, W, C), got {len(sizes)}"
        )
    layout: Layout = "NHWC" if sizes[3] in _CHANNELS and sizes[1] not in _CHANNELS else "NCHW"
    c, h, w = (sizes[3], sizes[1], sizes[2]) if layout == "NHWC" else sizes[1:]
    if given is not None:
        c, h, w = (own or theirs for own, theirs in zip((c, h, w), given, strict=True))
    if not (c and h and w):
        raise UnknownImageSize(f"{path}: the file leaves the size of its images open; give it with --image-shape C,H,W")
    return layout, (c, h, w)


def _lower(onnx: Any, path: Path, model: Any, image: str, layout: Layout) -> tuple[Lowering, fx.GraphModule]:
    constants = {item.name: _tensor(onnx, path, item) for item in model.graph.initializer}
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    lowering = Lowering(constants, frozenset(constants), opset)
    images = lowering.graph.placeholder("images")
    if layout == "NHWC":
        images = lowering.graph.call_method("permute", (images, 0, 2, 3, 1))
    lowering.values[image] = images
    one_image = _fixed_batch(model, image)
    for number, node in enumerate(model.graph.node):
        options = {item.name: _attribute(onnx, path, item) for item in node.attribute}
        if node.op_type == "Constant":
            lowering.constants[node.output[0]] = _constant(path, options)
            continue
        if one_image and node.op_type == "Reshape":
            _free_batch(lowering, list(node.input))
        try:
            if node.domain not in ("", "ai.onnx"):
                raise UnsupportedOperator(f"operator {node.domain}.{node.op_type}")
            lowering.add(number, node.op_type, list(node.input), list(node.output), options)
        except UnsupportedOperator as error:
            raise UnreadableModel(
                f"{path}: {error} is not supported; give the file that this one was exported from, or open an issue"
            ) from error
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise UnreadableModel(
                f"{path}: operator {one_line(node.op_type)[:40]} cannot be understood ({describe_error(error)}); export it again"
            ) from error
    try:
        lowering.graph.output(lowering.value(model.graph.output[0].name))
    except (UnsupportedOperator, IndexError) as error:
        raise UnreadableModel(
            f"{path}: expected a graph whose first output something computes; export it again ({describe_error(error)})"
        ) from error
    network = fx.GraphModule(lowering.modules, lowering.graph)
    network.graph.eliminate_dead_code()
    network.recompile()
    return lowering, network.eval()


def _fixed_batch(model: Any, image: str) -> bool:
    """Whether a graph was made for one image at a time."""
    entry = next(item for item in model.graph.input if item.name == image)
    return bool(entry.type.tensor_type.shape.dim[0].dim_value == 1)


def _free_batch(lowering: Lowering, inputs: list[str]) -> None:
    """Let a reshape that was fixed for one image keep the number of images: 0 instead of the leading 1 of its shape."""
    shape = lowering.constants.get(inputs[1])
    if shape is not None and shape.ndim == 1 and len(shape) > 1 and int(shape[0]) == 1 and inputs[0] in lowering.values:
        lowering.constants[inputs[1]] = torch.cat([torch.zeros(1, dtype=shape.dtype), shape[1:]])


def _tensor(onnx: Any, path: Path, item: Any) -> Tensor:
    if item.data_location == onnx.TensorProto.EXTERNAL:
        raise UnreadableModel(f"{path}: refused, a constant of its graph lies in another file; export it as one file")
    try:
        array = onnx.numpy_helper.to_array(item)
    except Exception as error:  # whatever a stranger's sizes make numpy do
        raise UnreadableModel(f"{path}: the weight '{one_line(item.name)[:40]}' is damaged; export it again") from error
    tensor = torch.from_numpy(np.array(array))
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
        raise UnreadableModel(f"{path}: expected finite weights, found NaN; the file is damaged or its training failed")
    return tensor


def _attribute(onnx: Any, path: Path, item: Any) -> Any:
    if item.name == "to":
        return getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(item.i)))
    kind = onnx.AttributeProto
    if item.type == kind.TENSOR:
        return _tensor(onnx, path, item.t)
    if item.type == kind.STRING:
        return item.s.decode("utf-8", "replace")
    if item.type in (kind.INT, kind.FLOAT):
        return item.i if item.type == kind.INT else item.f
    if item.type in (kind.INTS, kind.FLOATS):
        return list(item.ints if item.type == kind.INTS else item.floats)
    return None


def _constant(path: Path, options: Mapping[str, Any]) -> Tensor:
    value = next(iter(options.values()), None)
    if value is None or isinstance(value, str):
        raise UnreadableModel(f"{path}: expected constants that are numbers, got others; export it again")
    return value if isinstance(value, Tensor) else torch.tensor(value)


def _compare(path: Path, model: Any, network: nn.Module, layout: Layout, shape: tuple[int, int, int]) -> None:
    """Compare the graph in torch with onnxruntime on images in 0..1, in -1..1 and in 0..255.

    Raises:
        UnreadableModel: they differ.
    """
    noise = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    images = torch.cat([noise, 2 * noise - 1, 255 * noise])
    try:
        with torch.inference_mode():
            ours = network(images)
            ours = torch.cat([ours, network(images[:1])]).numpy()
        theirs = run_with_onnxruntime(model.SerializeToString(), torch.cat([images, images[:1]]), layout)
    except UnreadableModel:
        raise
    except Exception as error:  # of torch or onnxruntime, on a stranger's graph
        raise UnreadableModel(
            f"{path}: the graph does not run on several images of shape {shape} (C, H, W): {describe_error(error)}; export it "
            "with an open number of images (dynamic_axes), or check --image-shape"
        ) from error
    if ours.shape != theirs.shape:
        raise UnreadableModel(
            f"{path}: goodnet's translation gives outputs of shape {ours.shape}, onnxruntime gives {theirs.shape}; give the file "
            "that this one was exported from"
        )
    difference = float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
    if not difference <= _TOLERANCE:
        raise UnreadableModel(
            f"{path}: goodnet's translation does not match onnxruntime (relative difference of the outputs {difference:.2g}), so "
            "the file is not used; give the file that it was exported from"
        )


def run_with_onnxruntime(content: bytes, images: Tensor, layout: Layout) -> npt.NDArray[np.float32]:
    """Return a graph's first output for images (n, C, H, W) in its own range, run one by one where it takes one alone."""
    runtime = require_package("onnxruntime")
    settings = runtime.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 4, 1
    session = runtime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    fed = (images.permute(0, 2, 3, 1) if layout == "NHWC" else images).contiguous().numpy()
    kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
    fed = fed.astype(kinds.get(entry.type, np.float32))
    size = 1 if entry.shape and entry.shape[0] == 1 else len(fed)
    parts = [session.run(None, {entry.name: fed[i : i + size]})[0] for i in range(0, len(fed), size)]
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class OnnxSource:
    """Writes a network back as the ONNX file that it came from, with other weights; all else of the graph stays.

    `content` is the file with its weights inside; `weights` is where each of them lies in the network.
    """

    content: bytes
    weights: Mapping[str, Weight]

    @property
    def suffix(self) -> str:
        """The ending of ONNX files."""
        return ".onnx"

    def write(self, network: nn.Module, path: Path) -> None:
        """Write an ONNX file in one piece.

        Raises:
            UnwritableOutput: a weight has grown beyond what its type can hold.
        """
        onnx = require_package("onnx")
        model = onnx.load_model_from_string(self.content)
        values = dict(network.named_parameters()) | dict(network.named_buffers())
        for tensor in model.graph.initializer:
            weight = self.weights.get(tensor.name)
            if weight is None or weight.name not in values:
                continue
            new = values[weight.name].detach().cpu().float()
            _replace(onnx, tensor, (new.T if weight.transposed else new).numpy(), path)
        with replacing(path) as temporary:
            temporary.write_bytes(model.SerializeToString())

    def rebuild(self, network: nn.Module) -> nn.Module:
        """Return the graph in torch with these weights, a softmax at the end left out."""
        return copy.deepcopy(network).eval()


def _replace(onnx: Any, tensor: Any, values: npt.NDArray[np.float32], path: Path) -> None:
    old = onnx.numpy_helper.to_array(tensor)
    if np.array_equal(old.astype(np.float32), values):
        return
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(values.reshape(old.shape)).astype(old.dtype)
    if not np.isfinite(stored.astype(np.float32)).all():
        raise UnwritableOutput(
            f"{path}: '{show_path(tensor.name)}' has grown beyond what the file's {old.dtype} can hold; export the original in "
            "float32 and repair that"
        )
    tensor.CopyFrom(onnx.numpy_helper.from_array(stored, tensor.name))


def require_package(package: str) -> Any:
    """Return a package of the extra goodnet[onnx].

    Raises:
        InvalidOption: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InvalidOption(
            f"ONNX files need the package {package}, which is not installed: pip install 'goodnet[onnx]'"
        ) from error
