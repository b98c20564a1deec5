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
