"""Redirects as WHIP and WHEP use them (RFC 9725 section 4.5), and a token that does not wander.

A load balancer answers an offer with 307 or 308: the same request goes to the address it names, at most
`MOST` times. Other redirects would turn a POST into a GET, and are not for here. The token goes along to the
same host, on any port, but neither to another host nor from https to http: whoever may answer on a channel's
address is not therefore to be told who may publish on it. The same holds for a session's address (Location).
"""

from collections.abc import Generator
from typing import Any

import httpx

MOST = 5
FOLLOWED = (307, 308)


def may_know(home: httpx.URL, url: httpx.URL) -> bool:
    """Whether what was given for use at `home` may be sent to `url`."""
    return url.host == home.host and not (home.scheme == "https" and url.scheme != "https")


class BearerAt(httpx.Auth):
    """A bearer token for the hosts it was given for."""

    def __init__(self, token: str, *homes: str) -> None:
        self._token = token
        self._homes = [httpx.URL(home) for home in homes if home]

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._token and any(may_know(home, request.url) for home in self._homes):
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


async def send(http: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
    """A request and the redirects of its answer; the last answer, whatever it is.

    Raises httpx.TooManyRedirects beside what `http` raises. `http` is of `whip.http_client`: it follows
    nothing itself, and sends its token only where it may.
    """
    response = await http.request(method, url, **request)
    for _ in range(MOST):
        if response.status_code not in FOLLOWED or "Location" not in response.headers:
            return response
        where = response.url.join(response.headers["Location"])
        if where.scheme not in ("http", "https") or not where.host:
            return response
        response = await http.request(method, where, **request)
    if response.status_code in FOLLOWED:
        raise httpx.TooManyRedirects(f"more than {MOST} redirects", request=response.request)
    return response
