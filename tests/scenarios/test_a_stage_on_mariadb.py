"""A stage with its rows on a database server: who watches sees nothing of the death of manager or server."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.mariadb import PASSWORD, Mariadb
from tests.support.show import PATIENCE_S, in_service, kill
from tests.support.stage import Stage, running_stage
from tests.support.wait import wait_until

WATCHED_S = 8
FPS = 30  # of the test broadcast


def rows(server: Mariadb, database: str) -> list[tuple[Any, ...]]:
    """The sessions that have not ended."""
    return server.sql(f"SELECT kind, node, id FROM {database}.sessions WHERE ended_at IS NULL ORDER BY kind")


def nobody_was_told_the_password(stage: Stage) -> bool:
    said = b""
    for record in stage.processes():
        for part in ("environ", "cmdline"):
            with suppress(OSError):  # it has just ended
                said += Path(f"/proc/{record.pid}/{part}").read_bytes()
    for log in (stage.home / "logs").glob("*.log"):
        said += log.read_bytes()
    return PASSWORD.encode() not in said


@pytest.mark.stage
def test_a_show_outlives_its_manager_and_its_database(own_mariadb: Mariadb, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    name = own_mariadb.empty()
    settings = f'[database]\nurl = "{own_mariadb.url(name)}"\npassword_file = "{secret}"\n'
    with running_stage(settings=settings) as stage:
        stage.publish_test("main", "--bitrate", "1M")
        whep = f"{stage.api}/whep/main"
        command = [sys.executable, "-m", "media.swarm", "probe", "--whep", whep, "--json"]
        with subprocess.Popen(
            [*command, "--seconds", str(WATCHED_S)], stdout=subprocess.PIPE, text=True
        ) as viewer:
            wait_until(lambda: len(rows(own_mariadb, name)) == 3, PATIENCE_S, "the viewer has a session")
            before = rows(own_mariadb, name)
            assert [kind for kind, *_ in before] == ["relay_out", "whep", "whip"]
            kill(stage.process("manager"))
            wait_until(lambda: in_service(stage) == ["edge", "origin"], PATIENCE_S, "the manager is back")
            own_mariadb.kill()
            own_mariadb.start()
            assert rows(own_mariadb, name) == before
            assert viewer.poll() is None, "the probe was over too early to have seen it all"
            seen = json.loads(viewer.communicate(timeout=60)[0])
        assert seen["frames"] > WATCHED_S * FPS * 0.8
        assert seen["frozen_ms"] < 1000
        wait_until(lambda: rows(own_mariadb, name) == [before[0], before[2]], PATIENCE_S, "it has left")
        kinds = [entry["kind"] for entry in stage.json("journal", "--lines", "500")]
        assert kinds.count("stream.live") == 1
        assert not (stage.home / "data" / "showcaller.db").exists()
        assert nobody_was_told_the_password(stage)
