"""WHIP, the client's side (RFC 9725): one POST with an offer, one DELETE at the end."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import ValidationError

from controlplane.wire.base import Problem
from media.publisher import redirects
from media.publisher.errors import NoConnection, PublishError, Refused, TimedOut, UsageError

_KNOWN = (401, 403, 404, 405, 409, 429, 503)
_NEW_TOKEN = "Make a new one: showcaller token create --publish CHANNEL"


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_client(url: str, token: str, *also: str, most: int | None = 100) -> httpx.AsyncClient:
    """For WHIP and reports, to be used by `redirects.send`; the token is for these addresses' hosts. `most`:
    connections at once, None for any number.

    A proxy named in the environment is not asked for a way to this very machine. Raises UsageError when
    SSL_CERT_FILE or SSL_CERT_DIR cannot be read.
    """
    return httpx.AsyncClient(
        headers={"User-Agent": "showcaller"},
        auth=redirects.BearerAt(token, url, *also),
        verify=certificates(url),
        trust_env=not is_loopback(url),
        limits=httpx.Limits(max_connections=most, max_keepalive_connections=20),
    )


def certificates(url: str) -> ssl.SSLContext | bool:
    """Whose signatures are believed. httpx reads SSL_CERT_FILE only together with the shell's proxies."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if urlsplit(url).scheme != "https" or not (file or folder):
        return True
    try:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except OSError as error:
        raise UsageError(
            f"SSL_CERT_FILE or SSL_CERT_DIR ({file or folder}) cannot be used: {error}",
            "Name a file of PEM certificates.",
        ) from None


@dataclass(frozen=True)
class Published:
    """A WHIP session: where it lives, and the server's answer."""

    resource: str
    answer: str

    @property
    def session(self) -> str:
        """Its id, as the server names it in its reports."""
        return urlsplit(self.resource).path.rstrip("/").rpartition("/")[2]


async def publish(http: httpx.AsyncClient, url: str, offer: str, timeout: float) -> Published:
    """Raises Refused, NoConnection or TimedOut."""
    try:
        response = await redirects.send(
            http,
            "POST",
            url,
            content=offer,
            headers={"Content-Type": "application/sdp"},
            timeout=httpx.Timeout(timeout, connect=3.0),
        )
    except httpx.TimeoutException:
        raise TimedOut(
            f"{url} did not answer within {timeout:g} s",
            "Look at the stream manager: showcaller logs manager",
        ) from None
    except httpx.TransportError as error:
        raise unreachable(url, error) from None
    except httpx.TooManyRedirects:
        raise Refused(f"{url} redirects without end", "Check the address.") from None
    except httpx.InvalidURL:
        raise Refused(f"{url} redirects to an address that is none", "Check the address.") from None
    if response.status_code != 201:
        raise refusal(response)
    location = response.headers.get("Location")
    if not location or not response.text.startswith("v=0"):
        raise Refused(
            f"{url} answered without {'an SDP' if location else 'a Location'}: it does not speak WHIP",
            "Check the address: it ends in /whip/CHANNEL.",
        )
    return Published(urljoin(str(response.url), location), response.text)


async def end(http: httpx.AsyncClient, published: Published, timeout: float, why: str = "") -> None:
    """Take the session down, and say why where that is known; whatever comes of it, it is over for us."""
    try:
        target = (
            str(httpx.URL(published.resource).copy_merge_params({"why": why})) if why else published.resource
        )
        await redirects.send(http, "DELETE", target, timeout=timeout)
    except (httpx.HTTPError, httpx.InvalidURL):
        pass


def unreachable(url: str, error: Exception) -> PublishError:
    host = urlsplit(url).netloc
    words = str(error) or type(error).__name__
    if "CERTIFICATE" in words.upper():
        return NoConnection(
            f"the certificate of {host} is not trusted here ({words})",
            "Name the authority's certificate in SSL_CERT_FILE.",
        )
    if isinstance(error, httpx.ProtocolError | httpx.ReadError | httpx.WriteError):
        return NoConnection(f"{host} hung up or does not speak HTTP ({words})", "Check the address.")
    return NoConnection(
        f"nobody answers at {host} ({words})", "Is the stage up? showcaller stage status; showcaller stage up"
    )


def refusal(response: httpx.Response) -> Refused:
    """An error answer in words: the server's own where it gives some (RFC 9457)."""
    status = response.status_code
    try:
        problem = Problem.model_validate_json(response.content)
        code, said = problem.code, problem.detail or problem.title
    except ValidationError:
        code, said = "", ""
    what, step = {
        401: ("the publish token is not accepted", _NEW_TOKEN),
        403: ("the publish token is not for this channel", _NEW_TOKEN),
        404: (
            f"there is nothing to publish to at {response.url}",
            "Check the address: it ends in /whip/CHANNEL.",
        ),
        405: (f"{response.url} does not take WHIP", "Check the address: it ends in /whip/CHANNEL."),
        409: (
            "this channel is already on air",
            "Stop that broadcast (showcaller streams stop CHANNEL) or choose another channel.",
        ),
        429: ("the server has too much to do", "Wait a moment and try again."),
        503: ("no origin has room for this broadcast", "Look at the nodes: showcaller nodes"),
    }.get(
        status,
        (
            f"the server answered {status} {response.reason_phrase}",
            "Look at its log: showcaller logs manager",
        ),
    )
    if said:
        # Its first sentence says what is the matter; what to do next we know better, where we know it at all.
        first = said.partition(". ")[0] if status in _KNOWN else said
        what = f"{what}: {first.rstrip('. ')}"
    return Refused(what, step, status, code)
