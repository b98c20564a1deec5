"""The lines of the Broadcast screen. Pure."""

from console.screens.shared import figures, health, words
from console.screens.shared.health import Baseline
from console.screens.shared.view import Pending, View
from console.screens.shared.words import Line, Span
from controlplane.wire.api import JournalEntry, StreamDetail


def sending_lines(stream: StreamDetail, view: View, width: int) -> list[Line]:
    """How it is sent: source, place in it, rates against what was asked, round trip, by whom."""
    report, look = stream.report, words.stream(stream.state)
    publishing = report.line.state if report else stream.publish_state
    head: Line = [
        (f"{look.glyph} {look.word.upper() if stream.state == 'live' else look.word}", f"bold {look.style}"),
        (f"  {figures.lasting(view.now - stream.since)}", "bold"),
    ]
    if publishing is not None and str(publishing) not in ("live", stream.state):
        head.append((f"  publisher {words.stream(str(publishing)).word}", "$warn"))
    size = f"{stream.width}x{stream.height}" if stream.width and stream.height else ""
    lines: list[Line] = [head]
    if report is None:
        lines.append(
            [
                ("source     ", "$muted"),
                (" ".join(x for x in (size, stream.video_codec or "") if x) or "-", ""),
            ]
        )
        lines.append(_rate_line(stream, None, width))
        lines.append([("fps        ", "$muted"), (_fps(stream.fps), "bold")])
    else:
        kind = "as it is" if report.copy_mode else (stream.video_codec or "")
        source = "test pattern" if report.source == "test" else report.source
        about = " ".join(part for part in (size, kind) if part)
        if len(source) + 13 + len(about) > width:
            about = size
        lines.append(
            [
                ("source     ", "$muted"),
                (figures.clip(source, max(8, width - 13 - len(about))), "bold"),
                (f"  {about}", "$muted"),
            ]
        )
        if report.duration_s and report.position_s is not None:
            lines.append(_position(report.position_s, report.duration_s, width))
        lines.append(_rate_line(stream, report.target_bps, width))
        asked = f" of {report.target_fps:.0f}  " if report.target_fps else "  "
        fps = health.frame_rate(stream)
        lines.append(
            [
                ("fps        ", "$muted"),
                (_fps(fps), "bold"),
                (asked, "$muted"),
                words.frame_rate(fps, report.target_fps),
            ]
        )
        lines.append([("round trip ", "$muted"), (figures.milliseconds(report.line.rtt_ms), "bold")])
        if report.audio_level_db is not None:
            lines.append(_sound(report.audio_level_db, width))
    lines.append(
        [("by         ", "$muted"), (figures.clip(stream.publisher or "a WHIP client", width - 11), "")]
    )
    lines.append([("to         ", "$muted"), (f"{stream.origin or '-'}, WHIP", "")])
    if report is not None and report.message:
        lines.append([("▲ ", "bold $warn"), (figures.clip(report.message, width - 2), "$warn")])
    return lines


