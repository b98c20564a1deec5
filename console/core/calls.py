"""How a call gets to a stream manager and its answer back; what there is to ask is client.py.

Raises `Unreachable` (nobody answers), `TimedOut`, `Rejected` (a manager said no), all of which say what to do
next.

Where several managers of the stage are known, a call that one of them does not take goes to the next, and
whoever answered is asked first from then on. A call that changes something has a key (Idempotency-Key), under
which a manager does it once and answers as the first time: where its answer was lost it is sent again, to the
next manager and to the same one, which may have been started anew, for as long as it might have taken. That
a manager keeps keys is asked before the first such call; one of an earlier version, which does not, is sent
none again. With that it tells of the other managers. A client that changes nothing asks so before its second
call.

A token never travels in clear to another machine: `http://` to a host that is not loopback raises
`InsecureError` at once, before anything is sent. `local=True` says the caller knows that the address is one
of this machine's own (the embedded stage listening on a LAN address).
"""

import asyncio
import contextlib
import ipaddress
import os
import secrets
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from console.core.errors import InsecureError, Rejected, TimedOut, Unreachable, UsageError
from controlplane.wire.api import ManagersView
from controlplane.wire.base import Problem
from controlplane.wire.fleet import Policy, Question, WhatIf

T = TypeVar("T")

CONNECT_S = 2.0  # for a connection, where there is another manager to try
LEARN_S = 2.0  # for what the others are, where nothing hangs on it
AGAIN_EVERY_S = 0.25  # when all have been asked again
MOST_APIS = 16
# A manager's words for: whether it was done will be known, ask again.
_ASK_AGAIN = ("key_under_way", "outcome_unknown")

_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH = 62, 64  # X509_V_ERR_*, of OpenSSL's x509_vfy.h


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_api_url(api: str) -> str:
    """The URL without a trailing slash; UsageError when it is not an http(s) URL."""
    try:
        parts = urlsplit(api)
        _ = parts.port, httpx.URL(api)  # raise for a port, or an address, that is none
    except (ValueError, httpx.InvalidURL):
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{api!r} is not the address of a stream manager", "Give one like https://HOST:8080")
    return api.rstrip("/")


def check_token_transport(api: str, *, local: bool = False) -> None:
    """Raise InsecureError when a token sent to `api` would cross the network in clear."""
    parts = urlsplit(api)
    if parts.scheme == "https" or local or is_loopback(parts.hostname or ""):
        return
    raise InsecureError(
        f"the operator token is not sent over plain http:// to another machine ({parts.hostname})",
        "Use https:// (serve with --tls-cert and --tls-key), or a tunnel that ends at 127.0.0.1",
    )


