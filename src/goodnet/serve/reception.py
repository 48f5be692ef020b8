"""`Reception`: takes a request through limits, pipeline, judgement and audit, in that order."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from http import HTTPStatus

from fastapi import Request, Response
from pydantic import BaseModel

from goodnet.execution import count_cores
from goodnet.pair.onnx import OnnxOutputs
from goodnet.serve.answers import Prediction, Problem, judge
from goodnet.serve.audit import AuditLog
from goodnet.serve.bodies import discard_body, read_pictures
from goodnet.serve.metrics import Metrics
from goodnet.serve.network import Pixels, ServedNetwork
from goodnet.serve.options import ServeOptions
from goodnet.serve.pictures import read_picture
from goodnet.serve.pipeline import Pipeline
from goodnet.serve.rejections import Rejected

#: Scores in an answer, and the most that can be asked for.
SCORES, MOST_SCORES = 5, 100


class Reception:
    """Answers requests for predictions. Made inside the event loop that serves them.

    Args:
        network: the GoodNet.
        options: limits and choices.
        audit: where refusals are recorded.
    """

    def __init__(self, network: ServedNetwork, options: ServeOptions, audit: AuditLog | None) -> None:
        self.network, self.options, self._audit = network, options, audit
        self.in_flight = 0
        self.closing = False
        model = {"name": network.card.name, "sha256": network.sha256}
        self.metrics = Metrics(model, lambda: self.in_flight, lambda: self._pipeline.pending)
        self._pipeline = Pipeline(
            self._decode,
            network.run,
            most=options.max_images,
            decoders=count_cores(),
            on_batch=self.metrics.count_batch,
        )

    async def predict(self, request: Request) -> Response:
        """Answer a request: 200 with a `Prediction`, or the status of what was wrong with it and a `Problem`."""
        started = time.perf_counter()
        request_id = secrets.token_hex(8)
        self.in_flight += 1
        try:
            response = await self._answer(request, request_id)
        except Rejected as problem:
            response = reject(problem, request_id)
        finally:
            self.in_flight -= 1
        self.metrics.count_request(response.status_code, time.perf_counter() - started)
        return response

    def not_ready(self) -> list[str]:
        """Return why no request should be sent here now; nothing where one can."""
        reasons = {
            "the server is shutting down": self.closing,
            "the network's thread has stopped": not self._pipeline.alive,
            "as many requests as are allowed are waiting": self._full(0),
        }
        found = [reason for reason, holds in reasons.items() if holds]
        if self._audit is not None and self._audit.trouble is not None and self.options.fail == "closed":
            found.append(self._audit.trouble)
        return found

    def close(self) -> None:
        """Finish what was taken."""
        self.closing = True
        self._pipeline.close()
        if self._audit is not None:
            self._audit.close()

    async def _answer(self, request: Request, request_id: str) -> Response:
        if self._full(1):
            await discard_body(request, self.options)
            raise Rejected(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self.options.max_requests} requests are waiting already, no more are taken; try again later",
                hang_up=True,
            )
        pictures, k = await read_pictures(request, self.options), _read_k(request)
        outputs = await self._run(pictures)
        answers = judge(self.network.card, outputs, k, self.options.fail)
        if self._audit is not None and not await self._audit.record(request_id, pictures, answers):
            self.metrics.count_unrecorded()
            if self.options.fail == "closed":
                reason = f"{self._audit.trouble}; the server fails closed, so nothing was answered"
                raise Rejected(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        self.metrics.count_answers(answers)
        return _respond(200, Prediction(request_id=request_id, images=answers), request_id)

    def _full(self, own: int) -> bool:
        """Whether there is no room beside the `own` requests of the caller, who is counted already."""
        return max(self.in_flight - own, self._pipeline.pending) >= self.options.max_requests

    async def _run(self, pictures: list[bytes]) -> OnnxOutputs:
        try:
            async with asyncio.timeout(self.options.request_seconds):
                return await self._pipeline.answer(pictures)
        except TimeoutError as error:
            raise Rejected(
                HTTPStatus.GATEWAY_TIMEOUT, f"no answer within {self.options.request_seconds:g} s; try again later"
            ) from error

    def _decode(self, data: bytes) -> Pixels:
        options = self.options
        shape = self.network.card.image_shape
        return read_picture(data, shape, max_pixels=options.max_pixels, resize=options.resize)


def _read_k(request: Request) -> int:
    text = request.query_params.get("k", str(SCORES))
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= MOST_SCORES):
        raise Rejected(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"k: expected a whole number from 1 to {MOST_SCORES}, got '{text[:20]}'"
        )
    return int(text)


def reject(problem: Rejected, request_id: str | None = None) -> Response:
    """Return the response that gives the reason."""
    content = Problem(status=int(problem.status), reason=problem.reason, request_id=request_id)
    response = _respond(int(problem.status), content, request_id)
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["retry-after"] = "1"
    if problem.hang_up:
        response.headers["connection"] = "close"
    return response


def _respond(status: int, content: BaseModel, request_id: str | None) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if request_id is not None:
        headers["x-request-id"] = request_id
    return Response(json.dumps(content.model_dump(by_alias=True), allow_nan=False), status, headers, "application/json")
