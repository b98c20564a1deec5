"""A viewer whose path takes only small packets sees the whole show, and costs the others nothing.

Two network namespaces: a router, and the viewer behind it on a link of 1000 bytes. What is longer is first
refused by the router (ICMP, fragmentation needed), then by our own kernel for a send that carries a whole
frame (UDP_SEGMENT). The edge falls back to plain sends for that viewer alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.figures import Figure
from tests.support.need import need, need_root
from tests.support.stage import Stage, _end_by_force
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
MTU = 1000
SECONDS = 6
UP_S = 60.0


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@contextmanager
def far_away() -> Iterator[tuple[str, str]]:
    """The viewer's namespace, and our address as it sees it. 198.18.0.0/15 is nobody's (RFC 2544)."""
    number = os.getpid() % 64_000
    router, viewer = f"showcaller-r{number}", f"showcaller-v{number}"
    here, there = f"scr{number}", f"scp{number}"
    net = f"198.18.{number // 256}"
    base = number % 32 * 8
    try:
        ip("netns", "add", router)
        ip("netns", "add", viewer)
        ip("link", "add", here, "type", "veth", "peer", "name", there)
        ip("link", "set", there, "netns", router)
        ip("-n", router, "link", "add", "narrow", "type", "veth", "peer", "name", "eth0", "netns", viewer)
        ip("addr", "add", f"{net}.{base + 1}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", router, "addr", "add", f"{net}.{base + 2}/30", "dev", there)
        ip("-n", router, "link", "set", there, "up")
        ip("-n", router, "addr", "add", f"{net}.{base + 5}/30", "dev", "narrow")
        ip("-n", router, "link", "set", "narrow", "mtu", str(MTU), "up")
        ip("-n", viewer, "addr", "add", f"{net}.{base + 6}/30", "dev", "eth0")
        ip("-n", viewer, "link", "set", "eth0", "mtu", str(MTU), "up")
        ip("-n", viewer, "link", "set", "lo", "up")
        ip("-n", viewer, "route", "add", "default", "via", f"{net}.{base + 5}")
        ip("route", "add", f"{net}.{base + 4}/30", "via", f"{net}.{base + 2}")
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        ip("netns", "exec", router, "sh", "-c", forward)
        yield viewer, f"{net}.{base + 1}"
    finally:
        for words in (("link", "del", here), ("netns", "del", viewer), ("netns", "del", router)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


def probe(api: str, *inside: str) -> "subprocess.Popen[str]":
    words = [*inside, sys.executable, "-m", "media.swarm", "probe", "--whep", f"{api}/whep/main"]
    return subprocess.Popen(
        [*words, "--seconds", str(SECONDS), "--json"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    figures: dict[str, Any] = json.loads(out)
    return figures


def gso_of(stage: Stage, api: str) -> bool | None:
    """Whether the edge still sends by UDP_SEGMENT, as it reported itself."""
    return next((node["gso"] for node in stage.get("nodes", api) if node["role"] == "edge"), None)


@pytest.mark.stage
def test_the_far_viewer_sees_all_and_the_near_one_keeps_whole_frames(tmp_path: Path, figure: Figure) -> None:
    need("ip")
    need_root("a network namespace")
    stage = Stage(tmp_path / "home")
    with far_away() as (namespace, address):
        try:
            # "0.0.0.0": reached on every address of this machine, so also through the router.
            view = stage.json(
                *("stage", "up", "--port", "0", "--listen", "0.0.0.0"),
                *("--announce", address, "--announce", "127.0.0.1"),
                timeout=UP_S,
            )
            port = httpx.URL(view["api"]).port
            near_api, far_api = f"http://127.0.0.1:{port}", f"http://{address}:{port}"
            stage.publish_test("main", "--bitrate", "3M")
            before = wait_until(lambda: gso_of(stage, near_api) is not None, 10, "the edge has reported")
            assert before
            had_gso = gso_of(stage, near_api)
            near, far = probe(near_api), probe(far_api, "ip", "netns", "exec", namespace)
            seen_near, seen_far = figures_of(near), figures_of(far)
            figure(
                f"near {seen_near['bitrate_bps'] / 1e6:.2f} Mbps, {seen_near['lost']} lost; "
                f"far {seen_far['bitrate_bps'] / 1e6:.2f} Mbps, {seen_far['lost']} lost"
            )
            for seen in (seen_near, seen_far):
                assert seen["ended"] is None
                assert seen["fps"] > 20
                assert seen["bitrate_bps"] > 2_000_000
                assert seen["loss"] < 0.02
            assert seen_near["lost"] == 0, "the near viewer pays nothing"
            assert gso_of(stage, near_api) is had_gso, "the edge goes on sending whole frames at once"
            stage.down()
            stage.leaves_nothing()
        finally:
            _end_by_force(stage)
