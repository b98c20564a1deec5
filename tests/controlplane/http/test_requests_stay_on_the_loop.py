"""No request is handed to a thread: FastAPI does that with a plain function, and a join would pay for it."""

import threading
from pathlib import Path

from tests.controlplane.stage import AS_OPERATOR, running


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "AnyIO worker thread"}


async def test_no_request_is_handed_to_a_thread(tmp_path: Path) -> None:
    before = workers()  # of other tests of this process
    async with running(tmp_path) as show:
        await show.until({"origin-1": "in_service", "edge-1": "in_service"})
        await show.on_air()
        seen = await show.whep()
        assert seen.status_code == 201
        session = seen.headers["Location"]
        for answer in (
            await show.http.patch(session, headers={"Content-Type": "application/trickle-ice-sdpfrag"}),
            await show.http.delete(session),
            await show.http.get("/watch/main"),
            await show.http.get("/healthz"),
            *[
                await show.http.get(f"/api/v1/{what}", headers=AS_OPERATOR)
                for what in ("nodes", "streams", "journal", "sessions/nobody")
            ],
        ):
            assert answer.status_code < 500
        assert not workers() - before
