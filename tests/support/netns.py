"""A stage, a router and a viewer, each in a network namespace of its own: networks that a test can spoil.

    stage 198.18.x.1 -------- 198.18.x.2 router 198.18.x.5 -------- 198.18.x.6 viewer
          2001:db8:x:1::1 -- 2001:db8:x:1::2    2001:db8:x:2::2 -- 2001:db8:x:2::1

What the router lets through is said by nftables rules in its namespace alone. Nothing of it touches the
machine's own network. 198.18.0.0/15 is nobody's (RFC 2544), 2001:db8::/32 is for documentation (RFC 3849).
"""

import ctypes
import functools
import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.need import need, need_root
from tests.support.wait import wait_until

Value = TypeVar("Value")

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(os.getpid() * 8)


@dataclass(frozen=True)
class Networks:
    """The three namespaces, and the addresses of the stage and the viewer as they see each other."""

    stage: str
    router: str
    viewer: str
    stage4: str
    stage6: str
    viewer4: str
    viewer6: str
    public4: str  # nobody's, but the viewer's way to it leads to the router

    def at(self, namespace: str) -> tuple[str, ...]:
        """What comes before a command that is to run there."""
        return ("ip", "netns", "exec", namespace)

    def set_mtu(self, namespace: str, mtu: int) -> None:
        """Of the stage's or the viewer's own end of its link."""
        _ip("-n", namespace, "link", "set", "eth0", "mtu", str(mtu))

    def drop(self, *what: str) -> None:
        """The router drops what these nftables expressions match, in silence; nothing else."""
        lines = "".join(f"{expression} counter drop\n" for expression in what)
        self._nft(f"chain forward {{ type filter hook forward priority filter;\n{lines}}}\n", "inet block")

    def translate(self) -> None:
        """The router is a 1:1 NAT: to the viewer the stage is at `public4`, which no interface has.

        And only there: its own address is private, and nothing from outside that names it gets in.
        """
        self._nft(
            "chain private { type filter hook prerouting priority raw;\n"
            f'iifname "toward-viewer" ip daddr {self.stage4} drop\n}}\n'
            "chain in { type nat hook prerouting priority dstnat;\n"
            f"ip daddr {self.public4} dnat to {self.stage4}\n}}\n"
            "chain out { type nat hook postrouting priority srcnat;\n"
            f"ip saddr {self.stage4} snat to {self.public4}\n}}\n",
            "ip translate",
        )

    def _nft(self, chains: str, table: str) -> None:
        """Replace a table of the router's rules."""
        script = f"table {table} {{}}\ndelete table {table}\ntable {table} {{\n{chains}}}\n"
        command = [*self.at(self.router), "nft", "-f", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"nft: {done.stderr}"

    def dropped(self) -> int:
        """How many packets the rules of `drop` have taken away."""
        command = [*self.at(self.router), "nft", "list", "ruleset"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return sum(int(listed[place + 1]) for place, word in enumerate(listed) if word == "packets")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _write(namespace: str, setting: str, value: str) -> None:
    command = f"echo {value} > /proc/sys/net/{setting}"
    subprocess.run(["ip", "netns", "exec", namespace, "sh", "-c", command], check=True)


def _answers(host: str) -> bool:
    """Whether packets come through: the kernel takes a moment until links and their routes are up."""
    try:
        socket.create_connection((host, 9), timeout=0.2).close()
    except ConnectionRefusedError:
        return True  # by the machine itself: nobody listens
    except OSError:
        return False
    return True


@contextmanager
def networks(*, ipv4: bool = True, ipv6: bool = True) -> Iterator[Networks]:
    """Made anew, and gone at the end. A test that cannot have them is not run, and that is reported.

    Without `ipv4` nothing of it crosses the networks, and stage and router have no such address.
    """
    need("ip")
    need("nft")
    need_root("a network namespace")
    number = next(_numbers) % 0x4000
    names = [f"showcaller-{kind}{number}" for kind in ("s", "r", "v")]
    stage, router, viewer = names
    four = f"198.18.{number // 64}.{number % 64 * 4 // 8 * 8}"
    base, last = four.rsplit(".", 1)
    six = f"2001:db8:{number:x}"
    made = Networks(
        stage=stage,
        router=router,
        viewer=viewer,
        stage4=f"{base}.{int(last) + 1}",
        stage6=f"{six}:1::1",
        viewer4=f"{base}.{int(last) + 6}",
        viewer6=f"{six}:2::1",
        public4="198.19.0.7",
    )
    try:
        probe = subprocess.run(["ip", "netns", "add", router], capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            pytest.skip(f"no network namespace can be made here: {probe.stderr.strip()}")
        _ip("netns", "add", stage)
        _ip("netns", "add", viewer)
        for end, device, own4, other4, own6, other6 in (
            (stage, "toward-stage", made.stage4, f"{base}.{int(last) + 2}", made.stage6, f"{six}:1::2"),
            (viewer, "toward-viewer", made.viewer4, f"{base}.{int(last) + 5}", made.viewer6, f"{six}:2::2"),
        ):
            _ip("-n", router, "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", end)
            for namespace, link, address4, address6 in (
                (end, "eth0", own4, own6),
                (router, device, other4, other6),
            ):
                if ipv4:
                    _ip("-n", namespace, "addr", "add", f"{address4}/30", "dev", link)
                if ipv6:
                    _ip("-n", namespace, "addr", "add", f"{address6}/64", "dev", link, "nodad")
                _ip("-n", namespace, "link", "set", link, "up")
                _ip("-n", namespace, "link", "set", "lo", "up")
            if ipv4:
                _ip("-n", end, "route", "add", "default", "via", other4)
            if ipv6:
                _ip("-n", end, "-6", "route", "add", "default", "via", other6)
        if not ipv4:
            # As a phone has it on such a network (464XLAT, RFC 7335). Chromium, where it may not tell a page
            # its addresses, gathers no candidate on a machine without any IPv4 address.
            _ip("-n", viewer, "addr", "add", "192.0.0.1/32", "dev", "eth0")
        _write(router, "ipv4/ip_forward", "1")
        _write(router, "ipv6/conf/all/forwarding", "1")
        for host in [made.stage4] * ipv4 + [made.stage6] * ipv6:
            answers = functools.partial(inside, viewer, functools.partial(_answers, host))
            wait_until(answers, 10, f"the kernel has put {host} on the air")
        yield made
    finally:
        for name in (viewer, stage, router):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def wrapped(folder: Path, program: Path, namespace: str) -> Path:
    """A program that is this one, run in a namespace: for who takes a path and no command."""
    script = folder / f"{program.name}-in-{namespace}"
    script.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {program} "$@"\n')
    script.chmod(0o755)
    return script


def inside(namespace: str, call: Callable[[], Value]) -> Value:
    """Call this in a namespace: in a thread of its own, for a thread's network is its own (setns(2))."""

    def enter() -> Value:
        libc = ctypes.CDLL(None, use_errno=True)
        with (Path("/run/netns") / namespace).open() as handle:
            if libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        return call()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(enter).result()
