"""`Rejected`: a request that gets no answer but a status and a reason."""

from __future__ import annotations

from http import HTTPStatus

from goodnet.core.errors import GoodnetError


class Rejected(GoodnetError):
    """A request cannot be answered; `status` is the HTTP status, the message its reason.

    `hang_up` closes the connection: what the client still sends belongs to no request.
    """

    def __init__(self, status: HTTPStatus, reason: str, *, hang_up: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.hang_up = hang_up

    def in_picture(self, position: int) -> Rejected:
        """Return the same with the picture's place in its request in the reason, counted from 1."""
        return Rejected(self.status, f"picture {position}: {self.reason}")
