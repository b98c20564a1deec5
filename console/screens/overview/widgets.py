"""The lines of the Overview. Pure: a View in, spans out."""

from console.screens.shared import costs, figures, health, words
from console.screens.shared.chart import SPAN_S, Sample
from console.screens.shared.frame import fit_lines
from console.screens.shared.view import Load, View
from console.screens.shared.words import Line, Span
from controlplane.wire.nodes import NodeState, Role

GAP = 3  # cells between two figures
LONGEST_BAR = 32
FULL = 0.85  # of the room: time to add a node


def now_lines(view: View, width: int) -> list[Line]:
    """How many watch and are connected, and what it costs, in two lines.

    What does not fit is left out, the least important first; nothing is broken in its middle.
    """
    load = view.load()
    watch: Line = [("watching ", "$muted"), (figures.count(view.state.viewers), "bold")]
    numbers = f"{figures.count(load.connections)} / {figures.count(load.capacity)}"
    share = f" {figures.share(load.fraction):>5}"
    head: Line = [*([("connections ", "$muted")] if width >= 50 else []), (numbers, "bold"), ("  ", "")]
    egress: Line = [("egress ", "$muted"), (f"{figures.rate(load.egress_bps):<9}", "bold")]
    lost: Line = [("loss ", "$muted"), (figures.loss(load.loss), _loss_style(load.loss))]
    wide = width >= 100
    beside = [egress, lost] if wide else [egress] if width >= 72 else []
    used = sum(len(words.plain(part)) + GAP for part in [watch, head, *beside]) + len(share)
    full, empty = figures.bar(max(0, min(LONGEST_BAR, width - used + GAP)), load.fraction)
    connected: Line = [*head, (full, words.load(load.fraction)), (empty, "$muted"), (share, "")]
    latency: Line = [("latency ", "$muted"), *latency_spans(view, short=width < 44)]
    spent = costs.line(view.state.money, short=not wide)
    return [
        fit_lines([(0, watch), (1, connected), *((2, part) for part in beside)], width, GAP),
        fit_lines(
            [(0, latency), *([] if wide else [(1, lost)]), *([] if beside else [(2, egress)]), (3, spent)],
            width,
            GAP,
        ),
    ]


def latency_spans(view: View, short: bool = False) -> Line:
    """Glass to glass as the viewers measure it, of the stream furthest behind, and how old that is."""
    stream = view.latency()
    if stream is None:
        why = "nobody has measured yet" if view.state.viewers else "nobody watches"
        return [("- ", ""), (why, "$muted")]
    figure = stream.latency_ms
    of = f" on {stream.channel}" if len(view.state.streams) > 1 else ""
    old = None if figure.age_s is None else figure.age_s + (view.age_s or 0.0)
    half: Line = [
        ("p50 ", "$muted"),
        (figures.milliseconds(figure.p50).removesuffix(" ms"), "bold"),
        ("  ", ""),
    ]
    return [
        *([] if short else half),
        ("p95 ", "$muted"),
        (figures.milliseconds(figure.p95), "bold"),
        (f"{of}, {figures.age(old)} old", "$muted"),
    ]


def _loss_style(loss: float | None) -> str:
    if loss is None:
        return "$muted"
    return "bold $bad" if loss > 0.05 else "bold $warn" if loss > 0.01 else "bold"


def needs(view: View) -> list[Line]:
    """What is wrong, worst first, in words and with the next key. Empty when nothing is."""
    lines: list[tuple[int, Line]] = []

    def add(rank: int, glyph: Span, text: str, key: str = "") -> None:
        lines.append((rank, [glyph, (" " + text, ""), (f"  {key}" if key else "", "$accent")]))

    bad, warn = ("✗", "bold $bad"), ("▲", "bold $warn")
    if view.refused:
        add(0, bad, f"The stream manager does not take our token: {view.refused}")
    elif view.stale:
        add(0, warn, f"The stream manager does not answer ({view.as_of}). Trying again by itself.")
    for role in (Role.ORIGIN, Role.EDGE):
        load = view.load(role)
        if load.in_service == 0:
            means = "nobody can publish" if role is Role.ORIGIN else "nobody new can watch"
            coming = f"; {figures.plural(load.coming, 'node')} on the way" if load.coming else ""
            add(1, bad, f"No {role} in service: {means}{coming}.", "" if load.coming else "2 fleet")
        elif load.fraction is not None and load.fraction > FULL:
            full = f"{figures.count(load.connections)} of {figures.count(load.capacity)}"
            add(3, warn, f"The {role}s are {figures.share(load.fraction)} full ({full}).", "+ add an edge")
    for stream in view.streams:
        look = words.stream(stream.state)
        if stream.state in ("stalled", "reconnecting"):
            kept = f"{figures.plural(stream.viewers, 'viewer')} keep the last picture"
            add(
                2,
                (look.glyph, f"bold {look.style}"),
                f"{stream.channel} is {look.word}; {kept}.",
                "3 broadcast",
            )
        elif stream.state == "live":
            wrong = health.troubles(stream, view.marks, view.now, view.loss_to_viewers(stream))
            if wrong:
                level, said = wrong[0][0], "; ".join(text for _, text in wrong)
                add(4 - level, bad if level > 1 else warn, f"{stream.channel}: {said}.", "3 broadcast")
        for edge, viewers in stream.starved.items():
            without = view.now - view.marks.starved.get((stream.channel, edge), view.now)
            if without >= health.STARVED_S:
                who = figures.plural(viewers, "viewer")
                text = f"No media of {stream.channel} reaches {edge} for {figures.age(without)}: {who} there."
                add(1, bad, text, "2 fleet")
        report = stream.report
        if report is not None and report.message:
            add(3, warn, f"{stream.channel}: {report.message}", "3 broadcast")
    for channel, pending in view.pending.items():
        if pending.error:
            add(2, bad, f"{channel} did not come on air: {pending.error}", "3 broadcast")
    if view.state.money is not None and view.state.money.warning:
        add(2, warn, view.state.money.warning, "2 fleet")
    for node in view.nodes:
        if node.state in (NodeState.SUSPECT, NodeState.FAULTY):
            look = words.node(node.state)
            since = figures.age(view.now - node.state_since)
            on_it = f", {figures.plural(node.connections, 'connection')} on it" if node.connections else ""
            why = f": {node.state_reason}" if node.state_reason else ""
            add(
                2,
                (look.glyph, f"bold {look.style}"),
                f"{node.id} {look.word} for {since}{on_it}{why}",
                "2 fleet",
            )
    lines.sort(key=lambda item: item[0])
    return [line for _, line in lines]


