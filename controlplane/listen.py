"""The sockets the manager listens on, bound before anything else is begun, with errors that help."""

import ipaddress
import json
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from controlplane.errors import StartError

BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. StartError when the address or the port cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StartError(
            f"--listen {host}: there is no such address ({error.strerror}). "
            "127.0.0.1 serves this machine, 0.0.0.0 every network it is on."
        ) from error
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise _why(host, port, error) from error
    return bound


def _why(host: str, port: int, error: OSError) -> StartError:
    import errno

    if error.errno == errno.EADDRINUSE:
        return StartError(_in_use(host, port))
    if error.errno in (errno.EACCES, errno.EPERM):
        return StartError(f"port {port} may not be used by this user. Choose one above 1023: --port 8080")
    if error.errno == errno.EADDRNOTAVAIL:
        return StartError(f"--listen {host}: this machine does not have that address.")
    return StartError(f"cannot listen on {host} port {port}: {error.strerror}.")


def _in_use(host: str, port: int) -> str:
    other = f"choose another one: --port {port + 1 if port < 65_535 else 8080}"
    stage = _stage_at(host, port)
    if stage is not None:
        return (
            f"a Showcaller stage ({stage}) already answers on port {port}. Use that one, end it first "
            f"(showcaller stage down), or {other}"
        )
    return f"port {port} on {host} is in use by another program. Free it, or {other}"


def _stage_at(host: str, port: int) -> str | None:
    """The name of the stage that answers there, if one does."""
    host = local_host(host)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
    )
    for scheme in ("http", "https"):
        try:
            with opener.open(f"{scheme}://{host}:{port}/api/v1/health", timeout=1.0) as response:
                said = json.loads(response.read(4096))
            return str(said["stage"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError, urllib.error.URLError):
            continue
    return None


def local_host(host: str) -> str:
    """How this machine itself reaches an address it listens on, ready for a URL."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


def public_host(host: str) -> str:
    """How others reach it: an address of this machine when it listens on all of them."""
    try:
        unspecified = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        unspecified = False
    if not unspecified:
        return local_host(host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks the routing table which address is ours
            return str(probe.getsockname()[0])
        except OSError:
            return local_host(host)


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later with this certificate. StartError when the files do not do."""
    for option, path in (("--tls-cert", cert), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise StartError(f"{option} {path} cannot be read: {error.strerror}.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        raise StartError(
            f"the certificate {cert} and the key {key} cannot be used ({error.reason or error}). Both must "
            "be PEM files that belong together, the key without a pass phrase."
        ) from error
    return context
