"""How a node and its manager reach each other: whose machine an address is, and what follows from that.

A node's token and its reports only cross a network under TLS. A manager on another machine reaches the node's
control endpoint at an address that is not loopback, which only a person can know: NAT and several networks
are common. Both the node and the command that starts it ask here, before anything is begun.
"""

import ipaddress
import socket
from urllib.parse import urlsplit


class Unreachable(Exception):
    """Node and manager could not speak with each other. `what` is wrong, and the `next_step`."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}. {next_step}.")
        self.what = what
        self.next_step = next_step


def is_this_machine(host: str) -> bool:
    """Whether a name or an address, whatever it resolves to, is ours."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return all(_is_ours(family, address) for family, _, _, _, address in found)


def _is_ours(family: int, address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> bool:
    """By the routing table: whoever speaks to an own address speaks from it. Nothing is sent."""
    if ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        own: bool = probe.getsockname()[0] == address[0]
    return own


def check_manager(url: str) -> None:
    """Raises Unreachable when a token sent to this manager would cross a network in clear."""
    parts = urlsplit(url)
    if parts.scheme == "https" or is_this_machine(parts.hostname or ""):
        return
    raise Unreachable(
        f"a node's token is not sent over plain http:// to another machine ({parts.hostname})",
        "Use https:// (serve with --tls-cert and --tls-key), or a tunnel that ends at 127.0.0.1",
    )


def control_host(manager: str, listen: str, announce: str | None) -> str:
    """At which address the manager at this URL reaches a control endpoint that listens on `listen`.

    `announce` says it where that is another one. Raises Unreachable when nothing says it.
    """
    address = ipaddress.ip_address(announce or listen)
    host = urlsplit(manager).hostname or ""
    if is_this_machine(host):
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "::1"
        return str(address)
    if address.is_loopback or address.is_unspecified:
        given = f"--control-announce {announce}" if announce else f"--control-listen {listen}"
        raise Unreachable(
            f"the stream manager at {host} is on another machine and cannot reach this node at {address} "
            f"({given})",
            "Give --control-listen the address of this machine that the manager reaches; or 0.0.0.0, and "
            "that address by --control-announce",
        )
    return str(address)


def control_url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
