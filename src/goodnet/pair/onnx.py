"""A GoodNet, or a network alone, as one ONNX file: written from the module, run by onnxruntime without torch's help.

A file is treated as hostile: a sandboxed process takes it apart, and onnxruntime gets a file of the same content that we have
written. The file's metadata (number of classes, image shape) is compared with what the graph does. A file that refers to other
files or to memory is refused.
"""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from goodnet.confinement.reading import can_confine
from goodnet.core.dataset import BATCH, Dataset
from goodnet.core.errors import MethodFailed, UnreadableModel, WrongShape
from goodnet.core.method import Progress, no_progress
from goodnet.core.one_line import describe_error, one_line
from goodnet.formats.confined_files import describe_walls, read_confined_onnx, take_onnx_content
from goodnet.formats.files import replacing, require_file
from goodnet.formats.json_texts import read_json
from goodnet.formats.one_reading import require_one_reading
from goodnet.formats.onnx_graphs import require_bounded
from goodnet.formats.onnx_networks import require_package
from goodnet.inference.predictions import require_fit
from goodnet.pair.deployment import (
    ENTRY,
    IMAGES,
    OPINIONS,
    SCORES,
    Deployed,
    DeployedCard,
    any_number,
    example_images,
    on_cpu,
    quiet_exporter,
    traced,
)
from goodnet.pair.refusal import PairPredictions

#: The largest difference between a file's scores and those of the network that it was made of, on random images.
_TOLERANCE = 1e-3
#: What a file calls the classes that can be refused, (N,) bool: the path of `RefusingPair.suspected` in `Deployed`.
_SUSPECTED = "network.suspected"
#: Bytes of a single weight up to which B and B' are compared: more than one ONNX file can hold.
_LARGEST_WEIGHT = 2**32
#: Where onnxruntime takes an address in memory for a file's name.
_MEMORY_TAG = b"_MEM_ADDR_"


def write_onnx(module: Deployed, card: DeployedCard, path: str | Path) -> Path:
    """Write an ONNX file and try it: it takes the place of `path` only if it gives the same scores as the module.

    Input `images` float32 (batch, ...) in the original's layout and range; outputs `scores`, and of a GoodNet
    `opinions`; the metadata entry "goodnet" is the card. Weights lie in the file.

    Raises:
        InvalidOption: the extra goodnet[onnx] is not installed.
        MethodFailed: the network has no ONNX counterpart, or the file gives other scores.
        UnwritableOutput: the path cannot be written.
    """
    for package in ("onnx", "onnx_ir", "onnxscript", "onnxruntime"):
        require_package(package)
    program = traced(module, card)
    with quiet_exporter():
        try:
            converted = torch.onnx.export(
                program,
                input_names=[IMAGES],
                output_names=module.outputs,
                dynamic_shapes=any_number(),
                verbose=False,
            )
        except Exception as error:
            raise MethodFailed(f"{card.name}: the network has no ONNX counterpart: {describe_error(error)}") from error
    model: Any = converted.model  # type: ignore[union-attr]
    # What B and B' have in common after their first difference is held once, too. (The pass that compares hashes
    # fails on weights that lie transposed in memory, as a transformer's do.)
    importlib.import_module("onnx_ir.passes.common").DeduplicateInitializersPass(size_limit=_LARGEST_WEIGHT)(model)
    # Torch notes where on this machine each operation came from; the file tells only what it is.
    for part in (model, model.graph, *model.graph, *model.graph.initializers.values()):
        part.metadata_props.clear()
    _move_weights_to_branches(model)
    model.metadata_props[ENTRY] = card.model_dump_json()
    with replacing(path) as temporary:
        converted.save(temporary, external_data=False)  # type: ignore[union-attr]
        _try_file(temporary, module, card)
    return Path(path)


def _move_weights_to_branches(model: Any) -> None:
    """Put each weight that only one branch of an If needs into that branch.

    onnxruntime lays out weights for its faster convolutions only where they lie in the graph of the operation: with
    those of B' outside, a VGG's B' took three times as long. What both networks need stays where it is.
    """
    for name, value in list(model.graph.initializers.items()):
        graphs = {use.node.graph for use in value.uses()}
        if model.graph in graphs or len(graphs) > 1:
            continue
        del model.graph.initializers[name]
        if graphs:
            graphs.pop().register_initializer(value)


