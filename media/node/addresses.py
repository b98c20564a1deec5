"""The addresses a node announces in its answers: those it is told, or else this host's own."""

import socket

METADATA = "metadata"  # in place of an address: as the cloud's instance metadata says

_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))  # RFC 5737, RFC 3849: nobody's


def announced_addresses(given: list[str]) -> list[str]:
    """The addresses asked for, each once, METADATA replaced by what it says; or this host's own.

    Raises AnnounceError. May wait for the metadata service, for some seconds.
    """
    found: dict[str, None] = {}
    for text in given or own_addresses():
        if text == METADATA:
            from media.node.metadata import announced_by_metadata  # HTTP, which most nodes do without

            found.update(dict.fromkeys(announced_by_metadata()))
        else:
            found[text] = None
    return list(found)


def own_addresses() -> list[str]:
    """127.0.0.1, then the host's primary address of each family: the one its default route would use.

    Firefox takes no candidate on loopback, and other machines cannot; browsers on this one prefer it.
    """
    found = ["127.0.0.1"]
    for family, target in _PROBES:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((target, 9))  # UDP: chooses a route, sends nothing
                address = sock.getsockname()[0]
            except OSError:
                continue
        if address not in found and not address.startswith("fe80:"):
            found.append(address)
    return found
