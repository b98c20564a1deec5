"""What the routes need of the manager: handed over once by the composition root, found in `request.app`."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from controlplane.config import IceServer
from controlplane.services.asking import Asking
from controlplane.services.board import Board
from controlplane.services.books import Books
from controlplane.services.drills import Drills
from controlplane.services.enrolment import Enrolment
from controlplane.services.events import Events
from controlplane.services.feed import Feed
from controlplane.services.fleet import Fleet
from controlplane.services.money import Money
from controlplane.services.pages import Pages
from controlplane.services.preflight import Preflight
from controlplane.services.provisioning import Provisioning
from controlplane.services.repeating import Repeats
from controlplane.services.reports import Reports
from controlplane.services.scaling import Scaling
from controlplane.services.signaling import Signaling
from controlplane.services.streams import Streams
from controlplane.services.tokens import Tokens
from controlplane.services.views import Views
from controlplane.services.whatif import Rehearsing


@dataclass
class Manager:
    """The services of one stream manager."""

    stage: str
    stage_id: str  # different for each data folder
    books: Books
    tokens: Tokens
    views: Views
    feed: Feed
    pages: Pages
    streams: Streams
    fleet: Fleet
    provisioning: Provisioning
    scaling: Scaling
    events: Events
    preflight: Preflight
    money: Money
    rehearsing: Rehearsing
    drills: Drills
    signaling: Signaling
    enrolment: Enrolment
    reports: Reports
    asking: Asking
    repeats: Repeats
    ice_servers: list[IceServer]
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def board(self) -> Board:
        return self.books.board


def manager_of(connection: HTTPConnection) -> Manager:
    return cast(Manager, connection.app.state.manager)


async def _here(connection: HTTPConnection) -> Manager:
    return manager_of(connection)


Here = Annotated[Manager, Depends(_here)]  # of a plain function FastAPI would make a thread's job a request
