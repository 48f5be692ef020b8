"""Zip archives written by hand, so that they can say one thing and hold another."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path


def members_of(path: Path) -> dict[str, bytes]:
    """Return an archive's members by their names."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of the members."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def pack_by_hand(
    members: list[tuple[str, bytes]],
    *,
    local_names: Mapping[str, str] | None = None,
    flags: int = 0,
    size: int | None = None,
) -> bytes:
    """Return an archive whose parts say what they are told: names in the headers, flags, sizes; names may come twice."""
    body, directory = b"", b""
    for name, content in members:
        local, crc = (local_names or {}).get(name, name).encode(), zlib.crc32(content)
        told = len(content) if size is None else size
        fields = (20, flags, 0, 0, 33, crc, len(content), told)
        directory += (
            struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *fields, len(name), 0, 0, 0, 0, 0, len(body)) + name.encode()
        )
        body += struct.pack("<4s5H3L2H", b"PK\3\4", *fields, len(local), 0) + local + content
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + end


def with_second_directory(shown: bytes, hidden: bytes) -> bytes:
    """Return one file that holds two archives: readers that look for the first directory see one, others the other."""
    return hidden + shown


def linked(members: Mapping[str, bytes], name: str, target: str) -> bytes:
    """Return an archive with a further member that is a symbolic link."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        link = zipfile.ZipInfo(name)
        link.external_attr = 0o120777 << 16
        archive.writestr(link, target)
    return stream.getvalue()