def _try_file(path: Path, module: Deployed, card: DeployedCard) -> None:
    """Compare the file with the module on random images; with targets also as if all classes were, so that B' runs."""
    images = example_images(card, count=7, seed=1)
    module, content = on_cpu(module), path.read_bytes()
    for suspect_all in (False,) if card.targets is None else (False, True):
        if suspect_all:
            module.network.suspected.fill_(True)  # type: ignore[operator]
            content = _with_all_suspected(content)
        with torch.inference_mode():
            expected = module(images)[0].numpy()
        session = _open_session(content, path, threads=1)
        difference = float(np.abs(_run(session, [SCORES], images.numpy())[0] - expected).max())
        if not difference <= _TOLERANCE:
            raise MethodFailed(
                f"{card.name}: the ONNX file gives other scores than the network, they differ by {difference:.2g}; nothing was "
                "written"
            )


def _with_all_suspected(content: bytes) -> bytes:
    """Return a file's content with every class as a target."""
    onnx: Any = require_package("onnx")
    model = onnx.load_from_string(content)
    suspected = next(tensor for tensor in model.graph.initializer if tensor.name == _SUSPECTED)
    suspected.CopyFrom(onnx.numpy_helper.from_array(np.ones(suspected.dims, np.bool_), _SUSPECTED))
    return model.SerializeToString()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OnnxOutputs:
    """What a file says of n images: scores (n, N + 1) float32; opinions (n, 2) int64, the classes of B and of B'.

    The second opinion is -1 where B' was not asked: where B's class cannot be refused.
    """

    scores: npt.NDArray[np.float32]
    opinions: npt.NDArray[np.int64]


