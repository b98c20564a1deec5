"""One stream manager in the foreground (`showcaller serve`), on the data of this home.

It is recorded like the manager of an embedded stage, so the local commands find it, `stage down` ends it with
its nodes, and a `stage up` beside it takes it over: from then on the supervisor keeps it.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from console.core import credentials
from console.core.config import manager_config_file
from console.core.errors import StageError
from console.core.paths import unusable
from console.core.stage.ending import end_stage, living
from console.core.stage.launch import child_environment, manager_secrets, module_command
from console.core.stage.lock import take_lock
from console.core.stage.manager import ManagerSettings, local_api, read_ready, write_place
from console.core.stage.model import Place, Report, StageOptions
from console.core.stage.ports import pick_port
from console.core.stage.processes import forget
from console.core.stage.start import check_options_alone
from console.core.version import program_folder, version
from controlplane.wire.processes import record_self_or_child

POLL_S = 0.05


@dataclass(frozen=True)
class ServeOptions:
    stage: StageOptions
    public_url: str | None = None
    config: Path | None = None
    no_nodes: bool = False


def serve_foreground(options: ServeOptions, *, ready: Callable[[str, str], None], report: Report) -> int:
    """Run it until it ends or a signal comes; its exit code. `ready` is called with api and watch."""
    home = options.stage.home
    check_options_alone(options.stage)
    home.prepare()
    operator = credentials.ensure_operator_token(home)
    if operator.notice:
        report(operator.notice)
    lock = take_lock(home)
    if lock is None or any(record.kind == "manager" for record in living(home)):
        raise StageError(
            f"a stage runs on {home.root} already",
            "End it with `showcaller stage down`, or set SHOWCALLER_HOME to another folder",
        )
    try:
        end_stage(home, report)  # nodes that a killed manager left behind
        return _serve(options, credentials.token_sha256(operator.token), lock, ready, report)
    finally:
        if not any(record.kind == "supervisor" for record in living(home)):
            end_stage(home, report)


def _serve(
    options: ServeOptions, sha256: str, lock: int, ready: Callable[[str, str], None], report: Report
) -> int:
    """`lock` is given back once the manager is recorded; from then on its record says that it is there."""
    home, stage = options.stage.home, options.stage
    listen = stage.listen or "127.0.0.1"
    picked = pick_port(listen, stage.port)
    if picked.note:
        report(picked.note)
    settings = ManagerSettings(
        port=picked.port,
        listen=listen,
        announce=list(stage.announce),
        tls_cert=str(stage.tls_cert.absolute()) if stage.tls_cert else None,
        tls_key=str(stage.tls_key.absolute()) if stage.tls_key else None,
    )
    command = _command(options, settings)
    out = home.run / "manager.out"
    try:
        out.unlink(missing_ok=True)
        stdout = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise unusable(out, error) from error
    # A group of its own: a Ctrl-C on the terminal reaches this process alone, which passes it on once.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        cwd=home.root,
        env=child_environment(manager_secrets(sha256)),
        process_group=0,
    )
    os.close(stdout)
    record = record_self_or_child(home.processes, "manager", "manager", process.pid)
    os.close(lock)
    asked = threading.Event()

    def end(number: int, frame: Any) -> None:
        asked.set()
        process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    while process.poll() is None:
        line = read_ready(out)
        if line is not None:
            _announce(options, settings, line)
            ready(str(line["api"]), str(line["watch"]))
            break
        time.sleep(POLL_S)
    code = process.wait()
    if record is not None:
        forget(home.processes, record)
    return 0 if asked.is_set() and code in (0, -signal.SIGTERM) else code if code >= 0 else 1


def _command(options: ServeOptions, settings: ManagerSettings) -> list[str]:
    home = options.stage.home
    words = ["--data-dir", str(home.data), "--run-dir", str(home.run), "--log-dir", str(home.logs)]
    words += ["--listen", settings.listen, "--port", str(settings.port)]
    for address in settings.announce:
        words += ["--announce", address]
    if settings.tls_cert and settings.tls_key:
        words += ["--tls-cert", settings.tls_cert, "--tls-key", settings.tls_key]
    if options.public_url is not None:
        words += ["--public-url", options.public_url]
    own = manager_config_file(home)
    config = options.config or (own if own.exists() else None)
    if config is not None:
        words += ["--config", str(config.absolute())]
    if options.no_nodes:
        words.append("--no-nodes")
    return module_command("controlplane", *words)


def _announce(options: ServeOptions, settings: ManagerSettings, line: dict[str, Any]) -> None:
    api = str(line["api"])
    if options.public_url is None:
        settings = settings.model_copy(update={"port": urlsplit(api).port or settings.port})
    place = Place(
        version=version(),
        program=program_folder(),
        home=str(options.stage.home.root),
        api=api,
        watch=str(line["watch"]),
        local_api=local_api(options.stage.home, settings),
        **settings.model_dump(),
    )
    write_place(options.stage.home, place)
