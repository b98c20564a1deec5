"""What is inside one session of a worker, as controlplane.wire.inside has it. Looks, and changes nothing.

Every field is named one by one: nothing of a session is handed on that is not written here, and so no
password and no key.
"""

from typing import Literal

from controlplane.wire import inside as wire
from media.core.address import Address, spelled, transport
from media.core.certificate import Certificate
from media.fanout.source import Source
from media.fanout.stream import LiveStream
from media.fanout.track import Track
from media.fanout.viewer import Subscription, Viewer
from media.node.peer import Peer


def session(peer: Peer, certificate: Certificate, now: float) -> wire.SessionInside:
    """`now` in steady seconds; `certificate` is the worker's own."""
    identity, destination = peer.identity, None if peer.viewer is None else peer.viewer.destination
    connected = None if peer.ready_at is None else now - peer.ready_at
    sent = 0 if destination is None else destination.bytes_sent
    received = 0 if peer.source is None else peer.source.bytes_received
    return wire.SessionInside(
        id=identity.id,
        kind=identity.kind,
        channel=identity.channel,
        state=peer.state,
        age_s=_rounded(now - peer.made_at),
        connected_s=None if connected is None else _rounded(connected),
        packets_out=0 if destination is None else destination.packets_sent,
        bytes_out=sent,
        bytes_in=received,
        bitrate_bps=round(8 * (sent or received) / connected, 1) if connected else None,
        ice=_ice(peer, now),
        dtls=_dtls(peer, certificate),
        srtp=_srtp(peer),
        rtp=_rtp(peer, now),
        rtcp=_rtcp(peer, now),
    )


def _ice(peer: Peer, now: float) -> wire.IceInside:
    session = peer.session
    state, stats = session.ice_state(now), session.stats(now)
    ours, theirs = session.credentials[0]
    return wire.IceInside(
        role="controlling" if state.controlling else "lite",
        ufrag=ours.ufrag,
        remote_ufrag=theirs.ufrag,
        restarts=session.ice_generation,
        restarting=len(session.credentials) > 1,
        selected=_spelled(session.remote),
        transport=None if session.remote is None else transport(session.remote),
        nominated=state.nominated,
        reached=state.reached,
        valid=[_valid(address, age) for address, age in state.valid],
        moving_to=_spelled(state.moving_to),
        consent_age_s=None if stats.heard_age is None else _rounded(stats.heard_age),
        consent_left_s=None if session.closed else _rounded(max(0.0, session.consent_ends_at - now)),
        rtt_ms=_ms(stats.rtt),
    )


def _spelled(address: Address | None) -> str | None:
    return None if address is None else spelled(address)


def _valid(address: Address, age: float | None) -> wire.ValidAddress:
    return wire.ValidAddress(
        address=spelled(address),
        transport=transport(address),
        heard_age_s=None if age is None else _rounded(age),
    )


def _dtls(peer: Peer, certificate: Certificate) -> wire.DtlsInside:
    dtls, config = peer.session.dtls, peer.session.config
    told = dtls.matched or next(iter(config.remote.fingerprints), None)
    matched = True if dtls.matched is not None else False if dtls.mismatched else None
    took = None
    if peer.ready_at is not None and peer.reached_at is not None:
        took = peer.ready_at - peer.reached_at
    return wire.DtlsInside(
        state=_dtls_state(peer),
        role=dtls.role,
        handshake_ms=_ms(took),
        fingerprint=certificate.fingerprint,
        peer_fingerprint=None if told is None else f"{told.algorithm} {told.value}",
        matched=matched,
        connection="held" if dtls.kept else "released" if dtls.done else "none",
        parting=peer.session.parting,
    )


def _dtls_state(peer: Peer) -> Literal["waiting", "handshake", "done", "closed"]:
    dtls = peer.session.dtls
    if peer.session.closed or dtls.closed:
        return "closed"
    if dtls.done:
        return "done"
    return "handshake" if dtls.kept else "waiting"


def _srtp(peer: Peer) -> wire.SrtpInside:
    session, keys = peer.session, peer.session.inbound
    drops = session.drops
    return wire.SrtpInside(
        profile=None if keys is None else keys.profile.name,
        tag_bytes=None if keys is None else keys.tag_length,
        sources=sorted(int.from_bytes(ssrc, "big") for ssrc in session.speakers),
        drops=wire.Drops(
            unauthentic=drops.unauthentic,
            replayed=drops.replayed,
            malformed=drops.malformed,
            unvalidated=drops.unvalidated,
        ),
        unsent=0 if peer.viewer is None else peer.viewer.destination.drops,
    )