class OnnxGoodNet:
    """A GoodNet in one ONNX file.

    Args:
        path: the file that `goodnet export` wrote.
        threads: of onnxruntime; None takes one per core.
        spinning: whether threads that wait for work keep their cores busy: quicker for a program that has them to itself.
        confine: let a process of its own, which can reach nothing, read the file's bytes (docs/threat-model.md). `notes`
            say where none has.

    Raises:
        UnreadableModel: it is no ONNX file, refers to others, holds no GoodNet, or is not what it says.
        InvalidOption: the extra goodnet[onnx] is not installed.
    """

    def __init__(
        self, path: str | Path, *, threads: int | None = None, spinning: bool = True, confine: bool = True
    ) -> None:
        self.path = require_file(path, UnreadableModel)
        content, self.sha256, self.notes = _read_content(self.path, confine)
        self._session = _open_session(content, self.path, threads, spinning)
        self.card = _read_card(self._session, self.path)
        try:
            self._run_batch(np.zeros((2, *self.card.input_shape), np.float32))
        except MethodFailed as error:
            raise UnreadableModel(f"{self.path}: not what its card says, {error}; export it again") from error

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def classes(self) -> int:
        """N: the number of classes that B knows, and the class that means "refused"."""
        return self.card.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images, whatever the layout."""
        return self.card.image_shape

    @property
    def resizing(self) -> str | None:
        """How pictures of other sizes are brought to it, see `Classifier`; None: the file does not say."""
        return self.card.resizing

    def __call__(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return scores (n, N + 1), see `run`."""
        return self.run(images).scores

    def run(self, images: npt.NDArray[Any]) -> OnnxOutputs:
        """Return scores and opinions.

        Args:
            images: in the file's layout, (n, H, W, C) or (n, C, H, W): floats in its range, or
                uint8, plain pixels in 0..255 and RGB, which are normalised and reordered here.

        Raises:
            WrongShape: the images have another shape.
            MethodFailed: the file fails on them.
        """
        if images.ndim != 4 or images.shape[1:] != self.card.input_shape:
            raise WrongShape(
                f"{self.path.name} takes images (n, {', '.join(map(str, self.card.input_shape))}), {self.card.layout}, got "
                f"{images.shape}"
            )
        parts = [self._run_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        if not parts:
            return OnnxOutputs(np.zeros((0, self.classes + 1), np.float32), np.zeros((0, 2), np.int64))
        return OnnxOutputs(
            *(np.concatenate(item) for item in zip(*((p.scores, p.opinions) for p in parts), strict=True))
        )

    def _run_batch(self, images: npt.NDArray[Any]) -> OnnxOutputs:
        floats = np.ascontiguousarray(images, dtype=np.float32)
        if images.dtype == np.uint8 and self.card.input_range != "0..255":
            floats = np.ascontiguousarray(self.card.fed(torch.from_numpy(floats / np.float32(255))).numpy())
        scores, opinions = _run(self._session, [SCORES, OPINIONS], floats)
        expected = ((len(images), self.classes + 1), (len(images), 2))
        if (scores.shape, opinions.shape) != expected:
            raise MethodFailed(
                f"expected scores and opinions of shapes {expected}, got {(scores.shape, opinions.shape)}"
            )
        return OnnxOutputs(scores, opinions)

    def predict_all(self, dataset: Dataset, *, progress: Progress = no_progress) -> PairPredictions:
        """Return what B, B' and the GoodNet say of every image.

        Raises:
            WrongShape: the images have another size.
            UnreadableData: a label is none of the classes.
        """
        require_fit(self, dataset)
        found = []
        for number, batch in enumerate(dataset.batches(), start=1):
            images = batch.images.permute(0, 2, 3, 1) if self.card.layout == "NHWC" else batch.images
            found.append(self.run(self.card.fed(images).numpy()).opinions)
            progress(min(number * BATCH, len(dataset)), len(dataset))
        opinions = np.concatenate(found)
        return PairPredictions(opinions[:, 0], opinions[:, 1], self.classes, self.card.targets)


def _read_content(path: Path, confine: bool) -> tuple[bytes, str, tuple[str, ...]]:
    """Return the bytes that onnxruntime gets, the SHA-256 of the file, and notes on how it was read."""
    for package in ("onnx", "onnxruntime"):
        require_package(package)
    if confine and can_confine():
        file = read_confined_onnx(path)
        return take_onnx_content(file), file.sha256, describe_walls(confine, file)
    require_one_reading(path, UnreadableModel)
    content = path.read_bytes()
    return content, hashlib.sha256(content).hexdigest(), describe_walls(confine, None)


def _open_session(content: bytes, path: Path, threads: int | None, spinning: bool = True) -> Any:
    runtime = require_package("onnxruntime")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = threads or 0
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    if _MEMORY_TAG in content:
        raise UnreadableModel(f"{path}: refused, it refers to this program's memory; export the GoodNet again")
    require_bounded(content, path)
    # From bytes, and with an empty folder for what lies outside of them: nothing but this file is read.
    with tempfile.TemporaryDirectory() as empty:
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
        try:
            return runtime.InferenceSession(content, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:  # onnxruntime's exceptions have no root of their own.
            outside = ", it refers to another file" if "external data" in str(error).lower() else ""
            raise UnreadableModel(
                f"{path}: expected an ONNX file in one piece, but it is damaged or of another kind{outside}; goodnet export "
                "writes one"
            ) from error


def _read_card(session: Any, path: Path) -> DeployedCard:
    try:
        entry = session.get_modelmeta().custom_metadata_map.get(ENTRY)
        outputs = {item.name for item in session.get_outputs()}
    except UnicodeDecodeError as error:
        raise UnreadableModel(f"{path}: expected an ONNX file, but its names are no text; export it again") from error
    if entry is None or not {SCORES, OPINIONS} <= outputs:
        raise UnreadableModel(
            f"{path}: expected a GoodNet in ONNX, found a network without a guard; goodnet export GOODNET writes one"
        )
    try:
        read_json(entry)
        return DeployedCard.model_validate_json(entry, strict=True)
    except (ValueError, RecursionError) as error:
        raise UnreadableModel(
            f"{path}: the GoodNet's card is damaged or of another version: {_what_is_wrong(error)}; export it again"
        ) from error


def _what_is_wrong(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"as a whole: {describe_error(error)}"
    first = error.errors()[0]
    return one_line(f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {first['msg']}")


def _run(session: Any, outputs: list[str], images: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
    try:
        return session.run(outputs, {IMAGES: images})  # type: ignore[no-any-return]
    except Exception as error:  # onnxruntime's exceptions have no root of their own.
        raise MethodFailed(f"the network could not be run: {describe_error(error)}") from error
