"""One viewer of a live stream (a browser, or an edge that relays), as the fan-out sees it."""

from dataclasses import dataclass, field

from media.core.codecs import VideoCodec
from media.core.rtcp import ReceptionReport
from media.fanout.destinations import Destination
from media.fanout.estimate import KEPT, BandwidthEstimate
from media.fanout.loss import ResendBudget


@dataclass(slots=True, eq=False)
class Subscription:
    """One viewer's share of one track.

    waiting   `start` is None: nothing is sent (video waits for a key frame, of the codec agreed on). A viewer
              over TCP that had no room for a batch comes back to this, and begins again with a key frame
    catching  `cursor` is a number: packets from there on come out of the ring, in slices
    live      `cursor` is None: gets each batch with its class
    """

    destination: Destination
    payload_type: int
    codec: VideoCodec | None  # None: sound
    rtx_payload_type: int | None
    rtx_ssrc: int
    may_repeat: bool  # without RTX: whether its SRTP context may send a packet twice
    joined_at: float
    wish_at: float  # when to look again whether a waiting viewer can be helped
    start: int | None = None  # first number sent to it
    cursor: int | None = None
    rtx_sequence: int = 0
    resent: int = 0
    stalled: bool = False  # its connection had no room, and no key frame has been asked for since
    stalls: int = 0  # times running that this happened
    stalled_at: float = 0.0  # the last of them
    not_before: int = 0  # no packet before this number: SRTP lets none go out twice
    budget: ResendBudget = field(default_factory=ResendBudget)


@dataclass(slots=True, eq=False)
class Viewer:
    """What is known of a viewer: its subscriptions, and what its receiver reports say."""

    id: str
    destination: Destination
    video: Subscription | None = None
    audio: Subscription | None = None
    heard: ReceptionReport | None = None  # its last report about the picture; sound, where it has no picture
    heard_at: float = 0.0
    rtt: float | None = None  # seconds
    estimate: BandwidthEstimate = field(default_factory=BandwidthEstimate)
    nacks: int = 0  # packets it asked for again
    plis: int = 0
    reference_times: int = 0  # of its own that were answered (RRTR, DLRR)

    def latest(self, now: float) -> ReceptionReport | None:
        """Its last report; None where that is so old that it says nothing of now."""
        return self.heard if now - self.heard_at <= KEPT else None

    def loss(self, now: float) -> float | None:
        """The fraction lost on the way to it, by its last report."""
        latest = self.latest(now)
        return None if latest is None else latest.fraction_lost / 256

    def jitter(self, now: float, clock_rate: int) -> float | None:
        """Interarrival jitter there, in seconds (RFC 3550 section 6.4.1), by its last report."""
        latest = self.latest(now)
        return None if latest is None else latest.jitter / clock_rate