def _rtp(peer: Peer, now: float) -> list[wire.RtpInside]:
    rows: list[wire.RtpInside] = []
    if peer.viewer is not None:
        for track, subscription in (
            (peer.stream.video, peer.viewer.video),
            (peer.stream.audio, peer.viewer.audio),
        ):
            if subscription is not None:
                rows.append(_sent(track, subscription))
    if peer.source is not None:
        rows += [_received(peer, peer.source, track, now) for track in peer.source.tracks]
    return rows


def _sent(track: Track, subscription: Subscription) -> wire.RtpInside:
    last, state = None, "waiting"
    if subscription.start is not None:
        state = "live" if subscription.cursor is None else "catching up"
        last = track.newest_sent if subscription.cursor is None else subscription.cursor - 1
        last = last if last >= subscription.start else None
    with_rtx = subscription.rtx_payload_type is not None
    return wire.RtpInside(
        media=track.kind,
        direction="out",
        codec=subscription.codec.name if subscription.codec is not None else _sound(track),
        payload_type=subscription.payload_type,
        rtx_payload_type=subscription.rtx_payload_type,
        ssrc=track.ssrc,
        rtx_ssrc=subscription.rtx_ssrc if with_rtx else None,
        state=state,
        first_sequence=subscription.start,
        last_sequence=last,
        resent=subscription.resent,
        resend_refused=subscription.budget.refused,
        stalls=subscription.stalls,
    )


def _received(peer: Peer, source: Source, track: Track, now: float) -> wire.RtpInside:
    agreed = peer.agreed.video if track.kind == "video" else peer.agreed.audio
    assert agreed is not None  # a source has the tracks that were agreed on
    reception = source.reception(track)
    fed = peer.stream.source is source
    return wire.RtpInside(
        media=track.kind,
        direction="in",
        codec=agreed.codec.name if agreed.codec is not None else _sound(track),
        payload_type=agreed.payload_type,
        rtx_payload_type=agreed.rtx_payload_type,
        ssrc=agreed.remote_ssrc if reception is None else reception.ssrc,
        rtx_ssrc=agreed.remote_rtx_ssrc,
        state="waiting" if reception is None else peer.stream.state(now) if fed else "replaced",
        last_sequence=None if reception is None else reception.highest,
        packets=0 if reception is None else reception.received,
        lost=track.missing.lost,
        recovered=track.missing.recovered,
        missing=len(track.missing),
        jitter_ms=None if reception is None else _ms(reception.jitter),
    )


def _sound(track: Track) -> str | None:
    return "opus" if track.kind == "audio" else None


def _rtcp(peer: Peer, now: float) -> wire.RtcpInside:
    viewer = peer.viewer
    if viewer is None:
        source = peer.source
        if source is None:
            return wire.RtcpInside()
        return wire.RtcpInside(rtt_ms=_ms(source.rtt), nacks=source.nacks_sent, plis=source.plis_sent)
    clock_rate = peer.stream.main_track(viewer).clock_rate
    return wire.RtcpInside(
        last_report=_last_report(peer.stream, viewer, now),
        rtt_ms=_ms(viewer.rtt),
        loss=viewer.loss(now),
        jitter_ms=_ms(viewer.jitter(now, clock_rate)),
        remb_bps=viewer.estimate.upper_bound(now),
        estimate_bps=viewer.estimate.value(now),
        nacks=viewer.nacks,
        plis=viewer.plis,
        reference_times=viewer.reference_times,
    )


def _last_report(stream: LiveStream, viewer: Viewer, now: float) -> wire.ReceiverReport | None:
    heard = viewer.heard
    if heard is None:
        return None
    return wire.ReceiverReport(
        ssrc=heard.ssrc,
        age_s=_rounded(now - viewer.heard_at),
        fraction_lost=heard.fraction_lost / 256,
        lost=heard.lost,
        highest_sequence=heard.highest_sequence,
        jitter_ms=round(heard.jitter / stream.main_track(viewer).clock_rate * 1000, 3),
        last_sr=heard.last_sr,
        delay_since_last_sr_ms=round(heard.delay_since_last_sr / 65.536, 3),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
