"""Connections that a client cannot hold open for nothing: limits on number, headers, and time to send and to take."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from goodnet.serve.options import ServeOptions

#: Bytes of a request before its body; browsers send some hundred.
_MOST_HEADERS = 65_536
#: Requests that may wait on one connection for the one before; uvicorn itself takes any number into memory.
_MOST_PIPELINED = 16
#: How long a client that was refused may go on sending until it has read why.
_FAREWELL_SECONDS = 1.0
#: Connections for each request that may be in flight: idle ones wait for their next request.
_CONNECTIONS_PER_REQUEST = 4


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's connection, cut off when its client sends headers too slowly or without end, or takes no answer."""

    options: ClassVar[ServeOptions]
    _cut_off: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        most = _CONNECTIONS_PER_REQUEST * self.options.max_requests
        if len(self.connections) > most:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{most} connections are open already; try again later")
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._await_headers_no_more()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the body, and requests that are sent before the last one is answered."""
        if len(self.pipeline) > _MOST_PIPELINED:
            self._drop()
        if self._deaf or self.transport.is_closing():
            return
        clock = self._cut_off
        super().data_received(data)
        if self._cut_off is None:
            return
        # Headers that begin within these bytes are counted from the next ones on: a body may come before them.
        self._header_bytes += len(data) if self._cut_off is clock else 1
        if self._header_bytes > _MOST_HEADERS:
            reason = f"expected at most {_MOST_HEADERS} bytes of headers"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what came in whole, though the client sends no more; say of what did not that it did not."""
        if self._owes_an_answer():
            self._close_after_answer()
            return True
        if not self._deaf and self._within_a_request():
            self._refuse(HTTPStatus.BAD_REQUEST, "the connection ended before the request did")
        return False

    def on_message_begin(self) -> None:
        """Start the clock for the next request on the same connection."""
        super().on_message_begin()
        if self._cut_off is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        """Stop the clock: the body has one of its own."""
        self._await_headers_no_more()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Hang up where the answer did not need the rest of the body, and start the clock for taking the answer."""
        unread = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if unread:  # a client could go on sending it for ever
            self.transport.close()
        self._await_taking()

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that this is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _await_headers(self) -> None:
        seconds = self.options.body_seconds
        self._header_bytes = 0
        self._cut_off = self.loop.call_later(
            seconds, self._refuse, HTTPStatus.REQUEST_TIMEOUT, f"the headers took more than {seconds:g} s to come in"
        )

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._await_headers_no_more()
        if self.transport.is_closing():
            return
        if self._owes_an_answer():
            self._close_after_answer()  # what is said now would be taken for that answer
            return
        body = json.dumps({"status": int(status), "reason": reason, "request_id": None})
        self.transport.write(
            f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode("ascii")
        )
        self._abandon()
        self._deaf = True
        # Closed with bytes unread, the connection would be reset, and the reason lost: the client hangs up, or is.
        self.transport.write_eof()
        self._cut_off = self.loop.call_later(_FAREWELL_SECONDS, self._drop)

    def _within_a_request(self) -> bool:
        """Whether the client has begun a request, and has not sent all of it."""
        if self._cut_off is not None:
            return self._header_bytes > 0
        return self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete

    def _owes_an_answer(self) -> bool:
        """Whether a request that came in whole still waits for its answer."""
        cycle = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete and not cycle.more_body)

    def _close_after_answer(self) -> None:
        self._deaf = True
        self.cycle.keep_alive = False

    def _abandon(self) -> None:
        """Keep what is still being answered from writing to a connection that is over."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _drop(self) -> None:
        self._abandon()
        self.transport.abort()

    def _await_headers_no_more(self) -> None:
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None

    def _await_taking(self) -> None:
        """Give the client time to take what is written; even a closed connection stays open until it has."""
        if self._stalled is not None:
            self._stalled.cancel()
        if self.transport.get_write_buffer_size() > 0:
            self._stalled = self.loop.call_later(self.options.body_seconds, self._drop_untaken)

    def _drop_untaken(self) -> None:
        if self.transport.get_write_buffer_size() > 0:
            self._drop()


def limit_connections(options: ServeOptions) -> type[LimitedConnection]:
    """Return the class of connections with the limits of `options`."""
    attributes: dict[str, Any] = {"options": options}
    return type("Connection", (LimitedConnection,), attributes)
