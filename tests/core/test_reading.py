"""`Reading`, and what is refused when it is made."""

import pytest

from goodnet.core.errors import InvalidOption
from goodnet.core.given import refuse_given
from goodnet.core.reading import Reading


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_shape": (3, 32)}, r"expected an image shape \(channels, height, width\).*got \(3, 32\)"),
        ({"image_shape": (3, 32, 0)}, r"got \(3, 32, 0\)"),
        ({"image_shape": (3, 32, 0.5)}, r"got \(3, 32, 0.5\)"),
        ({"input_range": "0..2"}, "got '0..2'"),
        ({"resize": "fill"}, "expected a way to resize pictures: .*; got 'fill'"),
    ],
)
def test_what_cannot_be_is_refused_at_once(fields, message):
    with pytest.raises(InvalidOption, match=message):
        Reading(**fields)


def test_fields_with_their_defaults_are_not_given():
    reading = Reading(key="ema", resize="crop", input_range="auto")
    refuse_given(reading, "export", "input_range", "strict", "confine")
    with pytest.raises(InvalidOption, match=r"^export cannot use key, got 'ema'; leave it out$"):
        refuse_given(reading, "export", "strict", "key")
    with pytest.raises(InvalidOption, match=r"^a wall cannot use confine, got False; leave it out$"):
        refuse_given(Reading(confine=False), "a wall", "confine")
