"""Which arrays of a file are images and labels."""

import pytest

from goodnet.core.errors import UnreadableData
from goodnet.formats.array_keys import find_keys

IMAGES, LABELS = (6, 3, 9, 9), (6,)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"data": IMAGES, "label": LABELS, "more": IMAGES}, ("data", "label")),
        ({"pixels": IMAGES, "wanted": LABELS}, ("pixels", "wanted")),
        ({"pixels": (6, 9, 9), "wanted": (6, 10)}, ("pixels", "wanted")),
        ({"x_train": (8, 9, 9, 3), "y_train": (8,), "x_test": (6, 9, 9, 3), "y_test": LABELS}, ("x_test", "y_test")),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}, ("x_test", "y_test")),
        ({"pixels": IMAGES, "coordinates": (5, 2)}, ("pixels", None)),
    ],
)
def test_keys(shapes, expected):
    keys = find_keys("d.npz", shapes)
    assert (keys.images, keys.labels) == expected
    assert bool(keys.notes) is ("data" not in shapes)


@pytest.mark.parametrize("shapes", [{}, {"a": (3,)}, {"a": IMAGES, "b": IMAGES}, {"a": (6, 3, 2, 2)}])
def test_no_images_or_several(shapes):
    with pytest.raises(UnreadableData, match="expected a key 'data'"):
        find_keys("d.npz", shapes)
