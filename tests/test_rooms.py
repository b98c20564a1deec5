"""Who may import what: ARCHITECTURE.md's table, room by room, held against every import of every module.

An allow-list, so that an arrow nobody thought of is refused like any other; a room is a package, or a module
that has a row of its own, and the longest name that fits is the one that counts. `make check` asks beside
this, by import-linter, what a module reaches through others; and the last test of this file what is really
loaded. A row that allows more than is used fails as well: take the word out.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("console", "controlplane", "media", "themes")

# The standard library that computes: no files, no sockets, no processes, no threads, no event loop, no clock
# to wait on, no chance. Every room has it.
PLAIN = """
    __future__ abc base64 bisect collections contextlib copy dataclasses datetime decimal difflib enum
    fractions functools hashlib heapq hmac html ipaddress itertools json math operator re shlex statistics
    string struct textwrap types typing zlib
"""
ANY = "*"

HIDDEN = ("import_module", "__import__")  # calls that import what nobody sees: no room has them


@dataclass(frozen=True)
class Room:
    """A row: names with blanks between. What is `used` may be imported when it is used, inside a function."""

    stdlib: str = ""  # beside PLAIN; "*" is all of it
    packages: str = ""
    rooms: str = ""
    used: str = ""


# fmt: off
ROOMS = {
    "themes":                  Room(),

    # The control plane. Nothing of media and nothing of the console, anywhere.
    "controlplane.wire":       Room("os pathlib tempfile", "pydantic typing_extensions", used="psutil"),
    "controlplane.wire.reaching":  # asks the routing table whose an address is; sends nothing
                               Room("socket urllib"),
    "controlplane.domain":     Room(rooms="controlplane.wire"),
    "controlplane.domain.fleet":  # schedules go by the clocks on walls all over the world
                               Room("zoneinfo", rooms="controlplane.wire"),
    "controlplane.domain.events":  # they are said by such clocks too, and cost money
                               Room("zoneinfo",
                                    rooms="controlplane.domain controlplane.domain.fleet controlplane.wire"),
    "controlplane.domain.diagrams":  # a command: writes docs/states.md
                               Room("pathlib sys", rooms="controlplane.domain"),
    "controlplane.fleet":      Room(rooms="controlplane.domain controlplane.domain.fleet controlplane.wire"),
    "controlplane.errors":     Room(rooms="controlplane.wire"),
    "controlplane.ports":      Room(
        rooms="controlplane.domain controlplane.domain.events controlplane.wire"
    ),
    "controlplane.config":     Room("pathlib tomllib", "pydantic", "controlplane.errors"),
    "controlplane.services":   Room(
        "asyncio contextvars gc os pathlib secrets tempfile",
        "cryptography jwt structlog",
        "controlplane.config controlplane.domain controlplane.domain.events controlplane.domain.fleet "
        "controlplane.errors controlplane.fleet controlplane.ports controlplane.wire",
    ),
    "controlplane.http":       Room(
        "asyncio time urllib",
        "fastapi orjson prometheus_client pydantic starlette structlog",
        "controlplane.config controlplane.domain controlplane.errors controlplane.ports "
        "controlplane.services controlplane.wire",
    ),
    "controlplane.web":        Room("mimetypes pathlib", "fastapi jinja2", "controlplane.wire"),
    # Vendors' libraries, each in its own adapter.
    "controlplane.adapters.clock":      Room("time"),
    "controlplane.adapters.control":    Room(
        "asyncio ssl urllib weakref",
        "httptools orjson pydantic",
        "controlplane.domain controlplane.ports controlplane.wire",
    ),
    "controlplane.adapters.history":    Room(
        "asyncio os pathlib threading", "", "controlplane.ports controlplane.wire"
    ),
    "controlplane.adapters.registrations":  # none yet
                               Room(),
    "controlplane.adapters.simulation": Room(
        "asyncio sys", "pydantic", "controlplane.ports controlplane.wire"
    ),
    "controlplane.adapters.provision":  Room(
        ANY, "structlog", "controlplane.ports controlplane.wire"
    ),
    "controlplane.adapters.store":      Room(
        ANY, "sqlalchemy",
        "controlplane.domain controlplane.domain.events controlplane.errors controlplane.ports "
        "controlplane.wire",
        used="alembic",
    ),
    "controlplane.adapters.store.mysql":  # and its driver
                               Room(
        ANY, "asyncmy sqlalchemy structlog",
        "controlplane.adapters.store controlplane.errors controlplane.ports",
        used="alembic",
    ),
    "controlplane.adapters.store.migrations":  # run by Alembic alone
                               Room("", "alembic sqlalchemy structlog", "controlplane.adapters.store"),
    # From the command line to the composition root.
    "controlplane.__main__":   Room("sys", rooms="controlplane.main"),
    "controlplane.main":       Room(
        ANY, "",
        "controlplane.arguments controlplane.config controlplane.errors controlplane.logs controlplane.wire",
        used="controlplane.adapters.store controlplane.adapters.store.mysql controlplane.compose "
        "controlplane.listen controlplane.server uvloop",
    ),
    "controlplane.whatif":     Room(
        "pathlib sys", "", "controlplane.adapters.history controlplane.fleet controlplane.wire"
    ),
    "controlplane.arguments":  Room("argparse pathlib"),
    "controlplane.logs":       Room("logging sys", "orjson structlog"),
    "controlplane.listen":     Room(ANY, rooms="controlplane.errors"),
    "controlplane.server":     Room(ANY, "structlog uvicorn", "controlplane.compose"),
    "controlplane.compose":    Room(
        "asyncio pathlib platform", "fastapi structlog",
        "controlplane.adapters.clock controlplane.adapters.control controlplane.adapters.history "
        "controlplane.adapters.provision controlplane.adapters.registrations "
        "controlplane.adapters.simulation controlplane.adapters.store "
        "controlplane.config controlplane.http controlplane.ports controlplane.services",
        used="controlplane.adapters.store.mysql controlplane.web importlib",
    ),

    # Media. Of the control plane the wire alone, and nothing of the console.
    "media.core":              Room("", "OpenSSL cryptography pylibsrtp"),
    "media.fanout":            Room("array ctypes errno os socket", "pylibsrtp", "media.core"),
    "media.drive":             Room(
        "asyncio errno queue socket threading weakref", "", "media.core media.fanout"
    ),
    "media.drive.loop":        Room("asyncio time", used="uvloop"),
    "media.node":              Room(
        ANY,
        "httpx orjson pydantic starlette structlog uvicorn",
        "controlplane.wire controlplane.wire.reaching media.core media.drive media.drive.loop media.fanout",
        used="prometheus_client",
    ),
    "media.timecode":          Room("", "numpy"),
    "media.publisher":         Room(
        ANY, "aiortc av httpx numpy pydantic structlog", "controlplane.wire media.timecode"
    ),
    "media.swarm":             Room(
        ANY, "aiortc httpx numpy orjson rich", "media.core media.drive media.publisher media.timecode",
        used="media.drive.loop media.swarm.signalling",
    ),
    # Both sides of the signalling without media: the nodes as their managers see them, and who joins them.
    "media.swarm.signalling":  Room(
        ANY, "httptools orjson psutil rich",
        "controlplane.wire media.core media.node media.publisher media.swarm",
    ),

    # The console: it speaks HTTP and WebSocket, and its core alone does.
    "console.core":            Room(
        ANY,
        "httpx pydantic structlog websockets",
        "controlplane.wire controlplane.wire.reaching",
        used="keyring platformdirs psutil",
    ),
    "console.cli":             Room(
        ANY, "typer", "console.core", used="console.app controlplane.wire plotext pydantic"
    ),
    "console.actions":         Room(),
    "console.messages":        Room("", "textual", "console.core controlplane.wire"),
    "console.commands":        Room("", "textual", "console.actions console.messages"),
    "console.glyphs":          Room("os sys", "rich textual"),
    "console.terminal":        Room("asyncio logging os select signal", "textual"),
    "console.screens":         Room(
        "asyncio logging os pathlib time",
        "pydantic rich textual",
        "console.actions console.commands console.core console.messages controlplane.wire",
        used="plotext",
    ),
    "console.handlers":        Room(
        "os sys time", "textual",
        "console.commands console.core console.messages console.screens controlplane.wire themes",
        used="webbrowser",
    ),
    "console.app":             Room(
        "asyncio logging pathlib signal sys time",
        "textual",
        "console.actions console.commands console.core console.glyphs console.handlers console.messages "
        "console.screens console.terminal controlplane.wire themes",
    ),
}
# fmt: on


def names_of(path: Path) -> str:
    """console/core/units.py is console.core.units."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {names_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def room_of(module: str) -> str | None:
    """The row that a module, or a name in one, falls under."""
    fitting = [room for room in ROOMS if f"{module}.".startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


@dataclass(frozen=True)
class Import:
    what: str  # a room of ours, a module of the standard library, a third-party package
    line: int
    when_used: bool


def imports_of(module: str, source: str) -> Iterator[Import]:
    """Every import of a module but those of its own room. Those in a function, and those for types alone,
    are made when they are used."""

    def walk(parent: ast.AST, used: bool) -> Iterator[Import]:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.Import):
                yield from (Import(named(alias.name), node.lineno, used) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = "." * node.level + (node.module or "")
                yield from (
                    Import(named(f"{origin}.{alias.name}"), node.lineno, used) for alias in node.names
                )
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(HIDDEN):
                yield Import(ast.unparse(node), node.lineno, used)
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            )
            yield from walk(node, used or inside)

    def named(name: str) -> str:
        top = name.partition(".")[0]
        return room_of(name) or name if top in PACKAGES else top or name

    return (found for found in walk(ast.parse(source), False) if found.what != room_of(module))


