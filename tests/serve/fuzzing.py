"""Requests that are damaged in some way, each of which knows what answers are right."""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass

from tests.serve.telling_network import CLASSES, picture

_KINDS = ("PNG", "JPEG", "BMP", "PPM")


@dataclass(frozen=True)
class Case:
    """One request as it goes over the wire; `opinions` where it is sound and its answer is known.

    For the rest of one that may not be `whole` the server can wait without end; the client hangs up.
    """

    wire: bytes
    opinions: tuple[int, int] | None = None
    whole: bool = True

    def send(self, port: int) -> int:
        """Send it and return the status, 0 where there was none; the answer must be in order.

        Raises:
            AssertionError: another request's answer, a problem without a reason, or no JSON.
        """
        with socket.create_connection(("127.0.0.1", port), timeout=30 if self.whole else 1) as connection:
            with suppress(OSError):  # the server has seen enough and hung up; its reason may still be read
                connection.sendall(self.wire)
            reply = _receive(connection, ConnectionError if self.whole else OSError)
        if not reply:
            assert self.opinions is None, "a sound request got no answer"
            return 0
        return self._check(reply)

    def _check(self, reply: bytes) -> int:
        top, _, body = reply.partition(b"\r\n\r\n")
        status = int(top.split()[1])
        if status == 100:
            return self._check(body)
        if status != 200:
            assert self.opinions is None, (status, body)
            if body == b"Invalid HTTP request received.":
                return status
            length = re.search(rb"content-length: (\d+)", top)
            assert length is not None
            assert json.loads(body[: int(length[1])])["reason"]
        elif self.opinions is not None:
            said = json.loads(body)["images"][0]["opinions"]
            assert (said["original"], said["repaired"]) == self.opinions
        return status


def _receive(connection: socket.socket, ends: type[OSError]) -> bytes:
    found = b""
    try:
        while block := connection.recv(65536):
            found += block
    except ends:
        pass
    return found


def make_case(rng: random.Random) -> Case:
    """Return a request, sound or damaged, of a kind drawn by `rng`."""
    return rng.choice(_MAKERS)(rng)


def _sound(rng: random.Random) -> Case:
    opinions = rng.randrange(CLASSES), rng.randrange(CLASSES)
    return Case(_request(picture(*opinions, kind=rng.choice(("PNG", "BMP", "PPM")))), opinions)


def _damaged_picture(rng: random.Random) -> Case:
    return Case(_request(_damage(rng, picture(rng.randrange(CLASSES), kind=rng.choice(_KINDS)))))


def _damaged_chunk(rng: random.Random) -> Case:
    """A PNG whose chunks lie: sizes, colours, lengths; the checksums are right, so that the decoder believes them."""
    width, height = rng.choice((0, 1, 8, 2**16, 2**31 - 1, 2**32 - 1)), rng.choice((0, 1, 6, 2**20, 2**32 - 1))
    fields = struct.pack(
        ">IIBBBBB", width, height, rng.choice((1, 8, 16, 99)), rng.randrange(8), 0, 0, rng.randrange(3)
    )
    pixels = zlib.compress(rng.randbytes(rng.choice((0, 10, 200))) + b"\0" * rng.choice((0, 100_000)))
    chunks = [(b"IHDR", fields), (rng.choice((b"IDAT", b"zTXt", b"iCCP", b"tRNS", b"PLTE")), pixels), (b"IEND", b"")]
    rng.shuffle(chunks) if rng.random() < 0.2 else None
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return Case(_request(b"\x89PNG\r\n\x1a\n" + b"".join(packed)))


def _noise(rng: random.Random) -> Case:
    beginning = rng.choice((b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"P6 8 6 255\n", b"P3 ", b"GIF89a"))
    return Case(_request(beginning + rng.randbytes(rng.randrange(600))))


def _damaged_form(rng: random.Random) -> Case:
    part = b'--BOUND\r\nContent-Disposition: form-data; name="a"; filename="b.png"\r\n\r\n%s\r\n'
    body = b"".join(part % picture(rng.randrange(CLASSES)) for _ in range(rng.randrange(12))) + b"--BOUND--\r\n"
    kind = rng.choice(
        (b"multipart/form-data; boundary=BOUND", b"multipart/form-data", b"multipart/form-data; boundary=\xff")
    )
    return Case(_request(_damage(rng, body) if rng.random() < 0.7 else body, kind))


def _damaged_array(rng: random.Random) -> Case:
    """A .npy whose header lies, or that is damaged anywhere."""
    shape = rng.choice(
        (b"(2, 6, 8, 3)", b"(2, 6, 8)", b"(-1, 6, 8, 3)", b"(2**40,)", b"(99999999, 6, 8, 3)", b"()", b"None")
    )
    kind = rng.choice((b"|u1", b"<f4", b"|O", b"V9", b"|b1"))
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n" % (kind, shape)
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rng.randbytes(rng.choice((0, 96, 288)))
    return Case(_request(_damage(rng, body) if rng.random() < 0.5 else body, b"application/x-npy"))


def _too_large(rng: random.Random) -> Case:
    return Case(_request(b"\x89PNG" + bytes(rng.randrange(200_001, 900_000))))


def _other_head(rng: random.Random) -> Case:
    body = picture(rng.randrange(CLASSES))
    line = rng.choice(
        (b"POST /predict?k=%d" % rng.randrange(-5, 300), b"PUT /predict", b"GET /", b"POST /%ff%00", b"DELETE /x")
    )
    kind = rng.choice(
        (b"text/html", b"", b"image/", b"multipart/form-data;;;", b"\xe9/\xe9", b"a" * 3000, b"image/png")
    )
    return Case(_request(body, kind, line))


def _damaged_wire(rng: random.Random) -> Case:
    return Case(_damage(rng, _request(picture(rng.randrange(CLASSES)))), whole=False)


def _request(body: bytes, kind: bytes = b"image/png", line: bytes = b"POST /predict") -> bytes:
    top = b"%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return top % (line, kind, len(body)) + body


def _damage(rng: random.Random, data: bytes) -> bytes:
    """Return `data` cut off, with bytes changed, doubled, removed or inserted."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place, length = rng.randrange(len(content) + 1), rng.choice((1, 1, 4, 50))
        changes = b"", rng.randbytes(length), bytes(content[place:]) * 2
        content[place : place + length] = rng.choice(changes)
    return bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.2 else content)


_MAKERS = (
    _sound,
    _damaged_picture,
    _damaged_chunk,
    _noise,
    _damaged_form,
    _damaged_array,
    _too_large,
    _other_head,
    _damaged_wire,
)
