"""How large a request may be: nothing is read beyond it. Plain ASGI, so it costs a request nothing else."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane.errors import BadRequest
from controlplane.http.problems import of_error

BODY_LIMIT = 1024 * 1024  # a report of a full edge is a tenth of this


def too_large(limit: int) -> BadRequest:
    return BadRequest(
        f"At most {limit // 1024} KiB are taken.",
        code="too_large",
        title="The request is too large",
        status=413,
    )


class BodyLimit:
    def __init__(self, app: ASGIApp, limit: int = BODY_LIMIT) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._limit:
            await of_error(too_large(self._limit), scope["path"])(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._limit:  # chunked, without a declared length
                    raise too_large(self._limit)
            return message

        await self._app(scope, counted, send)