def refusals(module: str, source: str) -> list[str]:
    """What of a module's imports its room does not allow."""
    refused = []
    for found in imports_of(module, source):
        room = ROOMS.get(room_of(module) or "")
        where = f"{module.replace('.', '/')}.py:{found.line}"
        if room is None:
            refused.append(f"{where}: {module} has no room in the table")
            continue
        allowed = set(f"{room.packages} {room.rooms} {room.used if found.when_used else ''}".split())
        stdlib = sys.stdlib_module_names if room.stdlib == ANY else f"{PLAIN} {room.stdlib}".split()
        if found.what not in allowed.union(stdlib):
            refused.append(f"{where}: {room_of(module)} may not import {found.what}")
    return refused


def test_every_import_is_one_its_room_allows() -> None:
    assert MODULES.keys() >= {"console.core.units", "media.core.session", "controlplane.wire.api", "themes"}
    refused = [line for module, path in MODULES.items() for line in refusals(module, path.read_text())]
    assert not refused, "\n".join(refused)


def test_no_room_is_allowed_more_than_it_uses() -> None:
    used: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        found = {one.what for one in imports_of(module, path.read_text())}
        used.setdefault(room_of(module) or "", set()).update(found)
    assert not ROOMS.keys() - used.keys(), "rooms of the table that are not there"
    spare = {
        name: words
        for name, room in ROOMS.items()
        if (
            words := set(f"{room.stdlib} {room.packages} {room.rooms} {room.used}".split())
            - {ANY}
            - used[name]
        )
    }
    assert spare == {}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("console.core.units", "import rich"),
        ("console.core.units", "import aiortc"),
        ("console.core.units", "from console import glyphs"),
        ("console.core.units", "from console.app import run"),
        ("console.core.units", "from controlplane.config import Config"),
        ("console.core.units", "import keyring"),  # slow: only when it is used
        ("console.cli.main", "import textual"),
        ("console.cli.main", "from console.app import run"),
        ("console.screens.start.screen", "from controlplane.services.views import Views"),
        ("console.screens.start.screen", "from console.cli.main import main"),
        ("console.screens.start.screen", "import httpx"),
        ("console.screens.start.screen", "import urllib.request"),
        ("media.node.agent", "import controlplane.config"),
        ("media.node.agent", "import sqlalchemy"),
        ("media.node.agent", "def lazy():\n    import textual"),
        ("media.node.agent", "import importlib\nimportlib.import_module('controlplane.config')"),
        ("media.core.ice", "import threading"),
        ("media.core.ice", "from time import monotonic"),
        ("media.core.ice", "import random"),
        ("media.core.ice", "import numpy"),
        ("media.core.ice", "from media import timecode"),
        ("media.core.ice", "from . import session\nfrom .. import timecode"),
        ("controlplane.domain.machine", "import os"),
        ("controlplane.domain.machine", "import threading"),
        ("controlplane.domain.machine", "import pydantic"),
        ("controlplane.domain.machine", "from controlplane.errors import Forbidden"),
        ("controlplane.domain.machine", "from controlplane.domain import diagrams"),
        ("controlplane.wire.api", "from controlplane.errors import Forbidden"),
        ("controlplane.wire.api", "def lazy():\n    import orjson"),
        ("controlplane.config", "import sqlalchemy"),
        ("controlplane.services.fleet", "import alembic"),
        ("controlplane.http.app", "from controlplane.adapters.store import sql"),
        ("controlplane.newcomer", "import json"),  # has to be given a row
        ("themes.palettes", "import rich"),
    ],
)
def test_what_the_table_does_not_allow_is_refused(module: str, line: str) -> None:
    assert refusals(module, line)


