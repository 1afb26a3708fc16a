"""The centre's one TLS port: POST /enrol, POST /status, GET /ca (sync.md §10).

Bodies are CBOR or COSE, small and read with a limit. Every refusal is a CBOR map with the stable
code of the error; nothing else about the inside is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from firmware.base.log import event
from protocols.errors import FrameError, OnecardError
from protocols.wire import cbor
from sync.central.enrol import Enroller
from sync.errors import (
    BusyError,
    EnrolCodeError,
    EnrolCsrError,
    EnrolExpiredError,
    EnrolFormError,
    EnrolTriesError,
)

LOG = logging.getLogger("onecard.enrol")
BODY_BYTES_MAX = 8_192
MEDIA = "application/cbor"
_Act = Callable[[bytes], bytes]
STATUS: dict[type[OnecardError], int] = {
    EnrolFormError: 400,
    EnrolCsrError: 400,
    EnrolCodeError: 403,
    EnrolExpiredError: 410,
    EnrolTriesError: 429,
    BusyError: 503,
}


def application(enroller: Enroller, ca_pem: bytes) -> Starlette:
    """The ASGI application."""

    async def enrol(request: Request) -> Response:
        return await _answered(request, lambda raw: cbor.dumps(_enrol(enroller, raw)))

    async def status(request: Request) -> Response:
        return await _answered(request, enroller.status)

    async def ca(request: Request) -> Response:
        return Response(ca_pem, media_type="application/x-pem-file")

    return Starlette(
        routes=[
            Route("/enrol", enrol, methods=["POST"]),
            Route("/status", status, methods=["POST"]),
            Route("/ca", ca, methods=["GET"]),
        ]
    )


def _enrol(enroller: Enroller, raw: bytes) -> dict[str, object]:
    """Body {code, csr} to the answer of `Enroller.admit`. Raises ENROL_FORM and its errors."""
    try:
        asked = cbor.loads(raw)
    except FrameError as fault:
        raise EnrolFormError(reason="form") from fault
    fits = type(asked) is dict and asked.keys() == {"code", "csr"}
    if not fits or type(asked["code"]) is not str or type(asked["csr"]) is not bytes:
        raise EnrolFormError(reason="form")
    return enroller.admit(asked["code"][:32], asked["csr"])


async def _answered(request: Request, act: _Act) -> Response:
    """Run one request in the event loop's own thread: one at a time, argon2 included."""
    try:
        return Response(act(await _body(request)), media_type=MEDIA)
    except OnecardError as fault:
        event(LOG, logging.WARNING, "request_refused", path=request.url.path, code=fault.code)
        told = cbor.dumps({"code": fault.code})
        return Response(told, status_code=STATUS.get(type(fault), 503), media_type=MEDIA)


async def _body(request: Request) -> bytes:
    """The body, read no further than the limit. Raises ENROL_FORM."""
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > BODY_BYTES_MAX:
            raise EnrolFormError(reason="too large", max=BODY_BYTES_MAX)
    return raw
