"""Zip archives that can be read in one way only.

A zip archive has two tables of contents: a header before each member, and a directory at the end. Readers differ in which
of them they believe, and in where they look for the directory. Here both must say the same, and no byte may be left over.

Source: PKWARE, ".ZIP File Format Specification", 6.3.10, sections 4.3 and 4.4.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from typing import IO

_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
#: Bytes of the directory's two further ends where an archive has the sizes of zip64.
_ZIP64_ENDS = (0, 56 + 20)
#: Bytes that may follow a member that was written before its size was known.
_DESCRIPTORS = (0, 12, 16, 20, 24)
_ENCRYPTED, _SIZE_FOLLOWS, _UTF8 = 1, 8, 0x800
#: Stands for a number that is too large for its place.
_ELSEWHERE_16, _ELSEWHERE_32 = 0xFFFF, 0xFFFFFFFF


def find_second_reading(stream: IO[bytes]) -> str | None:
    """Return in what an archive can be read in two ways or reaches outside itself, None where it does neither.

    Raises:
        zipfile.BadZipFile, OSError, ValueError, struct.error: it is damaged.
    """
    with zipfile.ZipFile(stream) as archive:
        members = sorted(archive.infolist(), key=lambda member: member.header_offset)
        names = [member.filename for member in members]
        if len(set(names)) < len(names):
            return "it holds one name twice"
        if any(_leads_outside(member) for member in members):
            return "a member's name leads out of the archive"
        if archive.comment:
            return "it holds a comment, in which another directory could lie"
        return _misfit_of_directory(stream, archive.start_dir, members) or _misfit_of_members(
            stream, archive.start_dir, members
        )


def _leads_outside(member: zipfile.ZipInfo) -> bool:
    name = member.orig_filename
    parts = name.replace("\\", "/").split("/")
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    return is_link or name.startswith(("/", "\\")) or ":" in parts[0] or ".." in parts or "\0" in name


def _misfit_of_directory(stream: IO[bytes], start: int, members: list[zipfile.ZipInfo]) -> str | None:
    """Return what is wrong with the directory: it must be the only one, and lie between the last member and the end."""
    end = stream.seek(-_END.size, 2)
    _, _, _, _, count, size, offset, _ = _END.unpack(stream.read(_END.size))
    if count not in (len(members), _ELSEWHERE_16) or offset not in (start, _ELSEWHERE_32):
        return "its directory does not begin where the file says"
    if size != _ELSEWHERE_32 and end - (start + size) not in _ZIP64_ENDS:
        return "bytes lie between its directory and its end"
    return None


def _misfit_of_members(stream: IO[bytes], directory: int, members: list[zipfile.ZipInfo]) -> str | None:
    """Return what is wrong with the members: header after header they must fill the file, each as the directory says."""
    place = 0
    for member in members:
        gap, describes = member.header_offset - place, member.flag_bits & _SIZE_FOLLOWS
        if gap and not (place and gap in _DESCRIPTORS):
            return "bytes lie before or between its members"
        stream.seek(member.header_offset)
        mark, _, flags, method, _, _, _, packed, size, name, extra = _LOCAL.unpack(stream.read(_LOCAL.size))
        same = (mark, flags, method) == (b"PK\x03\x04", member.flag_bits, member.compress_type)
        if not same or stream.read(name) != _raw_name(member):
            return "a member's header says otherwise than the directory"
        if not describes and _differs(packed, member.compress_size, size, member.file_size):
            return "a member's header says otherwise than the directory"
        if flags & _ENCRYPTED:
            return "a member is encrypted"
        place = member.header_offset + _LOCAL.size + name + extra + member.compress_size
    if directory - place not in _DESCRIPTORS:
        return "bytes lie before or between its members"
    return None


def _differs(packed: int, packed_here: int, size: int, size_here: int) -> bool:
    return packed not in (packed_here, _ELSEWHERE_32) or size not in (size_here, _ELSEWHERE_32)


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")


def unpacked_size(archive: zipfile.ZipFile) -> int:
    """Return how many bytes an archive's members have unpacked, as it says; zipfile reads no more of them than that."""
    return sum(member.file_size for member in archive.infolist())
