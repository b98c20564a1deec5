"""The node's calls to the stream manager: enrol, report, subscribe."""

import ssl
from typing import TypeVar

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
        """`trust` in its certificate, if it has one; None: in those that are trusted everywhere."""
        self.url = url.rstrip("/")
        if trust is None and self.url.startswith("https:"):
            trust = httpx.create_ssl_context()
        # No proxy from the environment: managers and nodes share a private network.
        self._http = httpx.AsyncClient(
            base_url=self.url, timeout=TIMEOUT, trust_env=False, verify=trust or False
        )
        self._node_id = ""

    async def close(self) -> None:
        await self._http.aclose()

    async def _post(self, path: str, body: str, timeout: float | None = None) -> bytes:
        try:
            response = await self._http.post(
                path,
                content=body,
                headers={"content-type": "application/json"},
                timeout=TIMEOUT if timeout is None else timeout,
            )
        except httpx.HTTPError as error:
            untrusted = _untrusted(error)
            if untrusted is not None:
                raise ManagerUntrusted(f"{self.url}: {untrusted.verify_message}") from error
            raise ManagerAway(f"{self.url} does not answer ({type(error).__name__}: {error})") from error
        if response.is_success:
            return response.content
        if response.status_code >= 500 or response.status_code == 429:
            raise ManagerAway(f"{self.url} answered {response.status_code}")
        raise ManagerRefused(_problem(response))

    async def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        content = await self._post("/api/v1/nodes/enrol", request.model_dump_json())
        answer = _read(EnrolAnswer, content)
        self._node_id = answer.node_id
        self._http.headers["authorization"] = f"Bearer {answer.credential}"
        return answer

    async def report(self, report: NodeReport, timeout: float | None = None) -> ReportAnswer:
        path = f"/api/v1/nodes/{self._node_id}/report"
        return _read(ReportAnswer, await self._post(path, report.model_dump_json(), timeout))

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
