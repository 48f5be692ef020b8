"""What is suspected must fit the network that it is held against."""

from types import SimpleNamespace

import pytest
import torch

from goodnet.api.suspects import read_suspects
from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.errors import UnreadableData, WrongShape
from goodnet.formats.triggers import SUSPECTED, write_backdoors

NETWORK = SimpleNamespace(name="lab.h5", classes=4, image_shape=(3, 12, 12))
GOOD = (Backdoor(Patch(torch.ones(1, 12, 12), torch.ones(3, 12, 12)), 3, (0, 1)), Backdoor(None, 0))


def test_those_that_fit_are_handed_on_from_a_folder_or_as_they_are(tmp_path):
    write_backdoors(tmp_path / SUSPECTED, GOOD)
    assert read_suspects(GOOD, NETWORK) == GOOD
    first, second = read_suspects(tmp_path, NETWORK)
    assert (first.target, first.sources, second.target, second.trigger) == (3, (0, 1), 0, None)
    assert first.trigger == GOOD[0].trigger


@pytest.mark.parametrize(
    ("backdoor", "words"),
    [
        (Backdoor(None, 4), "lab.h5: expected suspected classes from 0 to 3, got 4"),
        (Backdoor(None, -1), "from 0 to 3, got -1"),
        (Backdoor(None, 1, (0, 17)), "from 0 to 3, got 17"),
        (
            Backdoor(Patch(torch.ones(1, 8, 8), torch.ones(3, 8, 8)), 1),
            r"is for images \(3, 8, 8\), lab.h5 takes \(3, 12",
        ),
    ],
)
def test_those_of_another_network_are_refused(backdoor, words, tmp_path):
    with pytest.raises(WrongShape, match=words):
        read_suspects((GOOD[0], backdoor), NETWORK)
    write_backdoors(tmp_path / SUSPECTED, (backdoor,))
    with pytest.raises(WrongShape, match=words + ".*is it the scan of another network"):
        read_suspects(tmp_path, NETWORK)


def test_a_folder_that_is_no_scan_s(tmp_path):
    with pytest.raises(UnreadableData, match=SUSPECTED):
        read_suspects(tmp_path, NETWORK)
