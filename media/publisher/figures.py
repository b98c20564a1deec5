"""The broadcast in numbers: what a status line and a report say, from what the pieces count."""

import datetime
import os
import socket
import time
from dataclasses import dataclass, field

from controlplane.wire.publishing import PublisherReport, PublishLine, PublishState
from media.publisher.encoder.show import EncoderFigures
from media.publisher.options import Options
from media.publisher.peer import Peer
from media.publisher.sources.port import SourceInfo

_ON_AIR = (PublishState.LIVE, PublishState.RECONNECTING)


@dataclass
class Figures:
    """Filled by the broadcast; `line` and `report` may be asked at any time."""

    options: Options
    state: PublishState = PublishState.STARTING
    info: SourceInfo | None = None
    encoder: EncoderFigures = field(default_factory=EncoderFigures)
    target_bps: float | None = None
    session: str | None = None
    message: str = ""
    bitrate_bps: float | None = None
    fps: float | None = None
    rtt: float | None = None
    _lost: EncoderFigures = field(default_factory=EncoderFigures)  # counts of encoders that have died
    _dropped: int = 0  # of peers that are gone
    _peer: Peer | None = None
    _sample: tuple[float, int, int] | None = None  # when, bytes, frames

    def new_encoder(self) -> None:
        self._lost.skipped += self.encoder.skipped
        self._lost.missed += self.encoder.missed
        self.encoder = EncoderFigures(position_s=self.encoder.position_s)

    def new_peer(self, peer: Peer | None) -> None:
        if self._peer is not None:
            self._dropped += self._peer.dropped
        self._peer = peer
        self._sample = None
        self.rtt = None

    def tick(self) -> None:
        """Once a second: the rates since the call before."""
        now = time.monotonic()
        if self._peer is None:
            self.bitrate_bps = self.fps = 0.0 if self.state in _ON_AIR else None
            return
        sent, frames = self._peer.sent_bytes, self._peer.sent_frames
        if self._sample is not None and now > self._sample[0]:
            span = now - self._sample[0]
            self.bitrate_bps = (sent - self._sample[1]) * 8 / span
            self.fps = (frames - self._sample[2]) / span
        self._sample = (now, sent, frames)
        self.rtt = self._peer.rtt

    def line(self) -> PublishLine:
        on_air = self.state in _ON_AIR
        started = self.info is not None
        return PublishLine(
            at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            channel=self.options.channel,
            state=self.state,
            bitrate_bps=round(self.bitrate_bps) if on_air and self.bitrate_bps is not None else None,
            fps=round(self.fps, 1) if on_air and self.fps is not None else None,
            skipped=self._lost.skipped + self.encoder.skipped if started else None,
            rtt_ms=round(self.rtt * 1000, 2) if on_air and self.rtt is not None else None,
        )

    def report(self) -> PublisherReport:
        info, encoder = self.info, self.encoder
        return PublisherReport(
            line=self.line(),
            publisher=f"showcaller publish on {socket.gethostname()}, pid {os.getpid()}",
            session=self.session,
            source=_sayable(info.name if info else os.path.basename(self.options.source)),
            width=info.width if info else None,
            height=info.height if info else None,
            target_bps=self.target_bps,
            target_fps=info.fps if info else None,
            copy_mode=self.options.copy,
            missed=self._lost.missed + encoder.missed if info else None,
            dropped=self._dropped + (self._peer.dropped if self._peer else 0),
            position_s=encoder.position_s,
            duration_s=info.duration if info else None,
            audio_level_db=encoder.audio_level_db,
            message=_sayable(self.message or (info.note if info else "")),
        )


def _sayable(text: str) -> str:
    """A file name need not be UTF-8, JSON must be."""
    return text.encode(errors="replace").decode()


def for_people(line: PublishLine) -> str:
    """A status line to read."""
    moment = datetime.datetime.fromisoformat(line.at).astimezone()
    words = [f"{moment:%H:%M:%S}", line.channel, line.state.value]
    if line.bitrate_bps is not None:
        words.append(f"{line.bitrate_bps / 1e6:.2f} Mbps")
    if line.fps is not None:
        words.append(f"{line.fps:.1f} fps")
    if line.skipped is not None:
        words.append(f"{line.skipped} skipped")
    if line.rtt_ms is not None:
        words.append(f"rtt {line.rtt_ms:.1f} ms")
    return "  ".join(words)