def _fps(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{value:.1f}"


def _rate_line(stream: StreamDetail, asked: float | None, width: int) -> Line:
    """What really arrives at the origin, beside what was asked for; both in one unit."""
    line: Line = [("bitrate    ", "$muted")]
    if asked is None or stream.bitrate_bps is None:
        return [
            *line,
            (figures.rate(stream.bitrate_bps), "bold"),
            (f" of {figures.rate(asked)}" if asked else "", ""),
        ]
    near = words.bitrate_level(stream.bitrate_bps, asked) == 0
    verdict: Span = (
        ("ok", "$good") if near else (f"▲ {figures.share(stream.bitrate_bps / asked)} of it", "bold $warn")
    )
    full, empty = figures.bar(10 if width >= 52 else 0, stream.bitrate_bps / asked)
    return [
        *line,
        (f"{stream.bitrate_bps / 1e6:.2f}", "bold"),
        (f" of {asked / 1e6:.2f} Mbps ", "$muted"),
        (full, "$good" if near else "$warn"),
        (empty, "$muted"),
        ("  ", ""),
        verdict,
    ]


def _position(position: float, duration: float, width: int) -> Line:
    start, end = figures.lasting(position), figures.lasting(duration)
    room = max(4, width - len(start) - len(end) - 2)
    done = min(room, max(0, round(room * position / duration)))
    return [
        (f"{start} ", ""),
        ("━" * done, "$accent"),
        ("─" * (room - done), "$muted"),
        (f" {end}", "$muted"),
    ]


def _sound(level: float, width: int) -> Line:
    full, empty = figures.bar(max(6, min(20, width - 24)), (level + 60) / 60)
    style = "$bad" if level > -1 else "$warn" if level > -9 else "$good"
    return [("sound      ", "$muted"), (full, style), (empty, "$muted"), (f" {level:.0f} dB", "")]


def health_lines(stream: StreamDetail, baseline: Baseline, now: float, width: int) -> list[Line]:
    """The three counters as shares of the frames that were due, each judged."""
    report = stream.report
    if report is None:
        return [
            [("Not one of our publishers: it keeps its own counters.", "$muted")],
            [
                ("loss on the way to the origin ", "$muted"),
                (figures.loss(stream.loss), "bold"),
                ("  ", ""),
                words.lost(stream.loss),
            ],
        ]
    lines: list[Line] = []
    for counter in health.counters(stream, baseline, now):
        lines.append(
            [
                (f"{counter.name:<18}", "$muted"),
                (f"{figures.share(counter.share, 1):>7}", "bold"),
                (f"{figures.count(counter.lost):>7}" if width >= 44 else "", "$muted"),
                (" ", ""),
                words.lost(counter.share),
            ]
        )
    if words.lost_level(stream.loss):  # seldom, and what was lost here is not among the three
        share = figures.loss(stream.loss)
        lines.append([("lost to the origin", "$muted"), (f"{share:>7} ", "bold"), words.lost(stream.loss)])
    if baseline.at > stream.since + 1:
        lines.append([(f"counted for {figures.age(now - baseline.at)} (r starts anew)", "$muted")])
    return lines


def viewer_lines(stream: StreamDetail, view: View, width: int) -> list[Line]:
    """What viewers get: how many, from where, how late."""
    figure = stream.latency_ms
    old = None if figure.age_s is None else figure.age_s + (view.age_s or 0.0)
    late: Line = [("latency  ", "$muted")]
    if figure.p95 is None:
        late.append(("nobody has measured yet" if stream.viewers else "-", "$muted"))
    else:
        late += [
            ("p50 ", "$muted"),
            (figures.milliseconds(figure.p50).removesuffix(" ms"), "bold"),
            (" p95 ", "$muted"),
            (figures.milliseconds(figure.p95), "bold"),
            (f", {figures.age(old)} old", "$muted"),
        ]
    edges = ", ".join(stream.edges) or "no edge until a viewer comes"
    lost = view.loss_to_viewers(stream)
    return [
        [(figures.count(stream.viewers), "bold"), (" watching", "")],
        late,
        [("loss     ", "$muted"), (figures.loss(lost), "bold"), ("  ", ""), words.lost(lost)],
        [("from     ", "$muted"), (figures.clip(edges, max(8, width - 9)), "")],
    ]


def watch_lines(stream: StreamDetail, view: View, width: int) -> list[Line]:
    """Where to watch, and how another program publishes."""
    return [
        [
            ("watch ", "$muted"),
            (figures.clip(stream.watch, width - 24), "bold $second"),
            ("   o", "bold $accent"),
            (" open  ", "$muted"),
            ("y", "bold $accent"),
            (" copy", "$muted"),
        ],
        whip_line(view, stream.channel, width),
    ]


def whip_line(view: View, channel: str, width: int) -> Line:
    address = f"{view.state.api}/whip/{channel}"
    tail = " makes its token"
    return [
        ("OBS   ", "$muted"),
        (figures.clip(address, max(10, width - 10 - len(tail))), ""),
        ("   t", "bold $accent"),
        (tail, "$muted"),
    ]


def why_ended(entry: JournalEntry) -> str:
    """Why a broadcast ended, in the stream manager's words."""
    return str(entry.data.get("reason") or entry.message.partition(": ")[2].rstrip(".") or "it was ended")


def ended_line(entry: JournalEntry, view: View) -> Line:
    """ "main ended at 18:49:13: its file was at its end. b starts it again"."""
    said = f"{entry.subject} ended at {figures.clock(entry.at)}: {why_ended(entry)}. "
    again: Line = [("b", "bold $accent"), (" starts it again.", "$muted")]
    return [(said, "bold"), *(again if entry.subject in view.started else [])]


def empty_lines(view: View, width: int) -> list[Line]:
    """Nothing on air: why, and the two ways to change that."""
    ended = view.last_ended()
    lines: list[Line] = [
        [("Nothing is on air. ", "bold"), ("Nobody publishes to this stage.", "$muted")],
        [],
        [
            ("b", "bold $accent"),
            ("  start a broadcast from here: a file, or the test pattern with tone and time code", ""),
        ],
        [
            ("t", "bold $accent"),
            ("  make a token for OBS or any WHIP client: Settings, Stream, Service WHIP,", ""),
        ],
        [("   server ", "$muted"), (f"{view.state.api}/whip/main", ""), (", bearer token as made", "$muted")],
    ]
    if width < 84:
        lines[2] = [("b", "bold $accent"), ("  start a broadcast: a file, or the test pattern", "")]
        lines[3] = [("t", "bold $accent"), ("  make a token for OBS or any WHIP client", "")]
    if ended is not None:
        lines.insert(1, ended_line(ended, view))
    return lines


def pending_lines(channel: str, pending: Pending, wall: float, width: int) -> list[Line]:
    what = "the test pattern" if pending.spec.source == "test" else pending.spec.source
    if pending.error:
        return [
            [("✗ ", "bold $bad"), (f"{channel} did not come on air.", "bold")],
            [(pending.error, "")],
            [],
            [
                ("b", "bold $accent"),
                (" tries again with the same values, ", "$muted"),
                ("shift+s", "bold $accent"),
                (" forgets it.", "$muted"),
            ],
        ]
    return [
        [
            ("… ", "$accent"),
            (f"{channel} is starting: ", "bold"),
            (figures.clip(what, width - len(channel) - 20), ""),
        ],
        [
            (
                f"launched {figures.age(wall - pending.since)} ago: it encodes, then publishes by WHIP",
                "$muted",
            )
        ],
    ]
