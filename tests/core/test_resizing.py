"""How pictures of any size become as large as a network's."""

import pytest

from goodnet.core.errors import InvalidOption
from goodnet.core.resizing import Resizing


@pytest.mark.parametrize("text", ["stretch", "crop", "crop:256", "stretch+bicubic", "crop:235+lanczos"])
def test_what_is_read_is_written_alike(text):
    assert Resizing.read(text).text == text


@pytest.mark.parametrize("text", ["", "fill", "stretch:256", "crop:", "crop:0", "crop:99999", "crop+cubic", "crop+"])
def test_what_is_no_way_to_resize(text):
    with pytest.raises(InvalidOption):
        Resizing.read(text)


@pytest.mark.parametrize(
    ("text", "size", "scaled"),
    [
        ("stretch", (640, 480), (224, 224)),
        ("crop", (640, 480), (298, 224)),  # 640 * 224 / 480 = 298.7, rounded down as torchvision does
        ("crop:256", (640, 480), (341, 256)),
        ("crop:256", (480, 640), (256, 341)),
        ("crop:100", (640, 480), (298, 224)),  # never smaller than what is cut out
    ],
)
def test_the_size_before_the_crop(text, size, scaled):
    assert Resizing.read(text).scaled_size(size, (224, 224)) == scaled