# Loading is another thing than importing: what a room's own libraries bring along counts here.
NEVER_LOADED = {
    "themes": "rich textual pydantic",
    "controlplane.wire": "textual sqlalchemy fastapi starlette uvicorn httpx asyncio psutil orjson",
    "media.core": "sqlalchemy fastapi starlette httpx av aiortc aioice numpy textual pydantic asyncio",
    "media.fanout": "sqlalchemy fastapi starlette httpx av aiortc aioice numpy textual pydantic asyncio",
    "media.drive": "sqlalchemy fastapi starlette httpx av aiortc aioice numpy textual pydantic",
    "media.node": "sqlalchemy fastapi av aiortc aioice numpy textual",
    "console.core": "textual plotext keyring sqlalchemy fastapi uvicorn av aiortc OpenSSL numpy media",
    "console.cli": "textual plotext keyring sqlalchemy fastapi uvicorn av aiortc OpenSSL numpy media",
}
LOAD = """
import importlib, json, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def loaded_by(room: str) -> set[str]:
    """What is in sys.modules, by its first name, when every module of a room has been imported."""
    modules = [module for module in MODULES if f"{module}.".startswith(f"{room}.")]
    command = [sys.executable, "-c", LOAD, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("room", NEVER_LOADED)
def test_what_a_room_never_loads(room: str) -> None:
    loaded = loaded_by(room)
    assert room.partition(".")[0] in loaded
    assert loaded & set(NEVER_LOADED[room].split()) == set()


def test_the_wire_loads_pydantic_and_nothing_else() -> None:
    pydantic, waiting = set[str](), ["pydantic"]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in pydantic:
            pydantic.add(name)
            needed = map(Requirement, requires(name) or ())
            waiting += [
                one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})
            ]
    brought = packages_distributions()
    others = loaded_by("controlplane.wire") - sys.stdlib_module_names - {"controlplane"}
    assert {canonicalize_name(brought[name][0]) for name in others if name in brought} <= pydantic
    assert "pydantic" in others
