"""A transaction on either database: the statements of every subject."""

from controlplane.adapters.store.sql.answers import AnswerStatements
from controlplane.adapters.store.sql.changes import ChangeStatements
from controlplane.adapters.store.sql.events import EventStatements
from controlplane.adapters.store.sql.journal import JournalStatements
from controlplane.adapters.store.sql.managers import ManagerStatements
from controlplane.adapters.store.sql.money import MoneyStatements
from controlplane.adapters.store.sql.nodes import NodeStatements
from controlplane.adapters.store.sql.seating import SeatStatements
from controlplane.adapters.store.sql.sessions import SessionStatements
from controlplane.adapters.store.sql.streams import StreamStatements
from controlplane.adapters.store.sql.tokens import TokenStatements


class SqlTransaction(
    NodeStatements,
    SeatStatements,
    StreamStatements,
    SessionStatements,
    EventStatements,
    JournalStatements,
    MoneyStatements,
    TokenStatements,
    ManagerStatements,
    ChangeStatements,
    AnswerStatements,
):
    """ports.store.Transaction, in its order."""
