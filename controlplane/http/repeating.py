"""The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07): a call that may be sent again.

It is a string as in `Idempotency-Key: "8e03978e-40d5-43dd"` (RFC 9651, 3.3.3); without its quotes it is
taken as well. The operator's calls that change something take it, each router that is made with Repeatable:

    first                            done and answered; what was answered is kept for a day ([repeats] kept_h)
    the same again                   answered as the first time, with Idempotency-Replayed, and not done again
    the same while it is under way   409 key_under_way, Retry-After
    another call with its key        422 key_reused

What the key is good for is services/repeating.py; here it is read, and the answer of an earlier call sent.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from controlplane.errors import BadRequest
from controlplane.http.auth import check_operator
from controlplane.http.context import manager_of
from controlplane.http.problems import documented
from controlplane.services.repeating import AnsweredBefore

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MOST = 128  # characters of a key
_BARE = r"[!#-\[\]-~]"  # of printable ASCII without blanks, " and \
_KEY = re.compile(rf'"(?P<string>(?:{_BARE}| ){{1,{MOST}}})"|(?P<bare>{_BARE}{{1,{MOST}}})')
_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Of the caller's own making, another one for each call, and the same where a call is sent "
    "again because no answer came: it is done once, and answered as the first time.",
    "schema": {"type": "string", "pattern": rf'^("({_BARE}| ){{1,{MOST}}}"|{_BARE}{{1,{MOST}}})$'},
}


class Repeatable(APIRoute):
    """Of a router whose calls change something, but for its GETs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **words: Any) -> None:
        if set(words.get("methods") or ()) != {"GET"}:
            words["responses"] = documented(400, 409, 422) | (words.get("responses") or {})
            words["openapi_extra"] = {"parameters": [_PARAMETER]}
        super().__init__(path, endpoint, **words)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        status = self.status_code or 200

        async def serve(request: Request) -> Response:
            said = request.headers.get(HEADER)
            if said is None or request.method == "GET":
                return await handle(request)
            check_operator(request)  # what an earlier call was answered with is the operator's alone
            repeats = manager_of(request).repeats
            target = f"{request.url.path}?{request.url.query}"
            call = repeats.call(_read(said), request.method, target, await request.body())
            with repeats.under_way(call):
                body = await repeats.answered(call)
                if body is None:
                    try:
                        return await handle(request)
                    except AnsweredBefore:  # by another manager, meanwhile
                        body = await repeats.answered(call)
                        assert body is not None, "it was kept just now, for an hour at least"
            headers = {REPLAYED: "?1"}
            if not body:
                return Response(status_code=status, headers=headers)
            return Response(body, status, headers, "application/json")

        return serve


def _read(said: str) -> str:
    """Raises BadRequest."""
    found = _KEY.fullmatch(said.strip())
    if found is None:
        raise BadRequest(
            f'A key is 1 to {MOST} printable characters in quotes, as in {HEADER}: "8e03978e-40d5-43dd". '
            "Nothing was changed.",
            code="bad_key",
            title=f"This is no {HEADER}",
        )
    return found["string"] or found["bare"]
