"""Whose machine an address is, and what a manager elsewhere asks of a node's command line."""

import socket

import pytest

from controlplane.wire.reaching import Unreachable, check_manager, control_host, control_url, is_this_machine

ELSEWHERE = "203.0.113.1"  # nobody's (RFC 5737)


def own_address() -> str | None:
    """This machine's on its default route, if it has one; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_is_this_machine(host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    assert is_this_machine(host)
    check_manager(f"http://{host if ':' not in host else '[::1]'}:8080")


def test_an_own_address_is_this_machine() -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no route to anywhere")
    assert is_this_machine(address)
    check_manager(f"http://{address}:8080")
    assert control_host(f"http://{address}:8080", "127.0.0.1", None) == "127.0.0.1"


@pytest.mark.parametrize("host", [ELSEWHERE, "198.51.100.7", "2001:db8::1", "no.such.invalid", "", "a" * 300])
def test_others_are_not(host: str) -> None:
    assert not is_this_machine(host)


def test_a_token_goes_to_another_machine_under_tls_or_not_at_all() -> None:
    check_manager(f"https://{ELSEWHERE}")
    for url in (f"http://{ELSEWHERE}:8080", f"HTTP://{ELSEWHERE}", "http://no.such.invalid"):
        with pytest.raises(Unreachable) as caught:
            check_manager(url)
        assert "https://" in caught.value.next_step


@pytest.mark.parametrize(
    ("listen", "announce", "host"),
    [
        ("192.0.2.10", None, "192.0.2.10"),
        ("0.0.0.0", "192.0.2.10", "192.0.2.10"),
        ("192.0.2.10", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "192.0.2.10", "192.0.2.10"),  # a tunnel of the person's own ends here
        ("::", "2001:db8::7", "2001:db8::7"),
        ("2001:db8::7", None, "2001:db8::7"),
    ],
)
def test_a_manager_elsewhere_is_told_an_address_it_can_reach(
    listen: str, announce: str | None, host: str
) -> None:
    assert control_host(f"https://{ELSEWHERE}", listen, announce) == host


@pytest.mark.parametrize(
    ("listen", "announce"),
    [
        ("127.0.0.1", None),
        ("::1", None),
        ("0.0.0.0", None),
        ("::", None),
        ("192.0.2.10", "127.0.0.1"),
        ("192.0.2.10", "0.0.0.0"),
    ],
)
def test_without_such_an_address_the_next_step_is_named(listen: str, announce: str | None) -> None:
    with pytest.raises(Unreachable) as caught:
        control_host(f"https://{ELSEWHERE}", listen, announce)
    assert "--control-listen" in caught.value.next_step
    assert "--control-announce" in caught.value.next_step
    assert ELSEWHERE in caught.value.what


@pytest.mark.parametrize(
    ("listen", "announce", "url"),
    [
        ("127.0.0.1", None, "https://127.0.0.1:1"),
        ("0.0.0.0", None, "https://127.0.0.1:1"),
        ("::", None, "https://[::1]:1"),
        ("127.0.0.1", "192.0.2.10", "https://192.0.2.10:1"),
    ],
)
def test_a_manager_here_finds_it_here(listen: str, announce: str | None, url: str) -> None:
    assert control_url(control_host("http://127.0.0.1:8080", listen, announce), 1) == url
