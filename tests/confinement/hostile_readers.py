"""Readers that try what a hostile file would like: each runs in the child, behind the walls."""

import ctypes
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from goodnet.confinement.answers import Answer, Blob

#: Loaded before the walls close, as h5py's libraries are.
_LIBC = ctypes.CDLL(None, use_errno=True)


def harmless(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    content = source.read()
    return Answer({"name": name, "size": len(content)}, {"content": Blob("U8", (len(content),), content)})


def open_a_file(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    return Answer({"found": Path("/etc/passwd").read_text()})


def open_a_file_and_say_nothing(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    with suppress(OSError):
        Path("/etc/passwd").read_text()
    return Answer({})


def open_a_socket(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    socket.create_connection(("127.0.0.1", 80))
    return Answer({})


def start_a_program(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    subprocess.run(["/bin/true"], check=True)
    return Answer({})


def fork(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    os.fork()
    return Answer({})


def take_memory(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    return Answer({"size": len(bytearray(10 << 30))})


def compute_for_ever(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    while True:
        pass


def sleep_for_ever(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    time.sleep(3600)
    return Answer({})


def crash(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    return Answer({"read": ctypes.string_at(8)})


def fill_the_disk(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    block = bytes(1 << 20)
    for _ in range(1000):
        copy.write(block)
    return Answer({})


def answer_too_much(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    block = bytes(1 << 20)
    return Answer({}, {str(number): Blob("U8", (1 << 20,), block) for number in range(300)})


def as_native_code(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    """What a library that was taken over could try: the kernel's answers, Python's watch sees nothing of it."""
    calls = {
        "open": lambda: _LIBC.open(b"/etc/passwd", 0),
        "socket": lambda: _LIBC.socket(socket.AF_INET, socket.SOCK_DGRAM, 0),
        "fork": _LIBC.fork,
        "execve": lambda: _LIBC.execv(b"/bin/true", None),
        "kill": lambda: _LIBC.kill(os.getppid(), 0),
        "unlink": lambda: _LIBC.unlink(b"/tmp/nothing"),
    }
    return Answer({name: [call(), ctypes.get_errno()] for name, call in calls.items()})


def answer_as_somebody_else(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    for number in range(3, 10):
        with suppress(OSError):
            os.write(number, b"\xff" * 64)
    os._exit(0)


def tell_environment(source: BinaryIO, copy: BinaryIO, name: str) -> Answer:
    return Answer({"environment": dict(os.environ), "folders": sys.path})
