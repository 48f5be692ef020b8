"""`Reading`: how a network and its images are read."""

from __future__ import annotations

from dataclasses import dataclass

from goodnet.core.errors import InvalidOption
from goodnet.core.preprocessing import Preprocessing, RangeOption
from goodnet.core.resizing import ResizeOption, Resizing


@dataclass(frozen=True)
class Reading:
    """How a network and its images are read.

    A function that cannot use a field refuses it with `InvalidOption`, unless the field has its default.

    Attributes:
        architecture: of a file that holds weights alone: a name, or `package.module:factory`.
        image_shape: (C, H, W), where neither the file nor the architecture says it.
        input_range: the pixels that the network was trained on, a name of `Preprocessing.read`. "auto" keeps what the
            network says, or tries the usual ones on the clean images.
        key: which network of a PyTorch checkpoint that holds several, as the error lists them.
        resize: how pictures of another size are brought to the network's, a text of `Resizing.read`. None leaves it to
            the network.
        strict: refuse data with an unreadable picture, instead of leaving the picture out.
        confine: let a process of its own, which can reach nothing, read the bytes of model files
            (docs/threat-model.md).

    Raises:
        InvalidOption: there is no such image shape, input range or way to resize.
    """

    architecture: str | None = None
    image_shape: tuple[int, int, int] | None = None
    input_range: RangeOption = "auto"
    key: str | None = None
    resize: ResizeOption | None = None
    strict: bool = False
    confine: bool = True

    def __post_init__(self) -> None:
        shape = self.image_shape
        if shape is not None and (len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape)):
            raise InvalidOption(f"expected an image shape (channels, height, width), such as (3, 32, 32), got {shape}")
        if self.input_range != "auto":
            Preprocessing.read(self.input_range)
        if self.resize is not None:
            Resizing.read(self.resize)