def needs_block(line: Line, width: int) -> list[Line]:
    """One of them as lines that fit; the next key stays in one piece."""
    said, key = line[:-1], line[-1]
    lines = words.wrap(said, width)
    if not key[0]:
        return lines
    if len(words.plain(lines[-1])) + len(key[0]) <= width:
        return [*lines[:-1], [*lines[-1], key]]
    return [*lines, [key]]


def all_well(view: View) -> Line:
    nodes = sum(node.state == NodeState.IN_SERVICE for node in view.nodes)
    coming = view.load().coming
    more = f", {coming} on the way" if coming else ""
    return [("● ", "$good"), (f"Nothing. {figures.plural(nodes, 'node')} in service{more}.", "")]


def role_lines(view: View, width: int) -> list[Line]:
    """One line a role: how many nodes, how full, what goes out."""
    loads = [(role, view.load(role)) for role in view.roles()]
    longest = max((len(_nodes_words(load)) for _, load in loads), default=0)
    return [
        _role_line(role, load, [float(p.connections) for p in view.history(role)], width, longest)
        for role, load in loads
    ]


def _nodes_words(load: Load) -> str:
    words_ = f"{load.in_service} in service"
    words_ += f", {load.coming} coming" if load.coming else ""
    return words_ + (f", {load.draining} draining" if load.draining else "")


def _role_line(role: Role, load: Load, past: list[float], width: int, name_width: int) -> Line:
    numbers = f"{figures.count(load.connections)} / {figures.count(load.capacity)}"
    bar_width = max(6, min(30, width - name_width - 42))
    full, empty = figures.bar(bar_width, load.fraction)
    line: Line = [
        (f"{role:<7}", "bold"),
        (f"{_nodes_words(load):<{name_width}} ", ""),
        (f"{numbers:>11} ", ""),
        (full, words.load(load.fraction)),
        (empty, "$muted"),
        (f" {figures.share(load.fraction):>5}", ""),
    ]
    room = width - sum(len(text) for text, _ in line)
    if room >= 11:
        line.append((f"  {figures.rate(load.egress_bps):>9}", ""))
    room -= 13
    if room >= 8 and past:
        line += [
            ("  ", ""),
            (figures.spark(past[-600:], min(24, room), max(4.0, max(past[-600:]) * 1.25)), "$accent"),
        ]
    return line


def stream_lines(view: View, width: int) -> list[Line]:
    """One line a broadcast; where there is none, what to do."""
    lines: list[Line] = []
    for stream in view.streams:
        look = words.stream(stream.state)
        on_air = figures.lasting(view.now - stream.since)
        fps = "-" if stream.fps is None else format(stream.fps, ".1f")
        name = figures.clip(stream.channel, max(10, width - 30))
        parts: list[tuple[int, Line]] = [
            (0, [(f"{look.glyph} ", look.style), (f"{name:<10}", "bold")]),
            (2, [(f"{look.word:<12}", look.style)]),
            (4, [(on_air, "")]),
            (3, [(f"{figures.rate(stream.bitrate_bps):>9}", "")]),
            (5, [(f"{fps:>4} fps", "")]),
            (1, [(f"{figures.plural(stream.viewers, 'viewer'):>9}", "bold")]),
            (6, [(f" {stream.watch}", "$second")]),
        ]
        line = fit_lines(parts, width, 2)
        lines.append(line)
    for channel, pending in view.pending.items():
        if channel not in view.state.streams and not pending.error:
            lines.append([("… ", "$accent"), (f"{channel:<10} ", "bold"), ("starting", "$accent")])
    if not lines:
        return [
            [("Nothing is on air. ", "$muted"), ("b", "bold $accent"), (" starts a broadcast.", "$muted")]
        ]
    return lines


def samples(view: View) -> list[Sample]:
    """Connections against capacity of the edges over the last 30 minutes, the present moment last."""
    points = view.history(Role.EDGE)
    out = [
        Sample(view.now - p.at, p.connections, p.capacity) for p in points if 0 <= view.now - p.at <= SPAN_S
    ]
    load = view.load(Role.EDGE)
    if view.state.ready and not view.stale:
        out.append(Sample(0.0, load.connections, load.capacity))
    return out
