"""This worker's side of an offer and an answer: what it says of itself, and what a session is made from."""

from collections.abc import Callable
from typing import Any

from controlplane.wire.nodes import SessionKind, ice_etag
from media.core.certificate import Certificate
from media.core.errors import NegotiationError
from media.core.sdp import Agreed, IceCredentials, LocalDescription, new_credentials, parse_fragment
from media.core.session import Session, SessionConfig
from media.drive.handover import marked
from media.node.errors import Refused


class OurSide:
    """What is the same in all our answers: addresses, certificate, ports."""

    def __init__(
        self,
        addresses: list[str],
        certificate: Certificate,
        random: Callable[[int], bytes],
        udp_port: int,
        tcp_ports: tuple[int, ...],
    ) -> None:
        self._addresses = tuple(addresses)
        self._certificate = certificate
        self._random = random
        self._udp_port = udp_port
        self._tcp_ports = tcp_ports

    def new_credentials(self) -> IceCredentials:
        """For a session that a peer asks for: they lead to this worker from a port that several share."""
        return marked(new_credentials(self._random), self._udp_port)

    def describe(
        self, credentials: IceCredentials, port: int, tcp_ports: tuple[int, ...] = ()
    ) -> LocalDescription:
        """At this UDP port, and at these of TCP."""
        return LocalDescription(
            credentials=credentials,
            fingerprint=self._certificate.fingerprint,
            addresses=tuple((address, port) for address in self._addresses),
            session_id=int.from_bytes(self._random(8), "big") >> 1,
            tcp_ports=tcp_ports,
        )

    def answering(self, credentials: IceCredentials, kind: SessionKind) -> LocalDescription:
        """Our side of a session that a peer asks for. Relays come over UDP alone."""
        ports = () if kind is SessionKind.RELAY_OUT else self._tcp_ports
        return self.describe(credentials, self._udp_port, ports)

    def config(self, agreed: Agreed, local: LocalDescription, *, offered: bool, **more: Any) -> SessionConfig:
        """Of a session that we offered or answered; `more` are fields of SessionConfig that are to be others
        than usual."""
        if agreed.video is not None and agreed.video.rtx_payload_type is None:
            more["allow_repeat_tx"] = True
        make = SessionConfig.offered if offered else SessionConfig.answered
        return make(agreed, local, self._certificate, self._random, **more)


def new_remote_credentials(
    session_id: str, session: Session, fragment: str, if_match: str | None
) -> tuple[IceCredentials | None, bool]:
    """What a PATCH asks of a session: (the peer's credentials, whether they are new); None: of nothing.

    Candidates need nothing of us, as we are ICE-lite. What makes a restart is that the credentials are
    others (RFC 9725 section 4.3.3); If-Match says which ICE session is meant, `*` whichever is on. The
    present credentials once more are a restart whose answer may have been lost. Raises Refused.
    """
    if if_match is None:
        raise Refused(
            428,
            "etag_needed",
            "An entity tag is needed",
            "Send If-Match with the tag of the answer, or with * to restart ICE.",
        )
    tags = [tag.strip() for tag in if_match.split(",")]
    any_tag = "*" in tags or '"*"' in tags  # the quotes are in RFC 9725's own example
    if not any_tag and ice_etag(session_id, session.ice_generation) not in tags:
        raise Refused(
            412,
            "etag_mismatch",
            "The entity tag is another one",
            "It is not that of the session's present ICE session.",
        )
    try:
        given = parse_fragment(fragment).credentials
    except NegotiationError as error:
        raise Refused(error.status, error.code, "The fragment cannot be read", error.detail) from error
    _, theirs = session.credentials[-1]
    repeated = len(session.credentials) > 1 and any_tag
    if given is None or (given == theirs and not repeated):
        return None, False
    if given != theirs and session.config.controlling:
        raise Refused(422, "no_ice_restart", "ICE cannot be restarted", "This session is a node's own.")
    return given, given != theirs
