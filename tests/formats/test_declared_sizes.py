"""One rule for what a file may unpack to."""

import pytest

from goodnet.core.errors import InvalidOption, UnreadableData, UnreadableModel
from goodnet.formats.declared_sizes import MOST_OF_IMAGE, most_unpacked, require_held, require_image_size

MEBIBYTE = 1 << 20


def test_a_file_may_unpack_to_a_hundred_times_its_size_and_a_small_one_counts_as_a_mebibyte() -> None:
    assert [most_unpacked(held) for held in (0, 1, MEBIBYTE, 3 * MEBIBYTE)] == [
        100 * MEBIBYTE,
        100 * MEBIBYTE,
        100 * MEBIBYTE,
        300 * MEBIBYTE,
    ]


@pytest.mark.parametrize("kind", [UnreadableData, UnreadableModel])
def test_what_says_more_is_refused_with_both_numbers(kind: type[UnreadableData | UnreadableModel]) -> None:
    require_held("a.npz", 200 * MEBIBYTE, 2 * MEBIBYTE, kind)
    with pytest.raises(
        kind, match=r"^a\.npz: refused, it unpacks to 1,024 MiB, far more than its size \(2,097,152 bytes\)"
    ):
        require_held("a.npz", 1024 * MEBIBYTE, 2 * MEBIBYTE, kind)


@pytest.mark.parametrize("shape", [(3, 0, 12), (-3, 12, 12), (3, 1 << 20, 1 << 20)])
def test_images_that_no_network_can_be_fed_with(shape: tuple[int, int, int]) -> None:
    require_image_size("net.pt", (1, 1, MOST_OF_IMAGE))
    with pytest.raises(InvalidOption, match=r"net\.pt: expected images \(C, H, W\) of 1 to 4,194,304 numbers, got"):
        require_image_size("net.pt", shape)