def certificates(api: str) -> ssl.SSLContext | bool:
    """Whose signatures are believed: those in SSL_CERT_FILE or SSL_CERT_DIR, else httpx's own list (True).

    httpx itself reads these only together with the proxies of the environment. UsageError when they cannot
    be read.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if urlsplit(api).scheme != "https" or not (file or folder):
        return True
    try:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except OSError as error:  # an SSLError, where it can be read and is no certificate
        name, path = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        reason = "it is not a certificate" if isinstance(error, ssl.SSLError) else reason_of(error)
        raise UsageError(
            f"{name} names {path}, and that cannot be used: {reason}", "Name a file of PEM certificates"
        ) from error


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    content: bytes | None = None
    query: dict[str, str] | None = None
    timeout_s: float | None = None
    key: str | None = None  # of one that changes something


class Calls:
    """One stage, one token. `timeout` bounds each call to one manager, in seconds."""

    def __init__(
        self,
        api: str,
        token: str | None = None,
        *,
        others: Sequence[str] = (),
        timeout: float = 10.0,
        local: bool = False,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`others`: more managers of the same stage, in the order in which they are tried. `trust` in the
        managers' certificates; None: in those that are trusted everywhere."""
        self.api = check_api_url(api)  # that is asked first
        self.token = token
        self._timeout, self._local, self._trust = timeout, local, trust
        self._apis: dict[str, httpx.AsyncClient] = {}
        self._takes_keys: dict[str, bool] = {}  # by manager, as far as it was asked
        self._answered = self._asked_for_others = False
        for one in (self.api, *others):
            self._open(check_api_url(one), local=local)

    @property
    def apis(self) -> list[str]:
        """All managers that are known, in the order in which they are tried."""
        return list(self._apis)

    def _open(self, api: str, *, local: bool) -> None:
        if api in self._apis:
            return
        if self.token is not None:
            check_token_transport(api, local=local)
        address = urlsplit(api)
        among_us = local or is_loopback(address.hostname or "")  # no proxy between us and ourselves
        # Of what never speaks TLS nobody's signature is asked for, and the list of those that count is long.
        in_clear = among_us and address.scheme == "http"
        self._apis[api] = httpx.AsyncClient(
            base_url=api,
            headers={} if self.token is None else {"authorization": f"Bearer {self.token}"},
            timeout=self._timeout,
            verify=self._trust or (not in_clear and certificates(api)),
            trust_env=not among_us,
            follow_redirects=False,  # a redirect must not carry the token elsewhere
        )

    def prefer(self, api: str) -> None:
        """Ask this manager first from now on; it becomes one of them where it was not."""
        self._open(check_api_url(api), local=self._local)
        self.api = check_api_url(api)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for http in self._apis.values():
            await http.aclose()

    # --- the one place where a call is made

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: BaseModel | None = None,
        query: dict[str, str] | None = None,
        timeout_s: float | None = None,
        *,
        changes: bool = True,
    ) -> T:
        """`timeout_s` where it may take longer than other calls; `changes` False: it is only asked, though it
        is no GET."""
        response = await self._send(method, path, body, query, timeout_s, changes=changes)
        try:
            return TypeAdapter(answer).validate_json(response.content)
        except ValidationError as error:
            raise Rejected(
                Problem(
                    code="unreadable_answer",
                    title=f"{self.api}{path} answered something this program cannot read",
                    detail=f"Is it a stream manager of this version? {_first_error(error)}",
                    status=response.status_code,
                )
            ) from error

    async def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        query: dict[str, str] | None = None,
        timeout_s: float | None = None,
        *,
        changes: bool = True,
    ) -> httpx.Response:
        # Of a policy null has a meaning (no cap), and what is not said stays as it is; of a node that is
        # supposed, what is not said is not known.
        said = isinstance(body, Policy | WhatIf | Question)
        content = None
        if body is not None:
            content = body.model_dump_json(exclude_none=not said, exclude_unset=said).encode()
        key = secrets.token_urlsafe(16) if changes and method != "GET" else None
        call = _Call(method, path, content, query, timeout_s, key)
        if self._answered and not self._asked_for_others:
            await self._ask_for_others()
        response = await (self._ask_any(call) if key is None else self._change(call))
        if not response.is_success:
            raise Rejected(_problem(response))
        return response

    def _in_turn(self) -> Iterator[str]:
        """Each once, from the one that answered last on; also those that are learnt of meanwhile."""
        first, had = self.api, set[str]()
        while True:
            place = self.apis.index(first)
            left = [api for api in (*self.apis[place:], *self.apis[:place]) if api not in had]
            if not left:
                return
            had.add(left[0])
            yield left[0]

    async def _ask_any(self, call: _Call) -> httpx.Response:
        """One that changes nothing: of the first that answers. Raises what the last one raised."""
        failed: TimedOut | Unreachable | None = None
        for api in self._in_turn():
            try:
                return await self._ask(api, call)
            except (TimedOut, Unreachable) as error:
                failed = error
        assert failed is not None
        raise failed

    async def _change(self, call: _Call) -> httpx.Response:
        """One that changes something: done once. See the module's text."""
        failed: TimedOut | Unreachable | None = None
        give_up: float | None = None  # set once it may have been done
        while True:
            for api in self._in_turn():
                try:
                    safe = await self._keeps_keys(api)
                    if give_up is not None and not safe:
                        continue
                except (TimedOut, Unreachable) as error:  # it was not asked for the change
                    failed = error
                    continue
                try:
                    response = await self._ask(api, call)
                except (TimedOut, Unreachable) as error:
                    failed = error
                    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
                        continue  # nothing was sent
                    if not safe:
                        raise
                    give_up = give_up or time.monotonic() + self._timeout
                    continue
                unsure = give_up is not None and response.status_code == httpx.codes.SERVICE_UNAVAILABLE
                if not unsure and not (safe and _asks_for_more_time(response)):
                    return response
                give_up = give_up or time.monotonic() + self._timeout
                if time.monotonic() >= give_up:
                    return response
            if failed is not None and (give_up is None or time.monotonic() >= give_up):
                raise failed if give_up is None else _not_known(failed)
            await asyncio.sleep(AGAIN_EVERY_S)

    async def _keeps_keys(self, api: str, timeout_s: float | None = None) -> bool:
        """Whether a manager keeps the keys of calls, and by the way which other managers there are. Raises
        TimedOut and Unreachable."""
        if api not in self._takes_keys:
            response = await self._ask(api, _Call("GET", "/api/v1/managers", timeout_s=timeout_s))
            self._asked_for_others = True
            try:
                self._learn(ManagersView.model_validate_json(response.content))
            except ValidationError:  # of an earlier version, or it says why not, and will say so again
                return False
            self._takes_keys[api] = True
        return self._takes_keys[api]

    async def _ask_for_others(self) -> None:
        """Of the manager that answered, once. Where it does not say, nothing is lost."""
        self._asked_for_others = True
        if self.token is not None:
            with contextlib.suppress(TimedOut, Unreachable):
                await self._keeps_keys(self.api, LEARN_S)

    def _learn(self, view: ManagersView) -> None:
        """One that could not be told the token safely is left out."""
        for api in view.managers:
            if api != view.api and len(self._apis) < MOST_APIS:  # its own may be another name than we call it
                with contextlib.suppress(InsecureError, UsageError):
                    self._open(check_api_url(api), local=False)

    async def _ask(self, api: str, call: _Call) -> httpx.Response:
        """One manager. Raises TimedOut and Unreachable."""
        connect = self._timeout if len(self._apis) == 1 else min(self._timeout, CONNECT_S)
        headers = {} if call.content is None else {"content-type": "application/json"}
        if call.key is not None:
            headers["idempotency-key"] = f'"{call.key}"'
        try:
            response = await self._apis[api].request(
                call.method,
                call.path,
                content=call.content,
                headers=headers,
                params=call.query,
                timeout=httpx.Timeout(self._timeout, read=call.timeout_s or self._timeout, connect=connect),
            )
        except httpx.TimeoutException as error:
            raise TimedOut(
                f"the stream manager at {api} did not answer in time",
                "Look at `showcaller logs manager`, or try again",
            ) from error
        except (httpx.TransportError, ssl.SSLError) as error:
            if (cause := _ssl_error(error)) is not None:
                raise _no_tls(api, cause) from error
            raise Unreachable(
                f"no stream manager answers at {api} ({reason_of(error)})",
                "Bring a stage up with `showcaller stage up`, or name a manager with --api",
            ) from error
        self.api, self._answered = api, True
        return response


