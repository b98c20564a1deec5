"""A node on another machine joins a stage, and a viewer there sees the show.

Two network namespaces joined by one link: the stage with its origin here, an edge and a viewer there. The
certificate of the manager is signed by an authority of the test's own; that of the node, it makes itself.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.wire.processes import alive
from media.node.cores import usable_cores
from tests.support.certificates import authority, signed
from tests.support.need import need, need_root
from tests.support.stage import Stage, _end_by_force, command_line, environment
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
UP_S = 60.0
SECONDS = 4


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@dataclass(frozen=True)
class Elsewhere:
    """The other machine's namespace, our address and its own on the link between us."""

    namespace: str
    here: str
    there: str

    def popen(self, *words: str, home: Path, log: Path, **more: str) -> "subprocess.Popen[str]":
        with log.open("a") as sink:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *words],
                cwd=ROOT,
                env=environment(home) | more,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
            )


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """198.18.0.0/15 is nobody's (RFC 2544)."""
    number = os.getpid() % 64_000
    name, link = f"showcaller-e{number}", f"sce{number}"
    base = number % 32 * 8 + 4
    here, there = (f"198.18.{number // 256}.{base + last}" for last in (1, 2))
    try:
        ip("netns", "add", name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{here}/30", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield Elsewhere(name, here, there)
    finally:
        for words in (("link", "del", link), ("netns", "del", name)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


def end(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(15)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.stage
def test_an_edge_elsewhere_serves_a_viewer_and_outlives_the_manager() -> None:
    need("ip")
    need_root("a network namespace")
    folder = Path(tempfile.mkdtemp(prefix="showcaller-test-"))  # short: sockets are in there
    stage = Stage(folder / "home")
    log = folder / "node.log"
    node: subprocess.Popen[str] | None = None
    with elsewhere() as other:
        try:
            root = authority()
            certificate, key = signed(root, other.here, "127.0.0.1").write(folder)
            trusted = folder / "authority.pem"
            trusted.write_bytes(root.certificate)
            view = stage.json(
                *("stage", "up", "--port", "0", "--listen", "0.0.0.0", "--announce", other.here),
                *("--tls-cert", str(certificate), "--tls-key", str(key)),
                timeout=UP_S,
            )
            port = httpx.URL(view["api"]).port
            internal = (stage.home / "run" / "manager-internal.port").read_text()
            local = f"http://127.0.0.1:{internal}"
            stage.publish_test("main", "--bitrate", "1M")

            def nodes() -> dict[str, dict[str, Any]]:
                return {found["id"]: found for found in stage.get("nodes", local)}

            words = [*command_line("node", "--role", "edge", "--manager", f"https://{other.here}:{port}")]
            words += ["--token-file", str(stage.home / "config" / "operator.token")]
            words += ["--announce", other.there, "--control-listen", other.there]
            untrusting = other.popen(*words, home=folder / "there", log=log)
            untrusting.communicate(timeout=30)
            assert untrusting.returncode == 3, "it does not take a certificate that nobody vouches for"
            assert "its certificate is not trusted" in log.read_text()
            assert set(nodes()) == {"origin-1", "edge-1"}

            node = other.popen(*words, "--manager-ca", str(trusted), home=folder / "there", log=log)
            wait_until(lambda: len(nodes()) == 3, 20, "the node joins")
            (joined,) = set(nodes()) - {"origin-1", "edge-1"}
            wait_until(lambda: nodes()[joined]["state"] == "in_service", 20, "it comes into service")
            inside = stage.get(f"nodes/{joined}", local)
            assert len(inside["workers"]) == usable_cores(), "one worker a core"
            stage.run("fleet", "drain", "edge-1", "--deadline", "1s", "--yes", "--wait")

            seen = watch(other, f"https://{other.here}:{port}", trusted, folder)
            assert seen["ended"] is None
            assert seen["fps"] > 20
            assert seen["lost"] == 0

            old = stage.process("manager")
            os.kill(old.pid, signal.SIGKILL)
            wait_until(lambda: not alive(old) and _answers(local), 20, "another manager answers")
            assert stage.process("manager") != old
            wait_until(lambda: nodes()[joined]["state"] == "in_service", 20, "the node is adopted")
            seen = watch(other, f"https://{other.here}:{port}", trusted, folder)
            assert seen["fps"] > 20
            assert end(node) == 0
            stage.down()
            wait_until(lambda: not stage.left_over(), 5, "no process is left")
        except BaseException:
            print(log.read_text() if log.exists() else "the node has said nothing")
            raise
        finally:
            if node is not None and node.poll() is None:
                end(node)
            _end_by_force(stage)
            shutil.rmtree(folder, ignore_errors=True)


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/api/v1/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def watch(other: Elsewhere, api: str, trusted: Path, folder: Path) -> dict[str, Any]:
    """What a viewer on the other machine sees."""
    probe = other.popen(
        *(sys.executable, "-m", "media.swarm", "probe", "--whep", f"{api}/whep/main"),
        *("--seconds", str(SECONDS), "--json"),
        home=folder / "there",
        log=folder / "probe.log",
        SSL_CERT_FILE=str(trusted),
    )
    out, _ = probe.communicate(timeout=60)
    assert probe.returncode == 0, (folder / "probe.log").read_text()
    figures: dict[str, Any] = json.loads(out)
    return figures
