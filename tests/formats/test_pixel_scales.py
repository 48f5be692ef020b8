"""What stored numbers are as pixels."""

import numpy as np
import pytest

from goodnet.core.errors import UnreadableData
from goodnet.formats.pixel_scales import find_scale

PIXELS = np.random.default_rng(0).random((4, 3, 5, 5), dtype=np.float32)
PIXELS[0, :, 0, 0], PIXELS[0, :, 0, 1] = 0, 1
MEAN, STD = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


@pytest.mark.parametrize(
    ("images", "name"),
    [(2 * PIXELS - 1, "-1..1"), ((PIXELS - MEAN) / STD, "imagenet"), ((PIXELS[:, :1] - 0.1307) / 0.3081, "mnist")],
)
def test_a_usual_normalisation_is_undone(images, name):
    scale = find_scale("d", images, "NCHW")
    assert scale.normalisation == name
    assert name in scale.note[0]
    np.testing.assert_allclose(scale.to_pixels(images, "NCHW"), PIXELS[:, : images.shape[1]], atol=1e-6)


def test_channels_last():
    images = ((PIXELS - MEAN) / STD).transpose(0, 2, 3, 1)
    scale = find_scale("d", images, "NHWC")
    np.testing.assert_allclose(scale.to_pixels(images, "NHWC"), PIXELS, atol=1e-6)


@pytest.mark.parametrize("images", [PIXELS - 0.5, 3 * PIXELS - 1, 20 * PIXELS - 10])
def test_another_range_is_refused(images):
    with pytest.raises(UnreadableData, match="make the normalisation the network's first layer"):
        find_scale("d", images, "NCHW")