def _asks_for_more_time(response: httpx.Response) -> bool:
    return not response.is_success and _problem(response).code in _ASK_AGAIN


def _not_known(failed: TimedOut | Unreachable) -> TimedOut | Unreachable:
    """Of a call that may have been done, and whose answer could not be had."""
    return type(failed)(
        f"{failed.what}; whether it was done is not known", "Look before you ask for it again"
    )


def reason_of(error: BaseException) -> str:
    """The deepest cause in words: "connection refused" says more than "all connection attempts failed"."""
    if (cause := _ssl_error(error)) is not None:
        return _ssl_words(cause)
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _ssl_error(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error among the causes. It is an OSError, whose errno is none of the system's."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _ssl_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    return f"no TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"


def _no_tls(api: str, error: ssl.SSLError) -> Unreachable:
    if not isinstance(error, ssl.SSLCertVerificationError):
        step = "Check the address: one that is served without a certificate begins with http://"
    elif error.verify_code in (_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH):
        step = "Use the name or address that the certificate was made for"
    else:
        step = "If it is the right one, name it, or who signed it: SSL_CERT_FILE=cert.pem"
    return Unreachable(f"{api} is not spoken to: {_ssl_words(error)}", step)


def _problem(response: httpx.Response) -> Problem:
    """The body as the manager meant it, or the best that can be said of an answer from something else."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        pass
    if response.status_code == 401:
        return Problem(code="unauthorized", title="the token is not accepted", status=401)
    return Problem(
        code=f"http_{response.status_code}",
        title=f"{response.request.url} answered {response.status_code} {response.reason_phrase}",
        detail="Is it a stream manager?" if response.status_code in (404, 405) else "",
        status=response.status_code,
    )


def _first_error(error: ValidationError) -> str:
    first: Sequence[Any] = error.errors(include_url=False)
    where = ".".join(str(part) for part in first[0]["loc"])
    return f"{where or 'body'}: {first[0]['msg']}"
