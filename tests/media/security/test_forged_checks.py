"""STUN: who does not know a session's password changes nothing, and is told nothing."""

import os
import socket

from media.core import stun
from tests.media.security.stand import (
    Peer,
    Show,
    credentials_of,
    heard_by,
    nomination,
    spray,
    udp,
    until,
)

FORGED = 10_000


def username_of(viewer: Peer) -> str:
    assert viewer.session is not None
    config = viewer.session.config
    return f"{config.remote.credentials.ufrag}:{config.credentials.ufrag}"


async def test_ten_thousand_forged_nominations_do_not_disturb_a_viewer(show: Show) -> None:
    viewer = await show.viewer()
    username, asked_before = username_of(viewer), show.publisher.key_frames_asked
    begun = len(viewer.rtp)
    with udp("127.0.0.66") as attacker:

        def forge(number: int) -> None:
            kind = number % 4
            password = None if kind == 3 else os.urandom(24)
            data = nomination(username if kind else "someone:else", password, fingerprint=kind != 2)
            # Half of them from the viewer's own address, as whoever can forge that may do.
            sender: socket.socket = attacker if number % 2 else viewer.socket
            sender.sendto(data, show.worker.address)

        assert await spray(forge, FORGED, 5_000) == FORGED
        before = len(viewer.rtp)
        await until(lambda: len(viewer.rtp) > before + 60, "the picture goes on")
        assert heard_by(attacker) == []

    assert await show.nothing_lost(viewer) > begun + 200
    assert show.publisher.key_frames_asked == asked_before
    row = await show.worker.row(viewer.name)
    assert row["remote"] == f"127.0.0.1:{viewer.address[1]}"
    assert (row["state"], row["nacks"], row["plis"]) == ("connected", 0, 0)


async def test_a_nomination_with_the_password_does_count(show: Show) -> None:
    """What the forged ones lack is the password, and nothing else."""
    peer = show.peer()
    answer = await peer.ask(show.worker)
    theirs = credentials_of(answer)
    good = nomination(f"{theirs.ufrag}:{peer.local.credentials.ufrag}", theirs.password.encode())
    with udp("127.0.0.66") as stranger:
        stranger.sendto(good[:-1] + bytes((good[-1] ^ 1,)), show.worker.address)
        stranger.sendto(good, show.worker.address)
        answers = await until(lambda: heard_by(stranger), "an answer")
        assert [stun.Message.parse(data).kind for data in answers] == [stun.Class.SUCCESS]
        assert len(answers[0]) <= len(good)
