"""Where a peer is: an IP address and port over UDP, or one TCP connection (RFC 6544).

The two never compare equal, so nothing that was shown from one counts for the other: a UDP datagram whose
source happens to be that of a TCP connection is a stranger's, and so is a second connection from the same
address and port.
"""

from typing import NamedTuple


class TcpAddress(NamedTuple):
    """The far end of one accepted connection."""

    host: str  # IP address as text
    port: int
    connection: int  # the driver's number for it, never used twice


#: Over UDP: IP address as text, port. The driver takes IPv4-mapped IPv6 addresses and scopes off.
Address = tuple[str, int] | TcpAddress


def spelled(address: Address) -> str:
    """ADDRESS:PORT for people, an IPv6 address in brackets."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def transport(address: Address) -> str:
    """By what a peer is reached there: udp4, udp6, tcp4 or tcp6."""
    return f"{'tcp' if isinstance(address, TcpAddress) else 'udp'}{6 if ':' in address[0] else 4}"
