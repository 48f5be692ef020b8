import numpy as np
import pytest
import torch

from goodnet.core.backdoor import Backdoor, Patch
from goodnet.core.errors import UnreadableData
from goodnet.formats.triggers import read_backdoors, write_backdoors


def test_suspected_backdoors_come_back_with_their_patches_and_without_what_is_none(tmp_path):
    patch = Patch(torch.rand(1, 4, 5), torch.rand(3, 4, 5))
    given = (Backdoor(None, 9), Backdoor(patch, 2, (4, 7)), Backdoor(torch.nn.Identity(), 2))
    found = read_backdoors(write_backdoors(tmp_path / "suspected.npz", given))
    assert [backdoor.target for backdoor in found] == [9, 2, 2]
    assert [backdoor.trigger is None for backdoor in found] == [True, False, True]
    assert [backdoor.sources for backdoor in found] == [None, (4, 7), None]
    assert torch.equal(found[1].trigger.mask, patch.mask)
    assert torch.equal(found[1].trigger.pattern, patch.pattern)


def test_nothing_suspected(tmp_path):
    assert read_backdoors(write_backdoors(tmp_path / "suspected.npz", ())) == ()


@pytest.mark.parametrize(
    "content",
    [b"no archive", b"PK\x03\x04 cut off", {"targets": ["seven"]}, {}, {"targets": [7], "mask_0": np.zeros((1, 2, 2))}],
    ids=["text", "cut off", "no number", "no targets", "no pattern"],
)
def test_a_damaged_file_is_a_clear_error(content, tmp_path):
    path = tmp_path / "suspected.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UnreadableData, match=r"suspected\.npz: expected .*damaged"):
        read_backdoors(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(UnreadableData, match="no such file"):
        read_backdoors(tmp_path / "suspected.npz")
