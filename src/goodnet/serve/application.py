"""The HTTP interface: /predict, /health, /metrics, the page at / and the documentation at /docs."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from goodnet import __version__
from goodnet.serve.answers import Prediction, Problem
from goodnet.serve.audit import AuditLog
from goodnet.serve.network import ServedNetwork
from goodnet.serve.options import ServeOptions
from goodnet.serve.pixel_arrays import NPY
from goodnet.serve.reception import MOST_SCORES, SCORES, Reception, reject
from goodnet.serve.rejections import Rejected

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_REQUEST = {
    "parameters": [
        {
            "name": "k",
            "in": "query",
            "description": "how many of the highest scores",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_SCORES, "default": SCORES},
        }
    ],
    "requestBody": {
        "required": True,
        "description": "One picture (PNG, JPEG, BMP, PPM) as it is, several as the files of a form, or as one .npy: uint8 "
        "0..255, (n, H, W), (n, H, W, 1) or (n, H, W, 3).",
        "content": {
            "image/*": _PICTURE,
            "application/octet-stream": _PICTURE,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": _PICTURE["schema"]}},
                }
            },
            NPY.decode(): _PICTURE,
        },
    },
}
#: Why each status is given; every one carries a `Problem`.
_PROBLEMS = {
    400: "the connection ended before the body did",
    408: "the request came too slowly",
    413: "the body, a picture or the number of pictures is over its limit",
    415: "no picture of a kind that is read",
    422: "a damaged picture, one of another size than the network's, a form without files, an array of another kind, or a "
    "wrong k",
    503: "too many requests, a run that failed, or (fail closed) an audit log that cannot be written",
    504: "no answer within the time limit",
}


def make_application(network: ServedNetwork, options: ServeOptions) -> FastAPI:
    """Return the application that serves `network`.

    Raises:
        UnwritableOutput: the audit log cannot be written.
    """
    audit = None
    if options.audit is not None:
        audit = AuditLog(options.audit, network.sha256, keep_images=options.audit_images)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        application.state.reception = reception = Reception(network, options, audit)
        try:
            yield
        finally:
            reception.close()

    application = FastAPI(
        title=f"goodnet: {network.card.name}",
        version=__version__,
        description="Classifies pictures, and refuses those that carry a backdoor's trigger.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _explain_status,
            Exception: _explain_failure,
        },
    )
    _add_predict(application)
    _add_state(application)
    _add_pages(application)
    return application


class _DirectRoute(APIRoute):
    """A documented route that hands requests straight to its endpoint: FastAPI's way there took a fifth of the time."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of one of the route's methods."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(Request(scope, receive))
        await response(scope, receive, send)


def _add_predict(application: FastAPI) -> None:
    async def predict(request: Request) -> Response:
        """Give the class of each picture, or N, one more than the last class, for one that is refused, and why."""
        reception: Reception = application.state.reception
        return await reception.predict(request)

    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text} for status, text in _PROBLEMS.items()
    }
    application.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        summary="Classify pictures.",
        response_class=JSONResponse,
        responses={200: {"model": Prediction}, **problems},
        openapi_extra=_REQUEST,
        route_class_override=_DirectRoute,
    )


def _add_state(application: FastAPI) -> None:
    @application.get("/health", summary="Is the server there and ready, and with which network?")
    async def health() -> JSONResponse:
        """Any answer means alive; 200 means ready, 503 not ready, with the reasons."""
        reception: Reception = application.state.reception
        network, reasons = reception.network, reception.not_ready()
        content = {
            "live": True,
            "ready": not reasons,
            "reasons": reasons,
            "version": __version__,
            "model": {"sha256": network.sha256, **network.card.model_dump(mode="json")},
            "resize": reception.options.resize,
            "fail": reception.options.fail,
        }
        return JSONResponse(content, 503 if reasons else 200, {"cache-control": "no-store"})

    @application.get("/metrics", summary="Counters for Prometheus.", response_class=Response)
    async def metrics() -> Response:
        """Requests by status, pictures, refusals by guard, seconds, batches, queue."""
        reception: Reception = application.state.reception
        return Response(reception.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(application: FastAPI) -> None:
    for route, name in (("/", "page.html"), ("/docs", "docs.html")):
        page = (resources.files("goodnet.serve") / name).read_text(encoding="utf-8")
        response = HTMLResponse(page, headers={"content-security-policy": _own_content_only(page)})
        application.add_api_route(route, lambda response=response: response, include_in_schema=False)


def _own_content_only(page: str) -> str:
    """Return the policy that lets the page's own script and style run, and nothing else."""
    parts = {
        f"{kind}-src": " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        )
        for kind, tag in (("script", "script"), ("style", "style"))
    }
    own = "; ".join(f"{kind} {hashes}" for kind, hashes in parts.items())
    return f"default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; {own}; frame-ancestors 'none'; base-uri 'none'"


async def _explain_status(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
    return reject(Rejected(status, f"{status.phrase.lower()}: {request.method} {request.url.path}"))


async def _explain_failure(request: Request, error: Exception) -> Response:
    return reject(Rejected(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why", hang_up=True))
