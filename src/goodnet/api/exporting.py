"""`export`: a GoodNet, or a network alone, as one file that runs without goodnet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from pydantic import ValidationError

from goodnet.api.loading import open_goodnet, open_network
from goodnet.core.classifier import Classifier
from goodnet.core.errors import InvalidOption, UnwritableOutput
from goodnet.core.given import refuse_given
from goodnet.core.preprocessing import InputRange
from goodnet.core.reading import Reading
from goodnet.formats.files import output_folder
from goodnet.formats.live_networks import ModelLike
from goodnet.pair.deployment import Deployed, DeployedCard, write_pt2
from goodnet.pair.goodnet import GoodNet
from goodnet.pair.keras_goodnet import write_keras_goodnet
from goodnet.pair.onnx import write_onnx

Format = Literal["onnx", "pt2", "keras"]


def export(
    model: GoodNet | ModelLike,
    *,
    out: str | Path,
    format: Format = "onnx",
    class_names: Sequence[str] | None = None,
    reading: Reading = Reading(),
) -> Path:
    """Write one file that gives the same scores as the GoodNet; layers that B and B' share run once in it.

    Args:
        model: a GoodNet, or the folder that holds one; or a network alone, whose scores are its N probabilities.
        out: the file to write; its extension must match `format`.
        format: "onnx"; "pt2" (`torch.export.load`); "keras", for GoodNets of two Keras networks.
        class_names: one per class, for whoever reads the predictions.
        reading: how to read GoodNet or network; its `input_range` is needed where they do not know it.

    Returns:
        The path. The file takes images float32 (batch, H, W, C) or (batch, C, H, W), as the original does, in its
        range, and gives scores (batch, N + 1); in ONNX and pt2 also `opinions` (batch, 2), the classes of B and B'. With
        targets, those two files run B' only where B sends an image of the batch to a target: elsewhere its opinion is
        -1, and an ordinary image takes the time of B alone.

    Raises:
        InvalidOption: the input range is not known, a format cannot hold this network, or its package is missing.
        MethodFailed: the network has no counterpart in the format.
        UnwritableOutput: the path cannot be written, or has another ending.
    """
    _check_output(Path(out), format)
    refuse_given(reading, "export", "strict")
    found = _open(model, reading)
    original = found.original if isinstance(found, GoodNet) else found
    known = found.range_known if isinstance(found, GoodNet) else isinstance(model, Classifier)
    input_range = _choose_range(original, reading, known=known)
    targets = found.targets if isinstance(found, GoodNet) else None
    card = _card(original, targets, input_range, reading.resize or original.resizing, class_names)
    if format == "keras":
        if not isinstance(found, GoodNet):
            raise InvalidOption(
                f"{original.name}: --format keras works only for GoodNets; a plain network is exported as onnx or pt2"
            )
        return write_keras_goodnet(found.original, found.repaired, found.module, card, out)
    if isinstance(found, GoodNet):
        module = Deployed(found.module, original.layout, guarded=True)
    else:
        module = Deployed(original.network, original.layout, guarded=False)
    return write_onnx(module, card, out) if format == "onnx" else write_pt2(module, card, out)


def _check_output(out: Path, format: str) -> None:
    if format not in get_args(Format):
        raise InvalidOption(f"expected a format out of {', '.join(get_args(Format))}, got '{format}'")
    if out.suffix.lower() != f".{format}":
        raise UnwritableOutput(f"{out}: expected a file that ends in .{format}, since the format is {format}")
    if out.is_dir():
        raise UnwritableOutput(f"{out}: expected a file to write to, found a folder")
    output_folder(out.parent)  # Better refused now than after the work.


def _open(model: GoodNet | ModelLike, reading: Reading) -> GoodNet | Classifier:
    if isinstance(model, GoodNet) or (isinstance(model, str | Path) and Path(model).is_dir()):
        return cast(GoodNet, open_goodnet(model, reading))  # Of a folder it is no ONNX file.
    return open_network(model, reading)


def _choose_range(original: Classifier, reading: Reading, *, known: bool) -> InputRange:
    if reading.input_range != "auto":
        return reading.input_range
    if not known:
        raise InvalidOption(
            f"{original.name}: the input range is not known; say in which range it was trained: --input-range 0..1, ..."
        )
    return original.input_range


def _card(
    original: Classifier,
    targets: tuple[int, ...] | None,
    input_range: InputRange,
    resizing: str | None,
    class_names: Sequence[str] | None,
) -> DeployedCard:
    try:
        return DeployedCard(
            name=original.name,
            classes=original.classes,
            image_shape=original.image_shape,
            layout=original.layout,
            input_range=input_range,
            targets=targets,
            class_names=None if class_names is None else tuple(class_names),
            resizing=resizing,
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidOption(f"{original.name}: {reason}") from error
