"""The node's calls to the stream manager: enrol, report, subscribe.

Where there are several on one database any of them will do. A node is told of them with each answer to its
reports, and stays with the one it has until that does not answer: then the others are asked in turn, in the
same call. They are known by the scheme of the first: who was found trustworthy over TLS hands nobody on to a
place without.
"""

import ssl
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from controlplane.wire.base import Message, Problem
from controlplane.wire.nodes import (
    EnrolAnswer,
    EnrolRequest,
    NodeReport,
    ReportAnswer,
    SubscribeAnswer,
    SubscribeRequest,
)

TIMEOUT = httpx.Timeout(3.0, connect=1.0)


class ManagerAway(Exception):
    """No usable answer: not running, restarting, overloaded. Try again."""


class ManagerUntrusted(ManagerAway):
    """Somebody answers, with a certificate that is not trusted. Nothing was said to them."""


class ManagerRefused(Exception):
    """It answered, and the answer is no. `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class ManagerClient:
    """One node's client. Methods raise ManagerAway and ManagerRefused, nothing else."""

    def __init__(self, url: str, trust: ssl.SSLContext | None = None) -> None:
        """`url`: of one, or of several with commas between. `trust` in its certificate, if it has one; None:
        in those that are trusted everywhere."""
        given = [one.strip().rstrip("/") for one in url.split(",") if one.strip()]
        self.url = given[0]  # that is asked first
        self._others: list[str] = []
        self._given = given  # are asked when nobody else answers, whoever was named since
        self.learn(given)
        if trust is None and self.url.startswith("https:"):
            trust = httpx.create_ssl_context()
        # No proxy from the environment: managers and nodes share a private network.
        self._http = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=trust or False)
        self._node_id = ""

    async def close(self) -> None:
        await self._http.aclose()

    def learn(self, urls: Iterable[str]) -> None:
        """These live. Who was given at the start is not forgotten: they may all have been replaced."""
        scheme = urlsplit(self.url).scheme
        known = dict.fromkeys([*(url.rstrip("/") for url in urls), *self._given])
        self._others = [url for url in known if url != self.url and urlsplit(url).scheme == scheme]

    async def _post(self, path: str, body: str, timeout: float | None = None) -> bytes:
        """Of whoever answers; from then on that one is asked first."""
        away: ManagerAway | None = None
        for url in (self.url, *self._others):
            try:
                content = await self._post_to(url, path, body, timeout)
            except ManagerAway as error:
                away = away or error  # of the one we are with: what is wrong with the others follows from it
                continue
            if url != self.url:
                self._others = [self.url, *(it for it in self._others if it != url)]
                self.url = url
            return content
        assert away is not None
        raise away

    async def _post_to(self, url: str, path: str, body: str, timeout: float | None) -> bytes:
        try:
            response = await self._http.post(
                url + path,
                content=body,
                headers={"content-type": "application/json"},
                timeout=TIMEOUT if timeout is None else timeout,
            )
        except httpx.HTTPError as error:
            untrusted = _untrusted(error)
            if untrusted is not None:
                raise ManagerUntrusted(f"{url}: {untrusted.verify_message}") from error
            raise ManagerAway(f"{url} does not answer ({type(error).__name__}: {error})") from error
        if response.is_success:
            return response.content
        if response.status_code >= 500 or response.status_code == 429:
            raise ManagerAway(f"{url} answered {response.status_code}")
        raise ManagerRefused(_problem(response))

    async def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        content = await self._post("/api/v1/nodes/enrol", request.model_dump_json())
        answer = _read(EnrolAnswer, content)
        self._node_id = answer.node_id
        self._http.headers["authorization"] = f"Bearer {answer.credential}"
        return answer

    async def report(self, report: NodeReport, timeout: float | None = None) -> ReportAnswer:
        path = f"/api/v1/nodes/{self._node_id}/report"
        answer = _read(ReportAnswer, await self._post(path, report.model_dump_json(), timeout))
        if answer.managers:
            self.learn(answer.managers)
        return answer

    async def subscribe(self, request: SubscribeRequest) -> SubscribeAnswer:
        path = f"/api/v1/nodes/{self._node_id}/subscribe"
        return _read(SubscribeAnswer, await self._post(path, request.model_dump_json()))


Model = TypeVar("Model", bound=Message)


def _read(model: type[Model], content: bytes) -> Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise ManagerAway(f"the answer is no {model.__name__} (a proxy, or another version?)") from error


def _untrusted(error: BaseException) -> ssl.SSLCertVerificationError | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _problem(response: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return Problem(code="http_error", title=f"HTTP {response.status_code}", status=response.status_code)
