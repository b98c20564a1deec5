"""`--announce metadata`: the cloud's word for this machine's addresses, or a reason that says what to do."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.node import metadata
from media.node.addresses import announced_addresses, own_addresses
from media.node.errors import AnnounceError
from media.node.metadata import announced_by_metadata
from tests.support.metadata import PATH, Metadata, metadata_service, vnic

ROOT = Path(__file__).parents[3]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    monkeypatch.setattr(metadata, "PAUSE_S", 0.01)
    monkeypatch.setattr(metadata, "WAIT_S", 0.3)
    with metadata_service(Metadata([vnic(publicIp="203.0.113.5")])) as running:
        monkeypatch.setenv("OCI_METADATA_BASE_URL", running.base)
        yield running


def refusal() -> str:
    with pytest.raises(AnnounceError) as refused:
        announced_by_metadata()
    assert "--announce ADDRESS" in str(refused.value)
    return str(refused.value)


def test_the_public_address_comes_first_and_the_private_one_last(service: Metadata) -> None:
    assert announced_by_metadata() == ["203.0.113.5", "10.0.3.6"]
    assert service.asked == [("GET", PATH)]


def test_ipv6_addresses_are_announced_too(service: Metadata) -> None:
    service.vnics = [vnic(publicIp="203.0.113.5", ipv6Addresses=["2001:DB8::0005", "2001:db8::6"])]
    assert announced_by_metadata() == ["203.0.113.5", "2001:db8::5", "2001:db8::6", "10.0.3.6"]


def test_the_interface_that_has_a_public_address_is_taken(service: Metadata) -> None:
    service.vnics = [vnic(), vnic(publicIp="203.0.113.9", privateIp="10.0.4.2")]
    assert announced_by_metadata() == ["203.0.113.9", "10.0.4.2"]


def test_an_instance_whose_public_address_is_not_told_is_told_what_to_do(service: Metadata) -> None:
    service.vnics = [vnic(), vnic()]
    said = refusal()
    assert "names no public address" in said
    assert "2 network interfaces" in said
    assert service.asked == [("GET", PATH)], "asking again would change nothing"


def test_a_service_that_has_a_bad_moment_is_asked_again(service: Metadata) -> None:
    service.failures = metadata.ATTEMPTS - 1
    assert announced_by_metadata() == ["203.0.113.5", "10.0.3.6"]
    assert len(service.asked) == metadata.ATTEMPTS


def test_one_that_has_no_better_moment_is_given_up(service: Metadata) -> None:
    service.failures = 100
    assert "it says 503" in refusal()
    assert len(service.asked) == metadata.ATTEMPTS


def test_where_nobody_listens_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "PAUSE_S", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        monkeypatch.setenv("OCI_METADATA_BASE_URL", f"http://127.0.0.1:{port}/opc/v2")
        assert f"http://127.0.0.1:{port}/opc/v2 does not answer" in refusal()


def test_one_that_accepts_and_says_nothing_costs_some_seconds_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metadata, "PAUSE_S", 0.01)
    monkeypatch.setattr(metadata, "WAIT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OCI_METADATA_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "timed out" in refusal()


def test_one_that_dribbles_is_given_up_although_each_byte_comes_in_time(
    service: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "WITHIN_S", 0.2)
    monkeypatch.setattr(metadata, "ATTEMPTS", 1)
    service.drip = 0.05
    assert "its answer takes too long" in refusal()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>captive portal</html>", "no JSON"),
        (b"[" * 60_000, "no JSON"),
        (b"[" + b" " * 70_000 + b"]", "over 65536 bytes"),
        (b'[{"publicIp": "not an address"}]', "'not an address', which is no IP address"),
        (b'[{"publicIp": ["203.0.113.5"]}]', "no IP address"),
        (b'[{"publicIp": 3405803781}]', "no IP address"),
        (b'{"publicIp": "203.0.113.5"}', "names no public address"),
        (b"null", "names no public address"),
        (b"[1, null, []]", "names no public address"),
    ],
)
def test_an_answer_that_is_none_is_said_to_be_none(service: Metadata, body: bytes, said: str) -> None:
    service.body = body
    assert said in refusal()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["publicIp", "privateIp", "ipv6Addresses", "x"]) | st.text(), inner, max_size=4
        )
    ),
)


@given(JSON)
def test_whatever_it_says_nothing_else_is_raised(said: Any) -> None:
    try:
        found = metadata._addresses(said, "http://192.0.2.1")
    except AnnounceError:
        return
    assert found


@pytest.mark.parametrize("base", ["https://192.0.2.1/opc/v2", "ftp://x", "nonsense", "http://"])
def test_a_base_that_is_no_http_address_is_refused(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setenv("OCI_METADATA_BASE_URL", base)
    with pytest.raises(AnnounceError, match=r"OCI_METADATA_BASE_URL is .* Correct it"):
        announced_by_metadata()


def test_the_word_stands_among_addresses_that_are_given(service: Metadata) -> None:
    assert announced_addresses(["127.0.0.1", "metadata", "10.0.3.6"]) == [
        "127.0.0.1",
        "203.0.113.5",
        "10.0.3.6",
    ]
    assert announced_addresses([]) == own_addresses()
    assert len(service.asked) == 1


def test_a_node_that_cannot_find_out_says_why_in_its_log_and_ends(tmp_path: Path) -> None:
    with metadata_service(Metadata()) as service:
        words = ["--role", "edge", "--manager", "http://127.0.0.1:9", "--run-dir", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "media.node", *words, "--announce", "metadata"],
            cwd=ROOT,
            env=os.environ | {"SHOWCALLER_ENROL_TOKEN": "x", "OCI_METADATA_BASE_URL": service.base},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert '"event":"node_failed"' in done.stderr
    assert "names no public address" in done.stderr
    assert "--announce ADDRESS" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--announce", "bogus"], "'bogus' is not an IP address"),
        (["--tcp-port", "0"], "is not a port"),
        (["--tcp-port", "20000"], "among the workers' own ports"),
        (["--udp-port", "9000", "--workers", "4", "--tcp-port", "9003"], "own ports (9000-9003)"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tmp_path: Path, words: list[str], said: str) -> None:
    base = ["--role", "edge", "--manager", "http://127.0.0.1:9", "--run-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "media.node", *base, *words],
        cwd=ROOT,
        env=os.environ | {"SHOWCALLER_ENROL_TOKEN": "x"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
