"""Bodies that are no JSON of ours: read with a limit, and described in the OpenAPI document."""

from typing import Any

from fastapi import Request

from controlplane.errors import BadRequest
from controlplane.http.limits import too_large

LOCATION = {"Location": {"description": "Its address, relative", "schema": {"type": "string"}}}


def described(
    media_type: str, schema: dict[str, Any] | None = None, *, required: bool = True
) -> dict[str, Any]:
    """The body of a request, as `openapi_extra` takes it; text where there is no schema."""
    content = {media_type: {"schema": schema or {"type": "string"}}}
    return {"requestBody": {"required": required, "content": content}}


async def read_text(request: Request, media_type: str, limit: int, *, wanted: str = "an SDP offer") -> str:
    """The body as text. Raises BadRequest: 415, 413 or 400, each saying what is wanted."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type:
        raise BadRequest(
            f"Send it as {media_type}" + (f", not {given}." if given else "."),
            code="unsupported_media_type",
            title="This content type is not taken here",
            status=415,
        )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_large(limit)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not UTF-8 text.", code="bad_sdp", title="This is no SDP") from error
    if not text.strip():
        raise BadRequest(f"The body is empty: {wanted} is wanted.", code="bad_sdp", title="This is no SDP")
    return text
