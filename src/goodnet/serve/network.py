"""`ServedNetwork`: an exported GoodNet, fed with pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from goodnet.pair.onnx import OnnxGoodNet, OnnxOutputs

Pixels = npt.NDArray[np.uint8]


class ServedNetwork:
    """An exported GoodNet: pictures (n, C, H, W) uint8 -> scores and opinions.

    Args:
        path: the file that `goodnet export` wrote.
        threads: of onnxruntime; None takes one per core.
        confine: as in `OnnxGoodNet`.

    Raises:
        UnreadableModel: it is no ONNX file, or no GoodNet, or does not run as its card says.
    """

    def __init__(self, path: str | Path, threads: int | None = None, *, confine: bool = True) -> None:
        # Waiting threads would otherwise burn the cores that take requests and unpack pictures.
        self._network = OnnxGoodNet(path, threads=threads, spinning=False, confine=confine)
        self.card = self._network.card
        self.sha256 = self._network.sha256

    def run(self, pixels: Pixels) -> OnnxOutputs:
        """Return what the network says of pictures (n, C, H, W) uint8.

        Raises:
            MethodFailed: the run failed, or gave other shapes than one row for each picture.
        """
        return self._network.run(pixels.transpose(0, 2, 3, 1) if self.card.layout == "NHWC" else pixels)
