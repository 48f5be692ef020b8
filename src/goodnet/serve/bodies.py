"""The body of a request -> the bytes of its pictures, within limits of size, number and time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from goodnet.serve.options import ServeOptions
from goodnet.serve.pictures import KINDS
from goodnet.serve.pixel_arrays import NPY, split_array
from goodnet.serve.rejections import Rejected

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: An oversized body is read and thrown away up to so many times its limit, so that the client gets to the reason.
_PATIENCE = 8


async def read_pictures(request: Request, options: ServeOptions) -> list[bytes]:
    """Return the bytes of the pictures in a request: its body, each file of a multipart form, or each of an array.

    Raises:
        Rejected: 400 the connection ended early, 408 it came too slowly, 413 it is too large or has too many pictures,
            415 it is of another type, 422 it holds no picture or is no whole form or array.
    """
    body = await _read_body(request, options)
    kind, parameters = parse_options_header(request.headers.get("content-type", "application/octet-stream"))
    if kind == b"application/octet-stream" or kind.startswith(b"image/"):
        return [body]
    if kind == NPY:
        return split_array(body, options.max_images)
    if kind != b"multipart/form-data":
        raise Rejected(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"expected a picture ({KINDS}) as image/* or application/octet-stream, files as multipart/form-data, or an array "
            f"as {NPY.decode()}, got '{kind.decode('latin-1')[:80]}'",
        )
    pictures = split_form(body, parameters.get(b"boundary", b""), options.max_images)
    if not pictures:
        raise Rejected(HTTPStatus.UNPROCESSABLE_ENTITY, "expected at least one file in the form, found none")
    return pictures


async def discard_body(request: Request, options: ServeOptions) -> None:
    """Let the client send what it will not get an answer to, within the limits: else it would not get to the reason."""
    with suppress(Rejected):
        await _read_body(request, options, keep=False)


async def _read_body(request: Request, options: ServeOptions, *, keep: bool = True) -> bytes:
    try:
        async with asyncio.timeout(options.body_seconds):
            return await _read_within(request, options.max_body_bytes, keep)
    except TimeoutError as error:
        raise Rejected(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the request took more than {options.body_seconds:g} s to come in",
            hang_up=True,
        ) from error
    except ClientDisconnect as error:
        raise Rejected(HTTPStatus.BAD_REQUEST, "the connection ended before the body did", hang_up=True) from error


async def _read_within(request: Request, limit: int, keep: bool) -> bytes:
    announced = request.headers.get("content-length", "")
    # A client that asks before it sends can be told at once.
    if announced.isdecimal() and int(announced) > limit and "expect" in request.headers:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if keep and size <= limit:
            parts.append(part)
        elif size > _PATIENCE * limit:
            break
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


def _too_large(limit: int) -> Rejected:
    return Rejected(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {limit} bytes", hang_up=True)


def split_form(body: bytes, boundary: bytes, most: int) -> list[bytes]:
    """Return the files of a multipart form in their order; fields that are no files are passed over.

    Raises:
        Rejected: 413 there are more than `most` parts, 422 it is no whole form.
    """
    parts = _Parts(most)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
    except FormParserError as error:
        raise Rejected(HTTPStatus.UNPROCESSABLE_ENTITY, f"the multipart form is damaged: {error}") from error
    if not boundary or not parts.ended:
        raise Rejected(
            HTTPStatus.UNPROCESSABLE_ENTITY, "the multipart form is cut off or has no boundary; send it whole"
        )
    return parts.files


class _Parts:
    """Collects the files that the parser finds."""

    def __init__(self, most: int) -> None:
        self.files: list[bytes] = []
        self.ended = False
        self._most = most
        self._count = 0
        self._name = b""
        self._value = b""
        self._is_file = False
        self._content: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._count += 1
        if self._count > self._most:
            raise Rejected(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {self._most} pictures in a request, got more"
            )
        self._is_file, self._content = False, []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._is_file = b"filename" in parse_options_header(self._value)[1]
        self._name, self._value = b"", b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._content.append(data[start:end])

    def _part_end(self) -> None:
        if self._is_file:
            self.files.append(b"".join(self._content))

    def _end(self) -> None:
        self.ended = True
