"""What can be said of a node's way to its manager before anything is started or asked for."""

import ipaddress
import ssl
from pathlib import Path

from console.core.errors import InsecureError, UsageError
from controlplane.wire import reaching


def check_control(manager: str, listen: str | None, announce: str | None) -> None:
    """UsageError when the manager at this URL could not reach the node's control endpoint, or the addresses
    are none; InsecureError when the node's token would go to another machine in clear."""
    for option, address in (("--control-listen", listen), ("--control-announce", announce)):
        try:
            ipaddress.ip_address(address or "127.0.0.1")
        except ValueError:
            raise UsageError(
                f"{option} {address!r} is not an IP address", "Give one of this machine's own"
            ) from None
    try:
        reaching.check_manager(manager)
    except reaching.Unreachable as error:
        raise InsecureError(error.what, error.next_step) from None
    try:
        reaching.control_host(manager, listen or "127.0.0.1", announce)
    except reaching.Unreachable as error:
        raise UsageError(error.what, error.next_step) from None


def trust(authority: Path) -> ssl.SSLContext:
    """A context that trusts what this authority (a PEM file) has signed. Raises UsageError."""
    try:
        return ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError:
        raise UsageError(f"--manager-ca {authority} holds no certificate", "Give a PEM file") from None
    except OSError as error:
        raise UsageError(f"--manager-ca {authority} cannot be read: {error.strerror}") from None
