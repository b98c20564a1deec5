"""A node's way to its manager, as `showcaller node` looks at it before anything else."""

from pathlib import Path

import pytest

from console.core.errors import ConsoleError, InsecureError, UsageError
from console.core.node import check_control, trust
from tests.support.certificates import authority

ELSEWHERE = "https://203.0.113.1:8443"  # nobody's (RFC 5737)


@pytest.mark.parametrize(
    ("manager", "listen", "announce", "error", "words"),
    [
        ("http://203.0.113.1:8080", "192.0.2.10", None, InsecureError, "plain http://"),
        (ELSEWHERE, None, None, UsageError, "cannot reach this node at 127.0.0.1"),
        (ELSEWHERE, "0.0.0.0", None, UsageError, "--control-announce"),
        (ELSEWHERE, "here", None, UsageError, "--control-listen 'here' is not an IP address"),
        (ELSEWHERE, "0.0.0.0", "here", UsageError, "--control-announce 'here' is not an IP address"),
        (ELSEWHERE, "0.0.0.0", "127.0.0.1", UsageError, "cannot reach this node"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    manager: str, listen: str | None, announce: str | None, error: type[ConsoleError], words: str
) -> None:
    with pytest.raises(error) as caught:
        check_control(manager, listen, announce)
    assert words in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("manager", "listen", "announce"),
    [
        ("http://127.0.0.1:8080", None, None),
        ("http://localhost:8080", "0.0.0.0", None),
        (ELSEWHERE, "192.0.2.10", None),
        (ELSEWHERE, "0.0.0.0", "192.0.2.10"),
    ],
)
def test_what_can_work_is_let_through(manager: str, listen: str | None, announce: str | None) -> None:
    check_control(manager, listen, announce)


def test_an_authority_is_a_pem_file(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    with pytest.raises(UsageError, match="cannot be read"):
        trust(path)
    path.write_text("no certificate")
    with pytest.raises(UsageError, match="holds no certificate"):
        trust(path)
    path.write_bytes(authority().certificate)
    assert len(trust(path).get_ca_certs()) == 1, "it, and nobody else"
