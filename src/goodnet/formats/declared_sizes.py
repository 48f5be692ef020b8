"""What a file says it unpacks to, against what it holds: the one rule by which every reader takes memory."""

from __future__ import annotations

import math

from goodnet.core.errors import InputError, InvalidOption

#: Data packs well, up to this many times; what claims to unpack to more is a bomb.
_MOST_UNPACKING = 100
#: Files below this many bytes are judged as if they had so many: a small one may well be a flat picture.
_SMALLEST = 1 << 20
#: The most numbers in one tensor that a network makes of one image: 256 MiB of float32.
MOST_NUMBERS = 1 << 26
#: The most numbers in one image: 16 MiB of float32, 3 x 1,182 x 1,182. What a network makes of it is a multiple of that.
MOST_OF_IMAGE = 1 << 22


def require_image_size(shown: str, shape: tuple[int, int, int]) -> None:
    """Check that images (C, H, W) are of a size that a network can be fed with.

    Raises:
        InvalidOption: a number is below 1, or they are larger than any picture that is read.
    """
    if min(shape) < 1 or math.prod(shape) > MOST_OF_IMAGE:
        raise InvalidOption(
            f"{shown}: expected images (C, H, W) of 1 to {MOST_OF_IMAGE:,} numbers, got {','.join(map(str, shape))}"
        )


def most_unpacked(held: int) -> int:
    """Return how many bytes a file of `held` bytes may unpack to."""
    return _MOST_UNPACKING * max(held, _SMALLEST)


def require_held(shown: str, declared: int, held: int, kind: type[InputError]) -> None:
    """Check that a file may unpack to what it says, before memory is taken for it.

    Args:
        shown: the file, for the message.
        declared: bytes that all that is read of it takes unpacked, as it says itself.
        held: bytes of the file.
        kind: the error to raise.

    Raises:
        InputError: (of `kind`) the file says that it unpacks to more than 100 times its size.
    """
    if declared > most_unpacked(held):
        raise kind(
            f"{shown}: refused, it unpacks to {declared >> 20:,} MiB, far more than its size ({held:,} bytes); write it again "
            "without compression"
        )
