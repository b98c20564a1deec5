"""The send path over IPv6: whole runs by UDP_SEGMENT, and plain sends to who is behind a small MTU."""

import socket

from media.core.rtp import parse_header
from media.fanout.destinations import ViewerClass
from media.fanout.frames import Batch
from media.fanout.sender import FanoutSender, kernel_has_gso
from tests.media.fanout.pieces import Receiver
from tests.media.fanout.test_sender import packets
from tests.support.netns import inside, networks


def udp6(host: str = "::") -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, 0))
    sock.settimeout(2)
    return sock


def send(tx: socket.socket, to: list[tuple], sizes: list[int]) -> tuple[FanoutSender, list[Receiver]]:
    """A batch of these sizes to receivers at these addresses, in one class."""
    sender = FanoutSender(tx, gso=kernel_has_gso(tx))
    receivers = [Receiver(number) for number in range(len(to))]
    viewers = ViewerClass(96, receivers[0].destination.tag_length)
    for receiver, address in zip(receivers, to, strict=True):
        receiver.destination.address = address
        viewers.add(receiver.destination)
    sender.send_batch(Batch(1, packets(sizes)), [viewers], 0.0)
    return sender, receivers


def numbers(receiver: Receiver, rx: socket.socket, count: int) -> list[int]:
    got = [receiver._inbound.unprotect(rx.recv(4096)) for _ in range(count)]
    return [parse_header(packet).sequence for packet in got]


def test_a_dual_stack_socket_reaches_both_kinds_in_one_round() -> None:
    with udp6() as tx, udp6("::1") as six, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        four.bind(("127.0.0.1", 0))
        four.settimeout(2)
        to = [six.getsockname(), ("::ffff:127.0.0.1", four.getsockname()[1], 0, 0)]
        sender, receivers = send(tx, to, [1200] * 9 + [77])
        assert numbers(receivers[0], six, 10) == list(range(1, 11))
        assert numbers(receivers[1], four, 10) == list(range(1, 11))
        assert sender.counters.gso_refused == sender.counters.refused == 0


def test_one_behind_a_small_mtu_gets_plain_sends() -> None:
    with networks(ipv4=False) as net:
        narrow, wide = inside(net.viewer, lambda: udp6(net.viewer6)), inside(net.stage, lambda: udp6("::1"))
        tx = inside(net.stage, udp6)
        net.set_mtu(net.stage, 1280)  # the least there may be (RFC 8200 section 5)
        with tx, narrow, wide:
            sender, receivers = send(tx, [narrow.getsockname(), wide.getsockname()], [1400] * 4)
            assert numbers(receivers[0], narrow, 4) == [1, 2, 3, 4], "in fragments"
            assert numbers(receivers[1], wide, 4) == [1, 2, 3, 4]
            assert sender.counters.gso_refused == 1
            assert sender.uses_gso(0.0), "for the others"
