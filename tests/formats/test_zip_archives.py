"""Zip archives of torch, Keras, numpy and zipfile have one reading; what is made by hand has two."""

import io
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch

from goodnet.formats.zip_archives import find_second_reading, unpacked_size
from tests.hostile import zips

MEMBERS = {"a.txt": b"one", "folder/b.txt": b"two" * 100}


def of_torch(stream: io.BytesIO) -> None:
    torch.save({"weight": torch.zeros(3, 4), "more": torch.ones(100)}, stream)


def of_numpy(stream: io.BytesIO) -> None:
    np.savez(stream, a=np.zeros(3), b=np.ones((2, 2)))


def packed_by_numpy(stream: io.BytesIO) -> None:
    np.savez_compressed(stream, a=np.zeros(3000))


def of_zipfile(stream: io.BytesIO) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/ü.txt", b"x")
        with archive.open("large", "w", force_zip64=True) as member:
            member.write(b"y")


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    def seek(self, *_: int) -> int:
        raise OSError


@pytest.mark.parametrize("write", [of_torch, of_numpy, packed_by_numpy, of_zipfile], ids=lambda write: write.__name__)
def test_what_programs_write_has_one_reading(write: Callable[[io.BytesIO], None]) -> None:
    stream = io.BytesIO()
    write(stream)
    assert find_second_reading(stream) is None


def test_an_archive_whose_sizes_follow_its_members_has_one_reading() -> None:
    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 1000)
        archive.writestr("b", b"y")
    assert find_second_reading(io.BytesIO(stream.getvalue())) is None


def test_an_empty_archive_has_one_reading() -> None:
    assert find_second_reading(io.BytesIO(zips.pack({}))) is None


TWOFOLD = {
    "one name twice": zips.pack_by_hand([("a", b"1"), ("a", b"2")]),
    "leads out of the archive": zips.pack_by_hand([("../a", b"1")]),
    "comment": zips.pack(MEMBERS)[:-2] + b"\x03\x00abc",
    "before or between its members": zips.pack_by_hand([("a", b"1")]).replace(b"PK\1\2", b"??PK\1\2", 1),
    "otherwise than the directory": zips.pack_by_hand([("a", b"1")], local_names={"a": "b"}),
    "encrypted": zips.pack_by_hand([("a", b"1")], flags=1),
}


@pytest.mark.parametrize("reason", TWOFOLD)
def test_what_has_two_readings_is_said(reason: str) -> None:
    try:
        found = find_second_reading(io.BytesIO(TWOFOLD[reason]))
    except zipfile.BadZipFile:
        assert reason == "before or between its members"
        return
    assert found is not None
    assert reason in found or "directory does not begin" in found


def test_the_unpacked_size_is_that_of_all_members() -> None:
    with zipfile.ZipFile(io.BytesIO(zips.pack(MEMBERS, zipfile.ZIP_DEFLATED))) as archive:
        assert unpacked_size(archive) == 303
