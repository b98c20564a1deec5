"""Tell what runs of a stage, with or without a supervisor and a stream manager."""

import sys

from console.core.client import Client
from console.core.errors import ConsoleError, StageError
from console.core.paths import Home
from console.core.stage.control import SupervisorStatus, ask_status
from console.core.stage.model import Place, StageStatus, locate
from controlplane.wire import processes as records
from controlplane.wire.api import ProcessView, StageView
from controlplane.wire.nodes import Role
from controlplane.wire.processes import ProcessRecord

NEEDED = (Role.ORIGIN, Role.EDGE)  # one of each in service makes a stage that works


async def status(home: Home) -> StageStatus:
    """What runs, found with or without a supervisor and a stream manager. Never raises for a dead stage."""
    alive = [] if sys.platform != "linux" else records.read_alive(home.processes)
    if not alive:
        return StageStatus(view=StageView(state="down"))
    problems: list[str] = []
    supervisor = await _ask_quietly(home) if any(r.kind == "supervisor" for r in alive) else None
    if supervisor is None:
        problems.append("no supervisor keeps this stage; `showcaller stage up` starts one")
    try:
        place = locate(home)
    except StageError as error:
        place = None
        problems.append(str(error))
    place = (supervisor.place if supervisor else None) or place
    manager = supervisor.manager if supervisor else None
    answers = place is not None and any(r.kind == "manager" for r in alive) and await _answers(place)
    if manager is not None and manager.error:
        problems.append(f"stream manager: {manager.error}")
    missing = [role for role in NEEDED if not any(_is_node(record, role) for record in alive)]
    if answers and not missing:
        state = "up"
    elif manager is not None and manager.state == "starting":
        state = "starting"
    else:
        state = "partial"
        if not answers:
            problems.append("the stream manager does not answer")
        problems.extend(f"no {role} runs" for role in missing)
    view = StageView.model_validate(
        {
            "state": state,
            "api": place.api if place else None,
            "watch": place.watch if place else None,
            "processes": [ProcessView(name=record.name, pid=record.pid) for record in alive],
        }
    )
    return StageStatus(
        view=view,
        supervised=supervisor is not None,
        problems=problems,
        manager=manager,
        publishers=supervisor.publishers if supervisor else [],
    )


async def _ask_quietly(home: Home) -> SupervisorStatus | None:
    try:
        return await ask_status(home, timeout_s=2.0)
    except ConsoleError:
        return None


async def _answers(place: Place) -> bool:
    try:
        async with Client(place.local_api, local=True, timeout=2.0) as client:
            await client.health()
    except ConsoleError:
        return False
    return True


def _is_node(record: ProcessRecord, role: Role) -> bool:
    return record.kind == "node" and record.name.startswith(f"{role}-")
