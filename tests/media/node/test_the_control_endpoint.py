"""A node's control endpoint: TLS with a certificate of its own, where and as the manager was told."""

import asyncio
import os
import socket
import ssl
import sys
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.media.node.stand import ROOT, Stand, log_lines
from tests.support.certificates import node_pair


def shown(host: str, port: int) -> tuple[x509.Certificate, str | None]:
    """The certificate that answers there, and the version of TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), 5) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        der = wrapped.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der), wrapped.version()


async def test_it_is_served_with_the_certificate_that_was_named_at_the_enrolment(nodes: Stand) -> None:
    for name in ("edge-1", "edge-2"):
        await nodes.node("edge", name)
    prints = set()
    for enrolled in nodes.manager.nodes.values():
        url = httpx.URL(enrolled.enrol.control_url)
        assert (url.scheme, url.host) == ("https", "127.0.0.1")
        certificate, version = await asyncio.to_thread(shown, url.host, url.port or 0)
        assert version == "TLSv1.3"
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        assert fingerprint == enrolled.enrol.control_fingerprint
        assert fingerprint not in {worker.fingerprint for worker in enrolled.enrol.workers}
        prints.add(fingerprint)
    assert len(prints) == 2, "no two nodes have the same"
    assert not list((nodes.folder / "run").glob(".control-*")), "its key is in no file"


async def test_nothing_is_served_in_clear_or_without_the_secret(nodes: Stand) -> None:
    await nodes.node("edge", "edge-1")
    enrolled = nodes.manager.nodes["edge-1"]
    async with httpx.AsyncClient(trust_env=False) as client:
        plain = enrolled.enrol.control_url.replace("https:", "http:")
        with pytest.raises(httpx.TransportError):
            await client.get(f"{plain}/v1/health")
    assert (await nodes.manager.call("edge-1", "GET", "/v1/health")).status_code == 200
    enrolled.secret = "another"
    assert (await nodes.manager.call("edge-1", "GET", "/v1/health")).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (("--control-listen", "127.0.0.5"), "127.0.0.5"),
        (("--control-listen", "0.0.0.0"), "127.0.0.1"),
        (("--control-listen", "0.0.0.0", "--control-announce", "127.0.0.6"), "127.0.0.6"),
    ],
)
async def test_the_manager_is_told_where_it_reaches_it(
    nodes: Stand, arguments: tuple[str, ...], host: str
) -> None:
    await nodes.node("edge", "edge-1", *arguments)
    assert httpx.URL(nodes.manager.nodes["edge-1"].enrol.control_url).host == host
    assert (await nodes.manager.call("edge-1", "GET", "/v1/health")).status_code == 200


async def run_node(folder: Path, manager: str, *arguments: str) -> tuple[int, str]:
    """A node that cannot start: its exit code, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "media.node", "--role", "edge", "--name", "edge-1"),
        *("--manager", manager, "--run-dir", str(folder / "run"), *arguments),
        cwd=ROOT,
        env=os.environ | {"SHOWCALLER_ENROL_TOKEN": "a-token"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.parametrize(
    ("manager", "arguments", "words"),
    [
        ("http://203.0.113.1:8080", ("--control-listen", "192.0.2.10"), "plain http://"),
        ("https://203.0.113.1:8443", (), "Give --control-listen"),
        ("https://203.0.113.1:8443", ("--control-listen", "0.0.0.0"), "--control-announce"),
        ("https://127.0.0.1:8443", ("--manager-ca", "/nonexistent"), "cannot be read"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_starts(
    tmp_path: Path, manager: str, arguments: tuple[str, ...], words: str
) -> None:
    code, said = await run_node(tmp_path, manager, *arguments)
    assert code == 2
    assert words in said
    assert not (tmp_path / "run").exists(), "no worker was launched, nothing written"


async def test_a_manager_with_a_certificate_nobody_vouches_for_is_told_nothing(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.close()

    stranger = node_pair()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=stranger.server_context())
    try:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        code, said = await run_node(tmp_path, url)
        assert code == 1
        assert "Name the authority that has signed it by --manager-ca" in said
        assert heard == []
    finally:
        server.close()


async def test_an_address_this_machine_does_not_have_is_named(nodes: Stand) -> None:
    node = await nodes.node("edge", "edge-1", "--control-listen", "203.0.113.9", enrol=False)
    assert await asyncio.wait_for(node.process.wait(), 20) == 1
    (line,) = [line for line in log_lines(node.log) if line["event"] == "node_failed"]
    assert "203.0.113.9" in line["reason"]
    assert "--control-listen" in line["reason"]
