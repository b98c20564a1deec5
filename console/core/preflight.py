"""Go or no-go, whole: what the manager knows, and one real viewer that goes through the door.

The viewer is the probe (`python -m media.swarm probe`), a process of its own: it joins, decodes a picture and
says how long that took from asking on.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from console.core.client import Client
from console.core.stage.launch import child_environment, module_command
from controlplane.wire.events import CheckView, PreflightView, Verdict

FIRST_FRAME_MS = 700.0  # from asking for the session to a decoded picture
WATCH_S = 1
PATIENCE_S = 30.0  # for a viewer: the program starts, joins, and waits ten seconds for a picture

#: What a viewer at a WHEP address saw: milliseconds to its first picture. Raises NoPicture.
Viewer = Callable[[str], Awaitable[float]]


class NoPicture(Exception):
    """The viewer saw nothing. The message says why."""


async def preflight(client: Client, event: str, viewer: Viewer | None) -> PreflightView:
    """The manager's lines, and the viewer's after the publisher's. `viewer` None leaves it out.

    Raises what the client does.
    """
    view = await client.preflight(event)
    if viewer is None:
        return view
    checks = list(view.checks)
    place = next((number for number, it in enumerate(checks) if it.check == "publisher"), len(checks) - 1)
    checks[place + 1 : place + 1] = await _viewers(client, view, viewer)
    go = all(it.verdict is not Verdict.RED for it in checks)
    return view.model_copy(update={"checks": checks, "go": go})


async def _viewers(client: Client, view: PreflightView, viewer: Viewer) -> list[CheckView]:
    channel = view.event.channel
    where = view.regions[0] if len(view.regions) == 1 else ""
    stream = await client.stream(channel)
    if stream is None or stream.state != "live":
        # As bad as that nobody publishes, and no worse: until a while before the start that is in order.
        publisher = next((it.verdict for it in view.checks if it.check == "publisher"), Verdict.RED)
        says = f"there is nothing to watch on {channel}"
        return [_line(where, publisher, says, "ask again when it is on air")]
    lines = [await _watch(f"{client.api}/whep/{channel}", where, viewer)]
    if not where:
        says = "a viewer goes where placement sends it, and cannot be sent here"
        lines += [
            _line(region, Verdict.AMBER, says, "watch once from there: showcaller probe")
            for region in view.regions
        ]
    return lines


async def _watch(whep: str, where: str, viewer: Viewer) -> CheckView:
    try:
        took_ms = await viewer(whep)
    except NoPicture as error:
        return _line(
            where, Verdict.RED, f"no picture: {error}", "look at it: showcaller probe, nodes, journal"
        )
    says = f"the first picture came after {took_ms:.0f} ms"
    if took_ms > FIRST_FRAME_MS:
        step = "ask again: the first viewer of a node waits for the broadcast to come there"
        return _line(where, Verdict.RED, f"{says}, over {FIRST_FRAME_MS:.0f} ms", step)
    return _line(where, Verdict.GREEN, f"{says}, within {FIRST_FRAME_MS:.0f} ms")


def _line(where: str, verdict: Verdict, says: str, step: str = "") -> CheckView:
    return CheckView(check="viewer", subject=where, verdict=verdict, says=says, next=step)


async def synthetic_viewer(whep: str) -> float:
    """A Viewer: the probe, in a process of its own that is gone when this returns."""
    words = ("probe", "--whep", whep, "--seconds", str(WATCH_S), "--json")
    process = await asyncio.create_subprocess_exec(
        *module_command("media.swarm", *words),
        env=child_environment({}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            said, errors = await process.communicate()
    except TimeoutError as error:
        raise NoPicture(f"the viewer said nothing for {PATIENCE_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return first_frame_ms(said, errors)


def first_frame_ms(said: bytes, errors: bytes) -> float:
    """What the probe printed. Raises NoPicture with its own words."""
    try:
        return float(json.loads(said)["first_frame_ms"])
    except (ValueError, KeyError, TypeError):
        pass
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        problem = json.loads(last)["error"]
        raise NoPicture(str(problem["what"]).rstrip("."))
    except (ValueError, KeyError, TypeError):
        raise NoPicture(last or "the viewer ended without a word") from None
