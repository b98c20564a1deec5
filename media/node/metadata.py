"""The addresses of this machine as its cloud knows them: OCI's instance metadata service, version 2.

Behind 1:1 NAT no interface has the public address, so nothing on the machine can tell it. The metadata
service names the network interfaces (VNICs) at /opc/v2/vnics/; with `publicIp` where the instance has one
that the service knows of, which is not always so. Guessing is no use: then the address has to be given.

https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm. OCI_METADATA_BASE_URL names
another service, as it does for OCI's own SDK. No redirect is followed, no proxy used.
"""

import http.client
import ipaddress
import json
import os
import time
from typing import Any, Final
from urllib.parse import urlsplit

from media.node.errors import AnnounceError

BASE_VARIABLE: Final = "OCI_METADATA_BASE_URL"
BASE_URL: Final = "http://169.254.169.254/opc/v2"
WAIT_S: Final = 2.0  # for the connection, and for each piece of an answer
WITHIN_S: Final = 5.0  # for one attempt in all
ATTEMPTS: Final = 3
PAUSE_S: Final = 0.5
MAX_BYTES: Final = 64 * 1024

_GIVE: Final = "Give the address that viewers reach this machine by: --announce ADDRESS."


class _Away(Exception):
    """It did not answer, or not with 200: it may be tried again."""


def announced_by_metadata(base: str | None = None) -> list[str]:
    """This machine's public address, its IPv6 addresses, and last its private one, for its neighbours.

    The private one is for relays: a public address is not always reachable from within. Blocks, for some
    seconds at most. Raises AnnounceError.
    """
    base = base or os.environ.get(BASE_VARIABLE) or BASE_URL
    last = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S)
        try:
            return _addresses(_ask(base), base)
        except _Away as error:
            last = str(error)
    raise AnnounceError(f"the instance metadata service at {base} does not answer ({last}). {_GIVE}")


def _ask(base: str) -> Any:
    parts = urlsplit(base)
    if parts.scheme != "http" or not parts.hostname:
        raise AnnounceError(
            f"{BASE_VARIABLE} is {base!r}, which is no http:// address. Correct it, or unset it."
        )
    deadline = time.monotonic() + WITHIN_S
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=WAIT_S)
    try:
        path = f"{parts.path.rstrip('/')}/vnics/"
        connection.request("GET", path, headers={"Authorization": "Bearer Oracle"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise _Away(f"it says {answer.status}")
        body = bytearray()
        while piece := answer.read1(MAX_BYTES):
            body += piece
            if len(body) > MAX_BYTES:
                raise AnnounceError(f"the answer of {base} is over {MAX_BYTES} bytes. {_GIVE}")
            if time.monotonic() > deadline:
                raise _Away("its answer takes too long")
    except (OSError, http.client.HTTPException) as error:
        raise _Away(str(error) or type(error).__name__) from error
    finally:
        connection.close()
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # the latter of ten thousand brackets
        raise _Away("its answer is no JSON") from error


def _addresses(vnics: Any, base: str) -> list[str]:
    rows = [row for row in vnics if isinstance(row, dict)] if isinstance(vnics, list) else []
    vnic = next((row for row in rows if row.get("publicIp")), None)
    if vnic is None:
        raise AnnounceError(
            f"the instance metadata at {base} names no public address of this machine "
            f"({len(rows)} network interfaces, none with publicIp). {_GIVE}"
        )
    six = vnic.get("ipv6Addresses")
    named = [vnic["publicIp"], *(six if isinstance(six, list) else []), vnic.get("privateIp")]
    found: dict[str, None] = {}
    for text in named:
        if text is None:
            continue
        try:
            found[str(ipaddress.ip_address(str(text)))] = None
        except ValueError:
            raise AnnounceError(
                f"the instance metadata at {base} names {text!r}, which is no IP address. {_GIVE}"
            ) from None
    return list(found)
